"""Measure the cost of a video from file to crops: ours, the usual script, and decoding alone.

    python -m benchmarks.end_to_end [--clips ROOT] [--copies N] [--json FILE]

30 frames of each video, crops of 224 pixels, 1.3 times the face box. Every variant runs in a process of its own, in one
thread, on the same frames of the same files. Seconds are processor time, without imports and the loading of networks:

    stock         every frame read with OpenCV; on each sampled one `facenet_pytorch.MTCNN`, the largest box cut out
                  with its margin, resized, written as a PNG file
    ours          a whole run: index, split, every stage, shards, tables, report; the flow's code without Prefect
    ours, decord  the same with `decode.backend=decord`
    READER        only reading of the sampled frames by a registered decoder; the cheapest is the decode floor
    pyav, FFmpeg's RGB
                  the same frames by the same plan, but 4:4:4 converted by FFmpeg: the floor without our conversion

Then our box of the main face is compared with the stock box in the same frame that overlaps it most. Then the
throughput of several worker processes is measured, and the cost of Prefect: a run on its embedded server is compared
with the same run without it; from empty shards, Prefect's share of the cost of 6,000 videos is extrapolated.

With few videos the fixed costs of a run, such as tables and report, weigh much: `--copies` makes more videos.

Without `--clips` the miniature dataset is used, without its masks, because a stock script reads no masks.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import Steps, cpu_seconds_of, machine, measure_module, write_figures
from benchmarks.helpers.prefect_costs import measure_share, show_share

SIZE_PX = 224
MARGIN = 1.3
SETTINGS = (f"crop.size_px={SIZE_PX}", f"crop.margin={MARGIN}", "detect.device=cpu")
SAME_BOX_IOU = 0.98  # boxes that overlap so far differ by less than a pixel in fifty
FFMPEGS_RGB = "pyav, FFmpeg's RGB"
VIDEOS_SIDE_BY_SIDE = 8  # at least, where worker processes are compared
PROCESSES = (1, 2)
COPIES = "copies"  # folder of the links to them
FEW_SHARDS, MANY_SHARDS = 10, 100  # with nothing in them: the difference is what a shard costs Prefect

Wanted = dict[str, list[int]]  # path of a video → its sampled frames, increasing


def run_stock(wanted: Wanted, out: Path) -> dict[str, Any]:
    """Run the stock script; return its costs and every box that it found."""
    import cv2
    import torch
    from facenet_pytorch import MTCNN

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    out.mkdir(parents=True)
    detector = MTCNN(keep_all=True, device="cpu")
    _, frame = cv2.VideoCapture(next(iter(wanted))).read()
    detector.detect(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))  # loads its libraries before the measurement
    steps, boxes, num_crops = Steps(), dict[str, Any](), 0
    for path, numbers in wanted.items():
        capture, sampled = cv2.VideoCapture(path), set(numbers)
        boxes[path] = {}
        for number in count():
            with steps.timed("decode"):
                is_there, frame = capture.read()
            if not is_there:
                break
            if number not in sampled:
                continue
            with steps.timed("detect"):
                found, _ = detector.detect(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
            boxes[path][number] = [] if found is None else np.asarray(found, dtype=float).tolist()
            if found is None:
                continue
            with steps.timed("crop, write"):
                largest = max(boxes[path][number], key=lambda box: (box[2] - box[0]) * (box[3] - box[1]))
                num_crops += write_crop(frame, largest, out / f"{Path(path).stem}-{number:06d}.png")
        capture.release()
    return {"cpu_seconds": steps.cpu_seconds, "num_crops": num_crops, "boxes": boxes}


def write_crop(frame: npt.NDArray[Any], box: Sequence[float], path: Path) -> bool:
    """Cut a box with its margin, clipped to the frame, out of a BGR frame, and write it as PNG."""
    import cv2

    left, top, right, bottom = box
    half = max(right - left, bottom - top) * MARGIN / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    rows, columns = slice(max(0, int(y - half)), int(y + half)), slice(max(0, int(x - half)), int(x + half))
    return bool(cv2.imwrite(str(path), cv2.resize(frame[rows, columns], (SIZE_PX, SIZE_PX))))


def run_readers(names: Sequence[str], wanted: Wanted) -> dict[str, Any]:
    """Only read the sampled frames, with each registered decoder; return costs by decoder."""
    from tasks.decode import DECODERS, yuv444

    found = {}
    for name in names:
        if name == FFMPEGS_RGB:  # the last variant: no frame has a format that we convert ourselves
            vars(yuv444)["FORMATS"] = frozenset()
        decoder, steps, num_frames = DECODERS[name.partition(",")[0]](), Steps(), 0
        with decoder.open(Path(next(iter(wanted)))) as reader:  # loads its libraries before the measurement
            reader.read(np.zeros(1, dtype=np.int64))
        for path, numbers in wanted.items():
            with steps.timed("decode"), decoder.open(Path(path)) as reader:
                num_frames += len(reader.read(np.array(numbers, dtype=np.int64)))
        found[name] = {"cpu_seconds": steps.cpu_seconds, "num_frames": num_frames}
    return found


def processed_here(jobs: Sequence[Any], stages: Any, steps: Steps) -> Iterator[Any]:
    """Yield the result of each video, in their order; originals are processed before their fakes, as the pool does."""
    from tasks.video.video import process_video

    results = {}
    for number in sorted(range(len(jobs)), key=lambda number: jobs[number].original is not None):
        with steps.timed("videos"):
            results[number] = process_video(jobs[number], stages)
    yield from (results[number] for number in range(len(jobs)))


def write_shards(plans: Sequence[Any], results: Iterator[Any], steps: Steps, ledger: Any) -> None:
    """Write each plan's results as its shard and list it, as `tasks.process` and the flow do."""
    from manifests.videos_table import row_to_plain
    from storage.files.layout import SHARDS_DIR
    from storage.shard import ShardWriter

    for plan in plans:
        rows = []
        with ShardWriter(plan.store_dir / SHARDS_DIR, plan.split, plan.number, plan.config_digest) as writer:
            for result in islice(results, len(plan.entries)):
                with steps.timed("write"):
                    for key, value in result.records:
                        writer.put(key, value)
                done: dict[str, Any] = {"shard": plan.name}
                if result.row.status != "rejected":
                    done |= {"status": "stored", "num_records": len(result.records)}
                rows.append(replace(result.row, **done))
            with steps.timed("write"):
                shard = writer.finish([row_to_plain(row) for row in rows], {})
        with steps.timed("tables"):
            ledger.add(shard, rows)


