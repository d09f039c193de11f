"""Compilation of loops over pixels by numba, where NumPy, torch and OpenCV need several passes over memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

Loop = TypeVar("Loop", bound=Callable[..., None])


def compiled(loop: Loop) -> Loop:
    """Return the loop, compiled for this processor at its first call; other threads can run at the same time.

    numba caches compiled code in `NUMBA_CACHE_DIR`, or in `__pycache__` beside the file, or in the user's cache folder.
    If it can write to none of them, each process compiles again, which takes some seconds.
    """

    @cache
    def machine_code() -> Callable[..., None]:
        import numba  # takes a quarter of a second, so commands that process no pixels do not import it

        # As in NumPy, a division by zero raises nothing: with an exception, divisions could not be vectorised.
        settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        try:
            return cast("Callable[..., None]", numba.njit(cache=True, **settings)(loop))
        except RuntimeError:  # numba found no folder for its cache
            return cast("Callable[..., None]", numba.njit(**settings)(loop))

    @wraps(loop)
    def run(*values: object) -> None:
        machine_code()(*values)

    return cast("Loop", run)
