"""Memory for frames that is used again: allocating it costs more than filling it."""

from __future__ import annotations

import math
import sys
from threading import Lock

import numpy as np
import numpy.typing as npt

REFERENCES_AT_REST = 2  # our own, and the one of the question


class FrameMemory:
    """Gives out one array, and the same memory again once nobody holds any part of what it gave out."""

    def __init__(self) -> None:
        self._values = np.empty(0, dtype=np.uint8)
        self._lock = Lock()

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Return an array of this shape with anything in it."""
        num_values = math.prod(shape)
        with self._lock:
            # Each view of an array, and each view of a view, holds a reference to the array that owns the memory.
            is_free = sys.getrefcount(self._values) <= REFERENCES_AT_REST
            if not is_free or len(self._values) < num_values:
                self._values = np.empty(num_values, dtype=np.uint8)
            return self._values[:num_values].reshape(shape)
