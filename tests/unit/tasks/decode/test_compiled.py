"""Compiled loops."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest

from tasks.decode.compiled import compiled


def double(values: npt.NDArray[np.int64]) -> None:
    """Double values in place."""
    for place in range(len(values)):
        values[place] *= 2


def test_a_loop_does_what_it_says() -> None:
    values = np.arange(5)
    compiled(double)(values)
    assert values.tolist() == [0, 2, 4, 6, 8]


def test_a_loop_is_compiled_once_even_where_nothing_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    njit = numba.njit

    def without_cache(*, cache: bool = False, **settings: Any) -> Callable[..., Any]:
        asked.append(cache)
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**settings)  # type: ignore[no-any-return]

    monkeypatch.setattr(numba, "njit", without_cache)
    values, loop = np.arange(3), compiled(double)
    loop(values)
    loop(values)
    assert values.tolist() == [0, 4, 8]
    assert asked == [True, False]


def test_numba_is_loaded_when_pixels_are_there() -> None:
    code = "import sys; from tasks.decode import DECODERS; DECODERS['pyav'](); sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
