"""The leakage report: figures of real lists, small manifests counted by hand, and what a split cannot leak."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.entry import SPLITS, Split, VideoEntry
from manifests.errors import SplitError
from manifests.leakage.audit import KINDS, VALUES, Donors, Example, audit
from manifests.leakage.text import PROMISES, broken_promises, describe, sentences_about_test
from manifests.splits.policies import POLICIES

REFERENCE = Path(__file__).resolve().parents[5] / "shared" / "reference"

NEAR = "0" * 64  # frame hashes that are near each other
FAR = "5" * 64


def ffpp(name: str, split: Split | None, kind: str = "Deepfakes", compression: str = "c23", **more: str) -> VideoEntry:
    """A video of FaceForensics++ by its name: `000` is real, `000_001` a fake."""
    target, _, source = name.partition("_")
    collection = kind if source else "youtube"
    return VideoEntry(
        video_id=f"ffpp/{collection}/{compression}/{name}",
        path=f"{collection}/{compression}/{name}.mp4",
        dataset="ffpp",
        label="fake" if source else "real",
        manipulation=kind if source else None,
        compression=compression,
        target_id=target,
        target_identity=target,
        source_id=source or None,
        group_id=f"ffpp/{int(target) // 2 * 2:03d}",  # the pair
        split=split,
        sha256=more.get("sha256"),
        frame_hashes=more.get("frame_hashes"),
    )


def celeb_df(path: str, split: Split | None) -> VideoEntry:
    """A video of Celeb-DF by its path, such as `Celeb-synthesis/id0_id1_0000.mp4`."""
    folder, stem = path.removesuffix(".mp4").split("/")
    *people, number = stem.split("_")
    is_fake = folder == "Celeb-synthesis"
    return VideoEntry(
        video_id=f"celeb_df/{folder}/{stem}",
        path=path,
        dataset="celeb_df",
        label="fake" if is_fake else "real",
        manipulation=folder if is_fake else None,
        target_id=f"{people[0]}_{number}" if people else stem,
        target_identity=people[0] if people else None,
        source_id=people[1] if is_fake else None,
        group_id=f"celeb_df/{people[0] if people else stem}",
        split=split,
    )


def num_shared(entries: Sequence[VideoEntry]) -> dict[str, int]:
    return {found.kind: found.num_shared for found in audit(entries).shared}


@pytest.fixture(scope="module")
def official_celeb_df() -> list[VideoEntry]:
    """Celeb-DF v2 by its names: test is what its own list names, train the rest."""
    if not REFERENCE.is_dir():
        pytest.skip(f"needs the datasets' name lists in {REFERENCE}, which are not in the repository")
    lines = (REFERENCE / "List_of_testing_videos_celebdf_v2.txt").read_text().split("\n")
    listed = {line.split()[1] for line in lines if line}
    names = (REFERENCE / "celebdf_v2_video_names.txt").read_text().split()
    return [celeb_df(name, "test" if name in listed else "train") for name in names]


def test_the_official_list_of_celeb_df(official_celeb_df: list[VideoEntry]) -> None:
    """Figures counted by others, from the same lists of names."""
    report = audit(official_celeb_df)
    (held_out,) = report.held_out
    assert (held_out.num_test_fakes_from_other_footage, held_out.num_test_fakes) == (234, 340)
    assert (held_out.num_other_fakes_from_test_footage, held_out.num_other_fakes) == (1015, 5299)
    assert (held_out.num_test_identities_in_other_fakes, held_out.num_test_identities) == (55, 56)
    text = "\n".join(describe(report))
    assert "celeb_df: 234/340 test fakes are made from footage whose real video is in train or val." in text
    assert "celeb_df: 1,015/5,299 train and val fakes are made from test footage." in text
    assert "celeb_df: 55/56 test identities recur in train and val fakes." in text
    assert text.startswith("Leakage: the splits share ")
    assert broken_promises(report, "official") == ()
    assert len(broken_promises(report, "group")) > 0


def small_leak() -> list[VideoEntry]:
    """One pair with everything in one split, and one that is torn apart three ways."""
    return [
        *(ffpp(name, "train") for name in ("000", "001", "000_001", "001_000")),
        ffpp("002", "train"),
        ffpp("003", "test"),
        ffpp("002_003", "test"),
        ffpp("003_002", "val"),
    ]


def test_each_kind_counted_by_hand() -> None:
    report = audit(small_leak())
    assert tuple(found.kind for found in report.shared) == KINDS
    counted = {found.kind: (found.num_values, found.num_shared) for found in report.shared}
    assert counted == {
        "video": (8, 0),
        "target": (4, 2),  # 002 in train and test, 003 in val and test
        "source": (4, 0),  # as donors, 002 only in val and 003 only in test
        "identity": (4, 2),  # 002 in all three; 003 in val and test
        "recording": (4, 2),  # each of these originals is of a YouTube video of its own
        "group": (2, 1),
        "identical file": (0, 0),
        "near-duplicate": (0, 0),
    }
    assert report.by_kind["target"].by_splits == {"train-val": 0, "train-test": 1, "val-test": 1}
    assert report.by_kind["identity"].by_splits == {"train-val": 1, "train-test": 1, "val-test": 2}
    assert report.by_kind["identity"].num_videos == {"train": 1, "val": 1, "test": 2}
    assert report.by_kind["group"].examples == (
        Example(
            value="ffpp/002",
            splits=("train", "val", "test"),
            video_ids=("ffpp/youtube/c23/002", "ffpp/Deepfakes/c23/003_002", "ffpp/Deepfakes/c23/002_003"),
        ),
    )
    assert report.num_videos == {"train": 5, "val": 1, "test": 2}


def test_test_against_the_rest_by_hand() -> None:
    (held_out,) = audit(small_leak()).held_out
    # The one test fake shows 002, whose real video is in train; the val fake shows 003, whose real video is in test.
    assert (held_out.num_test_fakes_from_other_footage, held_out.num_test_fakes) == (1, 1)
    assert (held_out.num_other_fakes_from_test_footage, held_out.num_other_fakes) == (1, 3)
    # Test shows 003, and 002 with the face of 003; both are in the val fake 003_002.
    assert (held_out.num_test_identities_in_other_fakes, held_out.num_test_identities) == (2, 2)


def test_donors_by_hand() -> None:
    assert audit(small_leak()).donors == (
        Donors(split="train", num_fakes=2, num_elsewhere=0),
        Donors(split="val", num_fakes=1, num_elsewhere=1),  # 002 itself is in train
        Donors(split="test", num_fakes=1, num_elsewhere=0),  # 003 itself is in test
    )


def test_a_donor_may_have_several_videos() -> None:
    """Any real video of the person counts; people of another dataset do not."""
    fakes = [celeb_df(f"Celeb-synthesis/id0_id{donor}_0000.mp4", "train") for donor in (1, 2, 3)]
    reals = [celeb_df("Celeb-real/id1_0000.mp4", "train"), celeb_df("Celeb-real/id1_0005.mp4", "test")]
    reals += [celeb_df("Celeb-real/id2_0000.mp4", "train")]
    reals += [replace(celeb_df("Celeb-real/id3_0000.mp4", "test"), dataset="other")]
    assert audit([*fakes, *reals]).donors[0] == Donors(split="train", num_fakes=3, num_elsewhere=1)


def test_a_naive_split_of_all_of_ffpp_parts_nearly_half_of_the_fakes_from_their_donors() -> None:
    """Two of three splits at random agree with 0.7² + 2 · 0.15² = 53.5 %; a draw of 1,000 pairs is within 3 points."""
    pairs = [(f"{number:03d}", f"{number ^ 1:03d}") for number in range(1000)]
    draw: list[Split] = [*["train"] * 700, *["val"] * 150, *["test"] * 150]  # type: ignore[list-item]
    order = random.Random(0)
    order.shuffle(draw)
    entries = [ffpp(target, split) for (target, _), split in zip(pairs, draw, strict=True)]
    order.shuffle(draw)
    entries += [ffpp(f"{target}_{source}", split) for (target, source), split in zip(pairs, draw, strict=True)]
    donors = audit(entries).donors
    assert sum(found.num_fakes for found in donors) == 1000
    assert sum(found.num_elsewhere for found in donors) / 1000 == pytest.approx(0.465, abs=0.03)


def test_the_official_lists_of_ffpp_split_seven_recordings() -> None:
    """The seven were counted in the authors' lists by others."""
    if not REFERENCE.is_dir():
        pytest.skip(f"needs the official lists in {REFERENCE}, which are not in the repository")
    entries = [
        ffpp(name, split)
        for split in SPLITS
        for first, second in json.loads((REFERENCE / f"ff_{split}.json").read_text())
        for name in (first, second, f"{first}_{second}", f"{second}_{first}")
    ]
    report = audit(entries)
    found = report.by_kind["recording"]
    assert (found.num_values, found.num_shared) == (977, 7)
    assert {example.value: example.splits for example in found.examples} == {
        "ffpp/605-606": ("train", "val"),
        "ffpp/639-640": ("train", "val"),
        "ffpp/755-756": ("train", "test"),
        "ffpp/837-838": ("train", "val"),
        "ffpp/875-876": ("train", "val"),
        "ffpp/954-955": ("train", "test"),
        "ffpp/982-983": ("train", "val"),
    }
    lines = [line for line in describe(report) if line.startswith("Example, recording: ")]
    assert len(lines) == 7
    assert lines[0].startswith("Example, recording: ffpp/605-606 in train and val: ")
    assert report.by_kind["target"].num_shared == 0  # by numbers alone, nothing is shared
    assert broken_promises(report, "official") == ()


