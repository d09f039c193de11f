"""Stores of grey crops as a run leaves them, for the tests of reports."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from manifests.entry import SPLITS, VideoEntry
from manifests.rejected import Reason, Stage
from manifests.row import ManifestRow
from manifests.videos_table import row_to_plain
from storage.files.layout import SHARDS_DIR
from storage.format.encoding import encode_record
from storage.format.images import encode_gray, encode_rgb
from storage.format.record import Record
from storage.shard import ShardWriter
from storage.upkeep.ledger import Ledger
from tasks.video.records import record_key

CONFIG = {"frames": {"count": 4}, "split": {"policy": "group", "ratios": [0.5, 0.25, 0.25]}}
CONFIG_DIGEST = "c" * 64
GREY = 128
CROP_PX = 16


def stored(name: str, split: str, kind: str = "real", group_id: str | None = None, **changes: Any) -> ManifestRow:
    """Return the row of a stored video with four frames; `name` is the last part of its video_id."""
    video_id = f"ffpp/{kind}/c23/{name}"
    entry = VideoEntry(
        video_id=video_id,
        path=f"{kind}/{name}.mp4",
        dataset="ffpp",
        label="real" if kind == "real" else "fake",
        manipulation=None if kind == "real" else kind,
        compression="c23",
        target_id=name,
        source_id=None if kind == "real" else "999",
        group_id=group_id or name,
        split=split,  # type: ignore[arg-type]  # a known word
        sha256="a" * 64,
    )
    plain: dict[str, Any] = {
        "status": "stored",
        "shard": f"{split}-00000.lmdb",
        "config_digest": CONFIG_DIGEST,
        **dict.fromkeys(("num_records", "frames_wanted", "frames_got", "num_faces"), 4),
        "num_tracks": 1,
        "seconds": {"decode": 1.0, "detect": 2.0},
    }
    return ManifestRow(video_id=video_id, path=entry.path, entry=entry, **(plain | changes))


def rejected(name: str, stage: Stage, reason: Reason, detail: str = "seen") -> ManifestRow:
    """Return the row of a file that was rejected before it became a video."""
    return ManifestRow(video_id=name, path=name, status="rejected", stage=stage, reason=reason, detail=detail)


def records_of(row: ManifestRow) -> Iterable[tuple[str, bytes]]:
    """Grey crops; the first frames are interpolated and the last ones masked, as many as the row says."""
    entry = row.entry
    assert entry is not None
    assert entry.split is not None
    left_half = np.zeros((CROP_PX, CROP_PX), dtype=np.uint8)
    left_half[:, : CROP_PX // 2] = 255
    for number in range(row.num_records):
        interpolated = number < row.num_interpolated
        masked = number >= row.num_records - row.num_masks
        key = record_key(row.video_id, 0, 10 * number)
        yield (
            key,
            encode_record(
                Record(
                    key=key,
                    video_id=row.video_id,
                    dataset=entry.dataset,
                    manipulation=entry.manipulation,
                    compression=entry.compression,
                    split=entry.split,
                    label=entry.label_as_integer,
                    target_id=entry.target_id,
                    source_id=entry.source_id,
                    group_id=entry.group_id,
                    track_id=0,
                    crops_encoded=(encode_rgb(np.full((CROP_PX, CROP_PX, 3), GREY, dtype=np.uint8), "png", 95),),
                    masks_encoded=(encode_gray(left_half),) if masked else None,
                    boxes_xyxy=np.array([[0, 0, 16, 16]], dtype=np.float32),
                    landmarks=np.zeros((1, 5, 2), dtype=np.float32),
                    matrices=np.zeros((1, 2, 3), dtype=np.float64),
                    frame_indices=np.array([10 * number], dtype=np.int64),
                    pts_seconds=np.array([0.4 * number], dtype=np.float64),
                    scores=np.array([0.0 if interpolated else 0.5 + number / 8], dtype=np.float32),
                    interpolated=np.array([interpolated]),
                    content_digest=entry.content_digest,
                    config_digest=CONFIG_DIGEST,
                )
            ),
        )


def write_store(
    store_dir: Path, rows: Sequence[ManifestRow], finished: Sequence[str] = SPLITS, config: dict[str, Any] = CONFIG
) -> Path:
    """Write a store as a run does: one shard per split; with fewer splits `finished`, as a killed run leaves it."""
    ledger = Ledger(store_dir, config, CONFIG_DIGEST)
    ledger.begin([replace(row, status="pending", shard=None) if row.status == "stored" else row for row in rows])
    for number, split in enumerate(SPLITS):
        members = sorted((row for row in rows if row.shard and row.shard.startswith(split)), key=lambda r: r.video_id)
        if not members or split not in finished:
            continue
        with ShardWriter(store_dir / SHARDS_DIR, split, 0, CONFIG_DIGEST) as writer:
            for key, data in (record for row in members for record in records_of(row)):
                writer.put(key, data)
            plain = [row_to_plain(row) | {"content_digest": "d"} for row in members]
            shard = writer.finish(plain, {"numpy": f"2.{number}", "torch": "2.12"})
        ledger.add(shard, members)
    if set(finished) == set(SPLITS):
        ledger.finish(rows)
    return store_dir


EIGHT_ROWS = (
    stored("001", "train", group_id="pair-1", num_tracks=3),
    stored("001_002", "train", "NeuralTextures", group_id="pair-1", num_masks=3, num_interpolated=1),
    stored("001_003", "train", "Deepfakes", group_id="pair-1", detail="mask not used: <b>broken</b>"),
    stored("004", "val", group_id="pair-2"),
    stored("005", "test", group_id="pair-3"),
    rejected("late.mp4", Stage.DETECT, Reason.NO_FACE),
    rejected("zero.mp4", Stage.PROBE, Reason.EMPTY_FILE),
    rejected("also.mp4", Stage.DETECT, Reason.NO_FACE),
)
