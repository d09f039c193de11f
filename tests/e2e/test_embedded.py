"""A run on the embedded server that is ended by a signal to all of its processes, or by the loss of the server."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.deployed import environment_for
from tests.helpers.processes import command_line, setting_words, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.long]

WAIT_SECONDS = 120


def servers(home: Path) -> list[int]:
    """Return the process ids of embedded servers that keep their state in a folder."""
    wanted = f"PREFECT_HOME={home}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"uvicorn" in (process / "cmdline").read_bytes() and wanted in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=["SIGTERM", "SIGHUP"])
def test_a_signal_to_the_whole_group_ends_the_run_as_ctrl_c_does(
    miniature: Path, tmp_path: Path, how: signal.Signals
) -> None:
    home, out = tmp_path / "home", tmp_path / "store"
    environment = environment_for("", home)
    del environment["PREFECT_API_URL"]
    settings = setting_words("frames.count=32", "runner.workers=1", "shard.videos=2")
    words = ["preprocess", "ffpp", str(miniature), "--out", str(out), *settings]
    with command_line(*words, environment=environment) as run:
        wait_for(lambda: list(out.glob("shards/[!.]*.lmdb")), WAIT_SECONDS, run)
        assert len(servers(home)) == 1
        os.killpg(run.pid, how)
        told, _ = run.communicate(timeout=WAIT_SECONDS)
        assert run.returncode == 130, told
        assert "interrupted; run the same command again to resume" in told
        assert "Traceback" not in told
        assert servers(home) == []


def test_a_killed_server_ends_the_run_which_the_same_command_resumes(miniature: Path, tmp_path: Path) -> None:
    home, out = tmp_path / "home", tmp_path / "store"
    environment = environment_for("", home)
    del environment["PREFECT_API_URL"]
    settings = setting_words("frames.count=8", "runner.workers=1", "shard.videos=2")
    words = ["preprocess", "ffpp", str(miniature), "--out", str(out), *settings]
    with command_line(*words, environment=environment) as run:
        wait_for(lambda: list(out.glob("shards/[!.]*.lmdb")), WAIT_SECONDS, run)
        killed = time.monotonic()
        os.kill(servers(home)[0], signal.SIGKILL)
        told, _ = run.communicate(timeout=WAIT_SECONDS)
        assert time.monotonic() - killed < 15
        assert run.returncode == 1, told
        assert "failed: Prefect's embedded server: got its end (status -9)" in told
        assert "Traceback" not in told
    kept = {path.name for path in out.glob("shards/[!.]*.lmdb")}
    with command_line(*words, environment=environment) as again:
        told, _ = again.communicate(timeout=WAIT_SECONDS)
        assert again.returncode == 0, told
    assert kept <= {path.name for path in out.glob("shards/[!.]*.lmdb")}
