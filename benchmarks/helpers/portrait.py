"""NASA's public-domain portrait of Eileen Collins, from which benchmarks make their pictures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from skimage.data import astronaut


def portrait() -> npt.NDArray[np.uint8]:
    """Return the portrait, (512,512,3) uint8 RGB, with one face of about 100×135 pixels."""
    return np.asarray(astronaut(), dtype=np.uint8)  # type: ignore[no-untyped-call]  # scikit-image has no types
