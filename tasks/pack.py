"""Aligned crops → records: images are encoded, geometry and identity stand beside them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from manifests.entry import VideoEntry
from storage.images import encode_gray, encode_rgb
from storage.record import Record
from tasks.media import AlignedClip, FaceTrack
from tasks.settings import EncodeSettings


def record_key(video_id: str, track_id: int, frame_index: int) -> str:
    """Return a key that sorts records by video, person and time."""
    return f"{video_id}/{track_id:02d}/{frame_index:06d}"


def pack_frames(
    entry: VideoEntry,
    rows: FaceTrack,
    clip: AlignedClip,
    has_mask: npt.NDArray[np.bool_],
    settings: EncodeSettings,
    config_digest: str,
) -> Iterator[Record]:
    """Yield one record (T = 1) for each frame of the clip.

    Args:
        entry: the probed video, with its split.
        rows: the track's rows of just the clip's frames, full-frame pixels.
        clip: T crops.
        has_mask: (T,) bool, which of the clip's masks are real.
        settings: how images are encoded.
        config_digest: hex digest of the settings that made the crops.

    Raises:
        ValueError: the entry has no split or has not been probed.
    """
    if entry.split is None:
        raise ValueError(f"pack: got {entry.video_id} without a split, expected one of train, val and test")
    for row in range(len(clip.frame_indices)):
        one = slice(row, row + 1)
        mask = clip.masks[row] if clip.masks is not None and has_mask[row] else None
        yield Record(
            key=record_key(entry.video_id, rows.track_id, int(clip.frame_indices[row])),
            video_id=entry.video_id,
            dataset=entry.dataset,
            manipulation=entry.manipulation,
            compression=entry.compression,
            split=entry.split,
            label=entry.label_as_integer,
            target_id=entry.target_id,
            source_id=entry.source_id,
            group_id=entry.group_id,
            track_id=rows.track_id,
            crops_encoded=(encode_rgb(clip.crops[row], settings.image_format, settings.quality),),
            masks_encoded=None if mask is None else (encode_gray(mask),),
            boxes_xyxy=rows.boxes_xyxy[one],
            landmarks=clip.landmarks[one],
            matrices=clip.matrices[one],
            frame_indices=clip.frame_indices[one],
            pts_seconds=clip.pts_seconds[one],
            scores=rows.scores[one],
            interpolated=rows.interpolated[one],
            content_digest=entry.content_digest,
            config_digest=config_digest,
        )
