"""The topology of docker-compose.yml on loopback, by `scripts/cluster-local`; its processes are killed during runs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from storage.files.layout import SHARDS_DIR
from storage.store import RecordStore
from storage.verify import verify_store
from tests.helpers.deployed import Server, environment_for
from tests.helpers.processes import REPO, children_of, is_alive, wait_for

SCRIPT = REPO / "scripts" / "cluster-local"
NUM_VIDEOS = 20  # of `miniature`: 4 originals and 16 fakes
WAIT_SECONDS = 600  # far longer than anything takes, even where the machine is busy with something else
SILENCE_SECONDS = 40  # in place of 90; a run sends a heartbeat every 30 s, which Prefect does not let be lowered

wait = partial(wait_for, seconds=WAIT_SECONDS, every=0.2)


def missing_programs() -> str:
    """Return the script's message about what is missing on this machine, or an empty string."""
    asked = subprocess.run([sys.executable, str(SCRIPT), "--check", "."], capture_output=True, text=True, check=False)
    return asked.stderr.strip()


pytestmark = [
    pytest.mark.long,
    pytest.mark.cluster,
    pytest.mark.timeout(1500),  # one test waits for several runs, each of which may take that long
    pytest.mark.skipif(bool(missing_programs()), reason=missing_programs() or "-"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster(Server):
    """The running cluster."""

    folder: Path

    def process_id(self, part: str) -> int:
        """Return the process id of a part, such as `server`; it changes when the part is restarted."""
        return int((self.folder / f"{part}.pid").read_text())

    def ask_for(self, deployment: str, config: dict[str, Any]) -> str:
        """Request a run; return its id."""
        asked = self.run("prefect", "deployment", "run", deployment, "--param", f"config={json.dumps(config)}")
        assert asked.returncode == 0, asked.stderr
        return next(line.split()[-1] for line in asked.stdout.splitlines() if "UUID:" in line)

    def states(self, run_id: str) -> list[str]:
        """Return the names of all states that a run has been in."""
        with contextlib.suppress(OSError, json.JSONDecodeError):  # the server may be the part that was killed
            return [row["name"] for row in self.ask("GET", f"/flow_run_states/?flow_run_id={run_id}")]
        return []

    def engine(self) -> tuple[str, int]:
        """Return the worker that executes a run, and the process id of the run."""
        for part in ("worker-1", "worker-2"):
            for child in children_of(self.process_id(part)):
                return part, child
        raise AssertionError("got two idle workers, expected one at work")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Not pytest's folder, which is root's alone: as root, PostgreSQL is run by the user postgres.
    folder = Path(tempfile.mkdtemp(prefix="faceshards-cluster-"))
    folder.chmod(0o711)
    environment = environment_for("", folder / "client")
    with (folder / "script.log").open("wb") as log:
        script = subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], env=environment, stdout=log, stderr=log)
    try:
        wait(lambda: script.poll() is not None or b"ready" in (folder / "script.log").read_bytes())
        assert script.poll() is None, (folder / "script.log").read_text()
        exports = dict(line.removeprefix("export ").split("=", 1) for line in (folder / "env").read_text().splitlines())
        api_url = exports["PREFECT_API_URL"]
        cluster = Cluster(api_url=api_url, environment=environment_for(api_url, folder / "client"), folder=folder)
        deployed = cluster.run("faceshards", "deploy")
        assert deployed.returncode == 0, deployed.stderr
        yield cluster
    finally:
        parts = [int(path.read_text()) for path in folder.glob("*.pid")]
        script.send_signal(signal.SIGINT)
        script.wait(timeout=120)
        left = [process_id for process_id in parts if is_alive(process_id)]
        shutil.rmtree(folder)
    assert (script.returncode, left) == (0, [])


@contextlib.contextmanager
def shorter_silence(cluster: Cluster) -> Iterator[None]:
    """Mark a silent run as crashed sooner than in production, inside the block."""
    rows = {row["name"]: row for row in cluster.ask("POST", "/automations/filter", {})}
    row = rows["faceshards: silent runs have crashed"]
    wanted = {name: row[name] for name in ("name", "description", "enabled", "trigger", "actions")}
    sooner = {**wanted, "trigger": {**row["trigger"], "within": SILENCE_SECONDS}}
    cluster.ask("PUT", f"/automations/{row['id']}", sooner)
    try:
        yield
    finally:
        cluster.ask("PUT", f"/automations/{row['id']}", wanted)


def configuration(root: Path, out: Path, num_frames: int) -> dict[str, Any]:
    """Return a configuration; more frames make a longer run."""
    return {
        "dataset": {"name": "ffpp", "root": str(root)},
        "out": str(out),
        "frames": {"count": num_frames},
        "shard": {"videos": 2},
        "runner": {"workers": 1},
    }


