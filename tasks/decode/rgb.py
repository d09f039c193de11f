"""Conversion of decoded frames to the RGB picture that a player shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np
import numpy.typing as npt

from manifests.probe.picture import UPRIGHT, Layout, Matrix, is_right_angled, matrix_of, turns, upright
from tasks.decode.yuv444 import to_rgb, weights_of

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

Picture = npt.NDArray[np.uint8]


class OddAngle(Exception):
    """Raised for a frame that is not turned by a multiple of 90°, or otherwise than the first; the text says which."""


class RgbConverter:
    """Converter of frames to RGB; of plain ones with exactly the bytes of `frame.to_ndarray(format="rgb24")`.

    Args:
        layout: what the container says about their pixels.
    """

    def __init__(self, layout: Layout) -> None:
        from av.video.reformatter import VideoReformatter

        self._layout = layout
        self._to_rgb, self._to_square = VideoReformatter(), VideoReformatter()
        self._matrices: dict[int, Matrix] = {}  # the first frame's, by the rotation that PyAV reports, in degrees

    def shape_of(self, frame: VideoFrame) -> tuple[int, int, int]:
        """Return the (H,W,3) of a frame's picture.

        Raises:
            OddAngle: no player shows it so.
        """
        width, height = self._layout.size(frame.width, frame.height)
        return (width, height, 3) if turns(self._matrix_of(frame)) else (height, width, 3)

    def write(self, frame: VideoFrame, picture: Picture) -> None:
        """Write a frame to its picture, (H,W,3) uint8 RGB.

        Raises:
            OddAngle: no player shows it so.
        """
        matrix, weights = self._matrix_of(frame), weights_of(frame)
        if weights is not None and matrix == UPRIGHT and self._layout.is_plain:
            to_rgb(frame, weights, picture)
        else:
            coded = cast("Picture", self._to_rgb.reformat(frame, format="rgb24", threads=1).to_ndarray())
            picture[:] = upright(self._squared(self._layout.cropped(coded)), matrix)

    def _squared(self, picture: Picture) -> Picture:
        """Stretch a cropped picture, so that its pixels are square."""
        from av.video.frame import VideoFrame

        if self._layout.pixel_aspect == 1:
            return picture
        width, height = self._layout.stretched(picture.shape[1], picture.shape[0])
        flat = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        return cast("Picture", self._to_square.reformat(flat, width=width, height=height, threads=1).to_ndarray())

    def _matrix_of(self, frame: VideoFrame) -> Matrix:
        # Side data and its frame refer to each other until garbage collection, so it is read once for each rotation.
        rotation = frame.rotation
        if rotation not in self._matrices:
            if self._matrices:
                raise OddAngle("a picture that is turned otherwise than the first one")
            matrix = matrix_of(frame)
            if not is_right_angled(matrix):
                raise OddAngle("a picture that is not rotated by a multiple of 90°")
            self._matrices[rotation] = matrix
        return self._matrices[rotation]
