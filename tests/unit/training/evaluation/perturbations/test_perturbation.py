from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from training.evaluation.perturbations import PERTURBATIONS
from training.evaluation.perturbations.deeperforensics import BLOCK_PX, YCBCR_TO_RGB

Images = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def images() -> Images:
    """Three frames of something smooth with colours at both ends, so that what overflows shows."""
    y, x = np.mgrid[:64, :64] / 63.0
    frame = np.stack([x, y, 1 - x * y], axis=-1)
    moved = [np.roll(frame, 2 * number, axis=1) for number in range(3)]
    return np.asarray(np.rint(255 * np.stack(moved)), dtype=np.uint8)


def change(name: str, images: Images, level: int, seed: int = 0, key: str = "a") -> Images:
    return PERTURBATIONS[name].apply(images, level, seed, key)


def far(one: Images, other: Images) -> float:
    return float(abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("name", ["noise", "BW", "GNC"])
def test_seed_and_key_both_count(name: str, images: Images) -> None:
    drawn = [change(name, images, 3, *which) for which in ((0, "a"), (0, "b"), (1, "a"))]
    assert far(drawn[0], drawn[1]) > 0
    assert far(drawn[0], drawn[2]) > 0


@pytest.mark.parametrize("name", ["noise", "GNC"])
def test_noise_is_clipped_and_does_not_wrap_around(name: str) -> None:
    ends = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    ends[:, :32] = 255
    noisy = change(name, ends, 2).astype(int)
    assert noisy[:, :32].min() > 128
    assert noisy[:, 32:].max() < 128


def test_values_by_hand() -> None:
    red = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    red[..., 0] = 200
    assert change("CS", red, 5)[0, 0, 0].tolist() == [60, 60, 60]  # luma .299 · 200 = 59.8
    assert change("CS", red, 1)[0, 0, 0].tolist() == [116, 36, 36]  # 59.8 + .4 · (200 − 59.8), .6 · 59.8
    assert change("CC", red, 3)[0, 0, 0].tolist() == [120, 0, 0]
    assert change("contrast", red, 3)[0, 0, 0].tolist() == [171, 51, 51]  # 128 + .6 · 72, 128 − .6 · 128


def test_rotation_turns_anticlockwise_and_four_quarters_are_none(images: Images) -> None:
    assert (change("rotation", images, 1)[0] == cv2.rotate(images[0], cv2.ROTATE_90_COUNTERCLOCKWISE)).all()
    assert (change("rotation", change("rotation", images, 1), 3) == images).all()
    assert (change("rotation", images, 2) == images[:, ::-1, ::-1]).all()


def test_centre_crop_enlarges_the_middle() -> None:
    framed = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    framed[:, 16:48, 16:48] = 90
    assert (change("crop", framed, 5) == 90).all()


@pytest.mark.parametrize(("side", "expected"), [(64, 4), (224, 14), (256, 16), (320, 16), (512, 32)])
def test_number_of_blocks_is_the_originals_from_256_pixels_and_in_proportion_below(side: int, expected: int) -> None:
    black = np.zeros((1, side, side, 3), dtype=np.uint8)
    area = int((change("BW", black, 1) == 128).all(axis=-1).sum())
    assert expected * BLOCK_PX**2 * 0.5 < area <= expected * BLOCK_PX**2  # blocks may lie on each other


def test_noise_has_the_variance_that_it_says() -> None:
    grey = np.full((1, 200, 200, 3), 128, dtype=np.uint8)
    assert change("noise", grey, 2).std() == pytest.approx(10, rel=0.03)
    spread = change("GNC", grey, 1).reshape(-1, 3).std(axis=0)
    expected = 255 * np.sqrt(0.001) * np.sqrt((YCBCR_TO_RGB**2).sum(axis=1))
    assert spread == pytest.approx(expected, rel=0.03)


def test_studio_range_takes_black_and_white_to_the_ends() -> None:
    assert pytest.approx([255, 255, 255]) == YCBCR_TO_RGB @ [219, 0, 0]
    assert pytest.approx([1.402 * 127.5, -0.714136 * 127.5, 0]) == YCBCR_TO_RGB @ [0, 0, 112]  # pure red's Cr


def test_reencoding_keeps_the_frames_in_order() -> None:
    greys = np.repeat(np.array([40, 120, 200], dtype=np.uint8), 4)
    still = greys[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    assert change("VC", still, 1).mean(axis=(1, 2, 3)) == pytest.approx(greys, abs=4)


def test_honest_jpeg_blocks_where_the_pixelation_does_not(images: Images) -> None:
    assert far(change("jpeg_quality", images, 1), images) < far(change("JPEG", images, 5), images)


@pytest.mark.parametrize(
    ("shape", "dtype", "level", "message"),
    [
        ((8, 8, 3), np.uint8, 1, "expected uint8 of shape"),
        ((1, 8, 8, 3), np.float32, 1, "expected uint8 of shape"),
        ((0, 8, 8, 3), np.uint8, 1, "expected uint8 of shape"),
        ((1, 8, 8, 3), np.uint8, 6, r"level of noise: got 6, expected 0\.\.5"),
        ((1, 8, 8, 3), np.uint8, -1, "level of noise"),
    ],
)
def test_what_cannot_be_perturbed_is_refused(
    shape: tuple[int, ...], dtype: npt.DTypeLike, level: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        PERTURBATIONS["noise"].apply(np.zeros(shape, dtype=dtype), level, 0)
