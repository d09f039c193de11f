"""Prefect task runs: submission in windows, results as they complete, and the loggers that Prefect shows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TypeVar

from prefect.futures import PrefectFuture

from flows.run.progress import SECONDS_BETWEEN_UPDATES
from tasks.workers.interrupts import raise_if_interrupted

Item = TypeVar("Item")

# Beyond some 2,000 mapped tasks Prefect becomes unstable (its issue #18883): tasks are submitted in windows.
TASKS_PER_WINDOW = 256

# Prefect shows a logger's records in its run's log (PREFECT_LOGGING_EXTRA_LOGGERS), but does not set its level.
OWN_LOGGERS = ("flows", "manifests", "storage", "tasks", "training")


def enable_own_loggers() -> None:
    """Show the messages of our modules in the run's log."""
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last one shorter."""
    remaining = iter(items)
    while chunk := list(islice(remaining, size)):
        yield chunk


def results(futures: Iterable[PrefectFuture[Item]], on_pause: Callable[[], None]) -> Iterator[Item]:
    """Yield the results of tasks as they complete; Ctrl-C raises KeyboardInterrupt in between.

    Args:
        futures: what `submit` returned.
        on_pause: called from time to time, from this thread.
    """
    # Not Prefect's `wait`: each call leaves another callback with every future, and with Dask a waiting coroutine.
    ended: SimpleQueue[PrefectFuture[Item]] = SimpleQueue()
    waiting = list(futures)
    for future in waiting:
        future.add_done_callback(ended.put)
    num_waiting = len(waiting)
    while num_waiting:
        raise_if_interrupted()
        try:
            future = ended.get(timeout=SECONDS_BETWEEN_UPDATES)
        except Empty:
            pass
        else:
            num_waiting -= 1
            yield future.result()
        on_pause()
