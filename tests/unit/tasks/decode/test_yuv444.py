"""4:4:4 to RGB: FFmpeg's own bytes for every colour, in every colour space that is taken."""

from __future__ import annotations

import av
import numpy as np
import pytest

from tasks.decode.yuv444 import COEFFICIENTS, FULL_RANGE, Plane, to_rgb, weights_of

SIDE = 4096  # SIDE ** 2 pixels: one for each colour


@pytest.fixture(scope="module")
def all_colours() -> list[Plane]:
    """Y, U and V, (4096,4096) uint8 each."""
    numbers = np.arange(SIDE * SIDE, dtype=np.uint32)
    return [((numbers >> shift) & 255).astype(np.uint8).reshape(SIDE, SIDE) for shift in (16, 8, 0)]


def frame_of(planes: list[Plane], pixel_format: str, colorspace: int = 2, color_range: int = 0) -> av.VideoFrame:
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pixel_format)
    for plane, values in zip(frame.planes, planes, strict=True):
        padded = np.zeros((height, plane.line_size), dtype=np.uint8)
        padded[:, :width] = values
        plane.update(padded.tobytes())
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


@pytest.mark.parametrize(
    ("pixel_format", "colorspace", "color_range"),
    [
        *(("yuv444p", colorspace, 0) for colorspace in COEFFICIENTS),
        *(("yuv444p", colorspace, FULL_RANGE) for colorspace in (1, 2)),
        ("yuv444p", 6, 1),
        ("yuvj444p", 2, 0),
        ("yuvj444p", 1, 2),
    ],
)
def test_every_colour_is_ffmpegs(
    all_colours: list[Plane], pixel_format: str, colorspace: int, color_range: int
) -> None:
    frame = frame_of(all_colours, pixel_format, colorspace, color_range)
    weights = weights_of(frame)
    assert weights is not None
    picture = np.empty((SIDE, SIDE, 3), dtype=np.uint8)
    to_rgb(frame, weights, picture)
    assert np.array_equal(picture, frame.to_ndarray(format="rgb24"))


def test_rows_may_be_longer_than_the_picture() -> None:
    rng = np.random.default_rng(8)
    frame = frame_of([rng.integers(0, 256, (33, 71), dtype=np.uint8) for _ in range(3)], "yuv444p")
    assert frame.planes[0].line_size > frame.width
    weights = weights_of(frame)
    assert weights is not None
    picture = np.empty((33, 71, 3), dtype=np.uint8)
    to_rgb(frame, weights, picture)
    assert np.array_equal(picture, frame.to_ndarray(format="rgb24"))


def test_other_frames_are_left_to_ffmpeg() -> None:
    planes = [np.zeros((2, 2), dtype=np.uint8)] * 3
    assert weights_of(frame_of(planes, "yuv444p", colorspace=9)) is None  # BT.2020
    assert weights_of(av.VideoFrame(4, 4, "yuv420p")) is None
    assert weights_of(av.VideoFrame(4, 4, "yuv444p10le")) is None
