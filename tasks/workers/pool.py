"""Worker pool: processes that each load their models once and take one video at a time; the run survives their death.

There are `num_workers` of them. On a CPU each runs the networks itself, in one thread; with GPUs they use one more
process per device, which runs the networks (`tasks/workers/gpu_service.py`). Pebble's pool is used because it replaces
a process that ended (by the decoding limit, a segmentation fault of a decoder, the kernel's out-of-memory killer) and
tells which job it had; the standard library's pool breaks as a whole.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import resource_tracker
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING
from uuid import uuid4

from manifests.errors import StageMissing
from manifests.rejected import Reason, Stage
from tasks.settings import StageSettings
from tasks.video.job import VideoJob
from tasks.video.memory import MEBIBYTE
from tasks.video.video import VideoResult
from tasks.workers import deadline, watchdog
from tasks.workers.gpu_service import NetworkService
from tasks.workers.interrupts import interrupts_blocked
from tasks.workers.worker import rejected, run_job, start_worker

if TYPE_CHECKING:
    from pebble import ProcessPool

logger = logging.getLogger(__name__)

MAX_SOCKET_FOLDER_CHARS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """Number, devices and stages of workers."""

    devices: tuple[str, ...]
    """Only `cpu`, or one `cuda:N` per GPU; for other machines the setting `detect.device`, which they resolve."""

    num_workers: int
    """Number of processes that take videos; each GPU serves its share of them."""

    stages: StageSettings
    """Settings of the stages that each worker loads."""

    memory_per_worker: int | None = None
    """Memory that one video may need in a worker, beside the models, bytes; None: from the machine."""

    elsewhere: bool = False
    """Whether shards run outside the flow's process, with a pool of their own: under Dask, Ray, a process runner."""


