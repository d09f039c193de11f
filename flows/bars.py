"""Progress bars in the terminal, on stderr, where standard output is not disturbed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def terminal_bar() -> Progress:
    """Return a bar that counts videos on stderr; nothing is shown where no person looks."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("videos"),
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
