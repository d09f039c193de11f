"""Measure how fast records are written to and read from a store, raw files, tar and a memory map.

    python -m benchmarks.store [--records 8000] [--seconds 2] [--json FILE]

The crops are parts of a public-domain portrait with a camera's noise, 224 pixels, as the settings' default has them.

    write     records per second by the number of records per transaction, and by `ShardWriter` with the same records
    read      raw bytes of the same records from `RecordStore`, one file per record, one tar file and one memory map, in
              random order and in the store's order; then with the crop decoded
    formats   bytes of a crop, and milliseconds to encode and decode it

Everything is read from the page cache: the software is measured, not the disk. Reading rates are by processor time, so
that other load on the machine does not count. A synced transaction waits for the disk, so writing rates are given by
processor time and by the clock.
"""

from __future__ import annotations

import argparse
import hashlib
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, get_args

import cv2
import lmdb
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import machine, write_figures
from benchmarks.helpers.made_records import DIGEST, make_record
from benchmarks.helpers.portrait import portrait
from storage.files.layout import SHARDS_DIR
from storage.format.encoding import decode_record, encode_record
from storage.format.images import ImageFormat, decode_rgb, encode_rgb
from storage.index import StoreIndex, write_index
from storage.shard import ShardWriter
from storage.store import RecordStore

SIZE_PX = 224  # the settings' default
QUALITY = 95  # JPEG quality, also the settings' default
NUM_PICTURES = 64  # different crops, which the records use in turn
FRAMES_PER_VIDEO = 32
TRANSACTIONS = (1, 100, 1_000, 10_000)  # records each
MAX_SINGLE_WRITES = 2_000  # largest number of records that are written one per transaction
MAP_BYTES = 2**36  # address space, not disk

Items = Sequence[tuple[str, bytes]]  # (key, encoded record), keys increasing
Read = Callable[[int], bytes]  # a record's bytes by its number


def make_crops(count: int) -> list[npt.NDArray[np.uint8]]:
    """Return (S,S,3) uint8 RGB parts of the portrait, enlarged, with noise of two grey levels."""
    rng = np.random.default_rng(0)
    whole, crops = portrait(), []
    for number in range(count):
        top, left, side = 20 + number % 20, 130 + number % 17, int(rng.integers(140, 180))
        part = cv2.resize(whole[top : top + side, left : left + side], (SIZE_PX, SIZE_PX))
        crops.append((part + rng.normal(0, 2, part.shape)).clip(0, 255).astype(np.uint8))
    return crops


def make_items(num_records: int) -> Items:
    """Return encoded records of single frames, as a run makes them."""
    pictures = [encode_rgb(crop, "jpeg", QUALITY) for crop in make_crops(min(NUM_PICTURES, num_records))]
    places = (divmod(number, FRAMES_PER_VIDEO) for number in range(num_records))
    records = (
        make_record(f"bench/{video:05d}", frame, pictures[number % len(pictures)])
        for number, (video, frame) in enumerate(places)
    )
    return [(record.key, encode_record(record)) for record in records]


def measure_writes(items: Items, folder: Path) -> list[dict[str, Any]]:
    """Write the same records by transactions of several sizes, each synced or none, and as `ShardWriter` does."""
    rows = [write_directly(items, folder, size, synced) for synced in (True, False) for size in TRANSACTIONS]
    cpu, wall = time.process_time(), time.perf_counter()
    with ShardWriter(folder / SHARDS_DIR, "train", 0, DIGEST) as writer:
        for key, value in items:
            writer.put(key, value)
        shard = writer.finish([], {})
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    row: dict[str, Any] = {"what": "ShardWriter, synced once, with its digests", "num_records": shard.num_records}
    row["space_ratio"] = shard.num_bytes / sum(len(value) for _, value in items)
    rows.append(row | rates(len(items), cpu, wall))
    values: dict[str, Any] = {"faceshards_version": "0", "config_digest": DIGEST, "config": {}}
    write_index(folder, StoreIndex(complete=True, shards=(shard,), **values))
    return rows


def write_directly(items: Items, folder: Path, size: int, synced: bool) -> dict[str, Any]:
    """Write records into an LMDB file by transactions of one size; the file is then deleted."""
    chosen = items[:MAX_SINGLE_WRITES] if size == 1 else items
    path = folder / "direct.lmdb"
    with lmdb.open(str(path), map_size=MAP_BYTES, subdir=False, lock=False, sync=synced, metasync=synced) as store:
        cpu, wall = time.process_time(), time.perf_counter()
        for start in range(0, len(chosen), size):
            with store.begin(write=True) as transaction:
                for key, value in chosen[start : start + size]:
                    transaction.put(key.encode("ascii"), value, append=True)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        row: dict[str, Any] = {"num_records": store.stat()["entries"]}
    path.unlink()
    row["what"] = f"{size:,} a transaction, {'each synced' if synced else 'none synced'}"
    return row | rates(len(chosen), cpu, wall)


def rates(num_records: int, cpu_seconds: float, wall_seconds: float) -> dict[str, float]:
    """Return the records per second by processor time and by the clock."""
    return {"per_cpu_second": num_records / cpu_seconds, "per_second": num_records / wall_seconds}


