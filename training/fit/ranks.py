"""Several processes that train together, one for each GPU, or as many as asked for on a CPU.

They are new processes of this machine that know their ranks from the environment; Lightning's own way would start the
command line once more for each, which finds the run's folder locked by the first.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from typing import Any

import torch
from torch import multiprocessing
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from manifests.errors import FaceshardsError

Work = Callable[..., None]


def run_on_ranks(work: Work, arguments: tuple[Any, ...], num_processes: int) -> None:
    """Call a function in each of so many new processes; when one fails, the others are ended.

    Args:
        work: a function of a module's top level; the first of its arguments is the rank.
        arguments: its others; they are pickled.
        num_processes: how many.

    Raises:
        FaceshardsError: what one of them raised.
        ProcessRaisedException: one of them raised anything else.
        ProcessExitedException: one of them was killed.
    """
    faults: SimpleQueue[FaceshardsError] = multiprocessing.get_context("spawn").SimpleQueue()
    port = get_free_port()  # type: ignore[no-untyped-call]
    try:
        spawn(_start, args=(work, arguments, num_processes, port, faults), nprocs=num_processes)  # type: ignore[no-untyped-call]
    except ProcessRaisedException:
        if faults.empty():
            raise
        raise faults.get() from None


def _start(
    rank: int, work: Work, arguments: tuple[Any, ...], num_processes: int, port: int, faults: SimpleQueue[Any]
) -> None:
    """What a new process does."""
    place = {"LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    try:
        work(rank, *arguments)
    except FaceshardsError as error:
        faults.put(error)
        raise
