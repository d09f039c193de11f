"""Plans of shards: whole groups side by side, and the same plan again after a kill."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.config.preprocess import PreprocessConfig, validate
from flows.run.relatives import Relatives
from flows.run.shards import plan_shards
from flows.run.task_runs import in_chunks
from manifests.entry import SPLITS, VideoEntry
from tasks.process import ShardPlan
from tasks.workers.pool import WorkerSettings
from tests.helpers.rows import entry_of, stored

ROOTS = {"ffpp": Path("/data")}


def configured(videos_per_shard: int = 32, **changes: Any) -> PreprocessConfig:
    required = {"dataset": {"root": "/data"}, "out": "/store", "shard": {"videos": videos_per_shard}}
    return validate(PreprocessConfig, required | changes)


def planned(
    entries: Sequence[VideoEntry], videos_per_shard: int, next_number: Callable[[str], int] = lambda _: 0
) -> list[ShardPlan]:
    config = configured(videos_per_shard)
    return plan_shards(entries, config, ROOTS, ("cpu",), next_number, Relatives.among(entries, config), "c" * 64)


def names_by_shard(plans: Iterable[ShardPlan]) -> dict[str, list[str]]:
    return {plan.name: [entry.video_id.rpartition("/")[2] for entry in plan.entries] for plan in plans}


def test_each_split_is_cut_into_shards_train_first() -> None:
    entries = [entry_of(f"{number:03d}", ("test", "train", "val")[number % 3]) for number in range(12)]
    numbers = {"train": 0, "val": 3, "test": 12}
    assert names_by_shard(planned(entries, 3, numbers.__getitem__)) == {
        "train-00000.lmdb": ["001", "004", "007"],
        "train-00001.lmdb": ["010"],
        "val-00003.lmdb": ["002", "005", "008"],
        "val-00004.lmdb": ["011"],
        "test-00012.lmdb": ["000", "003", "006"],
        "test-00013.lmdb": ["009"],
    }


def test_a_plan_says_everything_that_its_task_needs() -> None:
    config = configured(detect={"device": "cpu"}, runner={"workers": 3}, frames={"count": 4})
    alone = Relatives.among([entry_of("001", "val")], config)
    (plan,) = plan_shards([entry_of("001", "val")], config, ROOTS, ("cuda:0", "cuda:1"), lambda _: 5, alone, "c" * 64)
    assert plan == ShardPlan(
        roots=ROOTS,
        store_dir=Path("/store"),
        split="val",
        number=5,
        entries=(entry_of("001", "val"),),
        originals={},
        choice_masks={},
        relatives={},
        asked_originals=frozenset(),
        config_digest="c" * 64,
        workers=WorkerSettings(devices=("cuda:0", "cuda:1"), num_workers=3, stages=config.stages),
    )


def related(
    names: Sequence[str], missing: Sequence[str], masked: Sequence[str] = (), videos_per_shard: int = 32, **changes: Any
) -> list[ShardPlan]:
    """Plan some of the videos on disk; those with a mask are named."""
    known = {name: entry_of(name, group_id="all") for name in names}
    known |= {name: replace(known[name], mask_path=f"masks/{name}.mp4") for name in masked}
    config = configured(videos_per_shard, **changes)
    relatives = Relatives.among(known.values(), config)
    return plan_shards([known[name] for name in missing], config, ROOTS, ("cpu",), lambda _: 0, relatives, "c" * 64)


REAL, FAKE = "ffpp/youtube/c23/001", "ffpp/FaceSwap/c23/001_002"


def test_a_fake_knows_its_original_and_asks_it_where_no_mask_says_who_it_is_about() -> None:
    (plan,) = related(["001", "001_002"], ["001", "001_002"])
    assert {name: entry.video_id for name, entry in plan.originals.items()} == {FAKE: REAL}
    assert plan.asked_originals == {REAL}
    assert plan.choice_masks == {}
    fake, real = (plan.job(entry) for entry in plan.entries)
    assert fake.original == real
    assert (real.original, fake.geometry_dir, fake.choice_mask) == (None, None, None)
    assert real.geometry_dir is not None
    assert real.geometry_dir.is_relative_to("/store")
    assert (real.root, real.config_digest) == (Path("/data"), plan.config_digest)


def test_where_a_mask_says_it_nobody_asks() -> None:
    (plan,) = related(["001", "001_002"], ["001", "001_002"], masked=["001_002"])
    assert (set(plan.originals), plan.asked_originals) == ({FAKE}, frozenset())
    # The mask of the fake says who of the original is manipulated.
    assert plan.choice_masks == {REAL: "masks/001_002.mp4"}
    fake, real = (plan.job(entry) for entry in plan.entries)
    assert (real.choice_mask, real.geometry_dir) == ("masks/001_002.mp4", None)
    assert fake.original == real


def test_with_reuse_every_original_is_asked() -> None:
    (plan,) = related(["001", "001_002"], ["001_002"], masked=["001_002"], track={"reuse_geometry": True})
    assert plan.asked_originals == {REAL}


def test_an_original_that_is_stored_already_is_at_hand_for_new_fakes() -> None:
    """It lies on disk, and is not among the videos that are missing in the store."""
    (plan,) = related(["001", "002", "001_002"], ["001_002"])
    assert [entry.video_id for entry in plan.entries] == [FAKE]
    assert {name: entry.video_id for name, entry in plan.originals.items()} == {FAKE: REAL}
    assert plan.asked_originals == {REAL}


def digests(names: Sequence[str], masked: Sequence[str] = (), **changes: Any) -> dict[str, str]:
    """Digests of relatives by the last part of the video_id."""
    (plan,) = related(names, names, masked, **changes)
    return {name.rpartition("/")[2]: digest for name, digest in plan.relatives.items()}


def test_what_a_video_owes_to_others_is_digested() -> None:
    assert digests(["001", "002"]) == {}
    without_mask = digests(["001", "001_002"])
    assert set(without_mask) == {"001_002"}  # its choice follows the original
    with_mask = digests(["001", "001_002"], ["001_002"])
    assert set(with_mask) == {"001"}  # the original's choice follows the mask; the fake has one of its own
    both = digests(["001", "001_002"], ["001_002"], track={"reuse_geometry": True})
    assert set(both) == {"001", "001_002"}
    assert both["001"] == with_mask["001"]
    assert both["001_002"] != without_mask["001_002"]  # the geometry that it takes over is chosen by the mask


def test_a_mask_that_was_asked_before_stays_the_one_that_is_asked() -> None:
    names, config = ("001", "001_002", "001_003"), configured()
    entries = {name: replace(entry_of(name), mask_path=f"{name}.mp4" if "_" in name else None) for name in names}
    first = Relatives.among([entries["001"], entries["001_003"]], config)
    rows = {REAL: replace(stored(entries["001"]), relatives_digest=first.digests[REAL])}
    assert Relatives.among(entries.values(), config).masked[REAL] == entries["001_002"]
    assert Relatives.among(entries.values(), config, rows).digests == first.digests
    # It is not on disk today, or not in this run's part of the dataset: nothing has become wrong.
    rows[entries["001_003"].video_id] = stored(entries["001_003"])
    assert Relatives.among([entries["001"], entries["001_002"]], config, rows).digests == first.digests


def test_nobody_asks_an_original_whose_fakes_are_stored() -> None:
    (plan,) = related(["001", "001_002"], ["001"])
    assert (plan.originals, plan.asked_originals) == ({}, frozenset())


def test_a_fake_whose_original_is_not_there() -> None:
    (plan,) = related(["002", "001_002"], ["002", "001_002"])
    assert (plan.originals, plan.asked_originals) == ({}, frozenset())


def test_a_shard_is_told_of_its_own_videos_only() -> None:
    """A fake's job names its original in another shard; the geometry of both is in the same folder."""
    names = ["001", "002", "001_002", "002_001"]
    plans = related(names, names, videos_per_shard=1)
    told = {plan.entries[0].video_id.rpartition("/")[2]: plan for plan in plans}
    assert {name: len(plan.originals) for name, plan in told.items()} == {
        "001": 0,
        "002": 0,
        "001_002": 1,
        "002_001": 1,
    }
    for fake, real in (("001_002", "001"), ("002_001", "002")):
        expected = {f"ffpp/youtube/c23/{real}"}
        assert told[fake].asked_originals == told[real].asked_originals == expected
        (asking,) = (told[fake].job(entry) for entry in told[fake].entries)
        (asked,) = (told[real].job(entry) for entry in told[real].entries)
        assert asking.original == asked


