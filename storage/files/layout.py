"""What a store is made of on disk, and the few file operations that keep it whole.

    OUT/
    ├── index.json        which shards, their digests, the configuration: `storage.index`
    ├── videos.parquet    one row per indexed video: `manifests.videos_table`
    ├── records.parquet   one row per record: `storage.records_table`
    ├── report.json       totals of the last run
    ├── report.html       the same for people
    ├── config.yaml       the configuration, to be given to the next run
    ├── difference.json   what the last run that changed something changed: `flows.report.difference`
    ├── versions/         copies of all these files as earlier runs left them: `storage.upkeep.versions`
    ├── .lock             held while a run writes
    ├── .geometry/        only while a run lasts: where the people of originals are, for their fakes
    └── shards/
        └── train-00000.lmdb …   records: `storage.shard`, `storage.format.encoding`

A file appears under its name only when it is complete and synced; until then it is called `.partial-…`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from manifests.entry import SPLITS
from manifests.errors import StoreBusy

FORMAT_VERSION = 1  # of index, shards and records together; a reader refuses every other number

# Raised with each change of code by which some record of some dataset gets other bytes under the same settings and
# weights; `remake=code` compares it. Shards carry it in `made_with`; those from before it was recorded have version 1.
RECORDS_VERSION = 1
RECORDS_VERSION_KEY = "records version"  # in `made_with`, beside versions of distributions and digests of model files

INDEX_NAME = "index.json"
VIDEOS_NAME = "videos.parquet"
RECORDS_NAME = "records.parquet"
REPORT_JSON_NAME = "report.json"
REPORT_HTML_NAME = "report.html"
CONFIG_NAME = "config.yaml"
DIFFERENCE_NAME = "difference.json"
VERSION_NAME = "version.json"
VERSIONS_DIR = "versions"
LOCK_NAME = ".lock"
GEOMETRY_DIR = ".geometry"
SHARDS_DIR = "shards"
# What a store keeps beside its index and shards; each may be missing.
BESIDE_INDEX = (VIDEOS_NAME, RECORDS_NAME, CONFIG_NAME, REPORT_JSON_NAME, REPORT_HTML_NAME, DIFFERENCE_NAME)
SHARD_SUFFIX = ".lmdb"
PARTIAL_PREFIX = ".partial-"


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard, such as `train-00003.lmdb`.

    Raises:
        ValueError: an unknown split or a negative number.
    """
    if split not in SPLITS:
        raise ValueError(f"split of a shard: got {split!r}, expected one of {list(SPLITS)}")
    if number < 0:
        raise ValueError(f"number of a shard: got {number}, expected 0 or more")
    return f"{split}-{number:05d}{SHARD_SUFFIX}"


def parse_shard_name(name: str) -> tuple[str, int] | None:
    """Return split and number of a shard's file name, or None for another file."""
    split, _, number = name.removesuffix(SHARD_SUFFIX).rpartition("-")
    if split not in SPLITS or not number.isdecimal() or name != shard_name(split, int(number)):
        return None
    return split, int(number)


def video_id_of(key: str) -> str:
    """Return the video's part of a record's key: all but the last two parts, person and frame."""
    return key.rsplit("/", 2)[0]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is seen with all its bytes or, after a crash at any moment, as it was before."""
    partial = path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}")
    try:
        partial.write_bytes(data)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file to disk and give it its name; both paths lie in one folder."""
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Sync the names of a folder's files to disk: they are data of the folder."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_partials(folder: Path) -> tuple[str, ...]:
    """Delete what killed runs left half-written in a folder; call it under `lock_store`.

    Returns:
        The names that were deleted.
    """
    leftovers = sorted(folder.glob(f"{PARTIAL_PREFIX}*"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return tuple(leftover.name for leftover in leftovers)


@contextmanager
def lock_store(store_dir: Path) -> Iterator[None]:
    """Hold the right to write to a store, creating its folder; the kernel lets go when the process ends in any way.

    Raises:
        StoreBusy: another process, or another run in this one, holds it.
    """
    import fcntl  # here, since reading a store works on systems without it

    store_dir.mkdir(parents=True, exist_ok=True)
    # The file stays when the lock is given back: deleting it would let two later runs lock two different files.
    # It is closed on exec, so spawned workers that outlive a killed run do not keep the store busy.
    with (store_dir / LOCK_NAME).open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise StoreBusy(
                f"store {store_dir}: got a lock held by process {lock.read().strip() or 'unknown'}, "
                "expected no other run; wait until it ends, or end it"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
