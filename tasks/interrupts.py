"""Who hears Ctrl-C: a terminal sends it to every process of the foreground job, and only the first should act on it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_was_interrupted = threading.Event()


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT for this thread; threads and processes that it starts meanwhile never hear it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_remembered() -> Iterator[None]:
    """Remember Ctrl-C beside raising KeyboardInterrupt: where it strikes inside a library, that may swallow it.

    SIGTERM (`kill`, Slurm, `docker stop`) and SIGHUP (a closed terminal) count as Ctrl-C.
    """

    def remember(_signal_number: int, _frame: FrameType | None) -> None:
        _was_interrupted.set()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _was_interrupted.clear()


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if Ctrl-C has been pressed inside `interrupts_remembered`."""
    if _was_interrupted.is_set():
        raise KeyboardInterrupt
