"""Who carries the shards: what is refused before a run, what a plan says elsewhere, what happens after a loss."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest
from prefect.client.schemas.objects import TaskRunResult
from prefect.settings import PREFECT_API_URL, temporary_settings

import flows.run.preflight
from flows.config.preprocess import PreprocessConfig, RunnerSettings
from flows.run import runners
from flows.run.preflight import devices_of_run, require_runner
from manifests.errors import ConfigError, StageMissing
from tasks.process import ShardPlan, ShardReport
from tasks.settings import StageSettings
from tasks.workers.pool import WorkerSettings

AFTER = {TaskRunResult(id=UUID(int=7))}
SERVER = "http://127.0.0.1:4200/api"


def settings_of(kind: str, **others: Any) -> RunnerSettings:
    return RunnerSettings.model_validate({"kind": kind, **others})


def configured(kind: str = "process", device: str = "auto", **runner: Any) -> PreprocessConfig:
    return PreprocessConfig.model_validate(
        {
            "dataset": {"root": "data"},
            "out": "store",
            "detect": {"device": device},
            "runner": {"kind": kind, **runner},
        }
    )


def plan_of(number: int = 0) -> ShardPlan:
    stages = StageSettings.model_validate({"weights_dir": "weights", "crop": {"mean_face": "face.npy"}})
    return ShardPlan(
        roots={"ffpp": Path("data")},
        store_dir=Path("store"),
        split="train",
        number=number,
        entries=(),
        originals={},
        choice_masks={},
        relatives={},
        asked_originals=frozenset(),
        config_digest="c" * 64,
        workers=WorkerSettings(devices=("cuda:0", "cuda:1"), num_workers=3, stages=stages),
    )


@pytest.fixture
def everything_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flows.run.preflight, "find_spec", lambda _name: True)


@pytest.mark.usefixtures("everything_installed")
@pytest.mark.parametrize("kind", ["process", "dask", "ray"])
def test_all_but_threads_need_a_server(kind: str) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        require_runner(settings_of("thread"))
        with pytest.raises(ConfigError, match=f"^runner.kind: got {kind} without PREFECT_API_URL, expected .*thread$"):
            require_runner(settings_of(kind))
    with temporary_settings({PREFECT_API_URL: SERVER}):
        require_runner(settings_of(kind))


@pytest.mark.parametrize(("kind", "module"), [("dask", "prefect_dask"), ("ray", "prefect_ray")])
def test_an_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, kind: str, module: str) -> None:
    monkeypatch.setattr(flows.run.preflight, "find_spec", {module: None}.__getitem__)
    with pytest.raises(ConfigError) as refusal:
        require_runner(settings_of(kind))
    wanted = f"runner.kind: got {kind}, expected {module} to be installed; pip install 'faceshards[{kind}]'"
    assert str(refusal.value) == wanted


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_an_address_that_nobody_would_use(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"^runner.address: got tcp://host:1 for runner.kind {kind}, expected none;"):
        require_runner(settings_of(kind, address="tcp://host:1"))


def test_devices_are_those_of_whoever_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.workers.devices._count_gpus", lambda: 2)
    assert devices_of_run(configured("thread", "cuda:1")) == ("cuda:1",)
    assert devices_of_run(configured("dask")) == ("cuda:0", "cuda:1")
    assert devices_of_run(configured("dask", "cuda", address="tcp://host:1")) == ("cuda",)
    with pytest.raises(
        ConfigError, match=r"^detect.device: got cuda:1 for runner.kind ray, expected auto, cpu or cuda"
    ):
        devices_of_run(configured("ray", "cuda:1", address="host:1"))
    monkeypatch.setattr("tasks.workers.devices._count_gpus", lambda: 0)
    with pytest.raises(ConfigError, match="expected one of auto, cpu"):
        devices_of_run(configured("process", "cuda"))


def test_workers_are_of_the_run_or_of_each_worker_that_takes_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 3, 5})
    assert [settings_of(kind).num_local for kind in ("thread", "dask")] == [3, 3]
    assert [settings_of(kind, workers=2).num_workers for kind in ("thread", "process", "ray")] == [2, 1, 1]
    assert settings_of("dask", processes_per_worker=4).num_workers == 4


def test_a_plan_means_the_same_in_another_folder() -> None:
    plan = runners.for_elsewhere(plan_of(), "auto")
    here = Path.cwd()
    assert (plan.roots, plan.store_dir) == ({"ffpp": here / "data"}, here / "store")
    assert plan.workers.stages.weights_dir == here / "weights"
    assert plan.workers.stages.crop.mean_face == here / "face.npy"
    assert (plan.workers.devices, plan.workers.num_workers, plan.workers.elsewhere) == (("auto",), 3, True)
    bare = replace(plan_of(), workers=replace(plan_of().workers, stages=StageSettings()))
    assert runners.for_elsewhere(bare, "cpu").workers.stages == StageSettings()


def test_what_a_shard_asks_of_ray() -> None:
    settings = settings_of("ray", processes_per_worker=2)
    assert runners.ray_options(settings, False) == {"num_cpus": 2, "max_retries": 3}
    # Ray ends a worker that had a GPU after one task, models and all, unless it is told not to.
    assert runners.ray_options(settings, True) == {"num_cpus": 2, "max_retries": 3, "num_gpus": 1, "max_calls": 0}


class Lossy:
    """A runner that takes every shard, and loses its processes a given number of times."""

    def __init__(self, num_losses: int) -> None:
        self.num_losses = num_losses
        self.starts: list[list[str]] = []

    @contextmanager
    def start(self, _settings: RunnerSettings, _needs_gpu: bool) -> Iterator[Lossy]:
        self.starts.append([])
        yield self

    def submit(self, _task: Any, parameters: dict[str, Any], dependencies: dict[str, Any]) -> SimpleNamespace:
        assert parameters["plan"].workers.elsewhere
        assert dependencies == {"plan": AFTER}
        self.starts[-1].append(parameters["plan"].name)
        return SimpleNamespace(plan=parameters["plan"], task_run_id=f"run of {parameters['plan'].name}")

    def results(self, futures: list[SimpleNamespace], _on_pause: Callable[[], None]) -> Iterator[ShardReport]:
        for place, plan in enumerate(future.plan for future in futures):
            if place == 1 and self.num_losses:
                self.num_losses -= 1
                raise BrokenProcessPool("gone")
            yield ShardReport(shard=cast(Any, plan), rows=cast(Any, (f"video of {plan.name}",)))


def carried(lossy: Lossy, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """Carry four shards; return the finished ones and the counted videos, each in their order."""
    monkeypatch.setitem(runners.RUNNERS, "process", cast(Any, lossy.start))
    monkeypatch.setattr(runners, "results", lossy.results)
    monkeypatch.setattr(runners, "TASKS_PER_WINDOW", 2)
    finished: list[str] = []
    videos: list[Any] = []
    task_runs = runners.process_shards(
        [plan_of(number) for number in range(4)],
        configured("process"),
        after=AFTER,
        on_video=videos.append,
        on_finished=lambda report: finished.append(report.shard.name),
        on_pause=lambda: None,
    )
    assert task_runs == [f"run of {name}" for names in lossy.starts for name in names]
    return finished, videos


def test_shards_are_handed_over_in_windows_and_their_videos_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    lossy = Lossy(0)
    names = [f"train-0000{number}.lmdb" for number in range(4)]
    assert carried(lossy, monkeypatch) == (names, [f"video of {name}" for name in names])
    assert lossy.starts == [names]


def test_what_is_unfinished_after_a_loss_is_handed_over_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lossy = Lossy(2)
    names = [f"train-0000{number}.lmdb" for number in range(4)]
    assert carried(lossy, monkeypatch)[0] == names
    assert lossy.starts == [names[:2], names[1:3], names[2:]]


def test_losses_without_end_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where shards are completed in between, a long run may lose many."""
    assert len(carried(Lossy(3), monkeypatch)[0]) == 4
    monkeypatch.setattr(runners, "MAX_LOSSES", 0)
    with pytest.raises(StageMissing, match=r"^runner: got 1 lost processes \(gone\), expected them to last"):
        carried(Lossy(9), monkeypatch)


@pytest.mark.parametrize("kind", ["dask", "ray"])
def test_a_cluster_that_does_not_answer(kind: str) -> None:
    def message(address: str) -> str:
        with pytest.raises(ConfigError) as refusal, runners._reaching(settings_of(kind, address=address)):
            raise RuntimeError("another version")
        assert str(refusal.value).startswith(f"runner.address: got {address}, where no {kind} cluster answers (")
        return str(refusal.value)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        assert "RuntimeError: another version" in message(address)
    assert "refused" in message(address)
    assert "ValueError" in message("tcp://host-without-port")
    with pytest.raises(ConnectionError), runners._reaching(settings_of(kind)):  # no address is to blame
        raise ConnectionError("refused")
