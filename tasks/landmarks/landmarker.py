"""The contract of a landmarker, and the settings that landmarkers read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from tasks.implementation import NO_OPTIONS, Choice, Implementation, Options
from tasks.media import NUM_IBUG_LANDMARKS, FaceDetection, FrameBatch


class LandmarkerSettings(Choice):
    """Landmarks of a track."""

    kind: str = "detector"
    """Name of the landmarker."""

    options: Options = NO_OPTIONS
    """Settings, by name, of a landmarker that another distribution provides."""


class Landmarker(Implementation, ABC):
    """Landmarker: finds landmarks of detected faces."""

    num_landmarks: ClassVar[int] = NUM_IBUG_LANDMARKS
    """K, the number of landmarks of each face."""

    measures: ClassVar[bool] = True
    """Whether it finds landmarks in any box; False: it returns those that come with the detector's boxes."""

    @classmethod
    def from_settings(cls, settings: LandmarkerSettings, *, device: str, weights_dir: Path | None) -> Self:
        """Make a landmarker, by default without any argument.

        Args:
            settings: the section that chose it.
            device: `cpu` or `cuda:N`, for networks.
            weights_dir: folder that is searched first for weight files; see `tasks/models/weights.py`.

        Raises:
            StageMissing: a package or a weight file is missing.
        """
        del settings, device, weights_dir
        return cls()

    @abstractmethod
    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        """Return the same faces with their landmarks replaced.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            faces: faces of each of the T frames, full-frame pixels.

        Returns:
            As many faces in the same order; each with (K,2) float32 landmarks in full-frame pixels, and their scores.
        """