def run_ours(root: Path, out: Path, assignments: Sequence[str], num_workers: int = 0) -> dict[str, Any]:
    """Take a dataset through a whole run without Prefect; return costs by step and every main face's box.

    Args:
        root: the dataset's folder.
        out: the store's.
        assignments: settings, NAME=VALUE.
        num_workers: real worker processes; 0 processes videos here, and tells the stages apart.
    """
    import cv2
    import scipy.stats  # noqa: F401  # the leakage report would load it
    import torch

    from flows.config.preprocess import load_config
    from flows.report.page import write_report
    from flows.run.relatives import Relatives
    from flows.run.shards import plan_shards
    from flows.run.sources import index_sources, survey_sources
    from flows.run.splitting import with_splits
    from flows.run.workload import outcome
    from storage.files.layout import GEOMETRY_DIR
    from storage.upkeep.ledger import Ledger
    from tasks.video import job
    from tasks.video.stages import Models, Stages
    from tasks.workers.pool import WorkerPool

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    settings = [*SETTINGS, f"runner.workers={max(num_workers, 1)}", *assignments]
    config, steps = load_config(None, settings, {"dataset": {"root": root}, "out": out}), Steps()
    models = None if num_workers else Models.load(config.stages, "cpu")
    stages = Stages.load(config.stages, models) if models else None
    vars(job)["time"] = SimpleNamespace(perf_counter=time.process_time)  # stages count the processor's seconds
    with steps.timed("index"):
        indexed = index_sources(survey_sources(config.dataset))
    with steps.timed("split, plan"):
        rows = with_splits(indexed.rows, config.split)
        usable = [row.entry for row in rows if row.status == "pending" and row.entry is not None]
        ledger = Ledger(out, config.store_settings(), config.config_digest)
        ledger.begin(outcome(rows, ledger.rows))
        relatives = Relatives.among(usable, config)
        plans = plan_shards(
            usable, config, indexed.roots, ("cpu",), ledger.next_number, relatives, config.config_digest
        )
    jobs = [plan.job(entry) for plan in plans for entry in plan.entries]
    if stages and models:  # their libraries are loaded now
        with stages.decoder.open(jobs[0].root / jobs[0].entry.path) as reader:
            models.detector.detect(reader.read(np.zeros(1, dtype=np.int64)))
    else:
        pool = WorkerPool(plans[0].workers)
        list(pool.process(jobs[:num_workers]))  # so that every worker has loaded its networks
        shutil.rmtree(out / GEOMETRY_DIR, ignore_errors=True)
    results = processed_here(jobs, stages, steps) if stages else pool.process(jobs)
    started, cpu = time.perf_counter(), cpu_seconds_of(workers_now())
    write_shards(plans, results, steps, ledger)
    side_by_side = {
        "wall_seconds": time.perf_counter() - started,
        "workers_cpu_seconds": cpu_seconds_of(workers_now()) - cpu,
    }
    if stages is None:
        pool.stop()
    with steps.timed("tables"):
        ledger.finish(outcome(rows, ledger.rows))
    with steps.timed("report"):
        report = write_report(out)
    return {
        "cpu_seconds": by_stage(steps.cpu_seconds, report.stages),
        "num_videos": report.totals["num_indexed"],
        "num_stored": report.num_stored,
        "num_crops": report.totals["num_records"],
        **side_by_side,
        "faces": main_faces(out, root),
    }