def test_two_compressions_are_one_video() -> None:
    entries = [ffpp("000", "train", compression="c23"), ffpp("000", "test", compression="c40")]
    report = audit(entries)
    assert report.by_kind["video"].num_shared == 1
    assert report.by_kind["video"].examples[0].value == "ffpp/youtube/000"
    for policy in POLICIES:
        assert "got 1 video in more than one split (ffpp/youtube/000 in train and test)" in "\n".join(
            broken_promises(report, policy)
        )


def test_the_same_bytes_under_two_names() -> None:
    entries = [ffpp("000", "train", sha256="ab"), ffpp("002", "val", sha256="ab"), ffpp("004", "val", sha256="cd")]
    found = audit(entries).by_kind["identical file"]
    assert (found.num_values, found.num_shared) == (2, 1)
    assert found.examples[0].video_ids == ("ffpp/youtube/c23/000", "ffpp/youtube/c23/002")


def test_near_duplicates_are_shown_and_break_no_promise() -> None:
    entries = [ffpp("000", "train", frame_hashes=NEAR), ffpp("002", "test", frame_hashes=NEAR)]
    entries += [ffpp("004", "val", frame_hashes=FAR)]
    report = audit(entries)
    near = report.by_kind["near-duplicate"]
    assert (near.num_values, near.num_shared, near.by_splits["train-test"]) == (3, 1, 1)
    assert near.num_videos == {"train": 1, "val": 0, "test": 1}
    assert all(broken_promises(report, policy) == () for policy in POLICIES)
    lines = describe(report)
    assert lines[0] == "No name and no file is in two splits, but videos look alike; near-duplicate pairs: 1."
    assert (
        "Example, near-duplicate: 0, 0, 0, 0 bits of 64 apart in train and test: "
        "ffpp/youtube/c23/000, ffpp/youtube/c23/002"
    ) in lines


