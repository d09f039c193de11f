"""Manipulation masks: read from a second video beside a fake, or derived from the original where there is none.

A mask video is white where the fake was altered. Some mask videos are shorter than the fake.

A derived mask is one minus the structural similarity (Wang et al., "Image Quality Assessment: From Error Visibility to
Structural Similarity", 2004) of fake and original, as in the winning solution of the Deepfake Detection Challenge
(S. Seferbekov, github.com/selimsef/dfdc_deepfake_challenge, preprocessing/generate_diffs.py). Compression makes the two
differ everywhere, and more at a lower bitrate. The median over a crop's pixels, most of which are not altered, measures
this noise.

Derived masks were measured with benchmarks/masks.py on 34 to 36 frames of each forgery of a miniature dataset: IoU with
the true masks 0.83 (Deepfakes), 0.54 (Face2Face), 0.88 (FaceSwap), 0.80 (NeuralTextures). The true masks are white
wherever a fake may differ; Face2Face leaves much of that unaltered. For originals and other encodings of them, nothing
is marked up to crf 40. In two real clips one frame in twelve is marked at crf 40, none at crf 23 to 33.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from storage.format.arrays import require_array
from tasks.decode.decoder import Decoder
from tasks.media import FrameBatch, MaskBatch, Reason, Stage

Image = npt.NDArray[np.uint8]  # (S,S,3) RGB
Mask = npt.NDArray[np.uint8]  # (S,S) 0 or 255
Map = npt.NDArray[np.float64]  # (S,S)

LEAST_SIDE_PX = 16  # smaller crops are hardly larger than the windows below
LEAST_WINDOW_PX = 3  # smaller windows have no structure

# All constants below were chosen on half of a miniature dataset of six pairs by IoU with its true masks
# (benchmarks/masks.py makes another), among values that mark nothing between a crop and its H.264 encodings with crf
# 18, 23, 28 and 33. Shares are of the crop's side.
WINDOW_SHARE = 0.03  # side of SSIM's window: 7 pixels, scikit-image's default, for 224
SMOOTHING_SHARE = 0.025  # standard deviation of the Gaussian
THRESHOLD_PER_NOISE = 2.5  # threshold of altered pixels, divided by the median of the difference
LEAST_THRESHOLD = 0.05  # lower limit of the threshold, for crops with hardly any compression
MOST_THRESHOLD = 0.18  # upper limit, for crops of which most is altered, so that the median is not noise
RIM_SHARE = 0.06  # diameter of the neighbourhood for the next constant
LEAST_PER_STRONGEST = 0.4  # least difference of a pixel, share of the strongest nearby, since smoothing blurs edges
SEED_PER_THRESHOLD = 3.5  # a region counts only if its difference is this many thresholds somewhere
CLOSING_SHARE = 0.08  # diameter of gaps that are closed, such as cheeks without structure
OPENING_SHARE = 0.06  # diameter of bridges and spurs that are removed
LEAST_AREA_SHARE = 0.005  # of the crop's area: a closed mouth is larger


def read_masks(decoder: Decoder, path: Path, frames: FrameBatch) -> MaskBatch:
    """Return the (T,H,W) masks of these frames.

    Args:
        decoder: the decoder of the frames.
        path: the mask video.
        frames: the frames that the masks belong to.

    Raises:
        VideoRejected: the mask video cannot be read, or its frames have another size.
    """
    data = np.zeros(frames.data.shape[:3], dtype=np.uint8)
    with decoder.open(path) as reader:
        is_present = frames.frame_indices < reader.num_frames
        found = reader.read(frames.frame_indices[is_present]).data if is_present.any() else None
    if found is not None:
        if found.shape[1:3] != data.shape[1:3]:
            detail = f"{path.name}: got {found.shape[1:3]} pixels (H,W), expected {data.shape[1:3]} as in the video"
            raise VideoRejected(Stage.DECODE, Reason.DECODE_ERROR, detail)
        data[is_present] = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in found]
    return MaskBatch(data=data, is_present=is_present)


def difference_masks(fake: npt.NDArray[np.uint8], original: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return masks of the altered pixels of a fake; empty if it differs from its original only by compression.

    Args:
        fake: (T,S,S,3) uint8 RGB crops.
        original: (T,S,S,3) uint8 RGB crops of the same frames of the original, cut with the same matrices.

    Returns:
        (T,S,S) uint8, 255 where altered, else 0.

    Raises:
        ValueError: the two are not crops of one shape, or are smaller than 16 pixels.
    """
    require_array("difference_masks", "fake", fake, np.uint8, (None, None, None, 3))
    require_array("difference_masks", "original", original, np.uint8, fake.shape)
    if min(fake.shape[1:3]) < LEAST_SIDE_PX:
        raise ValueError(f"difference_masks: got crops of {fake.shape[1:3]} pixels, expected {LEAST_SIDE_PX} or more")
    masks = np.zeros(fake.shape[:3], dtype=np.uint8)
    for mask, one, other in zip(masks, fake, original, strict=True):
        is_shown = (one | other).any(axis=2)  # pixels that are black in both are outside the frame, without noise
        mask[:] = _altered(_difference(one, other), is_shown)
    return masks


