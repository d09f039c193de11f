"""Square alignment: an upright square around the face box, the crop of most FaceForensics++ studies."""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from tasks.align.aligner import Aligner, AlignerSettings
from tasks.align.warp import warp_clip
from tasks.media import AlignedClip, FaceDetection, FaceTrack, FrameBatch, Reason, Stage


class SquareAligner(Aligner):
    """Aligner `square`: a square around the box's centre, `margin` times its longer side; black outside the frame.

    Args:
        size_px: side S of the crop, pixels.
        margin: side of the square divided by the longer side of the box; FaceForensics++ uses 1.3.
    """

    def __init__(self, size_px: int = 224, margin: float = 1.3) -> None:
        self._size_px = size_px
        self._margin = margin

    @classmethod
    def from_settings(cls, settings: AlignerSettings) -> Self:
        """Make an aligner with the settings' size and margin."""
        return cls(settings.size_px, settings.margin)

    def accepts(self, face: FaceDetection) -> bool:
        """Return whether the box has an area."""
        sides = face.box_xyxy[2:] - face.box_xyxy[:2]
        return bool(np.isfinite(face.box_xyxy).all() and (sides > 0).all())

    def align(self, frames: FrameBatch, track: FaceTrack, masks: npt.NDArray[np.uint8] | None = None) -> AlignedClip:
        """Return the (T,S,S,3) crops of the rows that `frames` covers.

        Raises:
            VideoRejected: a box has no area.
        """
        rows = track.rows_at(frames.frame_indices)
        matrices = np.stack([self._matrix(box) for box in rows.boxes_xyxy])
        return warp_clip(frames, rows, matrices, self._size_px, masks)

    def _matrix(self, box_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return (2,3) float64 scale and shift from the square to the crop; pixel centres have whole coordinates."""
        left, top, right, bottom = box_xyxy.astype(np.float64)
        side = max(right - left, bottom - top) * self._margin
        if not side > 0:
            detail = f"face box: got {box_xyxy.tolist()}, expected one with an area"
            raise VideoRejected(Stage.CROP, Reason.DEGENERATE_GEOMETRY, detail)
        scale = self._size_px / side
        middle = (self._size_px - 1) / 2
        return np.array(
            [
                [scale, 0.0, middle - scale * (left + right) / 2],
                [0.0, scale, middle - scale * (top + bottom) / 2],
            ]
        )
