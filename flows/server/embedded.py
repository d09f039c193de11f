"""Start of Prefect's embedded server in a session of its own, which signals to the run do not reach.

A terminal sends Ctrl-C to the whole foreground process group; Slurm, a closing terminal or `kill -- -GROUP` send
SIGTERM or SIGHUP to the group. The server would end before the flow, and the flow, which reports its end to the
server, would retry for minutes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.server.deploy import reachable_server
from manifests.errors import ConfigError

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

# Prefect's own limit is 20 s. Importing and starting its server takes 10–17 s on two idle cores.
STARTUP_SECONDS = 180


def start_embedded_server() -> None:
    """Start the embedded server; where a server is configured, check that it answers instead.

    Prefect ends the embedded server when this process exits; Linux ends it when this process is killed. Call it from
    the main thread, since the kernel ends the server together with the thread that started it.

    Raises:
        ConfigError: PREFECT_API_URL names a server that does not answer, or PREFECT_HOME cannot be written to.
    """
    _make_prefect_home()
    # Prefect reads its settings once, when it is imported.
    os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", str(STARTUP_SECONDS))
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    if get_current_settings().api.url:
        reachable_server()
        return
    home = get_current_settings().home
    if not os.access(home, os.W_OK):
        raise ConfigError(
            f"PREFECT_HOME: got {home}, which cannot be written to, expected a folder for Prefect's state; "
            "export PREFECT_HOME=/some/folder"
        )
    with _processes_in_sessions_of_their_own(), get_client(sync_client=True):
        pass  # asking for a client is what starts the server


@contextmanager
def _processes_in_sessions_of_their_own() -> Iterator[None]:
    """Start processes in new sessions inside the block; Prefect calls `subprocess.Popen` without an option for it."""
    plain = subprocess.Popen

    class InOwnSession(plain):  # type: ignore[valid-type, misc]  # a class that is known at run time only
        """A process in a session of its own, which ends with this process."""

        def __init__(self, *args: object, **settings: object) -> None:
            super().__init__(*args, start_new_session=True, preexec_fn=_end_with_parent(), **settings)

    subprocess.Popen = InOwnSession  # type: ignore[misc]  # replaced on purpose, for the block
    try:
        yield
    finally:
        subprocess.Popen = plain  # type: ignore[misc]  # put back


def _end_with_parent() -> Callable[[], None] | None:
    """Return a function by which a new process asks for SIGTERM at its parent's death; None except on Linux."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: little is safe between fork and exec
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _make_prefect_home() -> None:
    """Make $PREFECT_HOME with its parents: Prefect makes the last folder only, and warns when it is imported."""
    home = os.environ.get("PREFECT_HOME")
    if home:
        with contextlib.suppress(OSError):  # `start_embedded_server` reports a folder that is not writable
            Path(home).expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)
