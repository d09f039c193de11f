"""A run with the embedded server, ended by a signal to all of its processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers.deployed import REPO, environment_for

pytestmark = pytest.mark.e2e

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
    settings = ["frames.count=32", "runner.workers=1", "shard.videos=2"]
    words = ["preprocess", "ffpp", str(miniature), "--out", str(out), *(f"--set={setting}" for setting in settings)]
    run = subprocess.Popen(
        [sys.executable, "-m", "flows", *words],
        cwd=REPO,
        env=environment,
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not list(out.glob("shards/[!.]*.lmdb")) and time.monotonic() < deadline and run.poll() is None:
            time.sleep(0.02)
        assert len(servers(home)) == 1
        os.killpg(run.pid, how)
        _, complaints = run.communicate(timeout=WAIT_SECONDS)
    finally:
        run.kill()
    assert run.returncode == 130, complaints
    assert "interrupted; run the same command again to resume" in complaints
    assert "Traceback" not in complaints
    assert servers(home) == []
