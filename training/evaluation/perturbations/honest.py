"""Perturbations `honest`: JPEG compression, contrast and resizing, each named after what it does."""

from __future__ import annotations

import cv2
import numpy as np

from training.data.augment import compress
from training.evaluation.perturbations.perturbation import GREY, FloatImages, Images, Perturbation, each


def _jpeg(images: Images, quality: float, _rng: np.random.Generator) -> Images:
    """Encode as JPEG with subsampled chroma (4:2:0), as cameras and web sites do, and decode."""
    return compress(images, round(quality))


def _contrast(images: Images, share: float, _rng: np.random.Generator) -> FloatImages:
    return np.asarray(GREY + (images - GREY) * share)


def _resize(images: Images, factor: float, _rng: np.random.Generator) -> Images:
    """Shrink by area and enlarge bicubically, as a smaller copy of a video is shown by a platform."""
    height, width = images.shape[1:3]
    small = max(1, round(width / factor)), max(1, round(height / factor))
    return each(
        images,
        lambda image: cv2.resize(
            cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_CUBIC
        ),
    )


HONEST: tuple[Perturbation, ...] = (
    Perturbation(
        name="jpeg_quality",
        title="JPEG compression",
        belongs_to="honest",
        parameter="quality, 4:2:0",
        levels=(90, 70, 50, 30, 10),
        change=_jpeg,
    ),
    Perturbation(
        name="contrast",
        title="contrast",
        belongs_to="honest",
        parameter="factor of the distance from grey",
        levels=(0.85, 0.725, 0.6, 0.475, 0.35),  # those of CC, which is named contrast but darkens
        change=_contrast,
    ),
    Perturbation(
        name="resize",
        title="smaller copy",
        belongs_to="honest",
        parameter="factor of shrinking, by areas",
        levels=(1.5, 2, 3, 4, 6),
        change=_resize,
    ),
)
