"""The contract of a landmarker; the implementations are in `tasks/landmarkers/`."""

from __future__ import annotations

from typing import Protocol

from tasks.media import FaceTrack, FrameBatch


class Landmarker(Protocol):
    """Places landmarks on a tracked face."""

    def place(self, frames: FrameBatch, track: FaceTrack) -> FaceTrack:
        """Return the track with the landmarks of the rows that `frames` covers replaced.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            track: one row for each sampled frame of the video, among them those of `frames`.

        Returns:
            The rows of `frames` only, with (T,K,2) float32 landmarks in full-frame pixels.
        """
        ...
