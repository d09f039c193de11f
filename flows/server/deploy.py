"""Registration of the deployments of prefect.yaml with a Prefect server, for `faceshards deploy`.

The file lies beside this module, so that an installed wheel has it; the one in the root of a checkout is a link to it.
A prefect.yaml in the current folder comes first. The same by hand, in the checkout: `prefect work-pool create local
--type process`, then `prefect --no-prompt deploy --all`. That leaves out the automations by which the server starts
dead runs again (flows/server/automations.py).
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from socket import getfqdn, gethostname
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx
import yaml

from flows.server.automations import ensure_automations
from flows.server.prefect_settings import prefect_settings
from manifests.errors import ConfigError
from tasks.download.proxies import fault_for, prepare_proxies
from tasks.download.responses import shown

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

CHECKOUT: Final = Path(__file__).resolve().parents[2]
FILE_NAME: Final = "prefect.yaml"
PACKAGED_FILE: Final = Path(__file__).resolve().with_name(FILE_NAME)
POOL_NAME: Final = "local"
POOL_TYPE: Final = "process"

# Importing the flow and torch takes seconds; after minutes the server has stopped answering.
REGISTER_TIMEOUT_SECONDS: Final = 300

HEALTH_SECONDS: Final = 8  # a server answers this check without its database

# Characters kept of another program's message: the server names the wrong field within the first 400.
MESSAGE_LENGTH: Final = 400

START_A_SERVER: Final = "start one with `prefect server start`, then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"


def default_folder() -> Path:
    """Return the checkout that this module is part of; outside one, the current folder."""
    return CHECKOUT if (CHECKOUT / FILE_NAME).exists() else Path.cwd()


def deploy(folder: Path | None = None) -> tuple[str, ...]:
    """Register or update every deployment of a folder's prefect.yaml, or of the packaged one, and the automations.

    Args:
        folder: the folder in which flows run, and where relative paths in their settings start; by default
            `default_folder()`.

    Returns:
        The names of the deployments, in the file's order.

    Raises:
        ConfigError: prefect.yaml cannot be used, no server answers, the work pool has another type, or Prefect failed.
    """
    folder = default_folder() if folder is None else folder
    prefect_file = folder / FILE_NAME if (folder / FILE_NAME).exists() else PACKAGED_FILE
    names = deployment_names(prefect_file)
    api_url = reachable_server()
    ensure_work_pool()
    switched_on = _active_schedules(names)
    try:
        _register(folder, prefect_file, api_url)
    finally:
        _switch_on(names, switched_on)
    ensure_automations()
    return names


def deployment_names(prefect_file: Path) -> tuple[str, ...]:
    """Return the names of the deployments in `prefect_file`, in its order.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or has a deployment without a name or none at all.
    """
    try:
        content = yaml.safe_load(prefect_file.read_text(encoding="utf-8"))
    except OSError as cause:
        raise ConfigError(f"{prefect_file}: got {cause.strerror}, expected a file that can be read") from cause
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
    """Return the address of the configured Prefect server, after it has answered.

    Raises:
        ConfigError: there is no address, it is not that of an API, nothing answers, or the server refuses the key.
    """
    settings = prefect_settings()
    api_url = settings.api.url
    if not api_url:
        raise ConfigError(f"PREFECT_API_URL: got nothing, expected the address of a Prefect server; {START_A_SERVER}")
    named = shown(api_url) if "@" in api_url else api_url  # without a password
    host = _host_of(api_url)
    if not host:
        raise ConfigError(f"PREFECT_API_URL: got {named}, expected http://HOST:PORT/api; {START_A_SERVER}")
    # Without /api the server answers every path, that of the health check too, with the page of its user interface.
    if "/api" not in api_url:
        raise ConfigError(
            f"PREFECT_API_URL: got {api_url}, expected an address that ends in /api; "
            f"`export PREFECT_API_URL={api_url.rstrip('/')}/api`"
        )
    if _is_local(host):
        prepare_proxies(host)
    failure = fault_for(httpx.URL(api_url)) or _failure_of_server()
    if failure is not None:
        raise ConfigError(
            f"PREFECT_API_URL: got {named} ({_one_line(failure)}), expected a Prefect server that answers; "
            f"{START_A_SERVER}"
        )
    return api_url


def _failure_of_server() -> str | None:
    """Return why the configured server cannot be used; None if it answers a request that needs the user's key."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    try:
        limits = {PREFECT_API_REQUEST_TIMEOUT: HEALTH_SECONDS, PREFECT_CLIENT_MAX_RETRIES: 0}
        with temporary_settings(limits), get_client(sync_client=True) as client:
            failure = client.api_healthcheck()
        if failure is None:
            with get_client(sync_client=True) as client:
                client.read_flows(limit=1)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError, RuntimeError) as error:
        # Prefect hides the cause behind "Failed to reach API".
        failure = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return None if failure is None else f"{type(failure).__name__}: {failure}"


