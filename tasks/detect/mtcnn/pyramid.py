"""Geometry of P-Net's input: levels of an image pyramid, windows (parts of levels), and canvases that hold windows.

A cell is a square of 12 × 12 pixels of a level that P-Net classifies as face or not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

CELL_PX = 12  # side of the square that P-Net classifies
CELL_STRIDE_PX = 2  # distance between neighbouring cells of P-Net

# A window of more pixels has a canvas of its own, smaller ones share one: each call of P-Net costs 0.3 ms, as much as
# 8,000 pixels.
MAX_SHARED_PIXELS = 1 << 15

# Largest number of pixels of one window in a call of P-Net, by device. On a CPU, a 720p frame takes 42 ms with this
# limit, 44 ms without one, and 56 ms with a quarter of it.
MAX_STRIP_PIXELS = {"cpu": 1 << 16, "cuda": 1 << 30}

IMPOSSIBLE_SCORE = 2.0  # threshold that no cell reaches, since scores are at most 1

Area = tuple[float, float, float, float]  # left, top, right, bottom; pixels of the frame


@dataclass(frozen=True, slots=True)
class Level:
    """One step of the pyramid of a frame."""

    number: int
    """Number from 0, the finest."""

    scale: float
    """Pixels of the level per pixel of the frame."""

    height: int
    """Pixels."""

    width: int
    """Pixels."""

    @property
    def face_px(self) -> float:
        """Size of a face that fills a cell of this level, pixels of the frame."""
        return CELL_PX / self.scale


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a level; each side lies where a cell begins, or on the border of the level."""

    level: Level
    """Level that the window is a part of."""

    rows: tuple[int, int]
    """First row, and one past the last; pixels of the level."""

    columns: tuple[int, int]
    """First column, and one past the last; pixels of the level."""

    least_score: float = 0.0
    """Threshold for the score of a cell, if it is above P-Net's own."""

    inner: Window | None = None
    """Part of the window in which P-Net's own threshold holds."""

    @property
    def height(self) -> int:
        """Pixels of the level."""
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        """Pixels of the level."""
        return self.columns[1] - self.columns[0]

    def contains(self, other: Window) -> bool:
        """Return whether another window of the same level is a part of this one."""
        return (
            self.rows[0] <= other.rows[0] <= other.rows[1] <= self.rows[1]
            and self.columns[0] <= other.columns[0] <= other.columns[1] <= self.columns[1]
        )

    def least_scores(self) -> npt.NDArray[np.float32]:
        """Return the threshold for each cell, (y,x); 0 leaves P-Net's own."""
        least = np.full((cells_along(self.height), cells_along(self.width)), self.least_score, dtype=np.float32)
        if self.inner is not None:
            row = (self.inner.rows[0] - self.rows[0]) // CELL_STRIDE_PX
            column = (self.inner.columns[0] - self.columns[0]) // CELL_STRIDE_PX
            least[row : row + cells_along(self.inner.height), column : column + cells_along(self.inner.width)] = 0
        return least

    def strips(self, max_pixels: int) -> list[Window]:
        """Return this window cut into strips of at most this many pixels, but at least one row of cells."""
        num_cells = cells_along(self.height)
        step = max(1, (max_pixels // self.width - CELL_PX) // CELL_STRIDE_PX + 1)
        if step >= num_cells:
            return [self]
        starts = range(self.rows[0], self.rows[0] + num_cells * CELL_STRIDE_PX, step * CELL_STRIDE_PX)
        stops = [start + (step - 1) * CELL_STRIDE_PX + CELL_PX for start in starts[:-1]]
        return [replace(self, rows=rows) for rows in zip(starts, [*stops, self.rows[1]], strict=True)]


@lru_cache(maxsize=64)
def levels_of(height: int, width: int, min_face_px: int, factor: float) -> tuple[Level, ...]:
    """Return the levels of a frame of this size, the finest first; none if no face of the least size fits.

    The numbers are computed as in facenet-pytorch, float64 in this order: any other rounding moves every box.
    """
    scale = CELL_PX / min_face_px
    shorter = min(height, width) * scale
    levels: list[Level] = []
    while shorter >= CELL_PX:
        levels.append(Level(len(levels), scale, int(height * scale + 1), int(width * scale + 1)))
        scale *= factor
        shorter *= factor
    return tuple(levels)


def whole(level: Level, least_score: float = 0.0, inner: Window | None = None) -> Window:
    """Return the window that covers a whole level."""
    return Window(level, (0, level.height), (0, level.width), least_score, inner)


def around(level: Level, area_xyxy: Area) -> Window | None:
    """Return the smallest window with all cells that extend beyond an area, in frame pixels, by at most a quarter.

    None if the level has no such cell.
    """
    left, top, right, bottom = (place * level.scale for place in area_xyxy)
    columns, rows = _cells(left, right, level.width), _cells(top, bottom, level.height)
    return Window(level, rows, columns) if columns and rows else None


def _cells(first: float, last: float, length: int) -> tuple[int, int] | None:
    """Return the range of pixels of the cells that lie between two places of a level, or at most a quarter outside."""
    start = max(0, int(first - CELL_PX / 4) // CELL_STRIDE_PX * CELL_STRIDE_PX)
    stop = min(start + _even(math.ceil(last + CELL_PX / 4 - start)), length)
    return (start, stop) if stop - start >= CELL_PX else None


@dataclass(frozen=True, slots=True)
class Canvas:
    """Windows side by side in one image, so that P-Net runs once for all; cells that cover two windows are ignored."""

    height: int
    """Pixels."""

    width: int
    """Pixels."""

    windows: tuple[Window, ...]
    """The windows on it."""

    corners: tuple[tuple[int, int], ...]
    """Top and left of each window, pixels, even numbers."""

    def owners(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Return (y,x) arrays: number of each cell's window; the cell's threshold, above 1 if it covers two windows."""
        owners = np.zeros((cells_along(self.height), cells_along(self.width)), dtype=np.int64)
        least = np.full(owners.shape, IMPOSSIBLE_SCORE, dtype=np.float32)
        for number, (window, (top, left)) in enumerate(zip(self.windows, self.corners, strict=True)):
            scores = window.least_scores()
            row, column = top // CELL_STRIDE_PX, left // CELL_STRIDE_PX
            part = (slice(row, row + scores.shape[0]), slice(column, column + scores.shape[1]))
            owners[part], least[part] = number, scores
        return owners, least

    def moves(self) -> list[tuple[int, int]]:
        """Return for each window the shift in x and y from pixels of the canvas to pixels of its level."""
        return [
            (window.columns[0] - left, window.rows[0] - top)
            for window, (top, left) in zip(self.windows, self.corners, strict=True)
        ]

    def seams(self) -> list[tuple[slice, slice]]:
        """Return the parts of P-Net's first layer in a pool of a window's last row or column, but outside the window.

        Levels of odd height or width end with half a pool. Inside levels, windows are cut so that pools are complete.
        """
        found = []
        for window, (top, left) in zip(self.windows, self.corners, strict=True):
            bottom, right = top + window.height - 2, left + window.width - 2
            if window.height % 2 and bottom < self.height - 2:
                found.append((slice(bottom, bottom + 1), slice(left, right + 1)))
            if window.width % 2 and right < self.width - 2:
                found.append((slice(top, bottom + 1), slice(right, right + 1)))
        return found


def cells_along(length: int) -> int:
    """Return the number of P-Net's cells along this many pixels: 3 × 3 layers with a pool of 2 after the first."""
    return (length - 1) // CELL_STRIDE_PX - 4


@lru_cache(maxsize=64)
def packed(windows: tuple[Window, ...], max_pixels: int) -> tuple[Canvas, ...]:
    """Return the canvases for these windows: each strip of a large window alone, all other windows on one canvas.

    Args:
        windows: the input of P-Net.
        max_pixels: largest number of pixels of a strip of a large window.
    """
    large = [window for window in windows if window.height * window.width > MAX_SHARED_PIXELS]
    shared = sorted((window for window in windows if window not in large), key=lambda window: -window.height)
    strips = [strip for window in large for strip in window.strips(max_pixels)]
    canvases = [Canvas(strip.height, strip.width, (strip,), ((0, 0),)) for strip in strips]
    return (*canvases, _in_shelves(shared)) if shared else tuple(canvases)


def _in_shelves(windows: Sequence[Window]) -> Canvas:
    """Return a canvas about as wide as the widest window, filled in rows from left to right, from top to bottom."""
    widest = max(_even(window.width) for window in windows)
    corners: list[tuple[int, int]] = []
    top = left = bottom = 0
    for window in windows:
        if left + window.width > widest:
            top, left = bottom, 0
        corners.append((top, left))
        left += _even(window.width)
        bottom = max(bottom, top + _even(window.height))
    height = max(top + window.height for window, (top, _) in zip(windows, corners, strict=True))
    width = max(left + window.width for window, (_, left) in zip(windows, corners, strict=True))
    return Canvas(height, width, tuple(windows), tuple(corners))


def _even(length: int) -> int:
    return length + length % 2
