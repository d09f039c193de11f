"""The embedded server: its database, its start, its end with the run, and its loss."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from prefect.settings import Settings

import flows.server.embedded
from flows.server.embedded import _await_answer, _environment, _free_port, _watch
from manifests.errors import ConfigError

# Stands for the server: answers every request with 200; its first argument is the port.
STAND_IN = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Return settings with an own home, and a cache beside it."""
    for name in ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    return Settings()


def test_the_server_uses_prefect_home(settings: Settings, tmp_path: Path) -> None:
    environment = _environment(settings)
    assert environment["PREFECT_HOME"] == str(tmp_path / "home")
    assert environment["PREFECT__SERVER_EPHEMERAL"] == "1"


def test_a_database_that_cannot_be_used_is_replaced_by_one_in_the_cache(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "prefect.db").write_bytes(b"rubbish")
    home = Path(_environment(settings)["PREFECT_HOME"])
    assert home.parent == tmp_path / "cache" / "faceshards"
    assert caplog.messages == [
        f"Prefect's database: got {tmp_path}/home/prefect.db, which SQLite cannot use (file is not a database), "
        f"expected one that Prefect's server can use; this run uses {home} instead"
    ]
    (home / "prefect.db").mkdir()  # not this one either
    home = Path(_environment(settings)["PREFECT_HOME"])
    assert home.parent == Path(tempfile.gettempdir())
    assert home.is_dir()
    assert (tmp_path / "home" / "prefect.db").read_bytes() == b"rubbish"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "postgresql+asyncpg://me:secret@127.0.0.1:9/prefect",
            r"got postgresql\+asyncpg://me:\*\*\*@127.0.0.1:9/prefect,",
        ),
        ("sqlite+aiosqlite:////dev/null/x.db", r"whose folder cannot be used \(File exists\)"),
        ("rubbish", "expected one such as sqlite"),
    ],
)
def test_a_database_that_a_setting_names_is_not_replaced(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, address: str, told: str
) -> None:
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", address)
    started = time.monotonic()
    with pytest.raises(ConfigError, match=told):
        _environment(Settings())
    assert time.monotonic() - started < 10
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "sqlite+aiosqlite:///:memory:")
    assert _environment(Settings())["PREFECT_HOME"] == str(settings.home)


def test_a_server_that_does_not_start_is_one_line() -> None:
    with tempfile.TemporaryFile() as log:
        code = "print('starting'); raise OSError('no room')"
        process = subprocess.Popen([sys.executable, "-c", code], stdout=log, stderr=log)
        with pytest.raises(ConfigError, match=r"^Prefect's embedded server: got OSError: no room, expected [^\n]*$"):
            _await_answer(process, _free_port(), log)


@pytest.mark.parametrize("hangs", [False, True])
def test_the_loss_of_the_server_is_told_at_once(monkeypatch: pytest.MonkeyPatch, hangs: bool) -> None:
    for name in ("ANSWER_SECONDS", "MAX_UNANSWERED"):
        monkeypatch.setattr(flows.server.embedded, name, 1)
    port = _free_port()
    told: list[str] = []
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([sys.executable, "-c", STAND_IN, str(port)])
        _await_answer(process, port, log)
    watch = threading.Thread(target=_watch, args=(process, port, threading.Event(), told.append))
    watch.start()
    process.send_signal(19 if hangs else 9)
    watch.join(10)
    process.wait(10)
    found = "no answer" if hangs else "its end (status -9)"
    assert told == [
        f"Prefect's embedded server: got {found}, expected it to last as long as the run; "
        "run the same command again to resume"
    ]


STARTS_THE_STAND_IN = """
import os, sys, time
import flows.server.embedded as embedded
embedded.SERVER = (sys.executable, "-c", sys.argv[1])
embedded.start_embedded_server()
from prefect.settings import get_current_settings
print(get_current_settings().api.url, os.environ["PREFECT_API_URL"], flush=True)
time.sleep(60)
"""


def test_the_server_leads_a_session_of_its_own_and_ends_with_the_run(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    home = tmp_path / "not" / "there" / "yet"
    environment |= {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_PROFILE": "nope",
    }
    environment |= {"ALL_PROXY": "socks5://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", STARTS_THE_STAND_IN, STAND_IN]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stderr is not None
        seen, exported = parent.stdout.readline().split()
        assert seen == exported
        assert seen.startswith("http://127.0.0.1:")
        (child,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        assert os.getsid(int(child)) == int(child) != os.getsid(parent.pid)
        parent.kill()
        (warning,) = parent.stderr.readlines()
        assert warning.startswith("Prefect's settings: Active profile 'nope' set by environment variable not found.")
    assert home.is_dir()  # made without a warning of Prefect
    deadline = time.monotonic() + 20
    while is_alive(int(child)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(int(child))


def is_alive(process_id: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False
