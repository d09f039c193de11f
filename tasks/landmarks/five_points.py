"""The five landmarks that the face detector gives with each box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.media import FaceDetection, FrameBatch
from tasks.models.requirements import NeedsNoModels


class DetectorLandmarks(NeedsNoModels):
    """Keeps the detector's own landmarks: K = 5, eyes, nose and mouth corners as seen in the image."""

    def __init__(self, *, device: str = "cpu", weights_dir: Path | None = None) -> None:
        """Take what every landmarker takes, and need none of it."""

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        """Return the faces unchanged."""
        return [list(found) for found in faces]
