"""One dataset on every runner: the same records, also where a worker is killed during the run."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from storage.index import read_index
from storage.verify import verify_store
from tests.helpers.deployed import BIN, Server, free_port, started
from tests.helpers.processes import REPO, command_line, setting_words, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.cluster, pytest.mark.timeout(600)]

WAIT_SECONDS = 240
NUM_VIDEOS, NUM_SHARDS = 8, 4  # of each pair, two originals and two fakes; two videos a shard
SETTINGS = (
    *("dataset.manipulations=[Deepfakes]", "split.ratios=[0.5, 0.5, 0]", "shard.videos=2"),
    *("frames.count=3", "crop.size_px=64", "runner.workers=2"),
)

# Its process would be at work for ten minutes, and the runner wait for it.
CUT_SHORT = """
import os, sys, time
from flows.run import runners
from flows.config.preprocess import RunnerSettings

def hang(path):
    with open(path, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    settings = RunnerSettings(kind="process", workers=1)
    with runners._processes(settings, False) as runner:
        runner._executor.submit(hang, sys.argv[1])
        while not (os.path.exists(sys.argv[1]) and os.path.getsize(sys.argv[1])):
            time.sleep(0.05)
        raise KeyboardInterrupt
"""

needs = {
    extra: pytest.mark.skipif(find_spec(module) is None, reason=f"needs faceshards[{extra}]")
    for extra, module in {"dask": "prefect_dask", "ray": "prefect_ray"}.items()
}


@pytest.fixture(scope="module")
def environment(server: Server) -> dict[str, str]:
    """Return variables by which other processes find the server; Ray keeps no token in the home folder."""
    return {**server.environment, "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}


def running(
    environment: dict[str, str], root: Path, out: Path, *settings: str
) -> AbstractContextManager[subprocess.Popen[str]]:
    """Start the command line."""
    words = ["preprocess", "ffpp", str(root), "--out", str(out), *setting_words(*SETTINGS, *settings)]
    return command_line(*words, environment=environment)


def require_success(run: subprocess.Popen[str]) -> str:
    """Wait for the end of a run; return its output."""
    told, _ = run.communicate()
    assert run.returncode == 0, told
    return told


def digests(out: Path) -> dict[str, str]:
    """Return `records_sha256` of each shard of a complete store."""
    report = verify_store(out)
    assert report.problems == ()
    assert not list((out / "shards").glob(".*"))
    assert not (out / ".geometry").exists()
    index = read_index(out)
    assert (len(index.shards), sum(shard.num_videos for shard in index.shards)) == (NUM_SHARDS, NUM_VIDEOS)
    return {shard.name: shard.records_sha256 for shard in index.shards}


def carriers(out: Path) -> set[int]:
    """Return the ids of processes that are writing a shard of the store."""
    begun, found = str(out / "shards" / ".partial-"), set()
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it is gone
            if str(handle.readlink()).startswith(begun):
                found.add(int(handle.parts[2]))
    return found


def kill_one_at_work(out: Path, run: subprocess.Popen[str], is_victim: Callable[[int], bool] = lambda _: True) -> None:
    """Wait until two workers have started a shard, and kill one of them."""

    def victims() -> list[int]:
        found = carriers(out)
        return sorted(filter(is_victim, found)) if len(found) == 2 else []

    (victim, *_) = wait_for(victims, WAIT_SECONDS, run)
    assert not list((out / "shards").glob("[!.]*.lmdb"))  # its first shard
    os.kill(victim, signal.SIGKILL)


@pytest.fixture(scope="module")
def expected(miniature: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The store that the thread runner makes of the dataset."""
    out = tmp_path_factory.mktemp("thread") / "store"
    with running(environment, miniature, out) as run:
        require_success(run)
    return digests(out)


@pytest.mark.parametrize(
    "kind", ["process", pytest.param("dask", marks=needs["dask"]), pytest.param("ray", marks=needs["ray"])]
)
def test_workers_of_this_machine(
    kind: str, miniature: Path, tmp_path: Path, environment: dict[str, str], expected: dict[str, str]
) -> None:
    out = tmp_path / "store"
    with running(environment, miniature, out, f"runner.kind={kind}") as run:
        told = require_success(run)
    assert "Traceback" not in told
    assert digests(out) == expected


def test_a_process_that_is_lost(
    miniature: Path, tmp_path: Path, environment: dict[str, str], expected: dict[str, str]
) -> None:
    out = tmp_path / "store"
    with running(environment, miniature, out, "runner.kind=process") as run:
        kill_one_at_work(out, run)
        told = require_success(run)
    assert f"a process with a shard was lost, {NUM_SHARDS} shards are submitted again" in told
    assert digests(out) == expected


@needs["dask"]
def test_a_dask_worker_that_is_lost(
    miniature: Path, tmp_path: Path, environment: dict[str, str], expected: dict[str, str]
) -> None:
    out, address = tmp_path / "store", f"tcp://127.0.0.1:{free_port()}"
    with ExitStack() as cluster:
        scheduler = ("dask", "scheduler", "--host", address, "--no-dashboard")
        cluster.enter_context(started(tmp_path / "scheduler", environment, *scheduler))
        worker = ("dask", "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        for name in ("one", "two"):
            cluster.enter_context(started(tmp_path / name, environment, *worker))
        run = cluster.enter_context(
            running(environment, miniature, out, "runner.kind=dask", f"runner.address={address}")
        )
        kill_one_at_work(out, run)
        require_success(run)
    assert digests(out) == expected


@needs["ray"]
def test_a_ray_machine_that_is_lost(
    miniature: Path, tmp_path: Path, environment: dict[str, str], expected: dict[str, str]
) -> None:
    out, port = tmp_path / "store", free_port()
    with ExitStack() as cluster:
        # Ray's sockets need a short path.
        scratch = cluster.enter_context(tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True))
        common = ("--num-cpus=1", "--object-store-memory=100000000", "--node-ip-address=127.0.0.1", "--block")
        head = ("ray", "start", "--head", f"--port={port}", f"--temp-dir={scratch}", "--include-dashboard=false")
        first = cluster.enter_context(started(tmp_path / "one", environment, *head, *common))
        wait_for(lambda: b"--block" in (tmp_path / "one" / "log").read_bytes(), WAIT_SECONDS, first)
        join = ("ray", "start", f"--address=127.0.0.1:{port}", *common)
        second = cluster.enter_context(started(tmp_path / "two", environment, *join))
        wait_for(lambda: b"--block" in (tmp_path / "two" / "log").read_bytes(), WAIT_SECONDS, second)
        settings = ("runner.kind=ray", f"runner.address=127.0.0.1:{port}")
        run = cluster.enter_context(running(environment, miniature, out, *settings))
        kill_one_at_work(out, run, lambda process_id: os.getsid(process_id) == second.pid)
        os.killpg(second.pid, signal.SIGKILL)  # the machine's own processes go, too
        require_success(run)
    assert digests(out) == expected


def test_processes_do_not_outlive_a_run_that_is_cut_short(tmp_path: Path) -> None:
    note, program = tmp_path / "pid", tmp_path / "run.py"
    program.write_text(CUT_SHORT)
    environment = os.environ | {"PYTHONPATH": str(REPO)}
    run = subprocess.run(
        [str(BIN / "python"), str(program), str(note)], env=environment, capture_output=True, timeout=200
    )
    assert run.returncode == -signal.SIGINT or b"KeyboardInterrupt" in run.stderr
    assert not Path(f"/proc/{note.read_text()}").exists()
