"""Processes of distributed training on this machine: one per GPU, or a chosen number on a CPU.

They are spawned here, with their ranks in the environment. Lightning would start the command line again for each of
them, and each would find the run's folder locked by the first process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue

import torch
from torch import multiprocessing
from torch.distributed.elastic.utils.distributed import get_free_port
from torch.multiprocessing.spawn import ProcessRaisedException, spawn

from manifests.errors import FaceshardsError

Work = Callable[..., None]


def run_on_ranks(work: Work, arguments: tuple[object, ...], num_processes: int) -> None:
    """Call a function in each of several new processes; if one fails, the others are terminated.

    Args:
        work: function at the top level of a module; its first argument is the rank.
        arguments: further arguments, which are pickled.
        num_processes: number of processes.

    Raises:
        FaceshardsError: a process raised it.
        ProcessRaisedException: a process raised another exception.
        ProcessExitedException: a process was killed.
    """
    faults: SimpleQueue[FaceshardsError] = multiprocessing.get_context("spawn").SimpleQueue()
    port = get_free_port()  # type: ignore[no-untyped-call]  # untyped in torch
    try:
        spawn(_start, args=(work, arguments, num_processes, port, faults), nprocs=num_processes)  # type: ignore[no-untyped-call]  # untyped in torch
    except ProcessRaisedException:
        if faults.empty():
            raise
        raise faults.get() from None


def _start(
    rank: int,
    work: Work,
    arguments: tuple[object, ...],
    num_processes: int,
    port: int,
    faults: SimpleQueue[FaceshardsError],
) -> None:
    """Set up the environment of a new process, and call its function."""
    place = {"LOCAL_RANK": rank, "NODE_RANK": 0, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // num_processes))
    try:
        work(rank, *arguments)
    except FaceshardsError as error:
        faults.put(error)
        raise
