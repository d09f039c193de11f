"""Stores written shard by shard as runs write them, from videos without files, for the tests of upkeep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from manifests.entry import VideoEntry
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from manifests.videos_table import row_to_plain
from storage.format.encoding import encode_record
from storage.format.images import encode_rgb
from storage.format.record import Record
from storage.index import ShardEntry
from storage.shard import ShardWriter

CONFIG = {"frames": {"count": 2}}
DIGEST, OTHER_DIGEST = "c" * 64, "d" * 64
CONTENT, OTHER_CONTENT = "a" * 64, "b" * 64
CROP = encode_rgb(np.full((8, 8, 3), 128, dtype=np.uint8), "png", 95)


def entry_of(name: str, split: str | None = "train", content: str = CONTENT) -> VideoEntry:
    """Return a probed original of 50 frames."""
    return VideoEntry(
        video_id=f"ffpp/youtube/c23/{name}",
        path=f"{name}.mp4",
        dataset="ffpp",
        label="real",
        target_id=name,
        group_id=name,
        split=split,  # type: ignore[arg-type]  # a known word
        num_frames=50,
        fps=Fraction(25),
        picture="yuv420p, no matrix stated, limited range",
        sha256=content,
    )


def pending(entry: VideoEntry) -> ManifestRow:
    """Return the row of a video that was not processed yet."""
    return ManifestRow(video_id=entry.video_id, path=entry.path, entry=entry)


def rejected(entry: VideoEntry, reason: Reason, config_digest: str | None = DIGEST) -> ManifestRow:
    """Return the row of a video that the decoder rejected."""
    row = replace(pending(entry), config_digest=config_digest)
    return row.as_rejected(Rejected(video_id=entry.video_id, stage=Stage.DECODE, reason=reason, detail="seen"))


def record(entry: VideoEntry, frame: int, config_digest: str = DIGEST) -> Record:
    """Return the record of one grey crop."""
    return Record(
        key=f"{entry.video_id}/00/{frame:06d}",
        video_id=entry.video_id,
        dataset="ffpp",
        manipulation=None,
        compression=None,
        split=str(entry.split),
        label=0,
        target_id=entry.target_id,
        source_id=None,
        group_id=entry.group_id,
        track_id=0,
        crops_encoded=(CROP,),
        masks_encoded=None,
        boxes_xyxy=np.array([[0, 0, 8, 8]], dtype=np.float32),
        landmarks=np.zeros((1, 5, 2), dtype=np.float32),
        matrices=np.zeros((1, 2, 3), dtype=np.float64),
        frame_indices=np.array([frame], dtype=np.int64),
        pts_seconds=np.array([frame / 25]),
        scores=np.array([0.9], dtype=np.float32),
        interpolated=np.array([False]),
        content_digest=entry.content_digest,
        config_digest=config_digest,
    )


def make_shard(
    store_dir: Path,
    number: int,
    members: Sequence[VideoEntry | ManifestRow],
    digest: str = DIGEST,
    made_with: Mapping[str, str] | None = None,
) -> tuple[ShardEntry, list[ManifestRow]]:
    """Write a shard as a task does: two records for each entry, none for each rejected row."""
    rows: list[ManifestRow] = []
    with ShardWriter(store_dir / "shards", split_of(members), number, digest) as writer:
        for member in members:
            if isinstance(member, ManifestRow):
                rows.append(member)
                continue
            for frame in (0, 10):
                writer.put(f"{member.video_id}/00/{frame:06d}", encode_record(record(member, frame, digest)))
            name = writer.path.name
            rows.append(replace(pending(member), status="stored", shard=name, num_records=2, config_digest=digest))
        shard = writer.finish([row_to_plain(row) for row in rows], dict(made_with or {}))
    return shard, rows


def split_of(members: Sequence[VideoEntry | ManifestRow]) -> str:
    """Return the split of the first member that has one."""
    entries = (member.entry if isinstance(member, ManifestRow) else member for member in members)
    return next(str(entry.split) for entry in entries if entry is not None)
