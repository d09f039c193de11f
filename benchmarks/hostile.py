"""Peak memory of hostile videos: what comes of each, and what it costs the probe and one worker.

    python -m benchmarks.hostile [--only WORD …] [--json FILE]

The probe runs in a process of its own. The worker is one of a pool with the default settings and the default limit of
memory, `mtcnn` on a CPU. Both peaks are the whole resident memory of the process; the first row shows what libraries,
models and an ordinary video take.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import write_figures
from manifests.entry import VideoEntry
from manifests.probe.probe import probe_all
from manifests.rejected import Rejected
from tasks.settings import StageSettings
from tasks.video.job import VideoJob
from tasks.workers import watchdog, worker
from tests.helpers.odd_videos.hostile import LARGE, SMALL, pixels

ORDINARY = "ordinary video of 720p"
KIB_PER_MIB = 1024


def entry_at(path: Path) -> VideoEntry:
    """Return the entry of a file that is not probed yet."""
    return VideoEntry(
        video_id=path.stem, path=path.name, dataset="hostile", label="real", target_id="a", group_id="a", split="train"
    )


def outcome_of(path: Path, process: bool) -> dict[str, Any]:
    """Probe a video, and process it if `process`; return what comes of it, and seconds and peak memory in MiB."""
    start = time.perf_counter()
    (found,) = probe_all(path.parent, [entry_at(path)])
    if isinstance(found, Rejected):
        outcome, detail = found.reason.value, found.detail
    else:
        outcome, detail = "probed", f"{found.num_frames} frames of {found.width}×{found.height}"
        if process:
            outcome, detail = _processed(path.parent, found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // KIB_PER_MIB
    return {"outcome": outcome, "detail": detail, "mib": peak, "seconds": time.perf_counter() - start}


def _processed(root: Path, entry: VideoEntry) -> tuple[str, str]:
    worker.start_worker(StageSettings(), "cpu", None, watchdog.default_bytes(multiprocessing.cpu_count()))
    row = worker.run_job(VideoJob(root=root, entry=replace(entry, split="train"), config_digest="c" * 64)).row
    return row.reason or row.status, row.detail or ""


def in_process(path: Path, process: bool) -> dict[str, Any]:
    """Return the outcome of a video in a fresh process; one that the watchdog ends is `too_large`."""
    start = time.perf_counter()
    child = [sys.executable, "-m", "benchmarks.hostile", "--child", str(path), *(["--process"] if process else [])]
    found = subprocess.run(child, check=False, stdout=subprocess.PIPE, text=True)
    if found.returncode == 0:
        answer: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
        return answer
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // KIB_PER_MIB
    ended = "too_large" if found.returncode == watchdog.EXIT_CODE else f"died ({found.returncode})"
    detail = "ended by the watchdog" if found.returncode == watchdog.EXIT_CODE else ""
    return {"outcome": ended, "detail": detail, "mib": peak, "seconds": time.perf_counter() - start}


def measured(names: Sequence[str], folder: Path) -> dict[str, dict[str, Any]]:
    """Return the figures of an ordinary video, and of each of these."""
    makers: dict[str, Callable[[Path], Path]] = {ORDINARY: pixels("hd.mp4", 1280, 720, 30), **SMALL, **LARGE}
    figures: dict[str, dict[str, Any]] = {}
    for number, name in enumerate((ORDINARY, *names)):
        place = folder / str(number)
        place.mkdir()
        path = makers[name](place)
        probe, whole = (in_process(path, process) for process in (False, True))
        figures[name] = whole | {"probe_mib": probe["mib"], "probe_seconds": probe["seconds"]}
        path.unlink()
    return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the videos, measure each, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", default=[""], metavar="WORD", help="only videos with one of these words")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        sys.stdout.write(json.dumps(outcome_of(options.child, options.process)) + "\n")
        return 0
    names = [name for name in (*SMALL, *LARGE) if any(word in name for word in options.only)]
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(names, Path(folder))
    table = Table("video", "outcome", "probe: s", "peak, MiB", "with worker: s", "peak, MiB", title="Hostile videos")
    for name, one in figures.items():
        seconds = f"{one['probe_seconds']:.1f}", f"{one['seconds']:.1f}"
        table.add_row(name, one["outcome"], seconds[0], str(one["probe_mib"]), seconds[1], str(one["mib"]))
    console = Console(width=120)
    console.print(table)
    for name, one in figures.items():
        console.print(f"{name}: {one['detail']}", soft_wrap=True)
    if options.json:
        write_figures(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
