"""The five landmarks that the face detector gives with each box."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from tasks.media import FaceDetection, FrameBatch


class DetectorLandmarks:
    """Keeps the detector's own landmarks: K = 5, eyes, nose and mouth corners as seen in the image."""

    weights: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, device: str = "cpu", weights_dir: Path | None = None) -> None:
        """Take what every landmarker takes, and need none of it."""

    @classmethod
    def model_files(cls, weights_dir: Path | None) -> dict[str, Path]:
        """Load nothing."""
        return {}

    @classmethod
    def require_models(cls, weights_dir: Path | None) -> None:
        """Need nothing."""

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        """Return the faces unchanged."""
        return [list(found) for found in faces]
