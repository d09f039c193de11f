"""Splits: exact where whole groups allow it, sticky, the same in any order, and never with a group on both sides."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.entry import SPLITS, Split, VideoEntry
from manifests.errors import SplitError
from manifests.groups import connected_groups
from manifests.splits.policies import assign, counts_by_split, require_no_leakage


def real(person_id: str, group_id: str, split: Split | None = None) -> VideoEntry:
    return VideoEntry(
        video_id=f"ffpp/youtube/c23/{person_id}",
        path=f"{person_id}.mp4",
        dataset="ffpp",
        label="real",
        target_id=person_id,
        group_id=group_id,
        split=split,
    )


def fake(target_id: str, source_id: str, manipulation: str, group_id: str) -> VideoEntry:
    return VideoEntry(
        video_id=f"ffpp/{manipulation}/c23/{target_id}_{source_id}",
        path=f"{manipulation}/{target_id}_{source_id}.mp4",
        dataset="ffpp",
        label="fake",
        manipulation=manipulation,
        target_id=target_id,
        source_id=source_id,
        group_id=group_id,
    )


def pairs_of_ffpp(num_pairs: int) -> list[VideoEntry]:
    """`num_pairs` closed pairs as in FaceForensics++: two originals, and two fakes of each of five manipulations."""
    entries = []
    for number in range(num_pairs):
        first, second = f"{2 * number:03d}", f"{2 * number + 1:03d}"
        entries += [real(first, first), real(second, first)]
        for manipulation in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter"):
            entries += [fake(first, second, manipulation, first), fake(second, first, manipulation, first)]
    return entries


def splits_of(entries: list[VideoEntry]) -> dict[str, str | None]:
    return {entry.video_id: entry.split for entry in entries}


# One entry per group member: group name → number of videos.
group_sizes = st.dictionaries(st.integers(0, 200).map(str), st.integers(1, 12), min_size=1, max_size=40)


def videos(sizes: dict[str, int]) -> list[VideoEntry]:
    return [real(f"{group}-{number}", group) for group, size in sizes.items() for number in range(size)]


def test_all_of_ffpp_splits_700_150_150_of_every_kind() -> None:
    counts = counts_by_split(assign(pairs_of_ffpp(500)))
    assert len(counts) == 6
    for kind, by_split in counts.items():
        assert dict(by_split) == {"train": 700, "val": 150, "test": 150}, kind


def test_the_seed_decides_which() -> None:
    entries = pairs_of_ffpp(40)
    assert splits_of(assign(entries, seed=0)) != splits_of(assign(entries, seed=1))
    assert splits_of(assign(entries, seed=1)) == splits_of(assign(entries, seed=1))


def test_the_split_is_pinned_across_platforms_and_versions() -> None:
    drawn = splits_of(assign([real(f"{number:02d}", f"{number:02d}") for number in range(20)], seed=7))
    by_split = {split: [video_id[-2:] for video_id, found in drawn.items() if found == split] for split in SPLITS}
    assert len(by_split["train"]) == 14
    assert by_split["val"] == ["00", "03", "10"]
    assert by_split["test"] == ["09", "11", "13"]


@given(group_sizes, st.integers(0, 5), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_no_group_crosses(sizes: dict[str, int], seed: int, order: random.Random) -> None:
    entries = videos(sizes)
    shuffled = entries.copy()
    order.shuffle(shuffled)
    assigned = assign(entries, seed=seed)
    require_no_leakage(assigned)
    assert all(entry.split in SPLITS for entry in assigned)
    assert splits_of(assigned) == splits_of(assign(shuffled, seed=seed))


@given(group_sizes, group_sizes)
def test_adding_videos_moves_nothing(earlier: dict[str, int], later: dict[str, int]) -> None:
    first = assign(videos(earlier))
    known = {entry.video_id for entry in first}
    added = [entry for entry in videos(later) if entry.video_id not in known]
    both = splits_of(assign([*first, *added]))
    assert {video_id: both[video_id] for video_id in known} == splits_of(first)
    require_no_leakage(assign([*first, *added]))


@given(group_sizes)
def test_no_split_is_off_by_more_than_the_largest_group(sizes: dict[str, int]) -> None:
    found = Counter(entry.split for entry in assign(videos(sizes)))
    total, largest = sum(sizes.values()), max(sizes.values())
    for split, share in zip(SPLITS, (0.70, 0.15, 0.15), strict=True):
        assert abs(found[split] - share * total) <= largest


def test_new_members_follow_their_group() -> None:
    entries = [real("000", "a", "test"), real("001", "a"), real("002", "b")]
    assert splits_of(assign(entries))["ffpp/youtube/c23/001"] == "test"


def test_groups_that_share_a_person_are_one() -> None:
    """The fake 001_000 was stored in test and is unmounted now; its footage arrives, in a group of its own."""
    stored = replace(fake("001", "000", "Deepfakes", "ffpp/000"), split="test")
    arrived = [real("001", "ffpp/001"), real("002", "ffpp/002")]
    _, original, other = assign([stored, *arrived])
    assert (original.split, original.group_id) == ("test", "ffpp/000")
    assert (other.split, other.group_id) == ("train", "ffpp/002")


def test_people_of_different_datasets_are_not_one() -> None:
    elsewhere = replace(real("001", "other/001"), dataset="other", video_id="other/real/001")
    assert {entry.group_id for entry in assign([real("001", "ffpp/001"), elsewhere])} == {"ffpp/001", "other/001"}


def test_a_group_that_would_cross_is_refused() -> None:
    with pytest.raises(SplitError, match=r"got 1 in more than one split \(a in \['train', 'test'\]\).*--reprocess"):
        assign([real("000", "a", "train"), real("001", "a", "test")])


def test_in_a_group_that_an_earlier_run_split_new_fakes_follow_their_own_pair() -> None:
    """331 and 332 are of one YouTube video, which that run did not know."""
    kept = [
        real("331", "331", "train"),
        real("335", "331", "train"),
        real("332", "332", "val"),
        real("328", "332", "val"),
    ]
    new = [fake("331", "335", "FaceSwap", "331"), fake("332", "328", "FaceSwap", "332"), real("900", "900")]
    assigned = assign([*kept, *new], ratios=(0.0, 0.0, 1.0), allow_leakage=True)
    assert [entry.split for entry in assigned] == ["train", "train", "val", "val", "train", "val", "test"]
    assert {entry.group_id for entry in assigned[:-1]} == {"331"}


@pytest.mark.parametrize("ratios", [(0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_ratios_that_make_no_split(ratios: tuple[float, ...]) -> None:
    with pytest.raises(SplitError, match="three shares"):
        assign([real("000", "a")], ratios=ratios)  # type: ignore[arg-type]


def test_an_unknown_policy_lists_the_allowed() -> None:
    with pytest.raises(SplitError, match=r"got 'random', expected one of \['group', 'official', 'video', 'file'\]"):
        assign([real("000", "a")], policy="random")


def official_lists(folder: Path, prefix: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    for split, pairs in {"train": [["000", "001"]], "val": [["002", "003"]], "test": [["004", "005"]]}.items():
        (folder / f"{prefix}{split}.json").write_text(json.dumps(pairs))
    return folder


@pytest.mark.parametrize("prefix", ["", "ff_"])
def test_official_lists(tmp_path: Path, prefix: str) -> None:
    entries = [*pairs_of_ffpp(3), real("900", "900")]
    assigned = splits_of(assign(entries, policy="official", official_dir=official_lists(tmp_path, prefix)))
    assert assigned["ffpp/youtube/c23/000"] == assigned["ffpp/FaceSwap/c23/001_000"] == "train"
    assert assigned["ffpp/youtube/c23/003"] == "val"
    assert assigned["ffpp/Deepfakes/c23/005_004"] == "test"
    assert assigned["ffpp/youtube/c23/900"] is None


def test_official_lists_are_followed_even_where_they_tear_a_group_apart(tmp_path: Path) -> None:
    entries = [replace(entry, group_id="one") for entry in pairs_of_ffpp(3)]
    assigned = assign(entries, policy="official", official_dir=official_lists(tmp_path))
    assert {entry.split for entry in assigned} == set(SPLITS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "expected JSON pairs"),
        ('["000"]', "another shape"),
        ('[["002", "000"]]', "id 000 in train and val"),
    ],
)
def test_official_lists_that_are_broken(tmp_path: Path, content: str, message: str) -> None:
    (official_lists(tmp_path) / "val.json").write_text(content)
    with pytest.raises(SplitError, match=message):
        assign(pairs_of_ffpp(3), policy="official", official_dir=tmp_path)


def test_official_without_lists(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="got none, expected the folder"):
        assign(pairs_of_ffpp(1), policy="official")
    with pytest.raises(SplitError, match=r"no train\.json"):
        assign(pairs_of_ffpp(1), policy="official", official_dir=tmp_path)


@given(st.lists(st.tuples(st.integers(0, 30).map(str), st.integers(0, 30).map(str)), max_size=60))
def test_groups_are_the_connected_components(links: list[tuple[str, str]]) -> None:
    groups = connected_groups(links)
    assert groups.keys() == {member for link in links for member in link}
    for target_id, source_id in links:
        assert groups[target_id] == groups[source_id]
    # Each group is named after its smallest member, and is connected: walking its links reaches all of it.
    for name in set(groups.values()):
        members = {member for member, group in groups.items() if group == name}
        reached = {min(members)}
        while grown := {m for link in links if reached & set(link) for m in link} - reached:
            reached |= grown
        assert (name, reached) == (min(members), members)


def celeb(name: str, listed: bool = False) -> VideoEntry:
    """A video of Celeb-DF by its name: `id0_0000` is real footage, `id0_id1_0000` a fake, `00170` from YouTube."""
    parts = name.split("_")
    is_fake = len(parts) == 3
    collection = "Celeb-synthesis" if is_fake else "Celeb-real" if len(parts) == 2 else "YouTube-real"
    return VideoEntry(
        video_id=f"celeb_df/{collection}/{name}",
        path=f"{collection}/{name}.mp4",
        dataset="celeb_df",
        label="fake" if is_fake else "real",
        manipulation=collection if is_fake else None,
        target_id=f"{parts[0]}_{parts[-1]}" if len(parts) > 1 else name,
        target_identity=parts[0] if len(parts) > 1 else None,
        source_id=parts[1] if is_fake else None,
        group_id=f"celeb_df/{name}",
        listed_split="test" if listed else None,
    )


def small_celeb_df() -> list[VideoEntry]:
    """Three circles of people who lent each other faces (of 8, 3 and 2 people), and 20 videos without a name."""
    entries = [celeb(f"{number:05d}") for number in range(20)]
    for people in (range(8), range(8, 11), range(11, 13)):
        for target in people:
            entries.append(celeb(f"id{target}_0000"))
            entries += [celeb(f"id{target}_id{source}_0000") for source in people if source != target]
    return entries


def test_videos_without_a_person_are_balanced_on_their_own() -> None:
    assigned = assign(small_celeb_df())
    found = Counter((entry.collection, entry.split) for entry in assigned)
    assert [found["YouTube-real", split] for split in SPLITS] == [14, 3, 3]
    # The circle of 8 people trains; of the other two the larger tests.
    assert [found["Celeb-synthesis", split] for split in SPLITS] == [56, 2, 6]
    identities: dict[str, set[str | None]] = {}
    for entry in assigned:
        for person in filter(None, (entry.target_identity, entry.source_id)):
            identities.setdefault(person, set()).add(entry.split)
    assert all(len(splits) == 1 for splits in identities.values())


def test_a_list_of_test_videos_leaves_train_and_val_in_whole_groups() -> None:
    listed = [replace(entry, listed_split="test") for entry in small_celeb_df() if entry.target_id == "id0_0000"]
    rest = [entry for entry in small_celeb_df() if entry.target_id != "id0_0000"]
    assigned = assign([*listed, *rest], policy="official")
    assert {entry.split for entry in assigned[: len(listed)]} == {"test"}
    assert {entry.split for entry in assigned[len(listed) :]} == {"train", "val"}
    require_no_leakage(assigned[len(listed) :])


def test_lists_that_name_every_split_are_taken_as_they_are() -> None:
    entries = [replace(celeb(f"{number:05d}"), listed_split=split) for number, split in enumerate(SPLITS)]
    assigned = assign([*entries, celeb("00009")], policy="official")
    assert [entry.split for entry in assigned] == ["train", "val", "test", None]
    # Only a folder of one's own holds one's own list.
    with pytest.raises(SplitError, match=r"split\.file: got none"):
        assign(entries, policy="file")
    own = [replace(entry, dataset="folder") for entry in (*entries, celeb("00009"))]
    assert [entry.split for entry in assign(own, policy="file")] == ["train", "val", "test", None]


def test_official_without_any_list() -> None:
    with pytest.raises(SplitError, match="got official for celeb_df, no video of which is in a list"):
        assign([celeb("00000")], policy="official")


@pytest.mark.parametrize("policy", ["official", "file"])
def test_a_list_never_moves_what_was_assigned(policy: str) -> None:
    moved = replace(celeb("00000", listed=True), split="train", dataset="folder")
    with pytest.raises(SplitError, match=r"got 1 videos .*celeb_df/YouTube-real/00000: was train, listed as test"):
        assign([moved, replace(celeb("00001"), dataset="folder")], policy=policy)


def test_a_file_of_the_users_own(tmp_path: Path) -> None:
    entries = pairs_of_ffpp(2)
    lines = [f"{entry.video_id},{'valid' if entry.group_id == '000' else 'test'}" for entry in entries]
    (tmp_path / "own.csv").write_text("\n".join(["video_id,split", *lines[:-1]]))
    assigned = assign(entries, policy="file", split_file=tmp_path / "own.csv")
    assert {entry.split for entry in assigned if entry.group_id == "000"} == {"val"}
    assert [entry.split for entry in assigned if entry.group_id == "002"] == ["test"] * 11 + [None]


def test_a_file_by_path(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text("split,path\nTraining,.\\000.mp4\n")
    (assigned,) = assign([real("000", "a")], policy="file", split_file=tmp_path / "own.csv")
    assert assigned.split == "train"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name,split\n", "got columns name, split, expected video_id or path, and split"),
        ("path,split\n000.mp4,rest\n", r"line 2: got split 'rest', expected one of \['train', 'val', 'test'\]"),
        ("path,split\n000.mp4,val\n000.mp4,test\n", "line 3: got 000.mp4 a second time"),
        ("path,split\n999.mp4,val\n", r"got 1 names \(999.mp4, …\) that no video has, expected a path such as 000.mp4"),
        ("", "got columns none"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "own.csv").write_text(content)
    with pytest.raises(SplitError, match=message):
        assign([real("000", "a")], policy="file", split_file=tmp_path / "own.csv")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SplitError, match=r"split\.file: got none"):
        assign([real("000", "a")], policy="file")
    with pytest.raises(SplitError, match="No such file"):
        assign([real("000", "a")], policy="file", split_file=tmp_path / "own.csv")


def test_a_file_that_tears_a_group_apart_needs_leave(tmp_path: Path) -> None:
    entries = [real("000", "a"), real("001", "a")]
    (tmp_path / "own.csv").write_text("path,split\n000.mp4,train\n001.mp4,test\n")
    with pytest.raises(SplitError, match="--allow-leakage"):
        assign(entries, policy="file", split_file=tmp_path / "own.csv")
    assigned = assign(entries, policy="file", split_file=tmp_path / "own.csv", allow_leakage=True)
    assert [entry.split for entry in assigned] == ["train", "test"]


def test_with_leave_a_torn_group_grows_where_most_of_it_is() -> None:
    torn = [real("000", "a", "train"), real("001", "a", "test"), real("002", "a", "test"), real("003", "a")]
    assert [entry.split for entry in assign(torn, allow_leakage=True)] == ["train", "test", "test", "test"]


def test_the_naive_split_keeps_only_the_compressions_of_a_video_together() -> None:
    entries = pairs_of_ffpp(50)
    smaller = [
        replace(entry, video_id=entry.video_id.replace("/c23/", "/c40/"), compression="c40")
        for entry in (replace(entry, compression="c23") for entry in entries)
    ]
    assigned = assign([*(replace(entry, compression="c23") for entry in entries), *smaller], policy="video")
    splits_of_clip: dict[str, set[str | None]] = {}
    for entry in assigned:
        splits_of_clip.setdefault(entry.clip_id, set()).add(entry.split)
    assert all(len(splits) == 1 for splits in splits_of_clip.values())
    for by_split in counts_by_split(assigned).values():
        assert dict(by_split) == {"train": 140, "val": 30, "test": 30}
    crossing = {entry.group_id for entry in assigned} - {
        group for group in {entry.group_id for entry in assigned} if len(_splits_in(assigned, group)) == 1
    }
    assert crossing, "a naive split leaks"


def _splits_in(entries: list[VideoEntry], group_id: str) -> set[str | None]:
    return {entry.split for entry in entries if entry.group_id == group_id}


def test_the_very_same_bytes_are_one_group() -> None:
    twins = [replace(real(name, name), sha256=digest) for name, digest in (("0", "aa"), ("1", "bb"), ("2", "aa"))]
    assert [entry.group_id for entry in assign(twins)] == ["0", "1", "0"]


def test_a_dataset_for_testing_only() -> None:
    entries = [*pairs_of_ffpp(20), celeb("id0_0000"), celeb("id0_id1_0000", listed=True)]
    for policy in ("group", "video"):
        assigned = assign(entries, policy=policy, test_datasets=["celeb_df"])
        assert {entry.split for entry in assigned if entry.dataset == "celeb_df"} == {"test"}
        counts = counts_by_split(entry for entry in assigned if entry.dataset == "ffpp")
        assert dict(counts["Deepfakes"]) == {"train": 28, "val": 6, "test": 6}


def test_a_dataset_that_was_trained_on_is_not_tested_on() -> None:
    with pytest.raises(SplitError, match="test dataset celeb_df: got celeb_df/YouTube-real/00000 in train"):
        assign([replace(celeb("00000"), split="train")], test_datasets=["celeb_df"])


graphs = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=80)


def videos_of_graph(links: list[tuple[int, int]]) -> list[VideoEntry]:
    """Real footage of each person, and a fake for each link, each in a group of its own so far."""
    people = sorted({person for link in links for person in link})
    fakes = {f"id{target}_id{source}_0000" for target, source in links if target != source}
    return [celeb(name) for name in (*(f"id{person}_0000" for person in people), *sorted(fakes))]


@given(graphs, st.integers(0, 3), st.randoms(use_true_random=False))
def test_no_person_of_a_random_graph_crosses(links: list[tuple[int, int]], seed: int, order: random.Random) -> None:
    entries = videos_of_graph(links)
    shuffled = entries.copy()
    order.shuffle(shuffled)
    assigned = assign(entries, seed=seed)
    splits: dict[str, set[str | None]] = {}
    for entry in assigned:
        for person in filter(None, (entry.target_identity, entry.source_id)):
            splits.setdefault(person, set()).add(entry.split)
    assert all(len(found) == 1 for found in splits.values())
    assert splits_of(assigned) == splits_of(assign(shuffled, seed=seed))


@given(graphs, graphs)
def test_a_growing_graph_moves_nothing(earlier: list[tuple[int, int]], later: list[tuple[int, int]]) -> None:
    first = assign(videos_of_graph(earlier))
    known = splits_of(first)
    both = [*first, *(entry for entry in videos_of_graph(later) if entry.video_id not in known)]
    # By an independent tool: does a new link tie together people who had been told apart?
    split_of = {int(str(entry.target_identity)[2:]): entry.split for entry in first}
    circles = networkx.connected_components(networkx.Graph([*earlier, *later]))
    if any(len({split_of[person] for person in people if person in split_of}) > 1 for people in circles):
        with pytest.raises(SplitError, match="--reprocess"):
            assign(both)
        return
    after = splits_of(assign(both))
    assert {video_id: after[video_id] for video_id in known} == known


@given(graphs)
def test_no_group_could_be_moved_to_come_nearer(links: list[tuple[int, int]]) -> None:
    assigned = assign(videos_of_graph(links))
    totals = Counter(entry.collection for entry in assigned)

    def distance(split_of_group: Mapping[str, str | None]) -> float:
        found = Counter((entry.collection, split_of_group[entry.group_id]) for entry in assigned)
        return sum(
            (found[collection, split] - share * total) ** 2 / total
            for collection, total in totals.items()
            for split, share in zip(SPLITS, (0.70, 0.15, 0.15), strict=True)
        )

    placed = {entry.group_id: entry.split for entry in assigned}
    least = distance(placed)
    for group_id in placed:
        for split in SPLITS:
            assert distance(placed | {group_id: split}) >= least - 1e-6


def test_the_split_does_not_hang_on_the_hash_seed() -> None:
    program = (
        "from tests.unit.manifests.splits.test_policies import *\n"
        "print(sorted(splits_of(assign(small_celeb_df(), seed=3)).items()))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[4],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert said == {f"{sorted(splits_of(assign(small_celeb_df(), seed=3)).items())}\n"}


def test_each_compression_is_balanced_where_some_are_partial() -> None:
    """Of 100 pairs at c23, the first 20 are there at c40, too: whole groups could all go to train."""
    smaller = [
        replace(entry, video_id=entry.video_id.replace("/c23/", "/c40/"), compression="c40")
        for entry in pairs_of_ffpp(20)
    ]
    assigned = assign([*(replace(entry, compression="c23") for entry in pairs_of_ffpp(100)), *smaller])
    for compression, expected in (("c23", [840, 180, 180]), ("c40", [168, 36, 36])):
        counts = Counter(entry.split for entry in assigned if entry.compression == compression)
        assert [counts[split] for split in SPLITS] == expected


def test_official_pairs_that_name_test_only_leave_the_rest_alone(tmp_path: Path) -> None:
    """Of a partial tree only test videos may be listed; the other videos are still in no list."""
    (official_lists(tmp_path) / "test.json").write_text('[["004", "005"]]')
    assigned = assign([real("004", "a"), real("777", "b")], policy="official", official_dir=tmp_path)
    assert [entry.split for entry in assigned] == ["test", None]


def test_official_ids_that_lost_their_zeros(tmp_path: Path) -> None:
    (official_lists(tmp_path) / "val.json").write_text("[[2, 3]]")
    assigned = splits_of(assign(pairs_of_ffpp(3), policy="official", official_dir=tmp_path))
    assert assigned["ffpp/youtube/c23/002"] == assigned["ffpp/Deepfakes/c23/003_002"] == "val"


@pytest.mark.parametrize("seed", range(5))
def test_what_is_also_in_a_test_dataset_is_for_testing(seed: int) -> None:
    tested = replace(celeb("00000"), sha256="aa")
    copies = [replace(entry, sha256="aa") if entry.target_id == "000" else entry for entry in pairs_of_ffpp(10)]
    assigned = assign([tested, *copies], seed=seed, test_datasets=["celeb_df"])
    assert {entry.split for entry in assigned if "000" in (entry.target_id, entry.source_id)} == {"test"}
    require_no_leakage(assigned)
