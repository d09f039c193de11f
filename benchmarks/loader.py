"""Compare the loader with the decoding of JPEG alone, and check that its memory does not grow.

    python -m benchmarks.loader [--store OUT] [--workers 1 2 4] [--rounds 5] [--json FILE]

For each number of workers these are measured in turns, so that other load on the machine affects all alike:

    limit        the same number of processes that only decode the store's crops, which they hold in memory
    images       the loader without masks and without augmentation
    masks        the same with masks, which are PNGs that the limit does not decode
    augmented    the same with the paper's augmentation

The loop over the batches reads only the labels, as a loop that hands pixels to a GPU would; the pixels are copied into
its own memory nevertheless. `wall` is the ratio of images per second to the limit's, `cpu` the ratio of processor time,
which does not depend on the number of free cores. Both are medians over the rounds. Without `--store` the store is
synthetic: a portrait in many variations, 320 pixels, JPEG of quality 95.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import cycle
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import cpu_seconds_of, write_figures
from benchmarks.helpers.made_records import DIGEST, make_record
from benchmarks.helpers.portrait import portrait
from storage.files.layout import SHARDS_DIR
from storage.format.encoding import encode_record
from storage.format.images import decode_rgb, encode_gray, encode_rgb
from storage.format.record import Record
from storage.index import StoreIndex, write_index
from storage.records_table import write_records_table
from storage.shard import ShardWriter
from storage.store import RecordStore
from training.data.augment import PaperAugmentation, Resize, Transform
from training.data.dataset import StoreDataset
from training.data.loader import Loader, StartMethod, make_loader
from training.data.order import BlockShuffle

SIZE_PX = 320  # preset m2tr
QUALITY = 95  # of the crops, the settings' default
BATCH = 32
FRAMES = 32  # of each video
MAX_LIMIT_CROPS = 4096  # that the limit decodes; 200 MB, in random order as the loader does


def make_store(path: Path, num_videos: int) -> None:
    """Write a store of single frames; every other video is fake and has masks."""
    with ShardWriter(path / SHARDS_DIR, "train", 0, DIGEST) as writer:
        for video in range(num_videos):
            for frame in range(FRAMES):
                record = make_portrait(video, frame)
                writer.put(record.key, encode_record(record))
        shard = writer.finish([], {})
    values: dict[str, Any] = {"faceshards_version": "0", "config_digest": DIGEST, "config": {}}
    write_index(path, StoreIndex(complete=True, shards=(shard,), **values))
    write_records_table(path)


def make_portrait(video: int, frame: int) -> Record:
    """Return the record of a part of the portrait, enlarged, with the noise of a camera."""
    rng = np.random.default_rng((video, frame))
    top, left, side = 20 + video % 20, 130 + frame, int(rng.integers(140, 180))
    part = portrait()[top : top + side, left : left + side]
    enlarged = cv2.resize(part, (SIZE_PX, SIZE_PX), interpolation=cv2.INTER_CUBIC)
    crop = (enlarged + rng.normal(0, 2, enlarged.shape)).clip(0, 255).astype(np.uint8)
    mask = np.zeros((SIZE_PX, SIZE_PX), np.uint8)
    cv2.ellipse(mask, (160 + frame, 170), (80, 110), video, 0, 360, 255, -1)
    is_fake = video % 2 == 1
    video_id = f"bench/{video:05d}"
    kind: dict[str, Any] = {"manipulation": "Deepfakes", "label": 1, "masks_encoded": (encode_gray(mask),)}
    return make_record(video_id, frame, encode_rgb(crop, "jpeg", QUALITY), **(kind if is_fake else {}))


def resident_mib(pids: list[int]) -> float:
    """Return the resident memory of processes, MiB; shared memory counts in each."""
    pages = [int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) for pid in pids]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def workers_now() -> list[int]:
    """Process ids of this process's workers."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def decode_only(crops: list[bytes], seconds: float, start: Barrier, results: Any) -> None:
    """Decode in one process of the limit; report (images, wall seconds, CPU seconds)."""
    cv2.setNumThreads(0)
    decode_rgb(crops[0])
    start.wait()
    began, cpu, num_images = time.perf_counter(), time.process_time(), 0
    for data in cycle(crops):
        decode_rgb(data)
        num_images += 1
        if num_images % BATCH == 0 and time.perf_counter() - began >= seconds:
            break
    results.put((num_images, time.perf_counter() - began, time.process_time() - cpu))


