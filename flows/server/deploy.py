"""Register the deployments of prefect.yaml with a Prefect server: what `faceshards deploy` does.

By hand, in the checkout: `prefect work-pool create local --type process`, then `prefect --no-prompt deploy --all`. That
leaves out the automations by which the server starts runs again whose worker died (flows/server/automations.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID

import yaml

from flows.server.automations import ensure_automations
from manifests.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

CHECKOUT: Final = Path(__file__).resolve().parents[2]
POOL_NAME: Final = "local"
POOL_TYPE: Final = "process"

# Importing the flow with torch takes seconds; minutes mean that the server stopped answering.
REGISTER_TIMEOUT_SECONDS: Final = 300

# Characters kept of what another program said: the server's own refusals name the field within the first 400.
MESSAGE_LENGTH: Final = 400

START_A_SERVER: Final = "start one with `prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"


def deploy(checkout: Path = CHECKOUT) -> tuple[str, ...]:
    """Register every deployment of `checkout`/prefect.yaml, and the automations; repeated, it updates them.

    Args:
        checkout: the folder with prefect.yaml; flows run in it, so relative paths in their configuration start there.

    Returns:
        The names of the deployments, in the file's order.

    Raises:
        ConfigError: no prefect.yaml, no server that answers, a work pool of another type, or Prefect refused.
    """
    names = deployment_names(checkout / "prefect.yaml")
    api_url = reachable_server()
    ensure_work_pool()
    switched_on = _active_schedules(names)
    try:
        _register(checkout, api_url)
    finally:
        _switch_on(names, switched_on)
    ensure_automations()
    return names


def deployment_names(prefect_file: Path) -> tuple[str, ...]:
    """Return the names of the deployments in `prefect_file`, in its order.

    Raises:
        ConfigError: no such file, not YAML, or no named deployment in it.
    """
    try:
        content = yaml.safe_load(prefect_file.read_text(encoding="utf-8"))
    except FileNotFoundError as cause:
        raise ConfigError(
            f"prefect.yaml: got no such file in {prefect_file.parent}, expected the checkout of faceshards; "
            "install with `pip install -e .` from a clone"
        ) from cause
    except yaml.YAMLError as cause:
        raise ConfigError(f"{prefect_file}: got {_one_line(str(cause))}, expected YAML; correct the file") from cause
    deployments = content.get("deployments") if isinstance(content, dict) else None
    names = [row.get("name") for row in deployments or [] if isinstance(row, dict)]
    if not names or not all(names):
        raise ConfigError(
            f"{prefect_file}: got the deployment names {names}, expected at least one and none empty; "
            "give every row under `deployments` a name"
        )
    return tuple(str(name) for name in names)


def reachable_server() -> str:
    """Return the address of the Prefect server that this process is configured for, after it has answered.

    Raises:
        ConfigError: no address, not the address of an API, or no answer.
    """
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    api_url = get_current_settings().api.url
    if not api_url:
        raise ConfigError(f"PREFECT_API_URL: got nothing, expected the address of a Prefect server; {START_A_SERVER}")
    # Without /api the server answers every path with the page of its user interface, health included.
    if "/api" not in api_url:
        raise ConfigError(
            f"PREFECT_API_URL: got {api_url}, expected an address that ends in /api; "
            f"`export PREFECT_API_URL={api_url.rstrip('/')}/api`"
        )
    with get_client(sync_client=True) as client:
        failure = client.api_healthcheck()
    if failure is not None:
        raise ConfigError(
            f"PREFECT_API_URL: got {api_url} ({_one_line(str(failure))}), expected a Prefect server that answers; "
            f"{START_A_SERVER}"
        ) from failure
    return api_url


def ensure_work_pool() -> None:
    """Create the work pool that prefect.yaml names, unless it is there.

    Raises:
        ConfigError: a pool of that name exists and starts its runs in another way than as processes.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        try:
            pool = client.read_work_pool(POOL_NAME)
        except ObjectNotFound:
            template = ProcessWorker.get_default_base_job_template()
            pool = client.create_work_pool(WorkPoolCreate(name=POOL_NAME, type=POOL_TYPE, base_job_template=template))
    if pool.type != POOL_TYPE:
        raise ConfigError(
            f"work pool {POOL_NAME!r}: got type {pool.type!r}, expected {POOL_TYPE!r}; "
            "rename it, or name another pool in prefect.yaml"
        )


def _active_schedules(names: Sequence[str]) -> set[tuple[UUID, str | None]]:
    """Return (deployment's id, schedule's slug) of every schedule that is on, of the deployments of these names."""
    return {
        (deployment.id, schedule.slug)
        for deployment in _read_deployments(names)
        for schedule in deployment.schedules
        if schedule.active
    }


def _switch_on(names: Sequence[str], wanted: set[tuple[UUID, str | None]]) -> None:
    """Switch schedules on again: registering set them to what prefect.yaml says, which is off."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for deployment in _read_deployments(names):
            for schedule in deployment.schedules:
                if (deployment.id, schedule.slug) in wanted and not schedule.active:
                    client.update_deployment_schedule(deployment.id, schedule.id, active=True)


def _read_deployments(names: Sequence[str]) -> list[DeploymentResponse]:
    """Return what the server knows of the deployments of these names."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    with get_client(sync_client=True) as client:
        return client.read_deployments(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=list(names))))


def _register(checkout: Path, api_url: str) -> None:
    """Run `prefect deploy --all` in `checkout`.

    Raises:
        ConfigError: Prefect refused; its last words are in the message.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    plain_output = {"PREFECT_CLI_COLORS": "false", "PREFECT_CLI_WRAP_LINES": "false"}
    environment = {**os.environ, **plain_output, "PREFECT_API_URL": api_url}
    try:
        finished = subprocess.run(
            command,
            cwd=checkout,
            env=environment,
            capture_output=True,
            text=True,
            timeout=REGISTER_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise ConfigError(
            f"prefect deploy: got no end within {REGISTER_TIMEOUT_SECONDS} s, expected a few seconds; "
            f"look at the server at {api_url}"
        ) from cause
    if finished.returncode != 0:
        raise ConfigError(
            f"prefect deploy: got exit status {finished.returncode} ({last_words(finished.stdout, finished.stderr)}), "
            f"expected 0; run `prefect --no-prompt deploy --all` in {checkout} to see all of it"
        )


def last_words(stdout: str, stderr: str) -> str:
    """Return, on one line, what the `prefect` command said last: its exception, else its last line of output."""
    if "Traceback" not in stderr:
        lines = [line for line in stdout.splitlines() if line.strip()]
        return _one_line(lines[-1]) if lines else "it said nothing"
    # Every line of a traceback is indented but the exception's own, which may be several.
    words: list[str] = []
    for line in reversed(stderr.rstrip().splitlines()):
        if line.startswith((" ", "Traceback")):
            break
        words.insert(0, line)
    return _one_line(" ".join(words))


def _one_line(text: str) -> str:
    return textwrap.shorten(text, MESSAGE_LENGTH, placeholder=" …")
