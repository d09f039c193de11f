"""Splits: exact where whole groups allow it, sticky, the same in any order, and never with a group on both sides."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.entry import SPLITS, Split, VideoEntry
from manifests.errors import SplitError
from manifests.groups import connected_groups
from manifests.splits import assign, counts_by_split, require_no_leakage


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
    assert by_split["val"] == ["09", "11", "13"]
    assert by_split["test"] == ["00", "03", "10"]


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
    elsewhere = replace(real("001", "other/001"), dataset="other", video_id="other/001")
    assert {entry.group_id for entry in assign([real("001", "ffpp/001"), elsewhere])} == {"ffpp/001", "other/001"}


def test_a_group_that_would_cross_is_refused() -> None:
    with pytest.raises(SplitError, match=r"got 1 in more than one split \(a in \['test', 'train'\]\).*--reprocess"):
        assign([real("000", "a", "train"), real("001", "a", "test")])


@pytest.mark.parametrize("ratios", [(0.7, 0.2, 0.2), (1.2, -0.1, -0.1), (0.5, 0.5)])
def test_ratios_that_make_no_split(ratios: tuple[float, ...]) -> None:
    with pytest.raises(SplitError, match="three shares"):
        assign([real("000", "a")], ratios=ratios)  # type: ignore[arg-type]


def test_an_unknown_policy_lists_the_allowed() -> None:
    with pytest.raises(SplitError, match=r"got 'random', expected one of \['group', 'official'\]"):
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


def test_official_lists_that_tear_a_group_apart_are_refused(tmp_path: Path) -> None:
    entries = [replace(entry, group_id="one") for entry in pairs_of_ffpp(3)]
    with pytest.raises(SplitError, match=r"one in \['test', 'train', 'val'\]"):
        assign(entries, policy="official", official_dir=official_lists(tmp_path))


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
