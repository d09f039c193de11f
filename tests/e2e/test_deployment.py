"""Deployed for real: a Prefect server on a loopback port, `deploy()`, the commands as typed, and a worker."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storage.store import RecordStore

pytestmark = pytest.mark.e2e

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
FULL_NAME = "preprocess-ffpp/preprocess-ffpp"
START_SECONDS = 60
COMMAND_SECONDS = 90

# Two flows with a deployment of one name, run nowhere: only their names matter.
TWO_FLOWS = """
from prefect import flow

@flow(name="first-flow")
def first(): ...

@flow(name="second-flow")
def second(): ...
"""
TWO_DEPLOYMENTS = """
deployments:
  - {name: nightly, entrypoint: two_flows.first, work_pool: {name: local}}
  - {name: nightly, entrypoint: two_flows.second, work_pool: {name: local}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A Prefect server and the environment that points the commands at it."""

    api_url: str
    environment: dict[str, str]

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the virtual environment in the checkout; `settings` are this one call's variables."""
        process = subprocess.Popen(
            [str(BIN / command[0]), *command[1:]],
            cwd=REPO,
            env={**self.environment, **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=COMMAND_SECONDS)
        finally:
            end_session(process)
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)

    def deploy(self, *checkout: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Call `deploy()` in a process of its own: Prefect reads its settings once, when it is imported."""
        code = (
            "import sys, pathlib\n"
            "from flows.deploy import deploy\n"
            "from manifests.errors import ConfigError\n"
            "try: print(*deploy(*map(pathlib.Path, sys.argv[1:])))\n"
            "except ConfigError as error: sys.exit(str(error))\n"
        )
        return self.run("python", "-c", code, *checkout, **settings)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the server's API and return its answer, None for an empty one."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.api_url}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=COMMAND_SECONDS) as answer:
            return json.loads(answer.read() or "null")

    def take_runs(self) -> list[dict[str, Any]]:
        """Return all runs that were asked for, and delete them: no later test meets them."""
        runs: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", {})
        for run in runs:
            self.ask("DELETE", f"/flow_runs/{run['id']}")
        return runs


def end_session(process: subprocess.Popen[Any]) -> None:
    """Kill whatever is left of a process that was started in a session of its own, and of its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_healthy(process: subprocess.Popen[bytes], api_url: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{api_url}/health", timeout=1).close()
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"no Prefect server at {api_url} after {START_SECONDS} s (exit status {process.poll()})")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("prefect")
    port = free_port()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {
        **inherited,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_WRAP_LINES": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    command = [str(BIN / "prefect"), "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"]
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=REPO, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_until_healthy(process, environment["PREFECT_API_URL"])
            yield Server(api_url=environment["PREFECT_API_URL"], environment=environment)
        finally:
            end_session(process)


@pytest.fixture(scope="module")
def deployed(server: Server) -> Server:
    finished = server.deploy()
    assert (finished.stdout, finished.stderr, finished.returncode) == ("preprocess-ffpp\n", "", 0)
    return server


def test_deploy_registers_what_prefect_yaml_says_and_can_be_repeated(deployed: Server) -> None:
    before = deployed.ask("GET", f"/deployments/name/{FULL_NAME}")
    assert deployed.deploy().returncode == 0
    after = deployed.ask("GET", f"/deployments/name/{FULL_NAME}")

    assert after["id"] == before["id"]
    assert after["entrypoint"] == "flows.preprocess.preprocess_ffpp"
    assert (after["work_pool_name"], after["work_queue_name"]) == ("local", "cpu")
    assert after["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": str(REPO)}}]
    assert [(row["schedule"]["cron"], row["active"]) for row in after["schedules"]] == [("0 2 * * *", False)]
    assert after["global_concurrency_limit"]["limit"] == 1
    assert after["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    assert after["parameters"] == {"config": {"dataset": {"name": "ffpp", "root": "data/ffpp"}, "out": "stores/ffpp"}}
    assert "config" in after["parameter_openapi_schema"]["properties"]


@pytest.mark.parametrize(
    ("typed", "settings"),
    [
        pytest.param("preprocess-ffpp", {}, id="short"),
        pytest.param(FULL_NAME, {}, id="full"),
        pytest.param(FULL_NAME, {"PREFECT_PLUGINS_ENABLED": "false"}, id="full-without-plugin"),
    ],
)
def test_a_run_is_asked_for_as_typed(deployed: Server, typed: str, settings: dict[str, str]) -> None:
    deployed.take_runs()

    finished = deployed.run("prefect", "deployment", "run", typed, **settings)

    assert (finished.stderr, finished.returncode) == ("", 0)
    assert f"Creating flow run for deployment '{FULL_NAME}'..." in finished.stdout
    asked_of = [run["deployment_id"] for run in deployed.take_runs()]
    assert asked_of == [deployed.ask("GET", f"/deployments/name/{FULL_NAME}")["id"]]


def test_a_name_that_nothing_has_is_not_found(deployed: Server) -> None:
    finished = deployed.run("prefect", "deployment", "run", "preprocess-nothing")

    assert (finished.stdout, finished.stderr) == ("Deployment 'preprocess-nothing' not found!\n", "")
    assert finished.returncode == 1


def test_a_name_that_several_have_lists_them(deployed: Server, tmp_path: Path) -> None:
    (tmp_path / "two_flows.py").write_text(TWO_FLOWS, encoding="utf-8")
    (tmp_path / "prefect.yaml").write_text(TWO_DEPLOYMENTS, encoding="utf-8")
    assert deployed.deploy(str(tmp_path)).stdout == "nightly nightly\n"
    deployed.take_runs()

    finished = deployed.run("prefect", "deployment", "run", "nightly")

    assert finished.stderr == (
        "deployment: got 'nightly', expected one of the 2 that have this name: "
        "first-flow/nightly, second-flow/nightly; write the full name\n"
    )
    assert (finished.stdout, finished.returncode) == ("", 1)
    assert deployed.take_runs() == []


@pytest.mark.parametrize(
    ("api_url", "message"),
    [
        ("", "got nothing, expected the address of a Prefect server; start one with `prefect server start`"),
        (
            "http://127.0.0.1:1",
            "expected an address that ends in /api; `export PREFECT_API_URL=http://127.0.0.1:1/api`",
        ),
        ("http://127.0.0.1:1/api", "Connection refused), expected a Prefect server that answers; start one with"),
    ],
    ids=["no-address", "not-the-api", "nobody-there"],
)
def test_deploy_without_a_server_says_how_to_get_one(server: Server, api_url: str, message: str) -> None:
    finished = server.deploy(PREFECT_API_URL=api_url)

    assert message in finished.stderr
    assert (finished.stderr.count("\n"), finished.returncode) == (1, 1)


def test_deploy_says_what_prefect_refused(server: Server, tmp_path: Path) -> None:
    content = "deployments: [{name: one, entrypoint: no_such_module.flow, work_pool: {name: local}}]"
    (tmp_path / "prefect.yaml").write_text(content, encoding="utf-8")

    finished = server.deploy(str(tmp_path))

    assert "got exit status 1 (ModuleNotFoundError: No module named 'no_such_module')" in finished.stderr
    assert (finished.stderr.count("\n"), finished.returncode) == (1, 1)


def test_a_worker_in_the_checkout_carries_the_run_out(deployed: Server, tmp_path: Path) -> None:
    root, out = tmp_path / "ffpp", tmp_path / "store"
    sampled = deployed.run("faceshards", "sample", str(root), "--pairs", "1", "--seconds", "1", "1")
    assert sampled.returncode == 0, sampled.stderr
    mask = next((root / "manipulated_sequences").rglob("masks/videos/*.mp4"))
    shutil.copy(mask, root / "original_sequences/youtube/c23/videos/999.mp4")
    config = {"dataset": {"root": str(root)}, "out": str(out), "frames": {"count": 4}, "runner": {"workers": 1}}
    deployed.take_runs()

    asked = deployed.run("prefect", "deployment", "run", "preprocess-ffpp", "--param", f"config={json.dumps(config)}")
    worked = deployed.run("prefect", "worker", "start", "--pool", "local", "--run-once")

    assert (asked.returncode, worked.returncode) == (0, 0)
    messages = [row["message"] for row in deployed.ask("POST", "/logs/filter", {})]
    (run,) = deployed.take_runs()
    assert (run["state_name"], run["parameters"]["config"]) == ("Completed", config), worked.stderr
    # One pair is two real videos and, both ways round, two forgeries of each of four methods.
    with RecordStore(out) as store:
        assert len({record.video_id for record in store}) == 10
    # The mask shows no face. The stage's own logger says so in the run's log, because prefect.yaml names it.
    assert [message for message in messages if message.startswith("ffpp/youtube/c23/999 rejected: no_face")]
