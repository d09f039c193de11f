"""What a run changed: each video under the one heading that a person would look for it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from flows.report.difference import (
    MAX_LISTED,
    Difference,
    code_in_words,
    code_of,
    compare,
    read_difference,
    write_difference,
)
from flows.report.text import describe_difference, difference_markdown, in_a_line
from manifests.entry import VideoEntry
from manifests.errors import StoreCorrupt
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from storage.files.layout import RECORDS_VERSION_KEY

CONTENT, OTHER_CONTENT = "a" * 64, "b" * 64
CODE, OLD_CODE = {"records version": "2"}, {"records version": "1"}
SHARDS = {"train-00000.lmdb": OLD_CODE, "train-00001.lmdb": CODE, "train-00002.lmdb": CODE}


def stored(name: str, kind: str | None = None, split: str = "train", **changes: Any) -> ManifestRow:
    """A stored video in the second shard; `sha256` is the entry's."""
    video_id = f"ffpp/{kind or 'youtube'}/c23/{name}"
    entry = VideoEntry(
        video_id=video_id,
        path=f"{video_id}.mp4",
        dataset="ffpp",
        label="fake" if kind else "real",
        manipulation=kind,
        target_id=name,
        group_id=name,
        split=split,  # type: ignore[arg-type]  # a known word
        sha256=changes.pop("sha256", CONTENT),
    )
    row = ManifestRow(video_id=video_id, path=entry.path, entry=entry, config_digest="c")
    plain: dict[str, Any] = {"status": "stored", "shard": "train-00001.lmdb", "num_records": 2}
    return replace(row, **(plain | changes))


def rejected(row: ManifestRow, reason: Reason = Reason.NO_FACE) -> ManifestRow:
    """The same video, rejected."""
    plain = replace(row, status="pending", num_records=0)
    return plain.as_rejected(Rejected(video_id=row.video_id, stage=Stage.DETECT, reason=reason, detail="seen"))


def difference(before: list[ManifestRow], after: list[ManifestRow], **options: Any) -> Difference:
    return compare(4, before, after, code=SHARDS, now=CODE, **options)


ROW = stored("1")
FAKE = stored("1_2", "Deepfakes", "val")


@pytest.mark.parametrize(
    ("before", "after", "change", "why"),
    [
        (None, ROW, "added", ""),
        (None, rejected(ROW), "rejected", "no_face"),
        (ROW, stored("1", sha256=OTHER_CONTENT), "changed", ""),
        (ROW, stored("1", sha256=OTHER_CONTENT, config_digest="d"), "changed", ""),
        (ROW, stored("1", config_digest="d"), "remade", "settings"),
        (ROW, stored("1", relatives_digest="e"), "remade", "relatives"),
        (stored("1", shard="train-00000.lmdb"), ROW, "remade", "code"),
        (stored("1", shard="train-00000.lmdb"), stored("1", config_digest="d"), "remade", "settings, code"),
        (ROW, rejected(ROW), "rejected", "no_face"),
        (ROW, None, "dropped", ""),
        (rejected(ROW), ROW, "readmitted", ""),
        (rejected(ROW), None, "readmitted", ""),
    ],
)
def test_a_video_stands_under_one_heading(
    before: ManifestRow | None, after: ManifestRow | None, change: str, why: str
) -> None:
    found = difference([before] if before else [], [after] if after else [])
    assert [(one.change, one.why, one.kind, one.split) for one in found.listed] == [(change, why, "real", "train")]
    assert found.totals == {change: 1}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ROW, ROW),
        (ROW, replace(ROW, shard="train-00002.lmdb")),  # compacted
        (replace(ROW, shard="train-00009.lmdb"), ROW),  # its shard was lost, and made again
        (ROW, replace(ROW, path="moved.mp4", seconds={"decode": 9.0})),
        (rejected(ROW), rejected(ROW, Reason.CRASHED)),
    ],
    ids=["the same", "moved to another shard", "lost and made again", "touched", "rejected as before"],
)
def test_what_is_no_difference(before: ManifestRow, after: ManifestRow) -> None:
    found = difference([before], [after])
    assert found.is_empty
    assert in_a_line(found) == "no changes"


