"""Reuse of memory for frames, since allocating it takes longer than filling it."""

from __future__ import annotations

import math
import sys
from threading import Lock

import numpy as np
import numpy.typing as npt

REFERENCES_AT_REST = 2  # our own, and that of the argument of `getrefcount`


class FrameMemory:
    """Memory for one array at a time, which is reused when nothing refers to any part of the last array."""

    def __init__(self) -> None:
        self._values = np.empty(0, dtype=np.uint8)
        self._lock = Lock()

    def take(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """Return an array of this shape; its contents are undefined."""
        num_values = math.prod(shape)
        with self._lock:
            # Each view of an array, and each view of a view, holds a reference to the array that owns the memory.
            is_free = sys.getrefcount(self._values) <= REFERENCES_AT_REST
            if not is_free or len(self._values) < num_values:
                self._values = np.empty(num_values, dtype=np.uint8)
            return self._values[:num_values].reshape(shape)
