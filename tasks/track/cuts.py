"""Hard cuts: where a video jumps from one picture to another, found in thumbnails of its frames.

Two thumbnails are compared by the contrast and structure term of SSIM (Wang et al., IEEE TIP 2004, equation 13 without
the means) over the whole picture: 0 for equal pictures, about 1 for unrelated ones. The means are left out, so a change
of exposure is no cut. In real clips of FaceForensics++ and in handheld footage, successive frames differ by at most
0.023, frames that are 0.3 s apart by at most 0.26, and frames of two clips by at least 0.6.

A shot begins at a frame if each of the REACH frames before it differs from each of the REACH frames from it on, and
differs more than the frames on either side do among themselves. So a flash of up to REACH − 1 frames is no cut, nor is
a fast movement of the camera. Fades and dissolves change a little in every frame: they are no hard cuts, and are not
found.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

THUMBNAIL_PX = 16
SAMPLES_PER_SIDE = 8  # pixels read for each side of a thumbnail's pixel: reading all takes a tenth of a face search
STABILISER = (0.03 * 255) ** 2  # SSIM's C2, so that noise in an even picture is no structure
REACH = 3  # frames on either side of a cut that are compared
LEAST_RATIO = 3.0  # of the difference at a cut to that of its neighbours, as in PySceneDetect's AdaptiveDetector

Thumbnail = npt.NDArray[np.uint8]


def thumbnail(image: npt.NDArray[np.uint8]) -> Thumbnail:
    """Return an (H,W,3) picture shrunk to (16,16,3) uint8."""
    step = max(1, min(image.shape[:2]) // (THUMBNAIL_PX * SAMPLES_PER_SIDE))
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    return np.asarray(cv2.resize(image[::step, ::step], size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def difference(one: Thumbnail, other: Thumbnail) -> float:
    """Return how much the structure of two thumbnails differs: 0 if they are equal, about 1 if they are unrelated."""
    first, second = (each - each.mean(axis=(0, 1)) for each in (one, other))
    covariance = float((first * second).mean())
    variances = float((first * first).mean() + (second * second).mean())
    return 1 - (2 * covariance + STABILISER) / (variances + STABILISER)


def first_frames(thumbnails: Sequence[Thumbnail], threshold: float) -> list[int]:
    """Return the positions at which a shot begins, other than the first.

    Args:
        thumbnails: those of successive frames.
        threshold: least difference of frames on both sides of a cut.
    """
    steps = [difference(*pair) for pair in pairwise(thumbnails)]
    found = []
    for place, step in enumerate(steps, start=1):
        if step < threshold:
            continue
        before, after = thumbnails[max(0, place - REACH) : place], thumbnails[place : place + REACH]
        least = min(difference(one, other) for one in before for other in after)
        around = [*steps[max(0, place - REACH) : place - 1], *steps[place : place + REACH - 1]]
        if least >= max(threshold, LEAST_RATIO * float(np.median(around or [0.0]))):
            found.append(place)
    return found
