"""Task runners for shards: threads of this process, processes of this machine, or workers of a Dask or Ray cluster.

    thread     this process: four shards at a time share the videos out to `runner.workers` processes
    process    `runner.workers` processes, each with one shard and with processes of its own for the videos
    dask, ray  the same in the cluster at `runner.address`, or in one of this machine that lasts as long as the run

A shard whose worker is lost is submitted again: by Dask and Ray themselves, and here for processes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from typing import Any
from uuid import UUID

from prefect.client.schemas.objects import RunInput
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from flows.config.preprocess import PreprocessConfig, RunnerSettings
from flows.run.task_runs import TASKS_PER_WINDOW, in_chunks, results
from manifests.errors import ConfigError, StageMissing
from manifests.row import ManifestRow
from tasks.implementation import with_paths
from tasks.process import ShardPlan, ShardReport, process_shard
from tasks.workers.interrupts import end_with_parent, interrupts_blocked
from tasks.workers.kept_pools import worker_processes

logger = logging.getLogger(__name__)

# Shards at a time with `thread`: while the last videos of one are processed, the others keep all workers busy.
SHARDS_AT_ONCE = 4

# How often a shard is submitted again when its worker is lost: Dask's `allowed-failures`, Ray's `max_retries`. With
# `process`: how many losses in a row, without a completed shard between them, are accepted.
MAX_LOSSES = 3

# Resource that a Dask worker with a GPU declares: `dask worker --resources GPU=1`. Ray finds GPUs by itself.
DASK_GPU = "GPU"

# Plans and reports take a few kB. Ray would reserve 30 % of the memory, and refuses less than 75 MiB.
RAY_OBJECT_STORE_BYTES = 100 * 2**20

ANSWER_SECONDS = 30.0  # how long a cluster may take to accept a connection, as Dask's own client allows

Submit = Callable[[ShardPlan], PrefectFuture[ShardReport]]
Runner = TaskRunner[Any]


def process_shards(
    plans: Sequence[ShardPlan],
    config: PreprocessConfig,
    *,
    after: Collection[RunInput] = (),
    on_video: Callable[[ManifestRow], None],
    on_finished: Callable[[ShardReport], None],
    on_pause: Callable[[], None],
) -> list[UUID]:
    """Process shards on the configured task runner, a window of tasks at a time.

    Args:
        plans: the shards.
        config: the run's configuration.
        after: task runs that the shards follow in Prefect's graph.
        on_video: called with each video's row: with `thread` from the shard's thread when the video is done, with other
            runners when its shard is complete.
        on_finished: called with each completed shard, from this thread.
        on_pause: called from time to time, from this thread.

    Returns:
        The ids of all task runs, those that were lost included.

    Raises:
        ConfigError: no cluster answers at `runner.address`.
        StageMissing: processes were lost again and again.
    """
    remaining = {plan.name: plan for plan in plans}
    task_runs: list[UUID] = []
    num_losses = 0
    while True:
        num_before = len(remaining)
        try:
            with submitting(config, on_video, after) as submit:
                for window in in_chunks(tuple(remaining.values()), TASKS_PER_WINDOW):
                    futures = [submit(plan) for plan in window]
                    task_runs += [future.task_run_id for future in futures]
                    for report in results(futures, on_pause):
                        del remaining[report.shard.name]
                        for row in () if config.runner.kind == "thread" else report.rows:
                            on_video(row)
                        on_finished(report)
        except BrokenProcessPool as loss:
            num_losses = num_losses + 1 if len(remaining) == num_before else 1
            if num_losses > MAX_LOSSES:
                raise StageMissing(
                    f"runner: got {num_losses} lost processes ({loss}), expected them to last; if memory ran out, "
                    "choose fewer runner.workers"
                ) from loss
            logger.warning("a process with a shard was lost, %d shards are submitted again", len(remaining))
        else:
            return task_runs


@contextmanager
def submitting(
    config: PreprocessConfig, on_video: Callable[[ManifestRow], None], after: Collection[RunInput] = ()
) -> Iterator[Submit]:
    """Start the task runner; yields the function that submits a shard. The end of the block stops unfinished work.

    Raises:
        ConfigError: no cluster answers at `runner.address`.
    """
    dependencies = {"plan": set(after)}  # the parameter of the task that depends on them
    if config.runner.kind == "thread":
        # The pools stop first: threads that wait for a video would block the runner.
        threads: Runner = ThreadPoolTaskRunner(max_workers=SHARDS_AT_ONCE)
        with threads, worker_processes():
            yield lambda plan: threads.submit(
                process_shard, {"plan": plan, "on_video": on_video}, dependencies=dependencies
            )
        return
    device = config.detect.device
    resource_tracker.ensure_running()  # if it started later, it would unblock interrupts for the runner's processes
    with RUNNERS[config.runner.kind](config.runner, device == "cuda") as runner:

        def submit(plan: ShardPlan) -> PrefectFuture[ShardReport]:
            parameters = {"plan": for_elsewhere(plan, device), "on_video": None}
            with interrupts_blocked():  # its new processes inherit that: only this one reacts to Ctrl-C
                future: PrefectFuture[ShardReport] = runner.submit(process_shard, parameters, dependencies=dependencies)
            return future

        yield submit


def for_elsewhere(plan: ShardPlan, device: str) -> ShardPlan:
    """Return a plan with absolute paths for a worker anywhere, which chooses the device itself."""
    stages = with_paths(plan.workers.stages, lambda _name, path: path.absolute())
    return replace(
        plan,
        roots={name: root.absolute() for name, root in plan.roots.items()},
        store_dir=plan.store_dir.absolute(),
        workers=replace(plan.workers, devices=(device,), stages=stages, elsewhere=True),
    )


@contextmanager
def _processes(settings: RunnerSettings, _needs_gpu: bool) -> Iterator[Runner]:
    """Start a process runner; its processes end with this process."""
    others = set(multiprocessing.active_children())
    runner: Runner = ProcessPoolTaskRunner(max_workers=settings.num_local, initializer=end_with_parent)
    with runner:
        try:
            yield runner
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.kill()  # the runner would wait for their shards
            raise


@contextmanager
def _dask(settings: RunnerSettings, needs_gpu: bool) -> Iterator[Runner]:
    """Start a Dask cluster on this machine, or connect to an existing one."""
    import dask.config
    from dask.base import annotate
    from prefect_dask.task_runners import DaskTaskRunner

    local = {"n_workers": settings.num_local, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    # A worker imports Prefect at a point where plugins cannot be loaded; our plugin serves only the command line.
    local |= {"env": {"PREFECT_PLUGINS_ENABLED": "false"}}
    runner = DaskTaskRunner(**({"address": settings.address} if settings.address else {"cluster_kwargs": local}))
    # Daemonic workers, Dask's default, may not start processes.
    with dask.config.set({"distributed.worker.daemon": False}), runner:
        with _reaching(settings), interrupts_blocked():
            workers = runner.client.scheduler_info()["workers"]
        if not workers:
            logger.warning("Dask scheduler %s: got no worker yet, shards wait for one", settings.address)
        # GPUs of this machine are not declared as resources: its workers share them.
        with annotate(**({"resources": {DASK_GPU: 1}} if needs_gpu and settings.address else {})):
            yield runner


@contextmanager
def _ray(settings: RunnerSettings, needs_gpu: bool) -> Iterator[Runner]:
    """Start a Ray cluster on this machine, or connect to an existing one."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports no usage to its makers
    from prefect_ray import RayTaskRunner
    from prefect_ray.context import remote_options

    options: dict[str, Any] = {"log_to_driver": False}
    if not settings.address:
        options |= {"num_cpus": settings.num_local * settings.processes_per_worker, "include_dashboard": False}
        options |= {"object_store_memory": RAY_OBJECT_STORE_BYTES}
    runner = RayTaskRunner(address=settings.address or "local", init_kwargs=options)
    with ExitStack() as stack:
        with _reaching(settings), interrupts_blocked():
            stack.enter_context(runner)
        with remote_options(**ray_options(settings, needs_gpu)):
            yield runner


def ray_options(settings: RunnerSettings, needs_gpu: bool) -> dict[str, Any]:
    """Return a shard's resources for Ray; `max_calls` keeps a worker with a GPU for the next shard."""
    options = {"num_cpus": settings.processes_per_worker, "max_retries": MAX_LOSSES}
    return options | ({"num_gpus": 1, "max_calls": 0} if needs_gpu else {})


@contextmanager
def _reaching(settings: RunnerSettings) -> Iterator[None]:
    """Turn a failed connection into an error that names the setting `runner.address`.

    Raises:
        ConfigError: no cluster answers at `runner.address`.
    """
    try:
        if settings.address is not None:
            host, _, port = settings.address.rpartition("://")[2].rpartition(":")
            socket.create_connection((host, int(port)), ANSWER_SECONDS).close()  # Ray itself would try for minutes
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if settings.address is None:
            raise
        raise ConfigError(
            f"runner.address: got {settings.address}, where no {settings.kind} cluster answers "
            f"({type(error).__name__}: {error}), expected one; start it, or leave the address out"
        ) from error


RUNNERS: dict[str, Callable[[RunnerSettings, bool], AbstractContextManager[Runner]]] = {
    "process": _processes,
    "dask": _dask,
    "ray": _ray,
}
