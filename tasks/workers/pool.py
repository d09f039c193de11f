"""Worker processes: each loads its models once, takes one video at a time, and may die without taking the run along.

There are `num_workers` of them. On a CPU each runs the networks itself, in one thread; with GPUs they ask one more
process per device, which holds the networks (`tasks/workers/gpu_service.py`). Pebble's pool is used because it starts
a new process for one that ended (by the decoding limit, a decoder's segfault, the kernel's out-of-memory killer) and
tells which job it was at; the standard library's pool breaks altogether.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import cycle
from multiprocessing import resource_tracker
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import TYPE_CHECKING
from uuid import uuid4

from manifests.errors import ConfigError, FaceshardsError, StageMissing
from manifests.rejected import Reason, Rejected, Stage
from tasks.settings import StageSettings
from tasks.video.job import Tally, VideoJob
from tasks.video.stages import Models, Stages
from tasks.video.video import VideoResult, process_video
from tasks.workers import deadline
from tasks.workers.gpu_client import NetworkClient, remote_models
from tasks.workers.gpu_service import NetworkService
from tasks.workers.interrupts import end_with_parent, interrupts_blocked

if TYPE_CHECKING:
    from pebble import ProcessPool

logger = logging.getLogger(__name__)

MAX_SOCKET_FOLDER_CHARS = 64

# How long a process elsewhere keeps its pool when no shard comes: the flow hands over the next one within seconds, and
# each idle worker holds 790 MB (resident set with MTCNN on a CPU).
IDLE_SECONDS = 60.0

# Set once in each worker process by `_start_worker`, filled by the first job.
_worker_settings: tuple[StageSettings, str, str | None] | None = None
_worker_stages: Stages | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How many workers, and on what."""

    devices: tuple[str, ...]
    """`cpu` alone, or one `cuda:N` per GPU; elsewhere the one setting `detect.device`, for that machine to resolve."""

    num_workers: int
    """Processes that take videos; of several GPUs each serves its share of them."""

    stages: StageSettings
    """What each worker loads."""

    elsewhere: bool = False
    """Whether shards run outside the flow's process, with a pool of their own: under Dask, Ray, a process runner."""


def resolve_devices(device: str, setting: str = "detect.device") -> tuple[str, ...]:
    """Return the devices that a setting stands for.

    Args:
        device: `auto` (every GPU, or else the CPU), `cpu`, `cuda` (every GPU) or `cuda:N`.
        setting: its name, for the message.

    Raises:
        ConfigError: a GPU is asked for and not there.
    """
    if device == "cpu":
        return ("cpu",)
    num_gpus = _count_gpus()
    if device == "auto" and num_gpus == 0:
        return ("cpu",)
    available = tuple(f"cuda:{number}" for number in range(num_gpus))
    if device in ("auto", "cuda") and available:
        return available
    if device in available:
        return (device,)
    raise ConfigError(
        f"{setting}: got {device!r}, expected one of auto, cpu{''.join(f', {name}' for name in available)}; "
        f"PyTorch sees {num_gpus} GPUs here"
    )


def _count_gpus() -> int:
    """How many GPUs PyTorch can use; a machine without a driver's device file is not asked, which saves the import."""
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


