"""How far a download is, for whoever watches: a bar in the terminal, lines in a log, an artifact in Prefect's UI."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tasks.download.disk_space import gigabytes
from tasks.download.fetcher import Fetched

SECONDS_BETWEEN_LINES = 30.0
# Over so many seconds the rate is measured: long enough to be calm, short enough to notice that a server slows down.
RATE_WINDOW_SECONDS = 30.0


class DownloadProgress:
    """Counts bytes and files; a context manager around the work.

    The remaining time is told only where the lengths of all files are known.

    Args:
        num_files: how many there are to do.
        num_bytes: how long they are together; None where that is not known.
        num_bytes_there: what partial files of earlier runs hold of it.
        what: what is being done, one word.
        on_percent: told how far it is, 0 to 100, with each call of `publish`.
        clock: tells seconds.
    """

    def __init__(
        self,
        num_files: int,
        num_bytes: int | None,
        *,
        num_bytes_there: int = 0,
        what: str = "fetching",
        on_percent: Callable[[float], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_files, self._num_done, self._num_failed = num_files, 0, 0
        self._what = what
        self._on_percent = on_percent
        self._lock = threading.Lock()
        self._clock = clock
        self._last_line_seconds = clock()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            get_time=clock,
            speed_estimate_period=RATE_WINDOW_SECONDS,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task(self._description(), total=num_bytes, completed=num_bytes_there)

    def count_bytes(self, num_bytes: int) -> None:
        """Take note of bytes received, or thrown away where negative; called from many threads."""
        self._bar.advance(self._task, num_bytes)

    def count_file(self, outcome: Fetched) -> None:
        """Take note of a file that is finished, in whatever way; called from many threads."""
        with self._lock:
            self._num_done += 1
            self._num_failed += outcome.status == "failed"
            description = self._description()
        self._bar.update(self._task, description=description)

    def publish(self) -> None:
        """Tell those who cannot see the bar; called every now and then from one thread."""
        task = self._bar.tasks[self._task]
        self._on_percent(task.percentage if task.total else 100.0 * self._num_done / max(self._num_files, 1))
        now = self._clock()
        if self._bar.disable and now - self._last_line_seconds >= SECONDS_BETWEEN_LINES:
            self._last_line_seconds = now
            sys.stderr.write(f"{self.line()}\n")

    def line(self) -> str:
        """Return how far it is, as one line."""
        task = self._bar.tasks[self._task]
        of_all = f" of {gigabytes(task.total)}" if task.total else ""
        rate = f", {gigabytes(task.speed)}/s" if task.speed else ""
        left = f", {task.time_remaining:.0f} s left" if task.total and task.time_remaining is not None else ""
        return f"{self._description()}, {gigabytes(task.completed)}{of_all}{rate}{left}"

    def _description(self) -> str:
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        return f"{self._what} {self._num_done:,}/{self._num_files:,} files{failed}"

    def __enter__(self) -> DownloadProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()


@contextmanager
def size_bar(num_files: int) -> Iterator[Callable[[], None]]:
    """Show a bar while a server is asked for lengths; yields what is to be called after each answer."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("asking how long the files are", total=num_files)
        yield lambda: bar.advance(task)
