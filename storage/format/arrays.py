"""Arrays of records: their type, and the check that an array has the dtype and shape of its field."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

AnyArray: TypeAlias = npt.NDArray[Any]  # of whatever dtype its field has


def require_array(owner: str, name: str, value: object, dtype: npt.DTypeLike, shape: tuple[int | None, ...]) -> None:
    """Raise unless `value` is an array of this dtype and shape; None in `shape` stands for any length.

    Raises:
        TypeError: not an array, or another dtype.
        ValueError: another shape.
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"{owner}.{name}: got {type(value).__name__}, expected a numpy array")
    if value.dtype != np.dtype(dtype):
        raise TypeError(f"{owner}.{name}: got dtype {value.dtype}, expected {np.dtype(dtype)}")
    fits = value.ndim == len(shape) and all(want in (None, got) for want, got in zip(shape, value.shape, strict=True))
    if not fits:
        wanted = tuple("any" if length is None else length for length in shape)
        raise ValueError(f"{owner}.{name}: got shape {value.shape}, expected {wanted}")
