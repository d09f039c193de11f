"""Prefect's embedded server: a process that lasts as long as the run, for machines without a Prefect server.

The server is a session of its own. A terminal sends Ctrl-C to the whole foreground process group; Slurm, a closing
terminal or `kill -- -GROUP` send SIGTERM or SIGHUP to the group. The server would end before the flow, and the flow,
which reports its end to the server, would retry for minutes.

It keeps its database in PREFECT_HOME, as `prefect server start` does. Where that cannot be used, such as a database of
another version of Prefect, it keeps a database of its own in the user's cache, and leaves the other unchanged.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import importlib.metadata
import io
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from flows.server.database import fault_of
from flows.server.deploy import reachable_server
from flows.server.prefect_settings import prefect_settings
from manifests.errors import ConfigError

if TYPE_CHECKING:
    from prefect.settings import Settings

logger = logging.getLogger(__name__)

PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>
HOST: Final = "127.0.0.1"
API_PATH: Final = "/api"

SERVER: Final = (
    # -P: files of the working directory do not hide modules.
    *(sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"),
    *("--log-level", "error", "--lifespan", "on", "--host", HOST, "--port"),
)

# Importing and starting the server takes 10–17 s on two idle cores.
STARTUP_SECONDS: Final = 180
ANSWER_SECONDS: Final = 10
CONNECT_SECONDS: Final = 5
MAX_UNANSWERED: Final = 3  # checks in a row, after which a server that hangs is given up
STOP_SECONDS: Final = 5
DATABASE_NAME: Final = "prefect.db"

_EXCEPTION = re.compile(r"^(?:\w+\.)*\w*(?:Error|Exception|Interrupt)\b.*", re.MULTILINE)


def start_embedded_server(on_loss: Callable[[str], None] | None = None) -> None:
    """Start the embedded server; where a server is configured, check that it answers instead.

    This process ends the embedded server when it exits; Linux ends it when this process is killed. Call it from the
    main thread, since the kernel ends the server together with the thread that started it.

    Args:
        on_loss: called with a message, in a thread, when the server ends or hangs before this process ends; by default
            the message is logged, and KeyboardInterrupt is raised in the main thread.

    Raises:
        ConfigError: PREFECT_API_URL names a server that does not answer, or the settings name a database that cannot
            be used.
    """
    settings = prefect_settings()
    if settings.api.url:
        reachable_server()
        return
    environment, port = _environment(settings), _free_port()
    log = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as the server
    process = subprocess.Popen(
        [*SERVER, str(port)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        preexec_fn=_end_with_parent(),  # noqa: PLW1509  # a look-up in ctypes before, one system call after the fork
    )
    stopping = threading.Event()
    atexit.register(_stop, process, stopping)
    _await_answer(process, port, log)
    threading.Thread(target=_watch, args=(process, port, stopping, on_loss or _interrupt), daemon=True).start()
    _use(f"http://{HOST}:{port}{API_PATH}", settings)


def _environment(settings: Settings) -> dict[str, str]:
    """Return the variables of the server's process: the user's settings, and a database that can be used.

    Raises:
        ConfigError: the user names a database that cannot be used.
    """
    own = {
        # Without its pages, and without the services that only a server for several users needs.
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
    }
    environment = {**os.environ, **settings.to_environment_variables(exclude_unset=True), **own}
    database = settings.server.database
    address = database.connection_url.get_secret_value() if database.connection_url else ""
    default = Path(settings.home, DATABASE_NAME)
    if address != f"sqlite+aiosqlite:///{default}":
        _require_database(address)
        return environment
    home = _home(default)
    if home != settings.home:
        environment["PREFECT_HOME"] = str(home)
    return environment


def _home(default: Path) -> Path:
    """Return a folder for the server's database: that of `default`, or one in the user's cache."""
    fault = fault_of(default)
    if fault is None:
        return default.parent
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "faceshards" / f"prefect-{importlib.metadata.version('prefect')}"
    if fault_of(home / DATABASE_NAME) is not None:
        home = Path(tempfile.mkdtemp(prefix="faceshards-prefect-"))
        atexit.register(shutil.rmtree, home, ignore_errors=True)  # called after `_stop`, which is registered later
    logger.warning(
        "Prefect's database: got %s, %s, expected one that Prefect's server can use; this run uses %s instead",
        default,
        fault,
        home,
    )
    return home


def _require_database(address: str) -> None:
    """Check the database that a setting names.

    Raises:
        ConfigError: it cannot be used.
    """
    name = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
    way_out = "correct the setting, or remove it: then Prefect keeps a file in PREFECT_HOME"
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise ConfigError(f"{name}: got no URL of a database, expected one such as sqlite+…; {way_out}") from None
    shown = url.render_as_string(hide_password=True)
    fault = None
    if url.get_backend_name() == "sqlite":
        in_memory = url.database in (None, "", ":memory:") or "mode=memory" in address
        fault = None if in_memory else fault_of(Path(str(url.database)))
    elif url.host:
        try:
            socket.create_connection((url.host, url.port or 5432), CONNECT_SECONDS).close()
        except (OSError, OverflowError) as error:
            fault = f"which cannot be reached ({error})"
    if fault is not None:
        raise ConfigError(f"{name}: got {shown}, {fault}, expected a database that Prefect can use; {way_out}")


def _free_port() -> int:
    """Return a port that no process uses at the moment."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        port: int = listener.getsockname()[1]
        return port