def test_equal_names_in_two_datasets_are_nothing_shared() -> None:
    other = replace(ffpp("000_001", "test"), video_id="other/x/c23/000_001", dataset="other", group_id="other/000")
    entries = [*(ffpp(name, "train") for name in ("000", "001", "000_001")), other]
    assert set(num_shared(entries).values()) == {0}


def test_the_verdicts() -> None:
    assert describe(audit([]))[0] == "No video has a split, so there is nothing to compare."
    names = [ffpp("000", "train"), ffpp("002", "test")]
    assert describe(audit(names))[0] == (
        "No leakage found by names: the splits share none. The files have not been opened."
    )
    probed = [replace(entry, sha256=entry.target_id, frame_hashes=None) for entry in names]
    assert describe(audit(probed))[0].startswith("No leakage found: ")
    assert (
        describe(audit(small_leak()))[0]
        == "Leakage: the splits share 2 targets, 2 identities, 2 recordings and 1 group."
    )


def test_what_could_not_be_looked_at_is_said() -> None:
    entries = [ffpp("000", "train"), replace(ffpp("002", "test"), num_frames=5), ffpp("004", None)]
    text = describe(audit(entries))
    assert "Not measured: size, rate, length and bytes of 1 of 2 videos; real and fake may differ there." in text
    assert "Videos without a split, not in this report: 1." in text
    assert any(line.startswith("identical files") and "the files have not been opened" in line for line in text)
    measured = [replace(entry, num_frames=5) for entry in entries[:2]]
    assert not any(line.startswith("Not measured") for line in describe(audit(measured)))


def test_confounds_are_told_once_with_their_splits() -> None:
    entries = [ffpp(f"{number}_{number + 1}", split) for split in SPLITS for number in (100, 102)]
    lines = [line for line in describe(audit(entries)) if line.startswith("Warning")]
    assert lines == [
        "Warning, all splits together: no real video among 6: there is nothing to tell apart "
        "(also in train, val and test).",
        "Warning, all splits together: ffpp Deepfakes: none of its 6 fakes has its original here; "
        "a model trained on it against other real videos learns the scene, not the forgery.",
    ]


def test_every_policy_has_a_promise() -> None:
    assert PROMISES.keys() == POLICIES.keys()
    assert PROMISES["group"] == PROMISES["file"] == set(VALUES)
    with pytest.raises(SplitError, match="got 'best', expected one of"):
        broken_promises(audit([]), "best")


