"""Perturbations `study`: noise, blur, rotation and centre crops, as in the study of `published_robustness`.

The strengths of that study are not published: the levels are chosen here.
"""

from __future__ import annotations

import cv2
import numpy as np

from training.evaluation.perturbations.perturbation import FloatImages, Images, Perturbation, each


def _noise(images: Images, sigma: float, rng: np.random.Generator) -> FloatImages:
    return images + rng.normal(0.0, sigma, images.shape)


def _blur(images: Images, sigma: float, _rng: np.random.Generator) -> Images:
    return each(images, lambda image: cv2.GaussianBlur(image, (0, 0), sigma))


def _rotate(images: Images, degrees: float, _rng: np.random.Generator) -> Images:
    return np.rot90(images, k=round(degrees / 90), axes=(1, 2))


def _centre_crop(images: Images, share: float, _rng: np.random.Generator) -> Images:
    """Cut out the centre and enlarge it to the original size."""
    height, width = images.shape[1:3]
    kept_height, kept_width = max(1, round(height * share)), max(1, round(width * share))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    kept = images[:, top : top + kept_height, left : left + kept_width]
    return each(kept, lambda image: cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


STUDY: tuple[Perturbation, ...] = (
    Perturbation(
        name="noise",
        title="Gaussian noise",
        belongs_to="study",
        parameter="standard deviation, grey values",
        levels=(5, 10, 20, 30, 50),
        change=_noise,
    ),
    Perturbation(
        name="blur",
        title="Gaussian blur",
        belongs_to="study",
        parameter="standard deviation, pixels",
        levels=(1, 2, 3, 4, 5),
        change=_blur,
    ),
    Perturbation(
        name="rotation",
        title="rotation",
        belongs_to="study",
        parameter="degrees, anticlockwise",
        levels=(90, 180, 270),
        change=_rotate,
    ),
    Perturbation(
        name="crop",
        title="centre crop",
        belongs_to="study",
        parameter="kept share of each side",
        levels=(0.9, 0.8, 0.7, 0.6, 0.5),
        change=_centre_crop,
    ),
)
