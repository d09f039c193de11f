"""Fields and sampling: what they compute is known in closed form."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from manifests.miniature.fields import CELL_PX, as_bytes, bump, cell_centres, sample, spread, vector


def pixel_grid(width: int, height: int) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)


def test_a_linear_field_is_exact_at_every_pixel_borders_included() -> None:
    slope = np.array([[2.0, -0.25], [0.5, 3.0]], np.float32)
    spread_out = spread(cell_centres(32, 20) @ slope)
    np.testing.assert_allclose(spread_out, pixel_grid(32, 20) @ slope, atol=1e-3)


def test_a_part_of_the_cells_gives_that_part_of_the_pixels() -> None:
    cells = np.sin(cell_centres(40, 24) / 7).astype(np.float32)
    whole = spread(cells)
    part = spread(cells[2 : 4 + 2, 3 : 8 + 2])
    np.testing.assert_allclose(part, whole[2 * CELL_PX : 4 * CELL_PX, 3 * CELL_PX : 8 * CELL_PX], atol=1e-6)


def test_a_picture_that_is_no_multiple_of_the_cell_is_refused() -> None:
    with pytest.raises(ValueError, match="got 33×20, expected multiples of 4"):
        cell_centres(33, 20)


@pytest.mark.parametrize("interpolation", [cv2.INTER_LINEAR, cv2.INTER_CUBIC])
@pytest.mark.parametrize("shape", [(20, 32), (20, 32, 3), (20, 32, 4)])
def test_sampling_at_the_pixels_gives_the_picture_and_beyond_it_its_border(
    shape: tuple[int, ...], interpolation: int
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.testing.assert_array_equal(sample(picture, pixel_grid(32, 20), interpolation), picture)
    moved = sample(picture, pixel_grid(32, 20) + vector(2, -50), interpolation)
    np.testing.assert_array_equal(moved[:, :-2], np.broadcast_to(picture[0, 2:], picture[:, 2:].shape))


def test_a_bump_is_one_at_its_centre_and_known_one_deviation_away() -> None:
    points = np.array([[10, 20], [13, 20], [10, 25]], np.float32)
    np.testing.assert_allclose(bump(points, (10, 20), (3, 5))[:, 0], [1, np.exp(-0.5), np.exp(-0.5)], rtol=1e-6)


def test_bytes_are_rounded_and_limited() -> None:
    np.testing.assert_array_equal(as_bytes(vector(-3, 1.4, 1.6, 300)), np.array([0, 1, 2, 255], np.uint8))