def workers_now() -> list[int]:
    """Process ids of this process's workers."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def by_stage(steps: dict[str, float], stages: Sequence[Any]) -> dict[str, float]:
    """Return seconds by step, with the stages of videos in place of their sum."""
    within = {stage.stage: stage.seconds for stage in stages}
    parts = {name: seconds for name, seconds in steps.items() if name != "videos"}
    if "videos" not in steps:  # elsewhere: in workers
        return parts
    first = {name: parts.pop(name) for name in ("index", "split, plan")}
    return first | within | {"pack": steps["videos"] - sum(within.values())} | parts


def main_faces(out: Path, root: Path) -> dict[str, dict[int, list[float] | None]]:
    """Return the stored box of each frame by path and number; None where it was interpolated."""
    from manifests.videos_table import read_table
    from storage.files.layout import VIDEOS_NAME
    from storage.store import RecordStore

    paths = {row.video_id: str(root / row.path) for row in read_table(out / VIDEOS_NAME)}
    faces: dict[str, dict[int, list[float] | None]] = {path: {} for path in paths.values()}
    with RecordStore(out) as store:
        for record in store:
            box = None if record.interpolated[0] else record.boxes_xyxy[0].tolist()
            faces[paths[record.video_id]][int(record.frame_indices[0])] = box
    return faces


def compare_boxes(faces: dict[str, Any], stock: dict[str, Any]) -> dict[str, Any]:
    """Compare each of our boxes with the stock box of the same frame that overlaps it most.

    Args:
        faces: path → frame → our box, None where it was interpolated.
        stock: path → frame → stock's boxes; keys of both are text, as JSON has them.
    """
    pairs = [(box, stock[path].get(number, [])) for path in faces for number, box in faces[path].items()]
    seen = [(box, others) for box, others in pairs if box is not None]
    ious = [max(iou(box, other) for other in others) for box, others in seen if others]
    return {
        "num_frames": len(pairs),
        "num_interpolated": len(pairs) - len(seen),
        "num_without_stock_box": len(seen) - len(ious),
        "num_compared": len(ious),
        "share_same": float(np.mean([value >= SAME_BOX_IOU for value in ious])) if ious else None,
        "min_iou": min(ious, default=None),
        "mean_iou": float(np.mean(ious)) if ious else None,
    }


def iou(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0.0) * max(height, 0.0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (areas - both)


def in_child(scratch: Path, **task: Any) -> dict[str, Any]:
    """Run one variant in a process of its own; add the processor seconds that it took beside its steps."""
    order = scratch / "order.json"
    order.write_text(json.dumps(task))
    return measure_module(str(task["run"]), "end_to_end", "--child", order)


def child(order: dict[str, Any]) -> dict[str, Any]:
    """Run the variant that the parent process orders."""
    if order["run"] == "stock":
        return run_stock(order["wanted"], Path(order["out"]))
    if order["run"] == "readers":
        return run_readers(order["names"], order["wanted"])
    return run_ours(Path(order["root"]), Path(order["out"]), order["settings"], order.get("workers", 0))


def lay_out_copies(root: Path, copies: Path, num_videos: int) -> int:
    """Link the videos of an FF++ tree as originals of other names, each in turn; return how many there are."""
    sources = sorted(path for path in root.rglob("*.mp4") if "masks" not in path.parts)
    folder = copies / "original_sequences/youtube/c23/videos"
    folder.mkdir(parents=True)
    num_copies = max(num_videos, len(sources))
    for number, source in zip(range(num_copies), cycle(sources), strict=False):
        (folder / f"{number:03d}.mp4").symlink_to(source.resolve())
    return num_copies


def measure_variants(root: Path, scratch: Path, settings: list[str]) -> dict[str, Any]:
    """Run every variant over the same frames of the same files."""
    from tasks.decode import DECODERS

    kinds = {"ours": settings, "ours, decord": [*settings, "decode.backend=decord"]}
    ours = {
        name: in_child(scratch, run="ours", root=str(root), out=str(scratch / f"store-{number}"), settings=asked)
        for number, (name, asked) in enumerate(kinds.items())
    }
    wanted = {path: sorted(map(int, faces)) for path, faces in ours["ours"]["faces"].items() if faces}
    stock = in_child(scratch, run="stock", wanted=wanted, out=str(scratch / "png"))
    names = [*DECODERS, FFMPEGS_RGB]
    found = in_child(scratch, run="readers", names=names, wanted=wanted)
    readers = {name: found[name] for name in names}
    boxes = {name: compare_boxes(found.pop("faces"), stock["boxes"]) for name, found in ours.items()}
    stock.pop("boxes")
    num_videos = ours["ours"]["num_videos"]
    rows = {
        name: found | {"cpu_seconds_per_video": sum(found["cpu_seconds"].values()) / num_videos}
        for name, found in {"stock": stock, **ours, **readers}.items()
    }
    floor = min(readers, key=lambda name: float(rows[name]["cpu_seconds_per_video"]))
    for row in rows.values():
        row["times_faster_than_stock"] = rows["stock"]["cpu_seconds_per_video"] / row["cpu_seconds_per_video"]
        row["times_the_floor"] = row["cpu_seconds_per_video"] / rows[floor]["cpu_seconds_per_video"]
    num_frames = sum(map(len, wanted.values()))
    return {"num_videos": num_videos, "num_frames": num_frames, "floor": floor, "variants": rows, "boxes": boxes}


def measure_side_by_side(
    root: Path, scratch: Path, settings: list[str], num_videos: int, processes: Sequence[int]
) -> list[dict[str, Any]]:
    """Run the real worker pool on copies of the clips; one row for each number of processes."""
    copies, rows = scratch / COPIES, list[dict[str, Any]]()
    num_copies = lay_out_copies(root, copies, num_videos)
    for number in processes:
        out = scratch / f"pool-{number}"
        found = in_child(scratch, run="ours", root=str(copies), out=str(out), settings=settings, workers=number)
        found.pop("faces")
        per_second = num_copies / found["wall_seconds"]
        first = rows[0]["videos_per_second"] / rows[0]["processes"] if rows else per_second / number
        rows.append(
            {
                "processes": number,
                "num_videos": num_copies,
                "num_stored": found["num_stored"],
                "videos_per_second": per_second,
                "efficiency": per_second / number / first,
                "workers_cpu_seconds_per_video": found["workers_cpu_seconds"] / num_copies,
                # Of the whole process, less the videos that do not count.
                "cpu_seconds": found["process_cpu_seconds"] - found["workers_cpu_seconds"] / num_copies * number,
                "wall_seconds": found["process_wall_seconds"] - found["wall_seconds"] / num_copies * number,
            }
        )
    return rows


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    title = f"{figures['num_videos']} videos, {figures['num_frames']} frames, one thread; {figures['machine']}"
    table = Table("variant", "CPU-s a video", "faster than stock", "times the floor", title=title)
    for name, row in figures["variants"].items():
        numbers = (row["cpu_seconds_per_video"], row["times_faster_than_stock"], row["times_the_floor"])
        table.add_row(name, *(f"{value:.2f}" for value in numbers))
    console.print(table)
    whole = {name: row["cpu_seconds"] for name, row in figures["variants"].items()}
    table = Table("stage", *whole, title="CPU-s a video by stage")
    for stage in dict.fromkeys(stage for seconds in whole.values() for stage in seconds):
        values = (seconds.get(stage) for seconds in whole.values())
        table.add_row(stage, *("" if value is None else f"{value / figures['num_videos']:.3f}" for value in values))
    console.print(table)
    names = ("variant", "frames", "interpolated", "compared", f"IoU ≥ {SAME_BOX_IOU}", "least IoU", "stock has none")
    table = Table(*names, title="main face against the stock box of the same face")
    for name, row in figures["boxes"].items():
        counts = map(str, (row["num_frames"], row["num_interpolated"], row["num_compared"]))
        overlap = ("–", "–") if row["min_iou"] is None else (f"{row['share_same']:.1%}", f"{row['min_iou']:.4f}")
        table.add_row(name, *counts, *overlap, str(row["num_without_stock_box"]))
    console.print(table)
    table = Table("processes", "videos", "videos/s", "efficiency", "CPU-s a video", title="worker processes")
    for row in figures["side_by_side"]:
        speeds = (f"{row['videos_per_second']:.3f}", f"{row['efficiency']:.0%}")
        seconds = f"{row['workers_cpu_seconds_per_video']:.2f}"
        table.add_row(str(row["processes"]), str(row["num_videos"]), *speeds, seconds)
    console.print(table)
    if figures["prefect"]:
        show_share(console, figures["prefect"])


def make_miniature(root: Path, *, tiny: bool) -> None:
    """Make a pair of people in both directions without masks; of a tiny one, the originals alone."""
    from manifests.miniature import write_miniature

    write_miniature(root, num_pairs=1, seconds=(0.6, 0.8) if tiny else (2.0, 4.0))
    for masks in sorted(root.glob("manipulated_sequences/*/masks")):
        shutil.rmtree(masks)
    if tiny:
        shutil.rmtree(root / "manipulated_sequences")


def main() -> None:
    """Measure, print the tables, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, metavar="ROOT", help="a FaceForensics++ tree; else the miniature is made")
    parser.add_argument("--frames", type=int, default=30, help="frames of each video")
    parser.add_argument("--copies", type=int, metavar="N", help="links to the clips, so that there are N videos")
    parser.add_argument("--no-prefect", action="store_true", help="leave out the cost of Prefect")
    parser.add_argument("--tiny", action="store_true", help="two short videos, 4 frames each: a check that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(child(json.loads(options.child.read_text()))))
        return
    settings = [f"frames.count={4 if options.tiny else options.frames}"]
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        root = options.clips.resolve() if options.clips else scratch / "miniature"
        if not options.clips:
            make_miniature(root, tiny=options.tiny)
        if options.copies:
            lay_out_copies(root, scratch / "more", options.copies)
            root = scratch / "more"
        figures: dict[str, Any] = {"machine": machine(), "clips": options.clips and str(options.clips)}
        figures |= measure_variants(root, scratch, settings)
        num_videos, processes = (2, (1,)) if options.tiny else (VIDEOS_SIDE_BY_SIDE, PROCESSES)
        figures["side_by_side"] = measure_side_by_side(root, scratch, settings, num_videos, processes)
        shards = (1, 2) if options.tiny else (FEW_SHARDS, MANY_SHARDS)
        plain = figures["side_by_side"][0]
        figures["prefect"] = (
            None
            if options.no_prefect
            else measure_share(scratch / COPIES, scratch, [*SETTINGS, *settings], plain, shards)
        )
    show(figures)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
