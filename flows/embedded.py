"""Prefect's embedded server, started so that Ctrl-C reaches the run and not the server.

Otherwise the server would end first, and the flow, which wants to tell it that the run was interrupted, would ask a
dead server again and again for minutes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from flows.deploy import reachable_server
from manifests.errors import ConfigError
from tasks.interrupts import interrupts_blocked


def start_embedded_server() -> None:
    """Start the embedded server out of reach of Ctrl-C; where a server is configured, see that it answers.

    Prefect ends the embedded server when this process exits.

    Raises:
        ConfigError: PREFECT_API_URL names a server that does not answer, or PREFECT_HOME cannot be written to.
    """
    _make_prefect_home()
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
    with interrupts_blocked(), get_client(sync_client=True):
        pass  # asking for a client is what starts the server


def _make_prefect_home() -> None:
    """Make $PREFECT_HOME with its parents: Prefect makes the last folder only, and warns when it is imported."""
    home = os.environ.get("PREFECT_HOME")
    if home:
        with contextlib.suppress(OSError):  # what cannot be made is refused by name, once Prefect says where it looks
            Path(home).expanduser().mkdir(mode=0o700, parents=True, exist_ok=True)
