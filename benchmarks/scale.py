"""Check that the cost of everything except the processing of videos is linear, from 100 to 100,000 simulated videos.

    python -m benchmarks.scale [--videos 100 1000 10000 100000] [--shards 1 10 100 1000] [--json FILE]

The videos are empty files in DFDC's layout, their measurements come from a prepared table, and their records repeat one
small crop. Everything else is the code of a run, in a process of its own for each number of videos:

    look        read names and lists; no file is opened
    index       the same with earlier measurements: each file is compared with its row
    split       leakage groups, their splits, the leakage report
    plan        group videos into shards
    write       write records into shards of 32 videos, each synced to disk
    list        enter every finished shard into the store's index, one by one
    tables      totals, `videos.parquet`, `records.parquet`
    report      `report.json`, `report.html`
    reopen      the first steps of the next run: read the store, find nothing to do

Prefect runs `--shards` empty shards on its embedded server and on `prefect server` with SQLite, or on the one server
that PREFECT_API_URL names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import Steps, machine, measure_module, module_command, peak_mib, write_figures
from benchmarks.helpers.made_records import make_record
from benchmarks.helpers.prefect_costs import measure_servers, show_servers
from manifests.entry import VideoEntry
from manifests.row import ManifestRow
from manifests.videos_table import row_to_plain
from storage.files.layout import SHARDS_DIR
from storage.format.encoding import encode_record
from storage.format.images import encode_rgb
from storage.format.record import Record
from storage.index import ShardEntry
from storage.shard import ShardWriter
from storage.upkeep.ledger import Ledger

NUM_VIDEOS = (100, 1_000, 10_000, 100_000)
NUM_SHARDS = (1, 10, 100, 1_000)
RECORDS_PER_VIDEO = 4
CROP_PX = 32  # side of the one crop that every record holds


def probed(root: Path, entry: VideoEntry) -> VideoEntry:
    """Return an entry with measurements, as if its empty file had been opened; no two files look alike."""
    status, digest = (root / entry.path).stat(), hashlib.sha256(entry.video_id.encode()).hexdigest()
    measured: dict[str, Any] = {
        **{"num_frames": 300, "fps": Fraction(30), "width": 1280, "height": 720, "rotation_degrees": 0},
        **{"num_bytes": status.st_size, "mtime_ns": status.st_mtime_ns},
        **{"sha256": digest, "frame_hashes": digest},
    }
    return replace(entry, **measured)


def record_of(entry: VideoEntry, frame: int, crop: bytes, config_digest: str) -> Record:
    """Return the record of one frame of a simulated video."""
    same = ("dataset", "manipulation", "compression", "split", "target_id", "source_id", "group_id", "content_digest")
    identity: dict[str, Any] = {name: getattr(entry, name) for name in same}
    label = entry.label_as_integer
    return make_record(entry.video_id, frame, crop, **identity, label=label, config_digest=config_digest)


def write_shard(plan: Any, crop: bytes) -> tuple[ShardEntry, list[ManifestRow]]:
    """Write a plan's shard as `tasks.process.process_shard` does, with simulated records."""
    rows: list[ManifestRow] = []
    with ShardWriter(plan.store_dir / SHARDS_DIR, plan.split, plan.number, plan.config_digest) as writer:
        for entry in plan.entries:
            for frame in range(RECORDS_PER_VIDEO):
                record = record_of(entry, frame, crop, plan.config_digest)
                writer.put(record.key, encode_record(record))
            row = ManifestRow(video_id=entry.video_id, path=entry.path, entry=entry, config_digest=plan.config_digest)
            rows.append(replace(row, status="stored", shard=plan.name, num_records=RECORDS_PER_VIDEO))
        return writer.finish([row_to_plain(row) for row in rows], {}), rows


