"""Warping of frames, masks and landmarks into crops, all with the same matrices."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from tasks.media import AlignedClip, FaceTrack, FrameBatch

Matrix = npt.NDArray[np.float64]  # (2,3) full-frame pixels → crop pixels

# Standard deviation of the smoothing before shrinking by a factor f is (f − 1) / 2 source pixels, as in scikit-image's
# `resize(anti_aliasing=True)`: without it, fine texture of a large face would become patterns that are not there.
BLUR_SIGMA_PER_FACTOR = 0.5
BLUR_REACH_SIGMAS = 4.0  # radius of the smoothing, standard deviations
BORDER_PX = 2  # pixels that bilinear interpolation needs around the region, one of them in reserve


def warp_clip(
    frames: FrameBatch,
    rows: FaceTrack,
    matrices: npt.NDArray[np.float64],
    size_px: int,
    masks: npt.NDArray[np.uint8] | None,
) -> AlignedClip:
    """Return the crops of T frames.

    Args:
        frames: (T,H,W,3) uint8 RGB.
        rows: the track's rows of exactly these frames.
        matrices: (T,2,3) float64 similarities, full-frame pixels → crop pixels.
        size_px: side S of the crops.
        masks: (T,H,W) uint8, or None.
    """
    pairs = list(zip(frames.data, matrices, strict=True))
    landmarks = np.einsum("tij,tkj->tki", matrices[:, :, :2], rows.landmarks) + matrices[:, None, :, 2]
    return AlignedClip(
        crops=np.stack([warp(image, matrix, size_px) for image, matrix in pairs]),
        matrices=matrices,
        landmarks=landmarks.astype(np.float32),
        masks=None
        if masks is None
        else np.stack([warp(mask, matrix, size_px) for mask, matrix in zip(masks, matrices, strict=True)]),
        frame_indices=frames.frame_indices,
        pts_seconds=frames.pts_seconds,
    )


def warp(image: npt.NDArray[np.uint8], matrix: Matrix, size_px: int) -> npt.NDArray[np.uint8]:
    """Return the (S,S) or (S,S,3) uint8 crop of a frame, bilinear, smoothed before shrinking, black outside the frame.

    Only the part of the frame that the crop shows is smoothed and warped; the result is that of the whole frame.
    """
    shrink = 1.0 / float(np.hypot(matrix[0, 0], matrix[1, 0]))
    sigma = max(0.0, (shrink - 1.0) * BLUR_SIGMA_PER_FACTOR)
    left, top, right, bottom = _region(
        image.shape, matrix, size_px, int(np.ceil(BLUR_REACH_SIGMAS * sigma)) + BORDER_PX
    )
    if left >= right or top >= bottom:
        return np.zeros((size_px, size_px, *image.shape[2:]), dtype=np.uint8)
    part = np.ascontiguousarray(image[top:bottom, left:right])
    if sigma > 0:
        part = np.asarray(cv2.GaussianBlur(part, (0, 0), sigma), dtype=np.uint8)
    moved = matrix.copy()
    moved[:, 2] += matrix[:, :2] @ (left, top)
    warped = cv2.warpAffine(part, moved, (size_px, size_px), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(warped, dtype=np.uint8)


def _region(shape: tuple[int, ...], matrix: Matrix, size_px: int, reach_px: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the part of an (H,W,…) frame that the crop depends on."""
    corners = np.array([[-1, -1], [size_px, -1], [-1, size_px], [size_px, size_px]], dtype=np.float64)
    source = (corners - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T
    left, top = np.floor(source.min(axis=0)).astype(int) - reach_px
    right, bottom = np.ceil(source.max(axis=0)).astype(int) + reach_px + 1
    return max(left, 0), max(top, 0), min(right, shape[1]), min(bottom, shape[0])
