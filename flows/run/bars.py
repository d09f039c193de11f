"""Progress bars in the terminal, on stderr, where standard output is not disturbed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from tasks.models.weights import WeightFile


def terminal_bar(unit: str = "videos") -> Progress:
    """Return a bar that counts units on stderr; nothing is shown where no person looks."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )


@contextmanager
def probing_bar() -> Iterator[Callable[[int, int], None]]:
    """Show a bar while a dataset is probed; yields what `index_dataset` wants to call after each video."""
    with terminal_bar() as bar:
        task = bar.add_task("probing", total=None, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


@contextmanager
def shards_bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while a store is copied; yields what `storage.upkeep.mirror` wants to call."""
    with terminal_bar("shards") as bar:
        task = bar.add_task(description, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def weights_bar(weights: WeightFile) -> Iterator[Callable[[int, int | None], None]]:
    """Show how far a download is once it has begun; yields what `tasks.models.weights.fetch` wants to call."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task(f"fetching {weights.file_name}", total=weights.num_bytes, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
