"""Contract of perturbations: changes of crops at several levels, such as a fake undergoes before it is examined.

A perturbation changes the (T,S,S,3) uint8 RGB crops of one record. Published studies change whole frames, in which
the face is smaller relative to a blur, a block or an encoder: only rankings are comparable with published results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import cv2.typing
import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
FloatImages = npt.NDArray[np.float64]

GREY = 128.0  # middle of uint8: fixed point of contrast, and colour of blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """One kind of perturbation with its levels."""

    name: str
    """Key in PERTURBATIONS."""

    title: str
    """Name in tables and on the page."""

    belongs_to: str
    """Set of perturbations: `study`, `deeperforensics`, `honest`, or one of a plug-in."""

    parameter: str
    """Meaning and unit of the levels' values, for people."""

    levels: tuple[float, ...]
    """Values of the parameter at levels 1, 2, …; level 0 leaves images unchanged."""

    change: Callable[[Images, float, np.random.Generator], Images | FloatImages]
    """Function of (T,S,S,3) uint8 RGB images, parameter and random generator → (T,S,S,3); floats 0..255 are rounded."""

    def apply(self, images: Images, level: int, seed: int, key: str = "") -> Images:
        """Perturb the crops of one record; a function of images, level, seed and key alone.

        Args:
            images: (T,S,S,3) uint8 RGB.
            level: 0 (unchanged) to the number of levels.
            seed: seed of the evaluation.
            key: distinguishes records, which get different random numbers.

        Raises:
            ValueError: level, shape or dtype is invalid.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
            raise ValueError(
                f"images: got {images.dtype} of shape {images.shape}, expected uint8 of shape (T, S, S, 3)"
            )
        if not 0 <= level <= len(self.levels):
            raise ValueError(f"level of {self.name}: got {level}, expected 0..{len(self.levels)}")
        if level == 0:
            return images.copy()
        digest = hashlib.sha256(f"{seed}\n{self.name}\n{key}".encode()).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:16], "little"))
        changed = self.change(images, self.levels[level - 1], rng)
        if changed.dtype != np.uint8:
            changed = np.clip(np.rint(changed), 0, 255)
        return np.ascontiguousarray(changed, dtype=np.uint8)


def each(images: Images, change: Callable[[Images], cv2.typing.MatLike]) -> Images:
    """Apply a function of OpenCV to each image of (T,S,S,3) uint8."""
    return np.stack([change(image) for image in images]).astype(np.uint8, copy=False)
