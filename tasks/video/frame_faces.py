"""The faces in each frame of a batch, and the share of its manipulation mask that each one covers."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.media import FaceDetection, MaskBatch
from tasks.track.tracker import mask_share
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


def faces_of_frames(batch: Batch, finder: FaceFinder, tally: Tally) -> list[FrameFaces]:
    """Return the faces of each frame of a batch."""
    frames, masks = batch
    with tally.timed("detect"):
        found = finder.find(frames)
    return [
        FrameFaces(
            frame_index=int(number),
            faces=faces,
            mask_shares=mask_shares(faces, masks, row),
            is_masked=masks is not None and bool(masks.data[row].any()),
        )
        for row, (number, faces) in enumerate(zip(frames.frame_indices, found, strict=True))
    ]


def mask_shares(faces: list[FaceDetection], masks: MaskBatch | None, row: int) -> list[float]:
    """Return the share of one row's mask inside the box of each face; empty without masks."""
    return [] if masks is None else [mask_share(masks.data[row], face.box_xyxy) for face in faces]


def no_face_detail(num_frames: int) -> str:
    """Return the sentence for a video without a face."""
    return f"faces: got none in {num_frames} sampled frames; mtcnn finds smaller ones with a lower detect.min_face_px"
