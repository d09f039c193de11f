"""Measurement of commands and steps, shared by all benchmarks: seconds, processor time and memory."""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

# Every network and library computes in one thread: processes are the parallelism, as in the workers.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of one command."""

    wall_seconds: float
    """Wall-clock seconds from start to exit."""

    cpu_seconds: float
    """Processor seconds (user and system) of the process and of all children that it waited for."""

    output: str
    """What it printed."""


@dataclass(slots=True, kw_only=True)
class Steps:
    """Seconds and peak memory of the steps of this process, one after the other."""

    wall_seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    peak_mib: dict[str, float] = field(default_factory=dict)
    """Peak resident memory up to the end of the step."""

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the block to a step; processor time includes that of child processes that end in it."""
        wall, cpu = time.perf_counter(), cpu_seconds_so_far()
        yield
        self.wall_seconds[name] = self.wall_seconds.get(name, 0.0) + time.perf_counter() - wall
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + cpu_seconds_so_far() - cpu
        self.peak_mib[name] = peak_mib()


def measure(name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command in the project's folder, with one thread, and return its cost.

    Args:
        name: what it is, for the message of a failure.
        command: program and arguments.
        environment: variables beside those of this process.

    Raises:
        SystemExit: the command failed; its output is shown.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    everything = {**os.environ, **ONE_THREAD, **(environment or {})}
    run = subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, check=False)
    wall_seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode != 0:
        sys.exit(f"{name}: exit status {run.returncode}\n{run.stdout}{run.stderr}")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_seconds=wall_seconds, cpu_seconds=cpu_seconds, output=run.stdout)


def module_command(module: str, *arguments: object) -> list[str]:
    """Return the command that runs a module of the benchmarks in another process."""
    return [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]


def measure_module(
    name: str, module: str, *arguments: object, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what a module prints as JSON in its last line, with the seconds that its process took.

    Args:
        name: what it is, for the message of a failure.
        module: below `benchmarks`, such as `scale`.
        arguments: its command line.
        environment: variables beside those of this process.

    Raises:
        SystemExit: the process failed; its output is shown.
    """
    cost = measure(name, module_command(module, *arguments), environment)
    found: dict[str, Any] = json.loads(cost.output.splitlines()[-1])
    return {**found, "process_wall_seconds": cost.wall_seconds, "process_cpu_seconds": cost.cpu_seconds}


def answer_of(module: str, *arguments: object, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what a module prints as JSON in its last line, run in another process without a limit on threads.

    Raises:
        CalledProcessError: the process failed.
    """
    command, everything = module_command(module, *arguments), {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=ROOT, env=everything, stdout=subprocess.PIPE, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def peak_mib() -> float:
    """The most resident memory that this process has had, MiB.

    Not `ru_maxrss`: a process begins with that of the one that started it.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_seconds_so_far() -> float:
    """Processor time of this process, all its threads, and of those of its processes that have ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime


def cpu_seconds_of(pids: Iterable[int]) -> float:
    """Processor time that running processes took so far, user and system."""
    stats = [Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split() for pid in pids]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def write_figures(path: Path | None, figures: Any) -> None:
    """Write figures as JSON, where `--json` names a file."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def machine() -> str:
    """Return the number of cores and the processor's name."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{len(os.sched_getaffinity(0))} cores of {model}"