def test_a_broken_promise_says_what_and_the_way_out() -> None:
    report = audit([ffpp(f"{number:03d}", split) for number in range(8) for split in ("train", "test")])
    messages = broken_promises(report, "group")
    assert [message.partition(":")[0] for message in messages] == ["split.policy group"] * len(messages)
    target = next(message for message in messages if "targets" in message)
    assert target == (
        "split.policy group: got 8 targets in more than one split (ffpp/000 in train and test; ffpp/001 in train and "
        "test; ffpp/002 in train and test), expected none; split the store again with `preprocess --reprocess`, or "
        "accept it with `preprocess --allow-leakage`, which the store records"
    )
    assert (
        "expected none; correct the list, or accept it with `preprocess --allow-leakage`"
        in broken_promises(report, "file")[0]
    )
    assert broken_promises(audit(small_leak()), "video") == ()


def test_the_report_is_json() -> None:
    plain = json.loads(json.dumps(asdict(audit(small_leak()))))
    assert plain["shared"][1]["by_splits"] == {"train-val": 0, "train-test": 1, "val-test": 1}
    assert plain["held_out"][0]["dataset"] == "ffpp"


people = st.integers(0, 15)
graphs = st.lists(st.tuples(people, people, st.integers(0, 2)), max_size=40)
splits = st.sampled_from(SPLITS)


def videos_of(graph: list[tuple[int, int, int]]) -> list[VideoEntry]:
    """Each person's real footage, and fakes of it with the faces of others."""
    names = {f"Celeb-real/id{person}_{number}" for target, source, number in graph for person in (target, source)}
    names |= {f"Celeb-synthesis/id{target}_id{source}_{number}" for target, source, number in graph if target != source}
    return [celeb_df(name, None) for name in sorted(names)]


@given(graphs, st.lists(splits, min_size=16, max_size=16))
def test_whole_components_share_nothing(graph: list[tuple[int, int, int]], drawn: list[Split]) -> None:
    ties = networkx.Graph((f"id{target}", f"id{source}") for target, source, _ in graph)
    split_of = {
        person: split
        for members, split in zip(networkx.connected_components(ties), drawn, strict=False)
        for person in members
    }
    report = audit([replace(entry, split=split_of[str(entry.target_identity)]) for entry in videos_of(graph)])
    assert {found.num_shared for found in report.shared} == {0}
    assert all(found.num_elsewhere == 0 for found in report.donors)
    for held_out in report.held_out:
        assert held_out.num_test_fakes_from_other_footage == held_out.num_other_fakes_from_test_footage == 0
        assert held_out.num_test_identities_in_other_fakes == 0
    assert broken_promises(report, "group") == ()


@given(graphs, st.randoms(use_true_random=False))
def test_any_split_is_counted_right_and_in_any_order(graph: list[tuple[int, int, int]], order: random.Random) -> None:
    entries = [replace(entry, split=order.choice((*SPLITS, None))) for entry in videos_of(graph)]
    report = audit(entries)
    shuffled = entries.copy()
    order.shuffle(shuffled)
    assert audit(shuffled) == report
    within = {split: {e.target_id for e in entries if e.split == split} for split in SPLITS}
    target = report.by_kind["target"]
    assert target.by_splits["train-test"] == len(within["train"] & within["test"])
    crossing = (within["train"] & within["val"]) | (within["train"] & within["test"]) | (within["val"] & within["test"])
    assert target.num_shared == len(crossing)
    assert target.num_videos["val"] == sum(e.split == "val" and e.target_id in crossing for e in entries)
    assert target.num_values == len(set().union(*within.values()))


def test_fakes_of_unknown_footage_are_no_all_clear() -> None:
    """In a folder of one's own a fake is named after itself: that it shares no footage is nothing to be proud of."""
    own = VideoEntry(
        video_id="folder/fake/a",
        path="fake/a.mp4",
        dataset="folder",
        label="fake",
        manipulation="fake",
        target_id="fake/a",
        group_id="folder/fake/a",
        split="test",
    )
    original = replace(
        own, video_id="folder/real/a", label="real", manipulation=None, target_id="real/a", split="train"
    )
    report = audit([own, original])
    assert report.by_kind["target"].num_values == 1
    assert sentences_about_test(report.held_out[0]) == []
    assert not own.has_known_footage


def test_where_nothing_has_a_split_nothing_is_said_of_kinds() -> None:
    assert describe(audit([]))[0] == "No video has a split, so there is nothing to compare."
    assert len(describe(audit([]))) == 1
