"""Smooth fields over pictures, computed once per cell of 4×4 pixels and interpolated for every pixel.

Displacements in the miniature change little from pixel to pixel, so a field that is linear within a cell is accurate
enough, and sixteen times cheaper.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

CELL_PX = 4  # all widths and heights are multiples of it

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]  # (H,W), (H,W,3) RGB or (H,W,4) RGB and opacity


def vector(*values: float) -> Floats:
    """Return (N,) float32, such as a point's x and y or a pixel's three colours."""
    return np.array(values, np.float32)


def as_bytes(values: Floats) -> Image:
    """Round to the nearest of 0..255."""
    return np.rint(values).clip(0, 255).astype(np.uint8)


def sample(image: Image, positions: Floats, interpolation: int) -> Image:
    """Return (H,W,…) uint8 values of an image at (H,W,2) float32 x, y; beyond its border, those of the border.

    Args:
        image: (h,w) or (h,w,C) uint8.
        positions: in pixels of the image.
        interpolation: one of OpenCV's, such as `cv2.INTER_LINEAR`.
    """
    # An empty second map makes OpenCV 5.0's linear interpolation return garbage.
    seen = cv2.remap(image, positions, None, interpolation, borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]  # stubs require a map
    return np.asarray(seen, np.uint8)


def cell_centres(width: int, height: int) -> Floats:
    """Return (height/4 + 2, width/4 + 2, 2) float32 x, y of the cells' centres in pixels, one cell beyond each border.

    Raises:
        ValueError: a side is not a multiple of the cell.
    """
    if width % CELL_PX or height % CELL_PX:
        raise ValueError(f"picture size: got {width}×{height}, expected multiples of {CELL_PX}")
    across, down = (
        (np.arange(-1, side // CELL_PX + 1, dtype=np.float32) + 0.5) * CELL_PX - 0.5 for side in (width, height)
    )
    return np.stack(np.meshgrid(across, down), axis=-1)


def spread(cells: Floats) -> Floats:
    """Return (H,W,C) values at the pixels from (H/4 + 2, W/4 + 2, C) values at the cells, without the outermost."""
    rows, columns = cells.shape[:2]
    pixels = cv2.resize(cells, (columns * CELL_PX, rows * CELL_PX), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(pixels[CELL_PX:-CELL_PX, CELL_PX:-CELL_PX], np.float32)


def bump(points_xy: Floats, centre_xy: npt.ArrayLike, spread_px: float | tuple[float, float]) -> Floats:
    """Return (…,1) float32: a Gaussian of height 1 around a centre; `spread_px` is its deviation in x and y."""
    offsets = (points_xy - np.asarray(centre_xy, np.float32)) / np.asarray(spread_px, np.float32)
    return np.asarray(np.exp(-0.5 * (offsets * offsets).sum(axis=-1, keepdims=True)), np.float32)