def _host_of(address: str) -> str:
    """Return the host of a web address; empty if it is not one."""
    try:
        parts = urlsplit(address)
        return (parts.hostname or "") if parts.scheme in ("http", "https") and parts.port != 0 else ""
    except ValueError:
        return ""


def _is_local(host: str) -> bool:
    """Return whether a host is this machine, by its name alone."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost") or host in (gethostname(), getfqdn())
    return address.is_loopback or address.is_unspecified


def ensure_work_pool() -> None:
    """Create the work pool that prefect.yaml names, unless it exists.

    Raises:
        ConfigError: a pool of that name exists and has another type.
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
    """Return (deployment's id, schedule's slug) of every active schedule of the named deployments."""
    return {
        (deployment.id, schedule.slug)
        for deployment in _read_deployments(names)
        for schedule in deployment.schedules
        if schedule.active
    }


def _switch_on(names: Sequence[str], wanted: set[tuple[UUID, str | None]]) -> None:
    """Activate schedules again: registration has set them to what prefect.yaml says, which is inactive."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        for deployment in _read_deployments(names):
            for schedule in deployment.schedules:
                if (deployment.id, schedule.slug) in wanted and not schedule.active:
                    client.update_deployment_schedule(deployment.id, schedule.id, active=True)


def _read_deployments(names: Sequence[str]) -> list[DeploymentResponse]:
    """Return the named deployments of the server."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterName

    with get_client(sync_client=True) as client:
        return client.read_deployments(deployment_filter=DeploymentFilter(name=DeploymentFilterName(any_=list(names))))


def _register(folder: Path, prefect_file: Path, api_url: str) -> None:
    """Run `prefect deploy --all` in a folder.

    Raises:
        ConfigError: Prefect failed; the message quotes its error.
    """
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(prefect_file)]
    plain_output = {"PREFECT_CLI_COLORS": "false", "PREFECT_CLI_WRAP_LINES": "false"}
    environment = {**os.environ, **plain_output, "PREFECT_API_URL": api_url}
    try:
        finished = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=REGISTER_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise ConfigError(
            f"prefect deploy: got no end within {REGISTER_TIMEOUT_SECONDS} s, expected a few seconds; "
            f"check the server at {api_url}"
        ) from cause
    if finished.returncode != 0:
        message = last_message(finished.stdout, finished.stderr)
        raise ConfigError(
            f"prefect deploy: got exit status {finished.returncode} ({message}), expected 0; "
            f"run `prefect --no-prompt deploy --all` in {folder} to see its whole output"
        )


def last_message(stdout: str, stderr: str) -> str:
    """Return, on one line, the exception of a `prefect` command, or else the last line of its output."""
    if "Traceback" not in stderr:
        lines = [line for line in stdout.splitlines() if line.strip()]
        return _one_line(lines[-1]) if lines else "no output"
    # In a traceback only the lines of the exception's message are not indented.
    words: list[str] = []
    for line in reversed(stderr.rstrip().splitlines()):
        if line.startswith((" ", "Traceback")):
            break
        words.insert(0, line)
    return _one_line(" ".join(words))


def _one_line(text: str) -> str:
    return textwrap.shorten(text, MESSAGE_LENGTH, placeholder=" …")
