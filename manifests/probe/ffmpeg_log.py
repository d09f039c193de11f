"""FFmpeg's log, read for what FFmpeg reports in no other way. It is off at all other times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Final

Lines = list[tuple[int, str, str]]  # (level, part of FFmpeg, text)

_lock: Final = Lock()
_levels: Final[list[int]] = []  # of all threads that read the log: FFmpeg has one level for the process


@contextmanager
def log_lines(level: int) -> Iterator[Lines]:
    """Collect the lines that this thread causes, up to a level of FFmpeg's, such as WARNING; complete at the end."""
    import av

    found: Lines = []
    lines: Lines = []
    try:
        # The outer capture keeps what other threads cause in the meantime off the terminal.
        with av.logging.Capture(local=False), av.logging.Capture() as lines:
            _set_levels(level, is_added=True)
            try:
                yield found
            finally:
                _set_levels(level, is_added=False)
    finally:
        found += [line for line in lines if line[0] <= level]


def _set_levels(level: int, *, is_added: bool) -> None:
    """Add or remove a level, and set the one that shows the lines of all."""
    import av

    with _lock:
        (_levels.append if is_added else _levels.remove)(level)
        av.logging.set_skip_repeated(False)
        av.logging.set_level(max(_levels, default=None))
