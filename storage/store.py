"""`RecordStore`: reads the records of a store by number or key, in any process, without torch or Prefect.

    store = RecordStore("OUT", split="train")
    record = store[0]
    record.crops        # (T,S,S,3) uint8 RGB

A store object may be pickled, sent to spawned workers, and used on both sides of a fork: shards are opened by the
process that reads them. Nothing decoded is kept, so memory does not grow with what has been read.
"""

from __future__ import annotations

import operator
import os
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Self, SupportsIndex

import numpy as np
import numpy.typing as npt

from manifests.entry import SPLITS
from manifests.errors import StoreCorrupt, StoreIncomplete
from storage.files.layout import SHARDS_DIR, video_id_of
from storage.format.encoding import decode_record
from storage.format.record import Record
from storage.index import ShardEntry, StoreIndex, read_index
from storage.shard import ShardReader

MAX_OPEN_SHARDS = 64  # file descriptors that one store holds at most; opening a shard again costs 20–80 µs


class RecordStore:
    """The records of a store, in the order of their shards (train, val, test, then number) and keys.

    Records of superseded videos are neither counted nor returned.

    Args:
        path: the store's folder.
        split: `train`, `val` or `test`; None for all three.
        allow_incomplete: also open a store whose last run was interrupted, or is in progress.

    Raises:
        StoreMissing: there is no store.
        StoreIncomplete: the last run did not finish.
        StoreCorrupt: the index is broken.
        ValueError: an unknown split.
    """

    def __init__(self, path: str | os.PathLike[str], split: str | None = None, allow_incomplete: bool = False) -> None:
        if split is not None and split not in SPLITS:
            raise ValueError(f"split: got {split!r}, expected one of {list(SPLITS)}, or None for all")
        self.path = Path(path)
        self.split = split
        self.index: StoreIndex = read_index(self.path)
        if not self.index.complete and not allow_incomplete:
            raise StoreIncomplete(
                f"store {self.path}: got a store whose last run did not finish, expected a complete one; "
                "run the same command again to complete it, or open it with allow_incomplete=True"
            )
        self._shards: tuple[ShardEntry, ...] = tuple(
            shard for shard in self.index.shards if split in (None, shard.split)
        )
        # Number of the first record after each shard.
        self._ends = list(accumulate(shard.num_live_records for shard in self._shards))
        self._keys: dict[int, npt.NDArray[np.bytes_]] = {}  # position in _shards → its live keys, after the first read
        self._start_in_this_process()

    def __len__(self) -> int:
        """Return the number of records that count."""
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, position: SupportsIndex) -> Record:
        """Return a record by its number; negative ones count from the end.

        Raises:
            IndexError: the number is not below `len`.
            StoreCorrupt: the record's bytes are not what was written.
        """
        key, value = self.encoded(position)
        return decode_record(value, key)

    def encoded(self, position: SupportsIndex) -> tuple[str, bytes]:
        """Return a record's key and its stored bytes, unchecked; see `storage.format.encoding`.

        Raises:
            IndexError: the number is not below `len`.
        """
        number = operator.index(position)
        if not -len(self) <= number < len(self):
            raise IndexError(f"record number of {self.path}: got {number}, expected -{len(self)}..{len(self) - 1}")
        number %= len(self)
        shard = bisect_right(self._ends, number)
        with self._lock_of_this_process():
            row = number - self._ends[shard] + self._shards[shard].num_live_records
            key = bytes(self._live_keys(shard)[row]).decode("ascii")
            return key, self._reader(shard).get(key)

    def get(self, key: str) -> Record:
        """Return a record by its key.

        Raises:
            KeyError: there is no such record.
            StoreCorrupt: the record's bytes are not what was written.
        """
        with self._lock_of_this_process():
            shard = self._shard_of(key)
            if shard is None:
                where = "the store" if self.split is None else f"split {self.split!r}"
                raise KeyError(
                    f"record {key!r}: got a key that is not in {where}, expected one of store.keys(); "
                    f"list them with `python -m storage.inspect {self.path} --key PREFIX`"
                )
            value = self._reader(shard).get(key)
        return decode_record(value, key)

    def keys(self) -> list[str]:
        """Return the key of every record, in the store's order."""
        with self._lock_of_this_process():
            tables = [self._live_keys(shard) for shard in range(len(self._shards))]
        return [key.decode("ascii") for table in tables for key in table.tolist()]

    def __iter__(self) -> Iterator[Record]:
        """Yield every record in the store's order."""
        return (decode_record(view, key) for _, key, view in self.views())

    def views(self) -> Iterator[tuple[str, str, memoryview]]:
        """Yield (shard's file name, key, encoded record) in the store's order.

        A view is valid until the next one is requested; bytes that are not accessed are not read.
        """
        for entry in self._shards:
            with ShardReader(self.path / SHARDS_DIR / entry.name, entry.num_bytes) as reader:
                for key, view in reader.views():
                    if video_id_of(key) not in entry.superseded:
                        yield entry.name, key, view

    def close(self) -> None:
        """Close all shards; reading opens them again."""
        with self._lock_of_this_process():
            while self._readers:
                self._readers.popitem()[1].close()

    def __enter__(self) -> Self:
        """Return the store."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Return the folder, the split and the number of records."""
        return f"RecordStore({str(self.path)!r}, split={self.split!r}): {len(self)} records"

    def __getstate__(self) -> dict[str, object]:
        """Return the state for another process: everything but open files and what was read from them."""
        return {name: getattr(self, name) for name in ("path", "split", "index", "_shards", "_ends")}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Start without open files."""
        vars(self).update(state)
        self._keys = {}
        self._start_in_this_process()

    def _start_in_this_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._readers: OrderedDict[int, ShardReader] = OrderedDict()  # by position in _shards, last used last

    def _lock_of_this_process(self) -> threading.Lock:
        """The lock that guards open shards; after a fork it is a new one, since another thread may hold the old."""
        if self._pid != os.getpid():
            self._start_in_this_process()
        return self._lock

    def _reader(self, shard: int) -> ShardReader:
        """Return the open shard at a position; beyond MAX_OPEN_SHARDS the least recently used one is closed."""
        if shard not in self._readers:
            entry = self._shards[shard]
            self._readers[shard] = ShardReader(self.path / SHARDS_DIR / entry.name, entry.num_bytes)
            if len(self._readers) > MAX_OPEN_SHARDS:
                self._readers.popitem(last=False)[1].close()
        self._readers.move_to_end(shard)
        return self._readers[shard]

    def _live_keys(self, shard: int) -> npt.NDArray[np.bytes_]:
        """(N,) ASCII keys of a shard's records that count, sorted.

        Raises:
            StoreCorrupt: the index has another number of records.
        """
        if shard not in self._keys:
            entry = self._shards[shard]
            held = self._reader(shard).keys()
            keys = [key for key in held if video_id_of(key) not in entry.superseded]
            if len(keys) != entry.num_live_records:
                raise StoreCorrupt(
                    f"shard {entry.name} of {self.path}: got {len(keys)} records, expected {entry.num_live_records} "
                    "as in the index; copy shard and index again"
                )
            self._keys[shard] = np.array(keys, dtype=np.bytes_)
        return self._keys[shard]

    def _shard_of(self, key: str) -> int | None:
        """Position of the shard that holds a key."""
        if not key.isascii():
            return None
        wanted = np.bytes_(key.encode("ascii"))
        for shard in range(len(self._shards)):
            keys = self._live_keys(shard)
            row = int(np.searchsorted(keys, wanted))
            if row < len(keys) and keys[row] == wanted:
                return shard
        return None
