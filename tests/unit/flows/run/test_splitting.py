"""Splits of rows: whole groups, earlier splits kept, and rejections where a list names no split."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flows.config.preprocess import SplitSettings
from flows.run.splitting import with_splits
from flows.run.workload import outcome
from manifests.entry import SPLITS
from manifests.errors import SplitError
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from tests.helpers.rows import entry_of, rejected, row_of, stored


def test_rows_get_the_splits_of_their_groups() -> None:
    rows = [row_of(entry_of(name, None, "pair")) for name in ("001", "002", "001_002")]
    broken = rejected(entry_of("009", None))
    nameless = ManifestRow(video_id="notes.mp4", path="notes.mp4").as_rejected(
        Rejected(video_id="notes.mp4", stage=Stage.INDEX, reason=Reason.UNRECOGNISED_NAME, detail="seen")
    )
    *assigned, last, least = with_splits([*rows, broken, nameless], SplitSettings(ratios=(0.0, 1.0, 0.0)))
    assert {row.entry.split for row in assigned if row.entry} == {"val"}
    assert [row.status for row in assigned] == ["pending"] * 3
    # Who is rejected takes no place in the split.
    assert (last, least) == (broken, nameless)


def test_earlier_splits_are_kept() -> None:
    rows = [row_of(entry_of("001", "test", "pair")), row_of(entry_of("002", None, "pair"))]
    assert [row.entry.split for row in with_splits(rows, SplitSettings()) if row.entry] == ["test", "test"]


def test_stored_videos_bind_their_groups_even_when_they_are_not_on_disk() -> None:
    """c23 was processed first, c40 of the same people follows: nobody may be in train and in test then."""
    to_train = SplitSettings(ratios=(1.0, 0.0, 0.0))
    before = stored(entry_of("001", "test", "pair"))
    new = row_of(entry_of("002", None, "pair"))
    indexed = with_splits([new], to_train, [entry_of("001", "test", "pair")])
    assert [row.video_id for row in indexed] == [new.video_id]
    assert {row.entry.split for row in outcome(indexed, {before.video_id: before}) if row.entry} == {"test"}
    # What lies on disk speaks for itself.
    again = with_splits([row_of(entry_of("001", None, "other"))], to_train, [entry_of("001", "test", "pair")])
    assert [row.entry.split for row in again if row.entry] == ["train"]


@pytest.mark.parametrize("is_stored", [True, False])
def test_videos_that_cannot_be_used_today_bind_their_groups(is_stored: bool) -> None:
    """An original was put into test; today it cannot be read, and a new fake of it arrives."""
    known = entry_of("001", "test", "pair")
    unusable = row_of(known).as_rejected(
        Rejected(video_id=known.video_id, stage=Stage.PROBE, reason=Reason.UNREADABLE, detail="a closed folder")
    )
    new = row_of(entry_of("002", None, "pair"))
    to_train = SplitSettings(ratios=(1.0, 0.0, 0.0))
    rejected, arrived = with_splits([unusable, new], to_train, [known] if is_stored else [])
    assert rejected == unusable
    assert arrived.entry is not None
    assert arrived.entry.split == "test"


def official_lists(folder: Path) -> SplitSettings:
    for split, pair in zip(SPLITS, (["001", "002"], ["003", "004"], ["005", "006"]), strict=True):
        (folder / f"{split}.json").write_text(json.dumps([pair]))
    return SplitSettings(policy="official", official_dir=folder)


def test_what_the_official_lists_do_not_name_is_rejected(tmp_path: Path) -> None:
    rows = [row_of(entry_of(name, None, group)) for name, group in (("001_002", "p"), ("003", "q"), ("900_001", "r"))]
    fake, real, unnamed = with_splits(rows, official_lists(tmp_path))
    assert [row.entry.split for row in (fake, real) if row.entry] == ["train", "val"]
    assert (unnamed.status, unnamed.stage, unnamed.reason) == ("rejected", Stage.SPLIT, Reason.NOT_IN_SPLIT_LISTS)
    assert unnamed.detail == (f"split lists: got no split for {unnamed.path} (target 900), expected a list to name it")
    assert unnamed.entry == entry_of("900_001", None, "r")


def test_a_group_that_would_cross_splits_stops_the_run() -> None:
    rows = [row_of(entry_of("001", "train", "pair")), row_of(entry_of("002", "test", "pair"))]
    with pytest.raises(
        SplitError, match=r"split\.policy group: got 1 group in more than one split \(pair in train and test"
    ):
        with_splits(rows, SplitSettings())
    kept = with_splits(rows, SplitSettings(allow_leakage=True))
    assert [row.entry.split for row in kept if row.entry] == ["train", "test"]


def test_splits_that_a_version_made_which_knew_less_are_kept_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """331 and 332 were cut from one YouTube video: their groups were apart then, and are one now."""
    kept = [entry_of("331", "train"), entry_of("332", "val"), entry_of("900", "test")]
    earlier = [replace(entry, sha256=entry.target_id) for entry in kept]
    new = replace(entry_of("331_335", None, "331"), sha256="new")
    today = [*(replace(entry, group_id="331") for entry in earlier[:2]), earlier[2], new]
    with caplog.at_level("WARNING"):
        rows = with_splits(map(row_of, today), SplitSettings(), earlier, earlier=earlier)
    assert [row.entry.split for row in rows if row.entry] == ["train", "val", "test", "train"]
    assert "into several splits: 331 in train, val. Their splits stay" in caplog.text
    # The new version's own splits, and links that the new videos bring, are refused as always.
    linked = [*today, entry_of("331_900", None, "331")]
    with pytest.raises(SplitError, match="got 1 target in more than one split"):
        with_splits(map(row_of, linked), SplitSettings(), earlier, earlier=earlier)
    with pytest.raises(SplitError, match=r"got 1 recording in more than one split \(ffpp/331-332 in train and val"):
        with_splits(map(row_of, earlier), SplitSettings())
