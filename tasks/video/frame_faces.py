"""The faces in each frame of a batch, the share of its manipulation mask that each one covers, and their tracks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.media import FaceDetection, MaskBatch
from tasks.track.cuts import Thumbnail, thumbnail
from tasks.track.timeline import Timeline
from tasks.track.tracker import FaceTracker, mask_share
from tasks.video.finder import FaceFinder
from tasks.video.frames import Batch
from tasks.video.job import Tally


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameFaces:
    """The faces seen in one frame."""

    frame_index: int
    """Position in the whole video."""

    faces: list[FaceDetection]
    """Full-frame pixels."""

    mask_shares: list[float]
    """Share (0..1) of the frame's mask inside the box of each face; empty without a mask."""

    is_masked: bool
    """Whether the frame has a mask that is not empty."""

    pts_seconds: float
    """Presentation time in seconds."""

    thumbnail: Thumbnail | None
    """The frame as a thumbnail; None if cuts are not looked for."""


def faces_of_frames(
    batch: Batch, finder: FaceFinder, tally: Tally, *, with_thumbnails: bool = False
) -> list[FrameFaces]:
    """Return the faces of each frame of a batch."""
    frames, masks = batch
    with tally.timed("detect"):
        found = finder.find(frames)
    with tally.timed("track"):
        thumbnails = [thumbnail(image) if with_thumbnails else None for image in frames.data]
    return [
        FrameFaces(
            frame_index=int(number),
            faces=faces,
            mask_shares=mask_shares(faces, masks, row),
            is_masked=masks is not None and bool(masks.data[row].any()),
            pts_seconds=float(frames.pts_seconds[row]),
            thumbnail=thumbnails[row],
        )
        for row, (number, faces) in enumerate(zip(frames.frame_indices, found, strict=True))
    ]


def mask_shares(faces: list[FaceDetection], masks: MaskBatch | None, row: int) -> list[float]:
    """Return the share of one row's mask inside the box of each face; empty without masks."""
    return [] if masks is None else [mask_share(masks.data[row], face.box_xyxy) for face in faces]


def tracked(seen: Iterable[FrameFaces], cuts: Sequence[int], max_gap_s: float | None) -> FaceTracker:
    """Return a tracker of the people in some frames.

    Args:
        seen: the frames in their order.
        cuts: frames with which a shot begins, increasing; each ends all tracks.
        max_gap_s: longest absence of a person, seconds; None: no limit.
    """
    tracker, coming = FaceTracker(max_gap_s), list(reversed(cuts))
    for one in seen:
        while coming and coming[-1] <= one.frame_index:
            coming.pop()
            tracker.end_shot()
        tracker.add(one.frame_index, one.faces, one.mask_shares, one.pts_seconds)
    return tracker


def timeline_of(seen: Sequence[FrameFaces], cuts: tuple[int, ...], max_gap_s: float | None) -> Timeline:
    """Return the timeline of frames that were searched for faces, in their order."""
    return Timeline(
        frame_indices=np.array([one.frame_index for one in seen], dtype=np.int64),
        pts_seconds=np.array([one.pts_seconds for one in seen], dtype=np.float64),
        cuts=cuts,
        max_gap_s=max_gap_s,
    )


def no_face_detail(num_frames: int) -> str:
    """Return the sentence for a video without a face."""
    return f"faces: got none in {num_frames} sampled frames; mtcnn finds smaller ones with a lower detect.min_face_px"
