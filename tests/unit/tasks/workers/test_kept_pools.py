"""Pools of a process that carries shards for runs elsewhere: one for all shards, until none comes any more."""

from __future__ import annotations

import multiprocessing
import threading
from types import SimpleNamespace

import pytest

import tasks.workers.devices
import tasks.workers.kept_pools
from manifests.errors import ConfigError
from tasks.settings import StageSettings
from tasks.workers.kept_pools import KeptPools, pool_for_shard
from tasks.workers.pool import WorkerSettings

SETTINGS = WorkerSettings(devices=("cpu",), num_workers=1, stages=StageSettings(), elsewhere=True)
OTHERS = WorkerSettings(devices=("cpu",), num_workers=2, stages=StageSettings(), elsewhere=True)
LONG, SOON = 600.0, 0.05  # idle seconds: longer than the test, and as good as at once


class RecordedPool:
    """Stands for a pool; says when it was stopped."""

    made: list[RecordedPool]

    def __init__(self, settings: WorkerSettings) -> None:
        self.settings = settings
        self.stopped = threading.Event()
        self.made.append(self)

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> list[RecordedPool]:
    RecordedPool.made = []
    monkeypatch.setattr(tasks.workers.kept_pools, "WorkerPool", RecordedPool)
    return RecordedPool.made


def test_shards_of_a_process_share_a_pool_that_is_kept_between_them(made: list[RecordedPool]) -> None:
    pools = KeptPools(LONG)
    for _ in range(2):
        with pools.lend(SETTINGS) as one, pools.lend(SETTINGS) as another, pools.lend(OTHERS):
            assert one is another
    assert [pool.settings.num_workers for pool in made] == [1, 2]
    assert not any(pool.stopped.is_set() for pool in made)
    pools.stop()
    assert all(pool.stopped.is_set() for pool in made)


def test_a_pool_ends_when_no_shard_comes(made: list[RecordedPool]) -> None:
    pools = KeptPools(SOON)
    with pools.lend(SETTINGS):
        pass
    assert made[0].stopped.wait(30)
    with pools.lend(SETTINGS):  # a later run's
        assert len(made) == 2


def test_no_pool_ends_under_a_shard(made: list[RecordedPool]) -> None:
    pools = KeptPools(SOON)
    with pools.lend(SETTINGS):
        with pools.lend(SETTINGS):
            pass
        assert not made[0].stopped.wait(10 * SOON)
        pools._end(tasks.workers.kept_pools._name(SETTINGS))  # of a timer that was late
        assert not made[0].stopped.is_set()


def test_devices_are_those_of_the_machine(made: list[RecordedPool], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.workers.devices, "_count_gpus", lambda: 2)
    with KeptPools(LONG).lend(WorkerSettings(devices=("cuda",), num_workers=1, stages=StageSettings())):
        assert made[0].settings.devices == ("cuda:0", "cuda:1")


def test_a_process_that_may_not_start_others_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "current_process", lambda: SimpleNamespace(daemon=True))
    with (
        pytest.raises(ConfigError, match=r"^worker: got a daemonic process.*DASK_DISTRIBUTED__WORKER__DAEMON=False"),
        KeptPools(LONG).lend(SETTINGS),
    ):
        pass


def test_only_shards_elsewhere_keep_pools(made: list[RecordedPool], monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptPools(LONG)
    monkeypatch.setattr(tasks.workers.kept_pools, "_kept_pools", kept)
    here = WorkerSettings(devices=("cpu",), num_workers=1, stages=StageSettings())
    with tasks.workers.kept_pools.worker_processes(), pool_for_shard(here), pool_for_shard(SETTINGS):
        assert len(made) == 2
    assert [pool.stopped.is_set() for pool in made] == [True, False]
