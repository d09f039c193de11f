"""Prefect servers in processes of their own, their API, and commands that are run against them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.processes import REPO, end_session, locked, wait_for

BIN = Path(sys.executable).parent
COMMAND_SECONDS = 600
SERVER_STARTUP_SECONDS = 180  # it takes 15 to 26 s on two cores, more where they are busy


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A running Prefect server, and the environment in which commands find it."""

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
            "from flows.server.deploy import deploy\n"
            "from manifests.errors import ConfigError\n"
            "try: print(*deploy(*map(pathlib.Path, sys.argv[1:])))\n"
            "except ConfigError as error: sys.exit(str(error))\n"
        )
        return self.run("python", "-c", code, *checkout, **settings)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Call the server's API; return the decoded response, None for an empty one."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.api_url}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=COMMAND_SECONDS) as answer:
            return json.loads(answer.read() or "null")

    def is_healthy(self) -> bool:
        """Whether the server answers."""
        try:
            urllib.request.urlopen(f"{self.api_url}/health", timeout=1).close()
        except OSError:
            return False
        return True

    def take_runs(self) -> list[dict[str, Any]]:
        """Return all flow runs of the server, and delete them."""
        runs: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", {})
        for run in runs:
            self.ask("DELETE", f"/flow_runs/{run['id']}")
        return runs


@contextlib.contextmanager
def started(folder: Path, environment: dict[str, str], *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command of the virtual environment in a folder, with its output in `log`; end all of it afterwards."""
    process = _start(folder, folder, environment, *command)
    try:
        yield process
    finally:
        end_session(process)


def _start(folder: Path, cwd: Path, environment: dict[str, str], *command: str) -> subprocess.Popen[bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        words = [str(BIN / command[0]), *command[1:]]
        return subprocess.Popen(words, cwd=cwd, env=environment, stdout=log, stderr=log, start_new_session=True)


def _server(home: Path) -> tuple[Server, tuple[str, ...]]:
    """Return a server on SQLite that keeps its state in a folder, and the command that starts it."""
    port = free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    command = ("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui")
    return Server(api_url=api_url, environment=environment_for(api_url, home)), command


@contextlib.contextmanager
def own_server(home: Path) -> Iterator[Server]:
    """Run a server until the block ends, for tests that change what it knows."""
    server, command = _server(home)
    process = _start(home / "server", REPO, server.environment, *command)
    try:
        wait_for(server.is_healthy, SERVER_STARTUP_SECONDS, process)
        yield server
    finally:
        end_session(process)


@contextlib.contextmanager
def shared_server(home: Path) -> Iterator[Server]:
    """Run one server for all processes that name the same folder: the first starts it, the last one ends it.

    Each process that uses it holds a shared lock on `users`, which the kernel releases when the process dies.
    """
    home.mkdir(parents=True, exist_ok=True)
    note = home / "server.json"
    with (home / "users").open("w") as users:
        with locked(home / "lock"):
            if not note.exists():
                server, command = _server(home)
                group = _start_detached(home / "log", server.environment, *command)
                note.write_text(json.dumps({"group": group, "api_url": server.api_url}))
                wait_for(server.is_healthy, SERVER_STARTUP_SECONDS)
            about = json.loads(note.read_text())
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield Server(api_url=about["api_url"], environment=environment_for(about["api_url"], home))
        finally:
            with locked(home / "lock"), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                note.unlink()
                os.killpg(about["group"], signal.SIGKILL)


def _start_detached(log: Path, environment: dict[str, str], *command: str) -> int:
    """Start a command that may outlive this process, as no child of it; return the id of its process group."""
    words = shlex.join([str(BIN / command[0]), *command[1:]])
    script = f"{words} >{shlex.quote(str(log))} 2>&1 & echo $$"
    shell = ["sh", "-c", script]
    done = subprocess.run(
        shell, cwd=REPO, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True, check=True
    )
    return int(done.stdout)


def free_port() -> int:
    """Return a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_for(api_url: str, home: Path) -> dict[str, str]:
    """Return this process's environment without its settings of Prefect, and with those of a server."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {
        **inherited,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api_url,
        "PREFECT_CLI_COLORS": "false",
        "PREFECT_CLI_WRAP_LINES": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
