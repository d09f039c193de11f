"""Rows and their table: what is written is what is read, and a row cannot contradict itself."""

from __future__ import annotations

import csv
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest

from manifests.entry import VideoEntry
from manifests.errors import StoreCorrupt
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from manifests.videos_table import COLUMNS, read_table, row_from_plain, row_to_plain, write_table

ENTRY = VideoEntry(
    video_id="ffpp/Deepfakes/c23/519_515",
    path="manipulated_sequences/Deepfakes/c23/videos/519_515.mp4",
    mask_path="manipulated_sequences/Deepfakes/masks/videos/519_515.mp4",
    dataset="ffpp",
    label="fake",
    manipulation="Deepfakes",
    compression="c23",
    target_id="519",
    source_id="515",
    group_id="ffpp/youtube/515",
    split="train",
    num_frames=751,
    fps=Fraction(30000, 1001),
    width=640,
    height=480,
    rotation_degrees=0,
    num_bytes=123,
    mtime_ns=1_700_000_000_123_456_789,
    sha256="ab" * 32,
    mask_sha256="cd" * 32,
)
STORED = ManifestRow(
    video_id=ENTRY.video_id,
    path=ENTRY.path,
    entry=ENTRY,
    status="stored",
    config_digest="ef" * 32,
    shard="train-00000.lmdb",
    num_records=32,
    frames_wanted=32,
    frames_got=32,
    num_faces=33,
    num_tracks=2,
    num_masks=31,
    seconds={"decode": 0.25, "detect": 3.5},
)
ODD = ManifestRow(video_id="x/notes.mp4", path="x/notes.mp4").as_rejected(
    Rejected(
        video_id="x/notes.mp4", stage=Stage.INDEX, reason=Reason.UNRECOGNISED_NAME, detail="file name: got 'notes'"
    )
)


@pytest.mark.parametrize("row", [STORED, ODD, ManifestRow(video_id=ENTRY.video_id, path=ENTRY.path, entry=ENTRY)])
def test_a_row_survives_both_ways_out(tmp_path: Path, row: ManifestRow) -> None:
    plain = row_to_plain(row)
    assert tuple(plain) == COLUMNS
    assert row_from_plain(plain) == row
    write_table(tmp_path / "videos.parquet", [row])
    assert read_table(tmp_path / "videos.parquet") == [row]


def test_rows_are_ordered_and_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    write_table(tmp_path / "a.parquet", [ODD, STORED])
    write_table(tmp_path / "b.parquet", [STORED, ODD])
    assert read_table(tmp_path / "a.parquet") == [STORED, ODD]
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet"]


def test_an_absent_table_has_no_rows(tmp_path: Path) -> None:
    assert read_table(tmp_path / "videos.parquet") == []


def test_a_table_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "videos.parquet").write_text("hello")
    with pytest.raises(StoreCorrupt, match="expected a Parquet file"):
        read_table(tmp_path / "videos.parquet")


@pytest.mark.parametrize(("column", "value"), [("reason", "bad_luck"), ("label", "maybe"), ("status", "stored")])
def test_a_row_of_another_version(column: str, value: str) -> None:
    row = STORED if column == "label" else ODD
    with pytest.raises(StoreCorrupt, match="another version"):
        row_from_plain(row_to_plain(row) | {column: value})


@pytest.mark.parametrize(
    "changes",
    [{"status": "rejected"}, {"reason": Reason.NO_FACE}, {"num_records": 0}, {"shard": None}, {"entry": None}],
)
def test_contradictions_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=STORED.video_id):
        replace(STORED, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [{"label": "real"}, {"manipulation": None}, {"split": "dev"}, {"path": "/etc/passwd"}, {"mask_path": "../m.mp4"}],
)
def test_entries_that_contradict_themselves(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=ENTRY.video_id):
        replace(ENTRY, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "separator"), [("videos.csv", ","), ("VIDEOS.CSV", ","), ("videos.tsv", "\t")])
def test_a_table_with_a_name_of_text_is_text(tmp_path: Path, name: str, separator: str) -> None:
    odd = ManifestRow(video_id="z", path='a "b", c\nd\te.mp4')
    write_table(tmp_path / name, [odd, STORED])
    with (tmp_path / name).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter=separator))
    assert tuple(rows[0]) == tuple(COLUMNS)
    assert [(row["video_id"], row["path"]) for row in rows] == [(ENTRY.video_id, ENTRY.path), ("z", odd.path)]
    assert (rows[0]["split"], rows[0]["num_frames"], rows[1]["split"]) == ("train", "751", "")