def measure_store(num_videos: int, scratch: Path) -> dict[str, Any]:
    """Turn simulated videos into a finished store in this process; return counts, seconds and memory by step."""
    from flows.config.preprocess import PreprocessConfig
    from flows.report.page import write_report
    from flows.run.relatives import Relatives
    from flows.run.shards import plan_shards
    from flows.run.sources import index_sources, survey_sources
    from flows.run.splitting import with_splits
    from flows.run.workload import outcome

    root, out, steps = scratch / "data", scratch / "store", Steps()
    # In another process, so that its memory is not counted here.
    subprocess.run(module_command("helpers.dfdc_tree", root, num_videos), check=True)
    config = PreprocessConfig.model_validate({"dataset": {"name": "dfdc", "root": root}, "out": out})
    before_mib = peak_mib()
    with steps.timed("look"):
        found = index_sources(survey_sources(config.dataset), probing=False).rows
    prepared = {row.video_id: probed(root, row.entry) for row in found if row.entry is not None}
    with steps.timed("index"):
        indexed = index_sources(survey_sources(config.dataset), known=prepared)
    with steps.timed("split"):
        rows = with_splits(indexed.rows, config.split)
    usable = [row.entry for row in rows if row.entry is not None]
    ledger = Ledger(out, config.store_settings(), config.config_digest)
    with steps.timed("plan"):
        relatives = Relatives.among(usable, config)
        plans = plan_shards(
            usable, config, indexed.roots, ("cpu",), ledger.next_number, relatives, config.config_digest
        )
    ledger.begin(outcome(rows, ledger.rows))
    crop = encode_rgb(np.full((CROP_PX, CROP_PX, 3), 128, np.uint8), "jpeg", 95)
    for plan in plans:
        with steps.timed("write"):
            shard, stored = write_shard(plan, crop)
        with steps.timed("list"):
            ledger.add(shard, stored)
    with steps.timed("tables"):
        ledger.finish(outcome(rows, ledger.rows))
    with steps.timed("report"):
        report = write_report(out)
    with steps.timed("reopen"):
        again = Ledger(out, config.store_settings(), config.config_digest)
        num_missing = sum(not again.is_done(entry) for entry in usable)
    return {
        "num_videos": num_videos,
        "num_indexed": len(indexed.rows),
        "num_planned": sum(len(plan.entries) for plan in plans),
        "num_shards": len(plans),
        "num_stored": report.num_stored,
        "num_records": report.totals["num_records"],
        "num_missing_when_reopened": num_missing,
        "wall_seconds": steps.wall_seconds,
        "cpu_seconds": steps.cpu_seconds,
        "peak_mib": {"start": before_mib, **steps.peak_mib},
    }


def in_child(*words: object) -> dict[str, Any]:
    """Run one measurement in a process of its own, and return what it found."""
    return measure_module(" ".join(map(str, words)), "scale", *words)


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    stores = figures["stores"]
    sizes = [f"{row['num_videos']:,}" for row in stores]
    for name, title, scale in (
        ("wall_seconds", "wall seconds", 1.0),
        ("cpu_seconds", "CPU milliseconds a video: level where linear", 1000.0),
    ):
        table = Table("videos", *sizes, title=f"{title}; {figures['machine']}")
        per = [scale / (row["num_videos"] if name == "cpu_seconds" else 1) for row in stores]
        for step in stores[0][name]:
            table.add_row(step, *(f"{row[name][step] * factor:.3f}" for row, factor in zip(stores, per, strict=True)))
        sums = (sum(row[name].values()) * factor for row, factor in zip(stores, per, strict=True))
        table.add_row("all", *(f"{value:.3f}" for value in sums))
        if name == "wall_seconds":
            table.add_row("peak MiB", *(f"{max(row['peak_mib'].values()):.0f}" for row in stores))
        console.print(table)
    if figures["prefect"]:
        show_servers(console, figures["prefect"])


def main() -> None:
    """Measure, print the tables, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--videos", type=int, nargs="+", default=NUM_VIDEOS, help="numbers of simulated videos, one row each"
    )
    parser.add_argument(
        "--shards", type=int, nargs="*", default=NUM_SHARDS, help="numbers of empty shards, one row each"
    )
    parser.add_argument("--tiny", action="store_true", help="40 and 80 videos, 2 shards: a check that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--videos-here", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.videos_here:
        sys.stdout.write(json.dumps(measure_store(int(options.videos_here[0]), Path(options.videos_here[1]))))
    else:
        figures: dict[str, Any] = {"machine": machine(), "stores": []}
        with tempfile.TemporaryDirectory() as scratch:
            for number in (40, 80) if options.tiny else options.videos:
                folder = Path(scratch, str(number))
                figures["stores"].append(in_child("--videos-here", number, folder))
            shards = (2,) if options.tiny else options.shards
            figures["prefect"] = measure_servers(shards, Path(scratch)) if shards else []
        show(figures)
        write_figures(options.json, figures)


if __name__ == "__main__":
    main()
