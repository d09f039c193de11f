"""Synthetic records: valid, small, and the same in every run."""

from __future__ import annotations

from typing import Any

import numpy as np

from storage.format.record import Record

DIGEST = "d" * 64


def make_record(video_id: str, frame: int, crop: bytes, **changes: Any) -> Record:
    """Return the record of one frame, of a real video in train unless `changes` say otherwise.

    Args:
        video_id: of the video.
        frame: position in it.
        crop: an encoded picture.
        changes: other values of fields of `Record`.
    """
    values: dict[str, Any] = {
        **{"key": f"{video_id}/00/{frame:06d}", "video_id": video_id, "dataset": "bench", "compression": "c23"},
        **{"manipulation": None, "label": 0, "split": "train", "target_id": video_id, "source_id": None},
        **{"group_id": video_id, "track_id": 0, "crops_encoded": (crop,), "masks_encoded": None},
        "boxes_xyxy": np.zeros((1, 4), np.float32),
        "landmarks": np.zeros((1, 5, 2), np.float32),
        "matrices": np.zeros((1, 2, 3)),
        "frame_indices": np.array([frame]),
        "pts_seconds": np.zeros(1),
        "scores": np.ones(1, np.float32),
        "interpolated": np.zeros(1, np.bool_),
        **{"content_digest": "c" * 64, "config_digest": DIGEST},
    }
    return Record(**values | changes)
