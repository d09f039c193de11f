"""Cost of Prefect: empty shards on its embedded server and on `prefect server` with SQLite.

    python -m benchmarks.helpers.prefect_costs NUM_SHARDS

submits and awaits empty shards between the other steps of a run, and prints the cost as JSON. `end_to_end` and `scale`
call it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import ONE_THREAD, measure, measure_module, peak_mib

SERVER_SECONDS = 120.0  # that `prefect server` may take to answer
VIDEOS_PER_SHARD = 32  # the settings' default
FF_VIDEOS = 6_000  # originals and fakes of FaceForensics++ at one compression
EMPTY_FLOW = "from prefect import flow\n@flow\ndef empty() -> None: ...\nempty()"


def quiet_prefect(home: Path) -> dict[str, str]:
    """Return variables by which Prefect keeps its state in a folder and sends no telemetry."""
    return {
        "PREFECT_HOME": str(home),
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": str(int(SERVER_SECONDS)),
    }


def measure_shards(num_shards: int) -> dict[str, Any]:
    """Submit empty shards and wait for them in this process, as a run does; return seconds and memory."""
    from flows.server.embedded import start_embedded_server

    start = time.perf_counter()
    start_embedded_server()
    server_seconds = time.perf_counter() - start
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.run.runners import SHARDS_AT_ONCE
    from flows.run.steps import Steps
    from flows.run.task_runs import TASKS_PER_WINDOW, in_chunks, results

    @task(name="empty-shard", cache_policy=NO_CACHE, persist_result=False)
    def empty_shard(number: int) -> int:
        return number

    runner: Any = ThreadPoolTaskRunner(max_workers=SHARDS_AT_ONCE)

    @flow(name="empty-shards", task_runner=runner, persist_result=False)
    def empty_shards() -> int:
        steps, num_done = Steps(), 0
        task_runs: list[UUID | None] = []
        for name in ("index", "probe", "split-and-audit", "plan"):
            steps.take(name, int)
        for window in in_chunks(range(num_shards), TASKS_PER_WINDOW):
            futures = [empty_shard.submit(number, return_state=False, wait_for=steps.before) for number in window]
            task_runs += [future.task_run_id for future in futures]
            num_done += sum(1 for _ in results(futures, lambda: None))
        steps.follow(task_runs)
        for name in ("compact", "tables", "report", "keep"):
            steps.take(name, int)
        return num_done

    start, cpu = time.perf_counter(), time.process_time()
    num_done = empty_shards()
    return {
        "num_shards": num_shards,
        "num_done": num_done,
        "server_seconds": server_seconds,
        "flow_seconds": time.perf_counter() - start,
        "client_cpu_seconds": time.process_time() - cpu,
        "client_mib": peak_mib(),
    }


@contextmanager
def prefect_server(scratch: Path) -> Iterator[str]:
    """Run `prefect server` on SQLite while the block lasts; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("prefect")), "server", "start", "--host", "127.0.0.1"]
    environment = {**os.environ, **quiet_prefect(scratch), **ONE_THREAD}
    server = subprocess.Popen(
        [*command, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}/api"
    try:
        await_answer(f"{url}/health", server)
        yield url
    finally:
        server.terminate()
        server.wait()


def await_answer(url: str, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers.

    Raises:
        SystemExit: it ended, or does not answer in time.
    """
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit(f"prefect server: got no answer from {url} within {SERVER_SECONDS:g} s, expected one")


def in_child(num_shards: int, environment: dict[str, str]) -> dict[str, Any]:
    """Run empty shards in a process of its own, and return their cost."""
    name = f"{num_shards} empty shards"
    return measure_module(name, "helpers.prefect_costs", num_shards, environment=environment)


def measure_servers(num_shards: Sequence[int], scratch: Path) -> list[dict[str, Any]]:
    """Measure Prefect on each kind of server; every run is a process of its own."""
    if given := os.environ.get("PREFECT_API_URL"):
        environment = quiet_prefect(scratch / "given") | {"PREFECT_API_URL": given}
        return [{"server": "given", **in_child(n, environment)} for n in num_shards]
    environment = quiet_prefect(scratch / "embedded")
    in_child(1, environment)  # the first start makes the database
    rows = [{"server": "embedded", **in_child(n, environment)} for n in num_shards]
    with prefect_server(scratch / "server") as url:
        environment = quiet_prefect(scratch / "client") | {"PREFECT_API_URL": url}
        rows += [{"server": "sqlite", **in_child(n, environment)} for n in num_shards]
    return rows


def measure_share(
    root: Path, scratch: Path, settings: Sequence[str], plain: dict[str, Any], shards: Sequence[int]
) -> dict[str, Any]:
    """Run the videos of `plain` with Prefect, then again with nothing to do, then empty shards.

    Args:
        root: the videos, laid out as FaceForensics++.
        scratch: where the store and Prefect's state may lie.
        settings: NAME=VALUE.
        plain: what one worker process took without Prefect: `wall_seconds` and `cpu_seconds` of the whole process, and
            `workers_cpu_seconds_per_video`.
        shards: few and many.
    """
    environment = quiet_prefect(scratch / "prefect")
    words = [word for setting in ("runner.workers=1", *settings) for word in ("--set", setting)]
    command = [sys.executable, "-m", "flows", "preprocess", "ffpp", str(root)]
    command += ["--out", str(scratch / "with-prefect"), *words]
    runs = {
        "an empty flow, Prefect's first start": [sys.executable, "-c", EMPTY_FLOW],
        "an empty flow": [sys.executable, "-c", EMPTY_FLOW],
        "the run with Prefect": command,
        "again, nothing to do": command,
    }
    costs = {name: measure(name, words, environment) for name, words in runs.items()}
    few, many = (in_child(number, environment) for number in shards)
    num_more = many["num_shards"] - few["num_shards"]
    per_shard = {
        "wall": (many["flow_seconds"] - few["flow_seconds"]) / num_more,
        "cpu": (many["process_cpu_seconds"] - few["process_cpu_seconds"]) / num_more,
    }
    with_prefect = costs["the run with Prefect"]
    start = with_prefect.cpu_seconds - plain["cpu_seconds"]
    num_shards = -(-FF_VIDEOS // VIDEOS_PER_SHARD)
    added = max(start, 0.0) + num_shards * max(per_shard["cpu"], 0.0)
    work = FF_VIDEOS * plain["workers_cpu_seconds_per_video"]
    return {
        "runs": {
            name: {"wall_seconds": cost.wall_seconds, "cpu_seconds": cost.cpu_seconds} for name, cost in costs.items()
        },
        "without": {name: plain[name] for name in ("wall_seconds", "cpu_seconds")},
        "added_cpu_seconds": start,
        "added_wall_seconds": with_prefect.wall_seconds - plain["wall_seconds"],
        "wall_seconds_per_shard": per_shard["wall"],
        "cpu_seconds_per_shard": per_shard["cpu"],
        "extrapolated": {"num_videos": FF_VIDEOS, "num_shards": num_shards, "cpu_share": added / (added + work)},
    }


def show_servers(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Print the cost of empty shards on each server."""
    names = ("server", "shards", "server up, s", "flow, s", "ms a shard", "CPU s of all", "client MiB")
    table = Table(*names, title="Prefect, shards with nothing in them")
    for row in rows:
        seconds = (row["server_seconds"], row["flow_seconds"])
        per_shard = 1000 * row["flow_seconds"] / row["num_shards"]
        rest = (f"{per_shard:.1f}", f"{row['process_cpu_seconds']:.1f}", f"{row['client_mib']:.0f}")
        table.add_row(row["server"], f"{row['num_shards']:,}", *(f"{value:.2f}" for value in seconds), *rest)
    console.print(table)


def show_share(console: Console, prefect: dict[str, Any]) -> None:
    """Print the cost of Prefect."""
    table = Table("command", "wall s", "CPU s", title="Prefect, one worker process")
    for name, row in {"the run without Prefect": prefect["without"], **prefect["runs"]}.items():
        table.add_row(name, f"{row['wall_seconds']:.1f}", f"{row['cpu_seconds']:.1f}")
    console.print(table)
    whole = prefect["extrapolated"]
    console.print(
        f"measured: Prefect adds {prefect['added_cpu_seconds']:.1f} CPU-s to a run "
        f"({prefect['added_wall_seconds']:.1f} s by the clock), {prefect['cpu_seconds_per_shard']:.3f} CPU-s to a shard"
    )
    console.print(
        f"extrapolated: {whole['cpu_share']:.2%} of the processor time of {whole['num_videos']:,} videos in "
        f"{whole['num_shards']} shards"
    )


def main() -> None:
    """Run empty shards in this process and print their cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("num_shards", type=int, help="number of empty shards")
    sys.stdout.write(json.dumps(measure_shards(parser.parse_args().num_shards)) + "\n")


if __name__ == "__main__":
    main()