def measure_limit(crops: list[bytes], num_workers: int, seconds: float) -> tuple[float, float]:
    """Return (images per second of all, CPU seconds per image) of decoding alone."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(num_workers), context.Queue()
    workers = [context.Process(target=decode_only, args=(crops, seconds, start, results)) for _ in range(num_workers)]
    for worker in workers:
        worker.start()
    measured = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    num_images, _, cpu = (sum(column) for column in zip(*measured, strict=True))
    return sum(images / wall for images, wall, _ in measured), cpu / num_images


def measure_loader(batches: Iterator[Any], pids: list[int], seconds: float) -> tuple[float, float]:
    """Return (images per second, CPU seconds per image in the workers) of a running loader."""
    began, cpu, num_images = time.perf_counter(), cpu_seconds_of(pids), 0
    for batch in batches:
        num_images += len(batch.labels)
        if time.perf_counter() - began >= seconds:
            break
    return num_images / (time.perf_counter() - began), (cpu_seconds_of(pids) - cpu) / num_images


def forever(loader: Loader) -> Iterator[Any]:
    """Yield the batches of epoch after epoch."""
    while True:
        yield from loader


@contextmanager
def opened(
    path: Path, num_workers: int, transform: Transform, with_masks: bool, start: StartMethod
) -> Iterator[tuple[Loader, list[int]]]:
    """Yield a loader and the process ids of its workers, which end with the block."""
    dataset = StoreDataset(path, "train", transform=transform, with_masks=with_masks)
    sampler = BlockShuffle(dataset.labels, dataset.methods, balance="none")
    before = set(workers_now())
    loader = make_loader(dataset, sampler, BATCH, num_workers, start_method=start, drop_last=True)
    for _ in loader:  # every page and every library is there; and the workers have started
        pass
    try:
        yield loader, [pid for pid in workers_now() if pid not in before]
    finally:
        loader.close()


def compare(path: Path, num_workers: int, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return the rows of the first table for one number of workers."""
    with RecordStore(path, "train") as store:
        size = store[0].crops.shape[1]
        order = np.random.default_rng(0).permutation(len(store))[:MAX_LIMIT_CROPS]
        crops = [store[number].crops_encoded[0] for number in order]
    kinds: dict[str, tuple[Transform, bool]] = {
        "images": (Resize(size), False),
        "masks": (Resize(size), True),
        "augmented": (PaperAugmentation(size), True),
    }
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("limit", *kinds)}
    for name, (transform, with_masks) in kinds.items():
        with opened(path, num_workers, transform, with_masks, "fork") as (loader, pids):
            batches = forever(loader)
            limits = []
            for _ in range(rounds):
                limits.append(measure_limit(crops, num_workers, seconds))
                for _ in range(3 * num_workers):  # workers filled their queues while the limit was measured
                    next(batches)
                found[name].append(measure_loader(batches, pids, seconds))
            found["limit"] += limits
            ratios = [(mine[0] / limit[0], limit[1] / mine[1]) for mine, limit in zip(found[name], limits, strict=True)]
            found[f"{name} ratio"] = ratios
    ones = [(1.0, 1.0)]
    return [
        {
            "workers": num_workers,
            "what": name,
            "images_per_second": statistics.median(rate for rate, _ in found[name]),
            "cpu_ms_per_image": 1000 * statistics.median(cpu for _, cpu in found[name]),
            "wall_ratio": statistics.median(wall for wall, _ in found.get(f"{name} ratio", ones)),
            "cpu_ratio": statistics.median(cpu for _, cpu in found.get(f"{name} ratio", ones)),
        }
        for name in ("limit", *kinds)
    ]


def watch_memory(path: Path, start: StartMethod, num_epochs: int) -> list[dict[str, Any]]:
    """Return the resident memory after each epoch, with two workers, masks and augmentation."""
    rows = []
    with RecordStore(path, "train") as store:
        size = store[0].crops.shape[1]
    with opened(path, 2, PaperAugmentation(size), True, start) as (loader, pids):
        for epoch in range(1, num_epochs + 1):
            num_images = sum(int(batch.images.shape[0]) for batch in loader)
            own, theirs = resident_mib([os.getpid()]), resident_mib(pids)
            rows.append({"start": start, "epoch": epoch, "images": num_images, "own_mib": own, "workers_mib": theirs})
    return rows


def show(title: str, rows: list[dict[str, Any]], shown: Callable[[Any], str]) -> None:
    """Print rows as a table."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*map(shown, row.values()))
    Console().print(table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, help="a store whose split `train` is read; a synthetic one otherwise")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each measurement")
    parser.add_argument("--epochs", type=int, default=6, help="epochs over which memory is measured")
    parser.add_argument("--start", choices=get_args(StartMethod), nargs="+", default=["fork", "spawn"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        path = options.store or Path(scratch)
        if options.store is None:
            make_store(path, num_videos=24)
        rates = [row for number in options.workers for row in compare(path, number, options.rounds, options.seconds)]
        memory = [row for start in options.start for row in watch_memory(path, start, options.epochs)]
    show(
        "images per second, by workers", rates, lambda value: f"{value:.3g}" if isinstance(value, float) else str(value)
    )
    show("memory", memory, lambda value: f"{value:.0f}" if isinstance(value, float) else str(value))
    write_figures(options.json, {"rates": rates, "memory": memory})


if __name__ == "__main__":
    main()
