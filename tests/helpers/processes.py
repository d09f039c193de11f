"""Processes under test: wait for what they do, find their children, run the command line in a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

Found = TypeVar("Found")

REPO = Path(__file__).resolve().parents[2]
QUICK = (
    *("frames.count=3", "crop.size_px=64", "runner.workers=2", "shard.videos=8", "split.ratios=[0.5, 0.5, 0]"),
    "report.crops_checked=0",
)
POLL_SECONDS = 0.02


def wait_for(
    condition: Callable[[], Found],
    seconds: float,
    process: subprocess.Popen[Any] | None = None,
    *,
    every: float = POLL_SECONDS,
) -> Found:
    """Return the first value of a condition that is true.

    Args:
        condition: called again and again.
        seconds: limit.
        process: one that has to last that long, if any.
        every: seconds between two calls.

    Raises:
        AssertionError: the time is over, or the process has ended.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, f"process ended with {process.returncode}"
        assert time.monotonic() < deadline, f"nothing happened within {seconds} s"
        time.sleep(every)
    return found


def children_of(process_id: int) -> list[int]:
    """Return the process ids of all children of a process."""
    threads = Path(f"/proc/{process_id}/task").glob("*/children")
    return [int(word) for thread in threads for word in thread.read_text().split()]


def is_alive(process_id: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False


def end_session(process: subprocess.Popen[Any]) -> None:
    """Kill what is left of a process that was started in a session of its own, and of its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock among the processes of a test session."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def command_line(*words: str, environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Start `python -m flows` in a session of its own; kill what is left of it when the block ends.

    Its standard output holds its standard error too.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        cwd=REPO,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            end_session(process)


def setting_words(*assignments: str) -> list[str]:
    """Return the words that set these on the command line."""
    return [word for assignment in assignments for word in ("--set", assignment)]
