"""Hard cuts are found at their frame; flashes, movements and soft transitions are none."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tasks.track.cuts import difference, first_frames, thumbnail

Picture = npt.NDArray[np.uint8]
THRESHOLD = 0.2


def scene(seed: int) -> npt.NDArray[np.float64]:
    """A picture of 240×320 pixels with structure of about 40 pixels."""
    patches = np.random.default_rng(seed).uniform(0, 255, (6, 8, 3))
    return cv2.resize(patches, (320, 240), interpolation=cv2.INTER_CUBIC).clip(0, 255)


FIRST, SECOND = scene(1), scene(2)
BLACK, WHITE = np.zeros_like(FIRST), np.full_like(FIRST, 255)


def two_shots(number: int) -> npt.NDArray[np.float64]:
    return FIRST if number < 10 else SECOND


def moved(number: int) -> npt.NDArray[np.float64]:
    """A fast pan, by a twentieth of the picture in each frame."""
    return np.roll(FIRST, 16 * number, axis=1)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        (two_shots, [10]),
        (lambda number: FIRST if number < 10 else SECOND if number < 14 else FIRST, [10, 14]),
        (lambda number: BLACK if number == 10 else two_shots(number), [10, 11]),
        (lambda number: FIRST if number < 18 else SECOND, [18]),
        (lambda number: 0.1 * two_shots(number), [10]),
        (lambda number: two_shots(number) + np.random.default_rng(number).normal(0, 25, FIRST.shape), [10]),
        (lambda number: WHITE if number in (10, 11) else FIRST, []),
        (lambda number: BLACK if number == 10 else FIRST, []),
        (lambda number: SECOND if number in (10, 11) else FIRST, []),
        (lambda number: FIRST * (1 - number / 19) + SECOND * number / 19, []),
        (moved, []),
        (lambda number: FIRST * (0.75 + 0.25 * np.cos(number)), []),
        (lambda number: BLACK + 12 * number, []),
    ],
    ids=[
        "cut",
        "short shot",
        "black frame in between",
        "cut near the end",
        "dark",
        "noise",
        "white flash",
        "black flash",
        "picture for two frames",
        "dissolve",
        "pan",
        "changing exposure",
        "even pictures",
    ],
)
def test_where_shots_begin(picture: Callable[[int], npt.NDArray[np.float64]], expected: list[int]) -> None:
    pictures = [picture(number).clip(0, 255).astype(np.uint8) for number in range(20)]
    assert first_frames([thumbnail(each) for each in pictures], THRESHOLD) == expected


def test_the_difference_is_that_of_ssim_without_the_means() -> None:
    """The means of the variances and of the covariance, computed by NumPy, over all pixels of each colour."""
    ours, theirs = (thumbnail(each.astype(np.uint8)) for each in (FIRST, SECOND))
    covariances = np.array([np.cov(ours[..., c].ravel(), theirs[..., c].ravel(), bias=True) for c in range(3)])
    shared, variances = covariances[:, 0, 1].mean(), covariances[:, 0, 0].mean() + covariances[:, 1, 1].mean()
    expected = 1 - (2 * shared + 7.65**2) / (variances + 7.65**2)
    assert difference(ours, theirs) == pytest.approx(expected, rel=1e-9)
    assert difference(ours, ours) == pytest.approx(0, abs=1e-12)
    assert difference(ours, (ours // 2 + 60).astype(np.uint8)) < THRESHOLD < difference(ours, ours[:, ::-1])


def test_a_thumbnail_of_any_size() -> None:
    for height, width in ((8, 8), (16, 2000), (1080, 1920), (4320, 33)):
        image = np.full((height, width, 3), 77, dtype=np.uint8)
        assert thumbnail(image).shape == (16, 16, 3)
        assert (thumbnail(image) == 77).all()
