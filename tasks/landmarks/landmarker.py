"""The contract of a landmarker; the implementations are in `tasks/landmarks/`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tasks.media import FaceDetection, FrameBatch
from tasks.models.requirements import UsesModels


class Landmarker(UsesModels, Protocol):
    """Places landmarks on detected faces.

    Args:
        device: `cpu` or `cuda:N`, for networks.
        weights_dir: where weight files are looked for first; see `tasks/models/weights.py`.

    Raises:
        StageMissing: a package or a weight file is not there.
    """

    def __init__(self, *, device: str = "cpu", weights_dir: Path | None = None) -> None: ...

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        """Return the same faces with their landmarks replaced.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            faces: those of each of the T frames, full-frame pixels.

        Returns:
            As many faces in the same order; each with (K,2) float32 landmarks in full-frame pixels, and their scores.
        """
        ...