def test_videos_are_counted_by_kind_and_split() -> None:
    nameless = ManifestRow(video_id="odd.txt", path="odd.txt").as_rejected(
        Rejected(video_id="odd.txt", stage=Stage.INDEX, reason=Reason.UNRECOGNISED_NAME, detail="seen")
    )
    after = [ROW, stored("2"), stored("3", split="test"), FAKE, nameless]
    found = difference([], after)
    assert found.counts == {
        "added": {"real": {"train": 2, "test": 1}, "Deepfakes": {"val": 1}},
        "rejected": {"unrecognised": {"none": 1}},
    }
    assert next(found.rows()) == ("added", "real", (2, 0, 1, 0))
    assert in_a_line(found) == "4 added, 1 newly rejected"
    assert "| added | Deepfakes | 0 | 1 | 0 | 0 |" in difference_markdown(found)


def test_of_many_videos_some_are_named_and_all_are_counted() -> None:
    rows = [stored(f"{number:04d}") for number in range(MAX_LISTED + 50)]
    found = difference([], rows)
    assert len(found.listed) == MAX_LISTED
    assert found.totals == {"added": MAX_LISTED + 50}


def test_what_stays_as_it_is_is_told_all_the_same() -> None:
    old = replace(FAKE, shard="train-00000.lmdb")
    found = difference([ROW, old], [ROW, old], vanished=[ROW.video_id, "ffpp/never"], settings=["frames.count: 2 → 3"])
    assert found.is_empty
    assert (found.num_vanished, found.vanished) == (1, (ROW.video_id,))
    assert found.other_code == {"records version 1": 1}
    assert describe_difference(found) == [
        "Since version 4: no changes.",
        "Settings: frames.count: 2 → 3.",
        "Stored videos no longer on disk: 1. Their records are kept; vanished=drop removes them.",
        "Stored videos made with records version 1: 1. They are kept; remake=code processes them again.",
    ]


def test_code_is_the_records_version_and_the_models() -> None:
    made = {"records version": "2", "faceshards": "1", "torch": "2", "model/mtcnn": "9" * 64}
    assert code_of(made) == {"records version": "2", "model/mtcnn": "9" * 64}
    assert (
        code_in_words(code_of(made), {"records version": "2", "model/other": "8"})
        == "model/mtcnn 999999999999, model/other none"
    )
    assert code_in_words(CODE, CODE) == ""


def test_a_release_changes_no_record_and_shards_without_a_records_version_have_the_first() -> None:
    assert code_of({"faceshards": "0.1.0"}) == code_of({"faceshards": "0.2.0", RECORDS_VERSION_KEY: "1"})
    assert code_of({"faceshards": "0.1.0"}) != code_of({"faceshards": "0.1.0", RECORDS_VERSION_KEY: "2"})


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    found = difference([ROW], [FAKE], settings=["a: 1 → 2"], vanished=[FAKE.video_id])
    assert read_difference(tmp_path) is None
    write_difference(tmp_path, found)
    assert read_difference(tmp_path) == found
    write_difference(tmp_path, difference([ROW], [ROW]))  # nothing new to tell
    assert read_difference(tmp_path) == found
    write_difference(tmp_path, None)
    assert read_difference(tmp_path) is None
    (tmp_path / "difference.json").write_text(json.dumps(asdict(found) | {"odd": 1}))
    with pytest.raises(StoreCorrupt, match="delete the file"):
        read_difference(tmp_path)


def test_names_are_taken_literally_in_markdown() -> None:
    odd = stored("<b>|x|</b>", "Odd*kind*")
    assert r"\<b\>\|x\|\</b\>" in difference_markdown(difference([], [odd]))