def begin(cluster: Cluster, root: Path, out: Path) -> tuple[str, dict[str, bytes]]:
    """Request a run and wait until it has made a shard; return its id and the complete shards."""
    run_id = cluster.ask_for("preprocess-ffpp", configuration(root, out, num_frames=32))
    wait(lambda: list((out / SHARDS_DIR).glob("[!.]*.lmdb")))
    stored = {path.name: path.read_bytes() for path in (out / SHARDS_DIR).glob("[!.]*.lmdb")}
    assert len(stored) < NUM_VIDEOS // 2, (
        "got a run that was faster than the test, expected one in the middle of its work"
    )
    return run_id, stored


def require_complete(out: Path, stored: dict[str, bytes]) -> None:
    """Assert that the store is complete, and that the earlier shards have not changed."""
    assert verify_store(out).problems == ()
    assert {name: (out / SHARDS_DIR / name).read_bytes() for name in stored} == stored
    with RecordStore(out) as store:
        assert len({record.video_id for record in store}) == NUM_VIDEOS


def test_a_run_is_asked_for_and_watched_and_its_store_is_verified(
    cluster: Cluster, miniature: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    config = json.dumps(configuration(miniature, out, num_frames=2))
    watched = cluster.run("prefect", "deployment", "run", "preprocess-ffpp", "--watch", "--param", f"config={config}")
    assert watched.returncode == 0, watched.stdout + watched.stderr
    require_complete(out, {})

    verify = ["prefect", "deployment", "run", "verify-store", "--watch", "--param", f"config={{'stores': ['{out}']}}"]
    verify[-1] = verify[-1].replace("'", '"')
    assert cluster.run(*verify).returncode == 0
    shard = next((out / SHARDS_DIR).glob("train-*.lmdb"))
    shard.write_bytes(shard.read_bytes()[:-1])
    assert cluster.run(*verify).returncode == 1
    tables = cluster.ask("POST", "/artifacts/filter", {"artifacts": {"key": {"any_": ["verify-faults"]}}})
    assert [row["fault"].split(":")[0] for row in json.loads(tables[0]["data"])] == [f"shard {shard.name}"]


def test_a_run_whose_worker_died_with_it_is_carried_out_by_another(
    cluster: Cluster, miniature: Path, tmp_path: Path
) -> None:
    with shorter_silence(cluster):
        run_id, stored = begin(cluster, miniature, tmp_path / "store")
        worker, engine = cluster.engine()
        descendants = children_of(engine)
        for process_id in (cluster.process_id(worker), engine):
            os.kill(process_id, signal.SIGKILL)
        wait(lambda: "Crashed" in cluster.states(run_id))

    wait(lambda: "Completed" in cluster.states(run_id))
    states = [name for name in cluster.states(run_id) if name in ("Running", "Crashed", "AwaitingRetry", "Completed")]
    assert states[:3] == ["Running", "Crashed", "AwaitingRetry"]
    assert states[-2:] == ["Running", "Completed"]  # two automations may both have asked for it in between
    assert not any(map(is_alive, descendants))
    require_complete(tmp_path / "store", stored)


def test_a_run_outlives_the_server_and_the_database(cluster: Cluster, miniature: Path, tmp_path: Path) -> None:
    run_id, stored = begin(cluster, miniature, tmp_path / "store")
    before = {part: cluster.process_id(part) for part in ("server", "postgres")}
    for process_id in before.values():
        os.kill(process_id, signal.SIGKILL)

    wait(lambda: "Completed" in cluster.states(run_id))
    assert not set(before.values()) & {cluster.process_id(part) for part in before}
    assert "Failed" not in cluster.states(run_id)
    require_complete(tmp_path / "store", stored)


def test_a_cancelled_run_leaves_no_process_and_a_store_to_go_on_with(
    cluster: Cluster, miniature: Path, tmp_path: Path
) -> None:
    run_id, stored = begin(cluster, miniature, tmp_path / "store")
    _, engine = cluster.engine()
    processes = [engine, *children_of(engine)]
    assert cluster.run("prefect", "flow-run", "cancel", run_id).returncode == 0

    wait(lambda: "Cancelled" in cluster.states(run_id))
    wait(lambda: not any(map(is_alive, processes)))
    assert "AwaitingRetry" not in cluster.states(run_id)
    again = cluster.ask_for("preprocess-ffpp", configuration(miniature, tmp_path / "store", num_frames=32))
    wait(lambda: "Completed" in cluster.states(again))
    require_complete(tmp_path / "store", stored)
