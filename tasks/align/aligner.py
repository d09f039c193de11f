"""The contract of an aligner, and the settings that aligners read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import Field

from tasks.implementation import NO_OPTIONS, Choice, Implementation, Options
from tasks.media import AlignedClip, FaceDetection, FaceTrack, FrameBatch

DEFAULT_CROP_PX = 224  # input of networks trained on ImageNet, which is the most common size


class AlignerSettings(Choice):
    """Alignment and size of the crop."""

    kind: str = "square"
    """Name of the aligner."""

    size_px: int = Field(DEFAULT_CROP_PX, ge=16, le=4096)
    """Side of the crop, pixels (320 for M2TR); for lrw 150 (the face, its default) or 96 (the mouth)."""

    margin: float = Field(1.3, ge=0.5, le=5)
    """Side of the crop divided by the longer side of the face box (square) or by the side of the template
    (five_point).
    """

    template: str = "arcface"
    """Name of the template of the aligner five_point."""

    mean_face: Path | None = None
    """File (.npy) with another (68, 2) mean face for lrw."""

    strict: bool = False
    """Align exactly as DFD-FCG does (lrw): frames without a face are black, and at least 0.9 of the frames must show
    it.
    """

    options: Options = NO_OPTIONS
    """Settings, by name, of an aligner that another distribution provides."""


class Aligner(Implementation, ABC):
    """Aligner: cuts a tracked face out of its frames, by one similarity transform per frame."""

    smooths: ClassVar[bool] = False
    """Whether a frame's transform depends on neighbouring frames; if so, the track must have a row for every frame."""

    num_landmarks: ClassVar[tuple[int, ...]] = ()
    """Numbers K of landmarks that it can use; empty: any."""

    sizes_px: ClassVar[tuple[int, ...]] = ()
    """Sides of crops that it can make, pixels; empty: any."""

    default_size_px: ClassVar[int] = DEFAULT_CROP_PX
    """Default side of the crop, pixels."""

    @classmethod
    def from_settings(cls, settings: AlignerSettings) -> Self:
        """Make an aligner from the section that chose it, by default without any argument.

        Raises:
            ConfigError: a setting cannot be used.
        """
        del settings
        return cls()

    @abstractmethod
    def accepts(self, face: FaceDetection) -> bool:
        """Return whether a similarity maps this face onto the crop; other faces are ignored."""

    @abstractmethod
    def align(self, frames: FrameBatch, track: FaceTrack, masks: npt.NDArray[np.uint8] | None = None) -> AlignedClip:
        """Return the crops of the rows that `frames` covers.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            track: one row for each sampled frame of the video, which include `frames`; full-frame pixels.
            masks: (T,H,W) uint8 manipulation masks of the frames, warped with the same matrices; or None.

        Raises:
            VideoRejected: no similarity transform maps the face onto the crop.
        """
