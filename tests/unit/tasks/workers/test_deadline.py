"""The time limit ends a process that no Python code could stop any more."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from tasks.workers.deadline import EXIT_CODE

STUCK = {
    # PyDLL keeps the interpreter lock during the call: no other thread and no signal handler of Python's can run.
    "with the interpreter lock held": "ctypes.PyDLL(None).sleep(60)",
    "without the interpreter lock": "ctypes.CDLL(None).sleep(60)",
    "in Python": "[None for _ in iter(int, 1)]",
}


@pytest.mark.parametrize("call", STUCK.values(), ids=STUCK.keys())
def test_a_stuck_process_is_ended(call: str) -> None:
    program = (
        f"import ctypes\nfrom tasks.workers.deadline import end_process_after\nwith end_process_after(0.3):\n    {call}"
    )
    start = time.monotonic()
    run = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert run.returncode == EXIT_CODE
    assert time.monotonic() - start < 20


def test_what_ends_in_time_goes_on() -> None:
    program = (
        "import time\nfrom tasks.workers.deadline import end_process_after\n"
        "for _ in range(3):\n    with end_process_after(0.5):\n        pass\n"
        "time.sleep(0.7)\nprint('alive')"
    )
    run = subprocess.run([sys.executable, "-c", program], timeout=30, check=True, capture_output=True, text=True)
    assert run.stdout == "alive\n"
