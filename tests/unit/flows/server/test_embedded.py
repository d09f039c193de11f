from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from flows.server.embedded import _processes_in_sessions_of_their_own


def test_prefect_home_is_made_with_its_parents(tmp_path: Path) -> None:
    # In a process of its own: Prefect reads its settings, and warns about a missing home, once, when it is imported.
    home = tmp_path / "not" / "there" / "yet"
    environment = os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    code = "from flows.server.embedded import start_embedded_server; start_embedded_server()"
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert home.is_dir()
    assert "home directory" not in ran.stderr
    assert "ConfigError: PREFECT_API_URL: got http://127.0.0.1:9/api" in ran.stderr


STARTS_A_CHILD = """
import subprocess, time
from flows.server.embedded import _processes_in_sessions_of_their_own
with _processes_in_sessions_of_their_own():
    child = subprocess.Popen(["sleep", "60"])
print(child.pid, flush=True)
time.sleep(60)
"""


def test_what_is_started_as_the_server_is_leads_a_session_of_its_own_and_ends_with_us() -> None:
    plain = subprocess.Popen
    with subprocess.Popen([sys.executable, "-c", STARTS_A_CHILD], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert os.getsid(child) == child != os.getsid(parent.pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(child)

    with _processes_in_sessions_of_their_own():
        assert issubclass(subprocess.Popen, plain)
    assert subprocess.Popen is plain


def is_alive(process_id: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False
