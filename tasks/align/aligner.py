"""The contract of an aligner; the implementations are in `tasks/align/`."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from tasks.media import AlignedClip, FaceDetection, FaceTrack, FrameBatch


class Aligner(Protocol):
    """Cuts a tracked face out of its frames, by one similarity transform per frame."""

    smooths: bool
    """Whether a frame's transform depends on its neighbours': the track must then have a row for every frame."""

    def accepts(self, face: FaceDetection) -> bool:
        """Whether a similarity maps this face onto the crop; a frame with no other counts as one without a face."""
        ...

    def align(self, frames: FrameBatch, track: FaceTrack, masks: npt.NDArray[np.uint8] | None = None) -> AlignedClip:
        """Return the crops of the rows that `frames` covers.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            track: one row for each sampled frame of the video, among them those of `frames`; full-frame pixels.
            masks: (T,H,W) uint8 manipulation masks of the frames, warped with the same matrices; or None.

        Raises:
            VideoRejected: no similarity transform maps the face onto the crop.
        """
        ...