def _difference(fake: Image, original: Image) -> Map:
    """Return (S,S) 1 − SSIM, 0..2, mean of the three colours, smoothed."""
    from skimage.metrics import structural_similarity

    window = max(LEAST_WINDOW_PX, _odd(WINDOW_SHARE * len(fake)))
    _, similarity = structural_similarity(  # type: ignore[no-untyped-call]  # scikit-image has no stubs
        fake, original, win_size=window, channel_axis=2, full=True
    )
    sigma = SMOOTHING_SHARE * len(fake)
    return np.asarray(cv2.GaussianBlur(1.0 - similarity.mean(axis=2), (0, 0), sigma), dtype=np.float64)


def _altered(difference: Map, is_shown: npt.NDArray[np.bool_]) -> Mask:
    """Return (S,S) uint8 0 or 255: the regions of a difference that compression does not explain."""
    noise = float(np.median(difference[is_shown])) if is_shown.any() else 0.0
    threshold = min(max(THRESHOLD_PER_NOISE * noise, LEAST_THRESHOLD), MOST_THRESHOLD)
    seeds = difference > SEED_PER_THRESHOLD * threshold
    if not seeds.any():
        return np.zeros(difference.shape, dtype=np.uint8)
    strongest = cv2.dilate(difference, _disc(RIM_SHARE * len(difference)))
    differs = difference > np.maximum(threshold, LEAST_PER_STRONGEST * strongest)
    regions = _cleaned(np.where(differs, 255, 0).astype(np.uint8))
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(regions, connectivity=8)
    is_kept = statistics[:, cv2.CC_STAT_AREA] >= LEAST_AREA_SHARE * difference.size
    is_kept &= np.bincount(labels[seeds], minlength=count) > 0
    is_kept[0] = False  # the background
    return np.where(is_kept[labels], 255, 0).astype(np.uint8)


def _cleaned(mask: Mask) -> Mask:
    """Close gaps, fill holes and remove spurs; a face at the border of the crop is treated as continuing outside."""
    from scipy.ndimage import binary_fill_holes

    closing, opening = (_disc(share * len(mask)) for share in (CLOSING_SHARE, OPENING_SHARE))
    border = len(closing)
    padded = cv2.copyMakeBorder(mask, border, border, border, border, cv2.BORDER_REPLICATE)
    closed = cv2.morphologyEx(padded, cv2.MORPH_CLOSE, closing)[border:-border, border:-border]
    filled = np.where(binary_fill_holes(closed), 255, 0).astype(np.uint8)
    return np.asarray(cv2.morphologyEx(filled, cv2.MORPH_OPEN, opening), dtype=np.uint8)


def _disc(diameter_px: float) -> Mask:
    """Return a disc of about this diameter, pixels."""
    side = _odd(diameter_px)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), dtype=np.uint8)


def _odd(length_px: float) -> int:
    """Round to an odd number, for windows with a pixel in their centre."""
    return round(length_px) | 1
