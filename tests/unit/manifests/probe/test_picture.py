"""What container and stream say about the picture."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from manifests.probe.picture import Layout, Matrix, is_right_angled, upright

PICTURE = np.array([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(1), (100, 60)), (Fraction(4, 3), (133, 60)), (Fraction(3, 4), (100, 80)), (Fraction(16, 11), (145, 60))],
)
def test_pixels_become_square_and_none_is_lost(aspect: Fraction, size: tuple[int, int]) -> None:
    assert Layout(pixel_aspect=aspect).size(100, 60) == size
    assert Layout(pixel_aspect=aspect, crop=(10, 30, 5, 15)).size(140, 80) == size


def test_hidden_borders_are_cut() -> None:
    cropped = Layout(crop=(1, 2, 3, 4)).cropped(np.arange(200).reshape(10, 20))
    assert cropped.shape == (3, 17)
    assert cropped[0, 0] == 3 * 20 + 1


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), [[1, 2], [3, 4]]),
        ((0, 1, -1, 0), [[3, 1], [4, 2]]),  # a quarter turn clockwise
        ((-1, 0, 0, -1), [[4, 3], [2, 1]]),
        ((0, -1, 1, 0), [[2, 4], [1, 3]]),
        ((-1, 0, 0, 1), [[2, 1], [4, 3]]),
        ((1, 0, 0, -1), [[3, 4], [1, 2]]),
        ((0, 1, 1, 0), [[1, 3], [2, 4]]),
        ((0, -1, -1, 0), [[4, 2], [3, 1]]),
    ],
)
def test_the_eight_matrices_that_map_pixels_onto_pixels(matrix: Matrix, shown: list[list[int]]) -> None:
    assert is_right_angled(matrix)
    assert upright(PICTURE, matrix).tolist() == shown


@pytest.mark.parametrize("matrix", [(1, 1, -1, 1), (1, 1, 0, 1), (0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 1, 1)])
def test_other_matrices(matrix: Matrix) -> None:
    assert not is_right_angled(matrix)