def test_nothing_missing_nothing_planned() -> None:
    assert planned([], 32) == []


def test_a_fake_lies_in_the_shard_of_its_original() -> None:
    """By video_id alone all fakes would come before all originals."""
    names = ["001", "002", "003", "001_002", "003_001", "002_003"]
    groups = {"1": "pair-1", "2": "pair-2", "3": "pair-3"}
    entries = [entry_of(name, group_id=groups[name[2]]) for name in names]
    assert names_by_shard(planned(entries, 2)) == {
        "train-00000.lmdb": ["001_002", "001"],
        "train-00001.lmdb": ["002_003", "002"],
        "train-00002.lmdb": ["003_001", "003"],
    }


def test_videos_stand_in_the_order_of_their_records_keys() -> None:
    """The keys are `a-b/00/…` and `a/00/…`, and `-` sorts before `/`; the bare names sort the other way."""
    entries = [entry_of("a"), entry_of("a-b", group_id="a"), entry_of("a.c", group_id="a")]
    (plan,) = planned(entries, 32)
    assert [entry.video_id for entry in plan.entries] == [
        "ffpp/youtube/c23/a-b",
        "ffpp/youtube/c23/a.c",
        "ffpp/youtube/c23/a",
    ]
    keys = [f"{entry.video_id}/00/000000" for entry in plan.entries]
    assert keys == sorted(keys)


videos = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 9), st.sampled_from(SPLITS)), unique_by=lambda video: video[0]
).map(lambda found: [entry_of(f"{number:03d}", split, f"group-{group}") for number, group, split in found])


@given(videos, st.integers(1, 7), st.randoms(use_true_random=False))
def test_a_killed_run_is_planned_the_same_way_again(entries: list[VideoEntry], size: int, chance: Any) -> None:
    plans = planned(entries, size)
    assert sorted(entry.video_id for plan in plans for entry in plan.entries) == sorted(e.video_id for e in entries)
    finished = [plan for plan in plans if chance.random() < 0.5]
    done = {entry.video_id for plan in finished for entry in plan.entries}
    missing = [entry for entry in entries if entry.video_id not in done]
    chance.shuffle(missing)
    remaining = planned(missing, size, lambda split: len([plan for plan in finished if plan.split == split]))
    assert [plan.entries for plan in remaining] == [plan.entries for plan in plans if plan not in finished]


def test_a_run_that_was_killed_after_its_first_shards_uses_the_same_names() -> None:
    entries = [entry_of(f"{number:03d}") for number in range(10)]
    first, *rest = planned(entries, 4)
    missing = [entry for entry in entries if entry not in first.entries]
    assert planned(missing, 4, lambda _: 1) == rest


@given(st.lists(st.integers()), st.integers(1, 9))
def test_chunks_lose_nothing(items: list[int], size: int) -> None:
    chunks = list(in_chunks(iter(items), size))
    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= size for chunk in chunks[-1:])
