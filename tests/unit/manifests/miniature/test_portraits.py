"""The photograph and the people made from it."""

from __future__ import annotations

import socket
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import skimage

from manifests.miniature import photograph, portraits
from manifests.miniature.portraits import Portrait, draw_portrait, feather

LEFT_EYE, RIGHT_EYE, NOSE, LEFT_CORNER, RIGHT_CORNER = range(5)
IDENTITIES = range(8)


@pytest.fixture(scope="module")
def people() -> list[Portrait]:
    return [draw_portrait(identity, seed=0) for identity in IDENTITIES]


def at(region: np.ndarray, point_xy: np.ndarray) -> float:
    column, row = np.rint(point_xy).astype(int)
    return float(region[row, column])


def test_the_photograph_comes_with_scikit_image_and_not_from_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "socket", refuse)
    assert (Path(skimage.__file__).parent / "data" / "astronaut.png").is_file()
    assert photograph.photograph.__wrapped__().shape == (photograph.PORTRAIT_HEIGHT, photograph.PORTRAIT_WIDTH, 3)


def test_the_same_numbers_give_the_same_person(people: list[Portrait]) -> None:
    again = draw_portrait(3, seed=0)
    np.testing.assert_array_equal(again.rgba, people[3].rgba)
    np.testing.assert_array_equal(again.landmarks, people[3].landmarks)
    assert not np.array_equal(draw_portrait(3, seed=1).rgba, again.rgba)


def test_neighbours_differ_visibly_in_the_face(people: list[Portrait]) -> None:
    for one, other in pairwise(people):
        inside = (one.regions["inner_face"] > 0.5) & (other.regions["inner_face"] > 0.5)
        difference = np.abs(one.rgb[inside].astype(float) - other.rgb[inside])
        assert difference.mean() > 8  # grey levels


def test_landmarks_are_where_the_warp_took_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Five white dots instead of a photograph: wherever the warp takes them, the landmarks must be.
    dots = np.zeros((photograph.PORTRAIT_HEIGHT, photograph.PORTRAIT_WIDTH, 3), np.uint8)
    for column, row in np.rint(photograph.LANDMARKS).astype(int):
        dots[row - 1 : row + 2, column - 1 : column + 2] = 255
    monkeypatch.setattr(portraits, "recoloured", lambda *_: dots.copy())
    monkeypatch.setattr(portraits, "bearded", lambda rgb, *_: rgb)
    monkeypatch.setattr(portraits, "_put_glasses", lambda *_: None)
    for identity in range(12):  # mirrored ones among them
        portrait = draw_portrait(identity, seed=4)
        for column, row in portrait.landmarks:
            around = portrait.rgb[round(row) - 4 : round(row) + 5, round(column) - 4 : round(column) + 5, 0]
            rows, columns = np.nonzero(around > 100)
            assert abs(rows.mean() - 4) < 1.5
            assert abs(columns.mean() - 4) < 1.5


def test_landmarks_are_in_the_order_of_the_image_and_inside_their_regions(people: list[Portrait]) -> None:
    for portrait in people:
        landmarks = portrait.landmarks
        assert landmarks[LEFT_EYE, 0] < landmarks[NOSE, 0] < landmarks[RIGHT_EYE, 0]
        assert landmarks[LEFT_CORNER, 0] < landmarks[RIGHT_CORNER, 0]
        mouth = landmarks[[LEFT_CORNER, RIGHT_CORNER]].mean(axis=0)
        for name in ("inner_face", "face_hull", "lower_face", "mouth"):
            assert at(portrait.regions[name], mouth) == 1
        for point in landmarks[[LEFT_EYE, RIGHT_EYE, NOSE]]:
            assert at(portrait.regions["inner_face"], point) == 1
            assert at(portrait.regions["face_hull"], point) == 1
        assert at(portrait.regions["mouth"], landmarks[LEFT_EYE]) == 0
        assert at(portrait.rgba[..., 3], landmarks[NOSE]) == 255


def test_a_feather_is_nothing_outside_and_full_deep_inside() -> None:
    region = np.zeros((40, 40), np.float32)
    region[10:30, 10:30] = 1
    soft = feather(region, 5.0)
    assert not soft[region == 0].any()
    assert soft[20, 20] == 1
    assert 0 < soft[11, 20] < 0.5