class WorkerPool:
    """A fixed number of worker processes that shards of one run share.

    Args:
        settings: number, devices and stages of the workers.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.name = uuid4().hex  # unique among the pools of all machines
        self._settings = settings
        self._max_bytes = settings.memory_per_worker or watchdog.default_bytes(_num_on_machine(settings))
        self._lock = threading.Lock()  # shards call from threads of their own
        self._pools: dict[str, ProcessPool] = {}
        self._services: dict[str, NetworkService] = {}  # of GPUs
        # A socket's path has at most 107 bytes, too few for a long path of the folder for temporary files.
        is_long = len(gettempdir()) > MAX_SOCKET_FOLDER_CHARS
        self._sockets = TemporaryDirectory(prefix="faceshards-", dir="/tmp" if is_long else None)  # noqa: S108 - a folder of its own
        self._next_device = cycle(settings.devices)
        self._unfinished: set[Future[VideoResult]] = set()
        self._stopped = threading.Event()

    def process(self, jobs: Sequence[VideoJob]) -> Iterator[VideoResult]:
        """Yield the result of each job, in the order of the jobs.

        A job whose worker dies is tried once more, then rejected; a job that exceeds the decoding limit is rejected.
        Originals begin before the fakes that may need their geometry.
        """
        in_turn = sorted(range(len(jobs)), key=lambda number: jobs[number].original is not None)
        futures = {number: self._schedule(jobs[number]) for number in in_turn}
        scheduled = deque((job, futures.pop(number)) for number, job in enumerate(jobs))
        try:
            while scheduled:
                yield self._result(*scheduled.popleft())  # a result is not kept once it has been handed on
        finally:
            for _, future in scheduled:
                future.cancel()

    def stop(self) -> None:
        """End the workers at once; calls that wait for a result raise `CancelledError`."""
        with self._lock:
            self._stopped.set()
            unfinished, pools = tuple(self._unfinished), tuple(self._pools.values())
        for future in unfinished:
            future.cancel()  # Pebble leaves the futures of a stopped pool pending for ever
        for pool in pools:
            pool.stop()  # type: ignore[no-untyped-call]  # Pebble annotates it in part
        for pool in pools:
            pool.join()
        for service in self._services.values():
            service.stop()
        self._sockets.cleanup()

    def _schedule(self, job: VideoJob) -> Future[VideoResult]:
        with self._lock:
            if self._stopped.is_set():
                raise CancelledError(f"{job.entry.video_id}: the run was stopped")
            future: Future[VideoResult] = self._pool(next(self._next_device)).schedule(run_job, args=[job])
            self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def _pool(self, device: str) -> ProcessPool:
        """Return a device's pool; a new one if Pebble gave up the old one, as it does when an idle worker dies."""
        from pebble import ProcessPool

        if device not in self._pools or not self._pools[device].active:
            if device in self._pools:
                self._pools[device].stop()  # type: ignore[no-untyped-call]  # as in `stop`
                self._pools[device].join()
            pool = ProcessPool(
                max_workers=max(1, self._settings.num_workers // len(self._settings.devices)),
                initializer=start_worker,
                initargs=(self._settings.stages, device, self._address(device), self._max_bytes),
                # Spawned, not forked: torch, CUDA, LMDB and Prefect's threads do not survive a fork.
                context=multiprocessing.get_context("spawn"),
            )
            with interrupts_blocked():  # a closing terminal must not end it: it would complain, and be started again
                # Before the workers: started with them, it would unblock interrupts for them.
                resource_tracker.ensure_running()
            is_started = threading.Event()
            threading.Thread(target=self._start, args=(pool, is_started), daemon=True).start()
            is_started.wait()
            self._pools[device] = pool
        return self._pools[device]

    def _address(self, device: str) -> str | None:
        """Return the address of a device's networks, and start their process if needed; None: in the worker itself."""
        if device == "cpu":
            return None
        if device not in self._services:
            address = str(Path(self._sockets.name, device.replace(":", "-")))
            self._services[device] = NetworkService(address, self._settings.stages, device)
        return self._services[device].address

    def _start(self, pool: ProcessPool, is_started: threading.Event) -> None:
        """Start a pool's workers from a thread that lives as long as they do; see `end_with_parent`."""
        try:
            with interrupts_blocked():  # Ctrl-C is for the parent to act on
                _ = pool.active  # asking is what starts it
        finally:
            is_started.set()
        self._stopped.wait()

    def _result(self, job: VideoJob, future: Future[VideoResult]) -> VideoResult:
        from pebble import ProcessExpired

        for tries_left in (1, 0):
            try:
                return future.result()
            except ProcessExpired as death:
                if death.exitcode == deadline.EXIT_CODE:
                    return rejected(job, Stage.DECODE, Reason.DECODE_TIMEOUT, self._timeout_detail(job))
                if death.exitcode == watchdog.EXIT_CODE:
                    return rejected(job, Stage.DECODE, Reason.TOO_LARGE, self._memory_detail(job))
                cause = f"exit code {death.exitcode}"
            except BrokenProcessPool as failure:
                if not tries_left:
                    raise StageMissing(
                        f"workers: got none that starts ({failure}), expected torch to load"
                    ) from failure
                cause = str(failure)
            if tries_left:
                logger.warning("%s: worker process died (%s), trying again", job.entry.video_id, cause)
                future = self._schedule(job)
        detail = f"worker process died twice on {job.entry.path}, the last time with {cause}"
        return rejected(job, Stage.DECODE, Reason.CRASHED, detail)

    def _timeout_detail(self, job: VideoJob) -> str:
        limit = f"{self._settings.stages.decode.timeout_s:g} s (decode.timeout_s)"
        return f"{_files_of(job)}: decoder did not answer within {limit} and was ended"

    def _memory_detail(self, job: VideoJob) -> str:
        most = watchdog.TOLERANCE * self._max_bytes + watchdog.LOADED_LATER_BYTES
        return (
            f"{_files_of(job)}: got a worker process that grew by more than {most / MEBIBYTE:,.0f} MiB and was ended, "
            f"expected {self._max_bytes / MEBIBYTE:,.0f} (limits.memory_per_worker); raise it, with fewer "
            "runner.workers, or scale the video down"
        )


def _files_of(job: VideoJob) -> str:
    """Return the files that are decoded for a job, for a message."""
    return job.entry.path + (f" or {job.original.entry.path}, its original," if job.original else "")


def _num_on_machine(settings: WorkerSettings) -> int:
    """Return the number of workers that share this machine's memory; elsewhere, there may be one pool per core."""
    return max(settings.num_workers, len(os.sched_getaffinity(0))) if settings.elsewhere else settings.num_workers
