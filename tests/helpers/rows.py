"""Videos and their rows, by names such as those of FaceForensics++; they need no files."""

from __future__ import annotations

from dataclasses import replace

from manifests.entry import VideoEntry
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow


def entry_of(name: str, split: str | None = "train", group_id: str | None = None) -> VideoEntry:
    """A probed video: `001` is an original, `001_002` a fake of it."""
    target_id, _, source_id = name.partition("_")
    kind = "FaceSwap" if source_id else "youtube"
    return VideoEntry(
        video_id=f"ffpp/{kind}/c23/{name}",
        path=f"{kind}/{name}.mp4",
        dataset="ffpp",
        label="fake" if source_id else "real",
        manipulation="FaceSwap" if source_id else None,
        target_id=target_id,
        source_id=source_id or None,
        group_id=group_id or target_id,
        split=split,  # type: ignore[arg-type]  # a known word
        sha256="a" * 64,
    )


def row_of(entry: VideoEntry) -> ManifestRow:
    """The row of a video without an outcome."""
    return ManifestRow(video_id=entry.video_id, path=entry.path, entry=entry)


def stored(entry: VideoEntry) -> ManifestRow:
    """The row of a video with two records."""
    return replace(row_of(entry), status="stored", shard=f"{entry.split}-00000.lmdb", num_records=2)


def rejected(entry: VideoEntry) -> ManifestRow:
    """The row of an empty file."""
    fault = Rejected(video_id=entry.video_id, stage=Stage.PROBE, reason=Reason.EMPTY_FILE, detail="0 bytes")
    return row_of(entry).as_rejected(fault)
