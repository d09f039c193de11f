"""The scripts that hold the floors of coverage and install the servers of the cluster tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.processes import REPO
from tests.helpers.source_tree import PACKAGES


@pytest.mark.parametrize(("lowest", "status"), [(100, 0), (1, 1)])
def test_coverage_is_told_for_each_package_and_fails_below_its_floor(tmp_path: Path, lowest: int, status: int) -> None:
    counts = {"num_statements": 100, "num_branches": 0, "covered_lines": 100, "covered_branches": 0}
    files = {f"{package}/one.py": {"summary": counts} for package in PACKAGES}
    files["tasks/one.py"] = {"summary": counts | {"covered_lines": lowest}}
    (tmp_path / "coverage.json").write_text(json.dumps({"files": files}))
    command = [sys.executable, str(REPO / "scripts/coverage"), str(tmp_path / "coverage.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [*sorted(PACKAGES)]
    assert done.stderr.startswith("coverage of tasks/: got 1.0 %, expected at least " if status else "")
    assert done.stderr.count("coverage of") == status


def test_services_that_may_not_be_installed_are_named(tmp_path: Path) -> None:
    for program in ("bash", "id", "paste"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    script = [str(tmp_path / "bash"), str(REPO / "scripts/install-services")]
    done = subprocess.run(script, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr.startswith("services: got no redis-server")
    assert "the tests of a cluster are skipped" in done.stderr


FAKE_WORKER = """#!/usr/bin/env bash
bash -c 'trap "echo reported; exit" TERM; echo begun; while :; do sleep 0.05; done' &
trap 'echo the worker saw the signal' INT TERM
wait
echo the worker lived on
"""


def test_a_stopped_worker_gives_its_run_time_to_report(tmp_path: Path) -> None:
    (tmp_path / "prefect").write_text(FAKE_WORKER)
    (tmp_path / "prefect").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [str(REPO / "scripts/worker"), "--work-queue", "cpu"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)

    # The worker, alive, would report the end of a run that has not begun as a crash.
    assert (output, process.returncode) == ("reported\n", 0)
