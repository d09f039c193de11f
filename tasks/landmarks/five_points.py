"""Landmarker `detector`: the five landmarks that the face detector returns with each box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from tasks.landmarks.landmarker import Landmarker
from tasks.media import NUM_DETECTOR_LANDMARKS, FaceDetection, FrameBatch


class DetectorLandmarks(Landmarker):
    """Landmarker `detector`, which keeps the detector's landmarks: K = 5, eyes, nose and mouth corners in the image."""

    num_landmarks: ClassVar[int] = NUM_DETECTOR_LANDMARKS
    measures: ClassVar[bool] = False

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        """Return the faces unchanged."""
        del frames
        return [list(found) for found in faces]
