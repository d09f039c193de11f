"""Files and folders of a store, and the lock that a writer holds.

    OUT/
    ├── index.json        the shards, their digests, the configuration: `storage.index`
    ├── videos.parquet    one row per indexed video: `manifests.videos_table`
    ├── records.parquet   one row per record: `storage.records_table`
    ├── ignored.json      files of the datasets that are no videos: `manifests.datasets.ignored`
    ├── report.json       totals of the last run
    ├── report.html       the same for people
    ├── config.yaml       the configuration, to be given to the next run
    ├── difference.json   changes of the last run that made any: `flows.report.difference`
    ├── versions/         copies of all these files from earlier runs: `storage.upkeep.versions`
    ├── .lock             held while a run writes
    ├── .geometry/        only while a run lasts: positions of people in originals, for their fakes
    └── shards/
        └── train-00000.lmdb …   records: `storage.shard`, `storage.format.encoding`

Each file is written by `manifests.files.written_whole`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from manifests.entry import SPLITS
from manifests.errors import StoreBusy, StoreError
from manifests.files import locked

FORMAT_VERSION = 1  # of index, shards and records together; a reader refuses every other number

# Raised with each change of code that changes the bytes of any record under the same settings and weights;
# `remake=code` compares it. Shards hold it in `made_with`; shards made before it was recorded have version 1.
RECORDS_VERSION = 2
RECORDS_VERSION_KEY = "records version"  # in `made_with`, beside versions of distributions and digests of model files

INDEX_NAME = "index.json"
VIDEOS_NAME = "videos.parquet"
RECORDS_NAME = "records.parquet"
REPORT_JSON_NAME = "report.json"
REPORT_HTML_NAME = "report.html"
CONFIG_NAME = "config.yaml"
IGNORED_NAME = "ignored.json"
DIFFERENCE_NAME = "difference.json"
VERSION_NAME = "version.json"
VERSIONS_DIR = "versions"
LOCK_NAME = ".lock"
GEOMETRY_DIR = ".geometry"
SHARDS_DIR = "shards"
# Files of a store beside its index and shards; each may be missing.
BESIDE_INDEX = (
    *(VIDEOS_NAME, RECORDS_NAME, CONFIG_NAME, IGNORED_NAME, REPORT_JSON_NAME, REPORT_HTML_NAME),
    DIFFERENCE_NAME,
)
SHARD_SUFFIX = ".lmdb"


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


@contextmanager
def lock_store(store_dir: Path) -> Iterator[None]:
    """Hold the lock for writing to a folder, such as a store's, and create the folder; a killed process releases it.

    Raises:
        StoreBusy: another process, or another run in this one, holds it.
        StoreError: the lock is not a file that can be written, or the folder's file system has no locks.
    """
    store_dir.mkdir(parents=True, exist_ok=True)
    path = store_dir / LOCK_NAME
    with ExitStack() as stack:
        try:
            if os.path.lexists(path) and not path.is_file():
                raise FileExistsError(errno.EEXIST, "not a file")
            stack.enter_context(locked(path, wait=False))
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
        except BlockingIOError as error:
            holder = path.read_bytes()[:20].decode(errors="replace").strip() or "unknown"
            raise StoreBusy(
                f"store {store_dir}: got a lock held by process {holder}, "
                "expected no other run; wait until it ends, or end it"
            ) from error
        except OSError as error:
            raise StoreError(
                f"lock {path}: got {error.strerror or error}, expected a file that can be written and locked; "
                "delete it, or correct its rights"
            ) from error
        yield
