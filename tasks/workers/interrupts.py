"""Interrupts: a terminal sends Ctrl-C to every process of the foreground job, but only the first should act on it.

This module also ends a process together with its parent.
"""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_was_interrupted = threading.Event()


@contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Block SIGINT and SIGHUP for this thread; threads and processes that it starts in the block never receive them.

    SIGTERM is not blocked, since Pebble ends its workers with it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def interrupts_remembered() -> Iterator[None]:
    """Record Ctrl-C in addition to raising KeyboardInterrupt, which a library may swallow.

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


def end_with_parent() -> None:
    """Ask Linux to end this process when its parent dies, so that a killed run leaves no workers behind.

    "Parent" is the thread that started this process, so workers are started by threads that live as long as they do.
    """
    pr_set_pdeathsig = 1  # <linux/prctl.h>
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
