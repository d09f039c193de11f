"""Read-only LMDB environments, one per file and process.

py-lmdb refuses to open a file twice in one process, and two readers of one store are common (training, and inspection
of single records). So all readers of a file share one environment; the last one to release it closes it. A forked child
closes the environments that it inherits, and each reader opens its own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lmdb

from manifests.errors import StoreCorrupt, StoreError

MIN_LMDB_BYTES = 8192  # two meta pages; for a smaller file LMDB's own message is misleading


@dataclass(slots=True, kw_only=True)
class SharedEnvironment:
    """One open file."""

    environment: lmdb.Environment
    """Read-only, without a lock file."""

    identity: tuple[int, int]
    """Device and inode."""

    num_users: int
    """Number of readers that have not released it."""


class _OpenFiles:
    """The open environments of this process, by identity, and the lock that guards them."""

    def __init__(self) -> None:
        self.shared: dict[tuple[int, int], SharedEnvironment] = {}
        self.guard = threading.Lock()


_open_files = _OpenFiles()


def acquire(path: Path, num_bytes: int | None = None) -> SharedEnvironment:
    """Return the open environment of a file; `release` it when done.

    Args:
        path: one LMDB file (`subdir=False`).
        num_bytes: size that the file must have, if it is known.

    Raises:
        StoreCorrupt: no file, not an LMDB file, or cut off (reading a mapped page that is missing kills a process).
        StoreError: the file cannot be read.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise StoreCorrupt(f"shard {path}: got {error.strerror}, expected a file; copy it again") from error
    wanted = MIN_LMDB_BYTES if num_bytes is None else num_bytes
    if status.st_size < wanted or (num_bytes is not None and status.st_size != num_bytes):
        least = "at least " if num_bytes is None else ""
        raise StoreCorrupt(f"shard {path}: got {status.st_size} bytes, expected {least}{wanted}; copy it again")
    identity = (status.st_dev, status.st_ino)
    with _open_files.guard:
        if identity not in _open_files.shared:
            environment = _open(path, status.st_size)
            _open_files.shared[identity] = SharedEnvironment(environment=environment, identity=identity, num_users=0)
        _open_files.shared[identity].num_users += 1
        return _open_files.shared[identity]


def release(shared: SharedEnvironment) -> None:
    """Release an environment for one reader; the last one closes it."""
    with _open_files.guard:
        shared.num_users -= 1
        if shared.num_users == 0 and _open_files.shared.get(shared.identity) is shared:
            del _open_files.shared[shared.identity]
            shared.environment.close()


@contextmanager
def lmdb_errors_of(path: Path) -> Iterator[None]:
    """Turn LMDB's errors while reading a file into ours.

    Raises:
        StoreCorrupt: LMDB reports broken structures.
        StoreError: anything else.
    """
    try:
        yield
    except (lmdb.InvalidError, lmdb.VersionMismatchError, lmdb.CorruptedError, lmdb.PageNotFoundError) as error:
        raise StoreCorrupt(f"shard {path}: got {error}, expected an LMDB file; copy it again") from error
    except lmdb.Error as error:
        raise StoreError(f"shard {path}: got {error}, expected a file that can be read") from error


def _open(path: Path, num_bytes: int) -> lmdb.Environment:
    with lmdb_errors_of(path):
        # lock=False: shards never change, so readers need no lock file, and a read-only folder is enough.
        # readahead=False: training reads in random order, and reading ahead would only fill the page cache.
        environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False, create=False)
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if needed > num_bytes:
        environment.close()
        raise StoreCorrupt(f"shard {path}: got {num_bytes} bytes, expected {needed} for its pages; copy it again")
    return environment


def _forget_inherited() -> None:
    """In a forked child: close what the parent had open, and replace a lock that another thread may hold."""
    _open_files.guard = threading.Lock()
    for shared in _open_files.shared.values():
        shared.environment.close()
    _open_files.shared.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_inherited)