@contextmanager
def readers(items: Items, folder: Path) -> Iterator[dict[str, Read]]:
    """Store the records in four ways, and yield a function for each that reads a record by its number."""
    files, archive, flat = folder / "files", folder / "records.tar", folder / "records.bin"
    files.mkdir()
    offsets = np.cumsum([0, *(len(value) for _, value in items)])
    with tarfile.open(archive, "w") as tar, flat.open("wb") as whole:
        for number, (_, value) in enumerate(items):
            path = files / f"{number:06d}.bin"
            path.write_bytes(value)
            tar.add(path, arcname=path.name)
            whole.write(value)
    with ExitStack() as opened:
        store = opened.enter_context(RecordStore(folder))
        tar = opened.enter_context(tarfile.open(archive))
        members = {member.name: member for member in tar.getmembers()}
        mapped = np.memmap(flat, dtype=np.uint8, mode="r")

        def from_tar(number: int) -> bytes:
            file = tar.extractfile(members[f"{number:06d}.bin"])
            return b"" if file is None else file.read()

        yield {
            "RecordStore": lambda number: store.encoded(number)[1],
            "one file a record": lambda number: (files / f"{number:06d}.bin").read_bytes(),
            "tar, its members known": from_tar,
            "memory map, offsets known": lambda number: mapped[offsets[number] : offsets[number + 1]].tobytes(),
        }


def measure_reads(items: Items, folder: Path, seconds: float) -> list[dict[str, Any]]:
    """Read in random order and in the store's, raw and decoded."""
    orders = {"random": np.random.default_rng(0).permutation(len(items)), "in order": np.arange(len(items))}
    rows = []
    with readers(items, folder) as ways:
        for name, read in ways.items():
            row: dict[str, Any] = {
                "what": name,
                "identical": all(read(n) == value for n, (_, value) in enumerate(items)),
            }
            for order, numbers in orders.items():
                row[order] = rate(read, numbers.tolist(), seconds)
            row["decoded"] = rate(partial(decoded, read), orders["random"].tolist(), seconds)
            rows.append(row)
    return rows


def decoded(read: Read, number: int) -> npt.NDArray[np.uint8]:
    """Return a record's crop (S,S,3) after checking its bytes, as a training loader does."""
    return decode_rgb(decode_record(read(number)).crops_encoded[0])


def rate(read: Callable[[int], object], numbers: Iterable[int], seconds: float) -> float:
    """Return the records per second of processor time, over repeated rounds of these numbers."""
    turns = cycle(numbers)
    read(next(turns))
    start, count = time.process_time(), 0
    while (spent := time.process_time() - start) < seconds:
        for _ in range(64):  # asking for the time costs as much as a read
            read(next(turns))
        count += 64
    return count / spent


def measure_formats(rounds: int) -> list[dict[str, Any]]:
    """Encode and decode the same crops in each format of the settings."""
    crops, rows = make_crops(NUM_PICTURES), []
    for name in get_args(ImageFormat):
        start = time.process_time()
        for _ in range(rounds):
            pictures = [encode_rgb(crop, name, QUALITY) for crop in crops]
        encoding = time.process_time() - start
        start = time.process_time()
        for _ in range(rounds):
            back = [decode_rgb(picture) for picture in pictures]
        decoding = time.process_time() - start
        differences = [np.abs(one.astype(int) - other).max() for one, other in zip(crops, back, strict=True)]
        row = {"format": name, "bytes": float(np.mean([len(picture) for picture in pictures]))}
        times = {"encode_ms": encoding, "decode_ms": decoding}
        row |= {key: 1000 * value / rounds / len(crops) for key, value in times.items()}
        digest = hashlib.sha256(b"".join(pictures)).hexdigest()
        rows.append(row | {"largest_difference": int(max(differences)), "sha256": digest})
    return rows


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    table = Table("written", "records/CPU-s", "records/s", title=f"JPEG crops; {figures['machine']}")
    for row in figures["writes"]:
        table.add_row(row["what"], f"{row['per_cpu_second']:,.0f}", f"{row['per_second']:,.0f}")
    console.print(table)
    names = ("read", "random", "in order", "random, decoded", "identical")
    table = Table(*names, title="records per second of processor time")
    for row in figures["reads"]:
        speeds = (f"{row[name]:,.0f}" for name in ("random", "in order", "decoded"))
        table.add_row(row["what"], *speeds, "yes" if row["identical"] else "NO")
    console.print(table)
    table = Table("format", "bytes", "encode ms", "decode ms", "largest difference", title="a crop of 224 pixels")
    for row in figures["formats"]:
        times = (f"{row['encode_ms']:.2f}", f"{row['decode_ms']:.2f}", str(row["largest_difference"]))
        table.add_row(row["format"], f"{row['bytes']:,.0f}", *times)
    console.print(table)


def main() -> None:
    """Measure, print the tables, and write JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=8_000, help="records to write and read; 20 kB each")
    parser.add_argument("--seconds", type=float, default=2.0, help="seconds of each measurement of reading")
    parser.add_argument("--tiny", action="store_true", help="100 records: a check that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    if options.tiny:
        options.records, options.seconds = 100, 0.02
    cv2.setNumThreads(1)
    figures: dict[str, Any] = {"machine": machine(), "num_records": options.records}
    with tempfile.TemporaryDirectory() as scratch:
        items = make_items(options.records)
        figures["writes"] = measure_writes(items, Path(scratch))
        figures["reads"] = measure_reads(items, Path(scratch), options.seconds)
    figures["formats"] = measure_formats(1 if options.tiny else 5)
    show(figures)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
