"""The watchdog over a worker's memory, and the default limit: of the machine, or of its control groups."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tasks.workers import watchdog

GIBIBYTE = 2**30
GROWING = """
import time
from tasks.workers import watchdog

watchdog.LOADED_LATER_BYTES = 0
watchdog.end_process_above(40 * 2**20)
block = b"x" * ({mebibytes} * 2**20)
time.sleep(0.5)
"""


@pytest.mark.parametrize(("mebibytes", "exit_code"), [(50, 0), (80, watchdog.EXIT_CODE)])
def test_a_process_ends_when_it_takes_much_more_than_planned(mebibytes: int, exit_code: int) -> None:
    program = [sys.executable, "-c", GROWING.format(mebibytes=mebibytes)]
    assert subprocess.run(program, check=False).returncode == exit_code


@pytest.mark.parametrize(
    ("machine", "num_workers", "expected"),
    [(64 * GIBIBYTE, 4, 2 * GIBIBYTE), (6 * GIBIBYTE, 4, 1.5 * GIBIBYTE), (2 * GIBIBYTE, 16, 0.75 * GIBIBYTE)],
)
def test_the_default_is_a_share_of_the_machine(
    machine: int, num_workers: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "machine_bytes", lambda: machine)
    assert watchdog.default_bytes(num_workers) == expected


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        ("0::/slurm/job", {"slurm/job/memory.max": "max", "slurm/memory.max": "1000"}, [1000]),
        ("0::/gone", {"memory.max": "2000"}, [2000]),
        ("4:cpu:/\n3:memory:/docker/a", {"memory/memory.limit_in_bytes": "3000"}, [3000]),
        ("0::/", {}, []),
    ],
    ids=["version 2", "container", "version 1", "no limit"],
)
def test_control_groups_limit_the_machine(
    own: str, files: dict[str, str], expected: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").write_text(own)
    for name, content in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.setattr(watchdog, "OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(watchdog, "CGROUPS", tmp_path / "groups")

    assert list(watchdog._cgroup_limits()) == expected
    assert watchdog.machine_bytes() == (expected[0] if expected else pytest.approx(watchdog.machine_bytes()))
