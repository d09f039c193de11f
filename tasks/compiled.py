"""Compilation of loops over pixels by numba, where NumPy, torch and OpenCV need several passes over memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, TypeVar, cast

Loop = TypeVar("Loop", bound=Callable[..., None])


def compiled(loop: Loop) -> Loop:
    """Return the loop, compiled for this processor when it is first called; other threads run beside it.

    numba keeps what it compiles in `__pycache__` beside the file, or under the user's cache folder, or where
    `NUMBA_CACHE_DIR` says; where it may write to none of them, each process compiles again, for some seconds.
    """

    @cache
    def machine_code() -> Callable[..., None]:
        import numba  # a quarter of a second, which a command that looks at no pixels need not wait for

        # As in NumPy, a division asks for no exception: otherwise it could not be done for many numbers at once.
        settings: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        try:
            return cast("Callable[..., None]", numba.njit(cache=True, **settings)(loop))
        except RuntimeError:  # numba: no folder to keep it in
            return cast("Callable[..., None]", numba.njit(**settings)(loop))

    @wraps(loop)
    def run(*values: object) -> None:
        machine_code()(*values)

    return cast("Loop", run)
