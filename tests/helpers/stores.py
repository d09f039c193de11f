"""Small stores of crops whose forgery is easy to see, for the tests of readers and of training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from storage.files.layout import SHARDS_DIR
from storage.format.encoding import encode_record
from storage.format.images import encode_gray, encode_rgb
from storage.format.record import Record
from storage.index import StoreIndex, write_index
from storage.records_table import write_records_table
from storage.shard import ShardWriter

DIGEST = "d1" * 32
SIDE_PX = 32
# Videos of each kind by split; two records of each.
VIDEOS = {"train": 8, "val": 4, "test": 4}
KINDS: dict[str, str | None] = {"youtube": None, "Deepfakes": "Deepfakes", "FaceSwap": "FaceSwap"}
CROPS = {"frames": {"count": 2}, "crop": {"kind": "square", "size_px": SIDE_PX}, "split": {"policy": "group"}}


def write_forgeries(
    path: Path,
    *,
    num_frames: int = 1,
    dataset: str = "ffpp",
    seed: int = 0,
    kinds: Mapping[str, str | None] = KINDS,
    are_named: bool = True,
    splits: Collection[str] = tuple(VIDEOS),
) -> Path:
    """Write a store of noise of one colour; a fake has a redder square in the middle, where its mask is white.

    Args:
        path: its folder.
        num_frames: of each record.
        dataset: its name.
        seed: of the noise.
        kinds: folder → manipulation, None for real.
        are_named: whether records say their manipulation; DFDC's do not.
        splits: those that have records.
    """
    rng = np.random.default_rng(seed)
    shards = []
    for split, count in ((name, VIDEOS[name]) for name in splits):
        records = [
            _record(rng, f"{dataset}/{folder}/c23/{split}-{number}", kind, row, split, num_frames, are_named)
            for folder, kind in kinds.items()
            for number in range(count)
            for row in range(2)
        ]
        with ShardWriter(path / SHARDS_DIR, split, 0, DIGEST) as writer:
            for record in sorted(records, key=lambda one: one.key):
                writer.put(record.key, encode_record(record))
            shards.append(writer.finish([], {}))
    values: dict[str, Any] = {"faceshards_version": "0", "config_digest": DIGEST, "config": CROPS}
    write_index(path, StoreIndex(complete=True, shards=tuple(shards), **values))
    write_records_table(path)
    return path


def _record(
    rng: np.random.Generator,
    video_id: str,
    manipulation: str | None,
    row: int,
    split: str,
    num_frames: int,
    is_named: bool,
) -> Record:
    middle = slice(SIDE_PX // 4, 3 * SIDE_PX // 4)
    mask = np.zeros((SIDE_PX, SIDE_PX), np.uint8)
    mask[middle, middle] = 255
    crops = []
    for _ in range(num_frames):
        crop = rng.integers(60, 160, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
        if manipulation:
            crop[middle, middle, 0] += 90
        crops.append(encode_rgb(crop, "png", 95))
    first = 10 * row
    return Record(
        key=f"{video_id}/00/{first:06d}",
        video_id=video_id,
        dataset=video_id.partition("/")[0],
        manipulation=manipulation if is_named else None,
        compression="c23",
        split=split,
        label=int(manipulation is not None),
        target_id="0",
        source_id=None,
        group_id=video_id,
        track_id=0,
        track_choice="longest",
        crops_encoded=tuple(crops),
        masks_encoded=(encode_gray(mask),) * num_frames if manipulation else None,
        boxes_xyxy=np.zeros((num_frames, 4), np.float32),
        landmarks=np.zeros((num_frames, 5, 2), np.float32),
        matrices=np.zeros((num_frames, 2, 3), np.float64),
        frame_indices=first + np.arange(num_frames),
        pts_seconds=np.zeros(num_frames),
        scores=np.ones(num_frames, np.float32),
        interpolated=np.zeros(num_frames, np.bool_),
        content_digest="c0" * 32,
        config_digest=DIGEST,
    )