def _await_answer(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    """Wait until the server answers.

    Raises:
        ConfigError: it ended, or did not answer in time.
    """
    end = time.monotonic() + STARTUP_SECONDS
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > end:
            log.seek(0)
            exceptions = _EXCEPTION.findall(log.read().decode(errors="replace"))
            reason = exceptions[-1] if exceptions else f"exit status {process.poll()}"
            raise ConfigError(
                f"Prefect's embedded server: got {' '.join(reason.split())}, expected it to start within "
                f"{STARTUP_SECONDS} s; correct Prefect's settings, or export PREFECT_HOME=/an/empty/folder"
            )
        time.sleep(0.1)


def _answers(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", f"{API_PATH}/health")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _watch(
    process: subprocess.Popen[bytes],
    port: int,
    stopping: threading.Event,
    on_loss: Callable[[str], None],
) -> None:
    """Call `on_loss` when the server has ended, or has hung for about a minute."""
    num_unanswered = 0
    while process.poll() is None and num_unanswered < MAX_UNANSWERED:
        try:
            process.wait(ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            num_unanswered = 0 if _answers(port) else num_unanswered + 1
    if not stopping.is_set():
        found = "no answer" if process.poll() is None else f"its end (status {process.returncode})"
        process.kill()
        on_loss(
            f"Prefect's embedded server: got {found}, expected it to last as long as the run; "
            "run the same command again to resume"
        )


def _interrupt(message: str) -> None:
    """Log a message, and raise KeyboardInterrupt in the main thread; Prefect then does not retry for minutes."""
    from prefect.context import refresh_global_settings_context

    logger.error(message)
    os.environ["PREFECT_CLIENT_MAX_RETRIES"] = "0"
    refresh_global_settings_context()
    _thread.interrupt_main()


def _stop(process: subprocess.Popen[bytes], stopping: threading.Event) -> None:
    """End the server at the end of this process."""
    stopping.set()
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


def _use(api_url: str, settings: Settings) -> None:
    """Let Prefect's clients in this process, and in its child processes, use the server."""
    from prefect.context import refresh_global_settings_context

    os.environ["PREFECT_API_URL"] = api_url
    if password := settings.server.api.auth_string:  # the server asks for it
        os.environ["PREFECT_API_AUTH_STRING"] = password.get_secret_value()
    with contextlib.redirect_stderr(io.StringIO()):  # Prefect would repeat its warning about an unknown profile
        refresh_global_settings_context()


def _end_with_parent() -> Callable[[], None] | None:
    """Return a function by which a new process asks for SIGTERM at its parent's death; None except on Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: little is safe between fork and exec
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
