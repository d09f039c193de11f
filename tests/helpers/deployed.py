"""Prefect as its users have it: commands as typed, and the server's API, in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
COMMAND_SECONDS = 600


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
            "from flows.server.deploy import deploy\n"
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
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment_for(api_url: str, home: Path) -> dict[str, str]:
    """Return this process's environment, but for what it says about Prefect."""
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
