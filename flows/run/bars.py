"""Progress bars on stderr, shown only on a terminal. They are used before Prefect starts, so it is not imported."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

# Seconds over which the rate is measured: long enough to be steady, short enough to show that a server slows down.
RATE_WINDOW_SECONDS = 30.0


def terminal_bar(
    *columns: ProgressColumn, transient: bool = False, clock: Callable[[], float] = time.monotonic
) -> Progress:
    """Return a bar with a description and the remaining time.

    Args:
        columns: what is shown between bar and remaining time.
        transient: whether the bar is removed at the end.
        clock: returns seconds.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=transient,
        get_time=clock,
        speed_estimate_period=RATE_WINDOW_SECONDS,
        disable=not sys.stderr.isatty(),
    )


def items_bar(unit: str) -> Progress:
    """Return a bar that counts items."""
    return terminal_bar(MofNCompleteColumn(), TextColumn(unit), TimeElapsedColumn())


def bytes_bar(*, transient: bool = False, clock: Callable[[], float] = time.monotonic) -> Progress:
    """Return a bar that counts bytes."""
    return terminal_bar(DownloadColumn(), TransferSpeedColumn(), transient=transient, clock=clock)


@contextmanager
def shown(bar: Progress, description: str, total: int | None = None) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar from its first update on.

    Args:
        bar: the bar.
        description: what is being done.
        total: expected number of items or bytes; None: unknown.

    Yields:
        A function of the number that is done and of the total.
    """
    with bar:
        task = bar.add_task(description, total=total, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def advancing(description: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """Show a bar that is removed at the end; yields a function to call after each of `total` items."""
    with terminal_bar(MofNCompleteColumn(), transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda: bar.advance(task)