class WorkerPool:
    """A fixed number of worker processes that shards of one run share.

    Args:
        settings: how many, on which devices, with which stages.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.name = uuid4().hex  # of no other pool, whatever the machine
        self._settings = settings
        self._lock = threading.Lock()  # shards call from threads of their own
        self._pools: dict[str, ProcessPool] = {}
        self._services: dict[str, NetworkService] = {}  # of GPUs
        # A socket's path has 107 bytes at most, which long folders for temporary files leave no room for.
        is_long = len(gettempdir()) > MAX_SOCKET_FOLDER_CHARS
        self._sockets = TemporaryDirectory(prefix="faceshards-", dir="/tmp" if is_long else None)
        self._next_device = cycle(settings.devices)
        self._unfinished: set[Future[VideoResult]] = set()
        self._stopped = threading.Event()

    def process(self, jobs: Sequence[VideoJob]) -> Iterator[VideoResult]:
        """Yield the result of each job, in the order of the jobs.

        A job whose worker dies is tried once more, then rejected; one that runs into the decoding limit is rejected.
        Originals are begun before the fakes that may ask for their geometry.
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
        """End the workers at once, whatever they are doing; who waits for a result gets `CancelledError`."""
        with self._lock:
            self._stopped.set()
            unfinished, pools = tuple(self._unfinished), tuple(self._pools.values())
        for future in unfinished:
            future.cancel()  # Pebble leaves the futures of a stopped pool pending for ever
        for pool in pools:
            pool.stop()  # type: ignore[no-untyped-call]
        for pool in pools:
            pool.join()
        for service in self._services.values():
            service.stop()
        self._sockets.cleanup()

    def _schedule(self, job: VideoJob) -> Future[VideoResult]:
        with self._lock:
            if self._stopped.is_set():
                raise CancelledError(f"{job.entry.video_id}: the run was stopped")
            future: Future[VideoResult] = self._pool(next(self._next_device)).schedule(_run_job, args=[job])
            self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def _pool(self, device: str) -> ProcessPool:
        """Return a device's pool, a new one where Pebble has given up the old: it does when an idle worker dies."""
        from pebble import ProcessPool

        if device not in self._pools or not self._pools[device].active:
            if device in self._pools:
                self._pools[device].stop()  # type: ignore[no-untyped-call]
                self._pools[device].join()
            pool = ProcessPool(
                max_workers=max(1, self._settings.num_workers // len(self._settings.devices)),
                initializer=_start_worker,
                initargs=(self._settings.stages, device, self._address(device)),
                # Spawned, not forked: torch, CUDA, LMDB and Prefect's threads do not survive a fork.
                context=multiprocessing.get_context("spawn"),
            )
            with interrupts_blocked():  # a closing terminal must not end it: it would complain, and be started anew
                # Before the workers: started with them, it would unblock interrupts for them.
                resource_tracker.ensure_running()
            is_started = threading.Event()
            threading.Thread(target=self._start, args=(pool, is_started), daemon=True).start()
            is_started.wait()
            self._pools[device] = pool
        return self._pools[device]

    def _address(self, device: str) -> str | None:
        """Return where a device's networks are asked, starting their process if need be; None: in the worker itself."""
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
                    return _rejected(job, Stage.DECODE, Reason.DECODE_TIMEOUT, self._timeout_detail(job))
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
        return _rejected(job, Stage.DECODE, Reason.CRASHED, detail)

    def _timeout_detail(self, job: VideoJob) -> str:
        or_original = f" or {job.original.entry.path}, its original," if job.original else ""
        limit = f"{self._settings.stages.decode.timeout_s:g} s (decode.timeout_s)"
        return f"{job.entry.path}{or_original}: decoder did not answer within {limit} and was ended"


_shared: dict[str, WorkerPool] = {}
_shared_lock = threading.Lock()
_is_open = False  # only inside `worker_processes`


def shared_pool(settings: WorkerSettings) -> WorkerPool:
    """Return this process's pool for the settings, made at the first call.

    Raises:
        CancelledError: outside `worker_processes`: a shard that Prefect starts while its run is being stopped.
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
    """Allow shared pools in this process, and end every one of them when the block is left, by whatever way."""
    global _is_open
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
    """The pools of a process that carries shards for runs elsewhere: nobody tells it when a run is over.

    Args:
        idle_seconds: how long a pool is kept after its last shard.
    """

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle_seconds = idle_seconds
        self._lock = threading.Lock()
        self._pools: dict[str, WorkerPool] = {}
        self._num_users: Counter[str] = Counter()
        self._timers: dict[str, threading.Timer] = {}
        # At its exit a process waits for those that it started: they have to be told before.
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
        """End a pool, unless a shard came for it while this was waiting for its turn."""
        with self._lock:
            pool = None if self._num_users[name] else self._pools.pop(name, None)
        if pool is not None:
            pool.stop()


_kept_pools = KeptPools()


@contextmanager
def pool_for_shard(settings: WorkerSettings) -> Iterator[WorkerPool]:
    """Lend a shard the pool that works on it: the run's, or elsewhere the one of this process.

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
    """What tells the pools of one process apart."""
    return f"{settings.devices}:{settings.num_workers}:{settings.stages.model_dump_json()}"


def _start_worker(settings: StageSettings, device: str, address: str | None = None) -> None:
    """Prepare a fresh worker process.

    Args:
        settings: which stages.
        device: whose networks it uses.
        address: where a process with those networks is asked; None: they are loaded here.
    """
    global _worker_settings
    end_with_parent()
    # Workers are the parallelism: more threads in each would only fight over the cores.
    os.environ["OMP_NUM_THREADS"] = "1"
    _worker_settings = settings, device, address


def _run_job(job: VideoJob) -> VideoResult:
    """Process one video in a worker: the one boundary at which any failure of a video becomes a recorded rejection.

    Raises:
        FaceshardsError: the installation or the configuration is at fault, which no other video would survive.
    """
    stages = _stages()
    try:
        return process_video(job, stages, time_limit=deadline.end_process_after)
    except FaceshardsError:
        raise
    except Exception as error:
        logger.exception("%s: unexpected failure", job.entry.video_id)
        return _rejected(job, Stage.DETECT, Reason.CRASHED, f"unexpected {type(error).__name__}: {error}")


def _stages() -> Stages:
    """Return the worker's stages, loaded at the first job."""
    global _worker_stages
    if _worker_settings is None:
        raise RuntimeError("worker: got a job before _start_worker ran, expected Pebble's initializer to have run")
    if _worker_stages is None:
        import cv2

        settings, device, address = _worker_settings
        cv2.setNumThreads(1)
        _worker_stages = Stages.load(settings, _models(settings, device, address))
    return _worker_stages


def _models(settings: StageSettings, device: str, address: str | None) -> Models:
    """Return what looks at frames: networks of this process, or those behind an address."""
    if address is not None:
        return remote_models(settings, NetworkClient(address))
    import torch

    torch.set_num_threads(1)
    return Models.load(settings, device)


def _rejected(job: VideoJob, stage: Stage, reason: Reason, detail: str) -> VideoResult:
    row = Tally().row(job)
    rejected = Rejected(video_id=job.entry.video_id, stage=stage, reason=reason, detail=detail)
    return VideoResult(row=row.as_rejected(rejected))
