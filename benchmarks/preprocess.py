"""What a run of `faceshards preprocess` costs, and what the second one costs that has nothing to do.

    python benchmarks/preprocess.py ROOT [--set frames.count=8 …] [--json FILE]

Three processes, one after the other, on the embedded Prefect server with a state folder of their own:

    empty flow   a flow without a task: what starting Prefect costs
    first run    everything, into a new store
    second run   the same command again

The table shows wall and CPU seconds of each with all its child processes, the largest process's memory, and the seconds
of each stage as the store's report has them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parent.parent
EMPTY_FLOW = "from prefect import flow\n@flow\ndef empty() -> None: ...\nempty()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one command cost."""

    name: str
    # what it was

    wall_seconds: float
    # from start to exit

    cpu_seconds: float
    # of the process and all its children, user and system

    peak_mib: float
    # resident memory of the largest process so far, MiB


def measure(name: str, command: list[str], environment: dict[str, str]) -> Cost:
    """Run a command to its end.

    Raises:
        SystemExit: the command failed; its output is shown.
    """
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    wall_seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if run.returncode != 0:
        sys.exit(f"{name}: exit status {run.returncode}\n{run.stdout}{run.stderr}")
    return Cost(
        name=name,
        wall_seconds=wall_seconds,
        cpu_seconds=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        peak_mib=after.ru_maxrss / 1024,
    )


def main() -> None:
    """Measure, print the table, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="a FaceForensics++ tree")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the run")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        store = Path(scratch, "store")
        environment = os.environ | {
            "PREFECT_HOME": f"{scratch}/prefect",
            "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_LOGGING_LEVEL": "CRITICAL",
        }
        settings = [word for setting in options.set for word in ("--set", setting)]
        preprocess = [sys.executable, "-m", "flows", "preprocess", "ffpp", str(options.root.resolve())]
        preprocess += ["--out", str(store), *settings]
        costs = [
            measure("first start of Prefect", [sys.executable, "-c", EMPTY_FLOW], environment),
            measure("empty flow", [sys.executable, "-c", EMPTY_FLOW], environment),
            measure("first run", preprocess, environment),
            measure("second run", preprocess, environment),
        ]
        report = json.loads((store / "report.json").read_text())
    show(costs, report)
    if options.json:
        figures = {"costs": [asdict(cost) for cost in costs], "totals": report["totals"], "stages": report["stages"]}
        options.json.write_text(json.dumps(figures | {"machine": machine()}, indent=2) + "\n")


def show(costs: list[Cost], report: dict[str, dict[str, int]]) -> None:
    """Print the figures."""
    totals = report["totals"]
    table = Table("command", "wall s", "CPU s", "peak MiB", title=f"{machine()}; {totals['num_stored']} videos stored")
    for cost in costs:
        table.add_row(cost.name, f"{cost.wall_seconds:.1f}", f"{cost.cpu_seconds:.1f}", f"{cost.peak_mib:.0f}")
    beside = costs[-1].wall_seconds - costs[1].wall_seconds
    stages = Table("stage", "s in all", "s per video", title="seconds of the stages, from the report")
    for stage in report["stages"]:
        stages.add_row(stage["stage"], f"{stage['seconds']:.2f}", f"{stage['mean_seconds']:.3f}")  # type: ignore[index]
    console = Console()
    console.print(table, stages, f"second run beside the start of Prefect: {beside:.1f} s")


def machine() -> str:
    """Say where the figures come from."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    return f"{len(os.sched_getaffinity(0))} cores of {model}"


if __name__ == "__main__":
    main()
