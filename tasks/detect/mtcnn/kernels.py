"""MTCNN's pixel loops on a CPU, compiled into one pass where torch takes several.

The arithmetic is that of torch, operation by operation in float32, so results are equal to the last bit.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tasks.decode.compiled import compiled

Sums = npt.NDArray[np.int32]
Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# Normalisation that the networks were trained with: bytes are mapped to about -1..1.
MIDDLE_BYTE = np.float32(127.5)
BYTE_SCALE = np.float32(0.0078125)


@compiled
def paint_means(
    sums: Sums,
    tops: Numbers,
    bottoms: Numbers,
    lefts: Numbers,
    rights: Numbers,
    pictures: Floats,
    row: int,
    column: int,
) -> None:
    """Write shrunk and normalised pictures from integral images.

    Args:
        sums: (T,H+1,W+1,3) sums of all pixels above and to the left.
        tops: (h,) first row that each row of the picture covers.
        bottoms: (h,) one past the last of these rows.
        lefts: (w,) first column that each column of the picture covers.
        rights: (w,) one past the last of these columns.
        pictures: (T,…,…,3), the output.
        row: row of the output at which the picture begins.
        column: column of the output at which the picture begins.
    """
    num_values = 3 * len(lefts)
    shares = np.empty(num_values, np.int32)
    widths = np.empty(num_values, np.float32)
    for place in range(len(lefts)):
        widths[3 * place : 3 * place + 3] = rights[place] - lefts[place]
    for frame in range(len(sums)):
        for line in range(len(tops)):
            upper, lower = sums[frame, tops[line]], sums[frame, bottoms[line]]
            height = np.float32(bottoms[line] - tops[line])
            for place in range(len(lefts)):
                left, right = lefts[place], rights[place]
                for channel in range(3):
                    band = lower[right, channel] - upper[right, channel]
                    shares[3 * place + channel] = band - lower[left, channel] + upper[left, channel]
            values = pictures[frame, row + line, column : column + len(lefts)].reshape(-1)
            for number in range(num_values):
                mean = np.float32(shares[number]) / height / widths[number]
                values[number] = (mean - MIDDLE_BYTE) * BYTE_SCALE


@compiled
def paint_squares(sums: Sums, frames: Numbers, corners_xyxy: Numbers, pictures: Floats) -> None:
    """Write parts of frames, resized to squares and normalised, from integral images.

    Args:
        sums: (T,H+1,W+1,3) sums of all pixels above and to the left.
        frames: (N,) number of the frame of each part.
        corners_xyxy: (N,4) pixels, the right and bottom ends not included.
        pictures: (N,S,S,3), the output.
    """
    side = pictures.shape[1]
    lefts, rights = np.empty(side, np.int64), np.empty(side, np.int64)
    shares = np.empty(3 * side, np.int32)
    widths = np.empty(3 * side, np.float32)
    for square in range(len(frames)):
        left_px, top_px, right_px, bottom_px = corners_xyxy[square]
        width_px, height_px = right_px - left_px, bottom_px - top_px
        for place in range(side):
            lefts[place] = left_px + place * width_px // side
            rights[place] = left_px - (place + 1) * -width_px // side
            widths[3 * place : 3 * place + 3] = rights[place] - lefts[place]
        for line in range(side):
            top, bottom = top_px + line * height_px // side, top_px - (line + 1) * -height_px // side
            upper, lower = sums[frames[square], top], sums[frames[square], bottom]
            height = np.float32(bottom - top)
            for place in range(side):
                left, right = lefts[place], rights[place]
                for channel in range(3):
                    band = lower[right, channel] - upper[right, channel]
                    shares[3 * place + channel] = band - lower[left, channel] + upper[left, channel]
            values = pictures[square, line].reshape(-1)
            for number in range(3 * side):
                mean = np.float32(shares[number]) / height / widths[number]
                values[number] = (mean - MIDDLE_BYTE) * BYTE_SCALE


@compiled
def activate_and_pool(values: Floats, slopes: Floats, size: int, stride: int, pooled: Floats) -> None:
    """Apply PReLU and max pooling; the last pools may be cut off.

    Args:
        values: (N,H,W,C).
        slopes: (C,) slopes of PReLU below 0.
        size: size of a pool, along height and width.
        stride: distance from a pool to the next.
        pooled: (N,h,w,C), the output.
    """
    num_pictures, height, width, num_channels = values.shape
    for picture in range(num_pictures):
        for row in range(pooled.shape[1]):
            for column in range(pooled.shape[2]):
                greatest = pooled[picture, row, column]
                greatest[:] = -np.inf
                for line in range(stride * row, min(stride * row + size, height)):
                    for place in range(stride * column, min(stride * column + size, width)):
                        pixel = values[picture, line, place]
                        for channel in range(num_channels):
                            value = pixel[channel]
                            active = value if value > 0 else value * slopes[channel]
                            greatest[channel] = active if active > greatest[channel] else greatest[channel]
