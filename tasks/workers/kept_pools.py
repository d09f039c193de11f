"""Worker pools of this process: those of its own run, and those kept between tasks of runs in other processes."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.util import Finalize

from manifests.errors import ConfigError
from tasks.workers.devices import resolve_devices
from tasks.workers.pool import WorkerPool, WorkerSettings

# Seconds that a process outside the flow keeps its pool without a shard: the flow submits the next shard within
# seconds, and each idle worker holds 790 MB (resident set with MTCNN on a CPU).
IDLE_SECONDS = 60.0

_shared: dict[str, WorkerPool] = {}
_shared_lock = threading.Lock()
_is_open = False  # only inside `worker_processes`


def shared_pool(settings: WorkerSettings) -> WorkerPool:
    """Return this process's pool for the settings, made at the first call.

    Raises:
        CancelledError: outside `worker_processes`, as for a shard that Prefect starts while its run is being stopped.
    """
    name = _name(settings)
    with _shared_lock:
        if not _is_open:
            raise CancelledError("workers: the run was stopped")
        if name not in _shared:
            _shared[name] = WorkerPool(settings)
        return _shared[name]


@contextmanager
def worker_processes() -> Iterator[None]:
    """Allow shared pools in this process, and end all of them when the block ends for any reason."""
    global _is_open  # noqa: PLW0603 - one state of the whole process, which its threads share
    _is_open = True
    try:
        yield
    finally:
        with _shared_lock:
            _is_open = False
            pools = list(_shared.values())
            _shared.clear()
        for pool in pools:
            pool.stop()


class KeptPools:
    """The pools of a process that processes shards of runs elsewhere, and is not told when a run is over.

    Args:
        idle_seconds: seconds that a pool is kept after its last shard.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._pools: dict[str, WorkerPool] = {}
        self._num_users: Counter[str] = Counter()
        self._timers: dict[str, threading.Timer] = {}
        # At its exit a process waits for its child processes, so these have to be ended before.
        Finalize(None, self.stop, exitpriority=0)

    def stop(self) -> None:
        """End all pools at once."""
        with self._lock:
            pools = list(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.stop()

    @contextmanager
    def lend(self, settings: WorkerSettings) -> Iterator[WorkerPool]:
        """Lend the pool for the settings, made at the first call, for the time of the block.

        Raises:
            ConfigError: a device is not there, or this process may not start others.
        """
        name = _name(settings)
        with self._lock:
            if name in self._timers:
                self._timers.pop(name).cancel()
            if name not in self._pools:
                self._pools[name] = _pool_here(settings)
            self._num_users[name] += 1
            pool = self._pools[name]
        try:
            yield pool
        finally:
            with self._lock:
                self._num_users[name] -= 1
                if not self._num_users[name]:
                    timer = threading.Timer(self._idle_seconds, self._end, [name])
                    timer.daemon = True
                    timer.start()
                    self._timers[name] = timer

    def _end(self, name: str) -> None:
        """End a pool, unless a shard has arrived for it in the meantime."""
        with self._lock:
            pool = None if self._num_users[name] else self._pools.pop(name, None)
        if pool is not None:
            pool.stop()


_kept_pools = KeptPools()


@contextmanager
def pool_for_shard(settings: WorkerSettings) -> Iterator[WorkerPool]:
    """Lend the pool for a shard: that of the run, or, outside the flow's process, that of this process.

    Raises:
        CancelledError: the run is being stopped.
        ConfigError: a device is not there, or this process may not start others.
    """
    if not settings.elsewhere:
        yield shared_pool(settings)
        return
    with _kept_pools.lend(settings) as pool:
        yield pool


def _pool_here(settings: WorkerSettings) -> WorkerPool:
    """Return a pool with the devices that this machine has.

    Raises:
        ConfigError: a device is not there, or this process may not start others.
    """
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "worker: got a daemonic process, which may not start the processes that take videos, expected another; "
            "start Dask's workers with DASK_DISTRIBUTED__WORKER__DAEMON=False, or with --no-nanny"
        )
    return WorkerPool(replace(settings, devices=resolve_devices(settings.devices[0])))


def _name(settings: WorkerSettings) -> str:
    """Return the name that identifies a pool within one process."""
    numbers = f"{settings.devices}:{settings.num_workers}:{settings.memory_per_worker}"
    return f"{numbers}:{settings.stages.model_dump_json()}"
