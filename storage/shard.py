"""Shards: LMDB files of records, each written once and atomically, and read by any number of processes.

The default database holds each record under its key (ASCII, at most 511 bytes) and, under the reserved key
`__faceshards__`, the shard's own description as JSON: `ShardMeta`. There is no lock file and no named database, so
`lmdb.open(path, subdir=False, lock=False, readonly=True)` in any language reads it. The data format is LMDB 0.9's.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Self
from uuid import uuid4

import lmdb

from manifests.errors import StoreCorrupt, StoreError
from manifests.files import PARTIAL_PREFIX, publish, sha256_of
from storage.files.filesystems import is_on_network
from storage.files.layout import FORMAT_VERSION, SHARD_SUFFIX, shard_name
from storage.files.lmdb_files import SharedEnvironment, acquire, lmdb_errors_of, release
from storage.index import JsonObject, ShardEntry

META_KEY = b"__faceshards__"
MAX_KEY_BYTES = 511  # LMDB's own limit

MAP_BYTES_AT_FIRST = 64 * 2**20  # the map doubles when it is full; it takes up address space, not disk space
RECORDS_PER_TRANSACTION = 4096  # 5–8 % less processor time than with 1,000; a usual shard is one transaction
BYTES_PER_TRANSACTION = 64 * 2**20  # bounds the writer's memory, whatever the records' size

_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardMeta:
    """Description of a shard, stored in it as JSON."""

    format_version: int
    """Format of index, shards and records together."""

    split: str
    """Split of every record in it: `train`, `val` or `test`."""

    number: int
    """Number within the split, from 0."""

    config_digest: str
    """Hex digest of the settings that made the records."""

    num_records: int
    """Number of records, without this description."""

    records_sha256: str
    """Hex SHA-256 over `len(key), key, len(value), value` of all records by key; lengths: uint32, little-endian."""

    videos: tuple[JsonObject, ...]
    """Outcome of each video, stored or rejected, as JSON; each has `video_id` and `content_digest`."""

    made_with: dict[str, str]
    """Records version, versions by distribution name, digests by `model/<name>`."""


class RecordsDigest:
    """Hex SHA-256 over keys and records, which are added in key order: `ShardMeta.records_sha256`."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, key: str, value: bytes | memoryview) -> None:
        """Add one record."""
        for part in (key.encode("ascii"), value):
            self._digest.update(_LENGTH.pack(len(part)))
            self._digest.update(part)

    def hexdigest(self) -> str:
        """Return the digest of what has been added so far."""
        return self._digest.hexdigest()


class ShardWriter:
    """Writer of one shard. If the `with` block ends without `finish`, the file is deleted.

    For a folder on a network file system, LMDB writes in the machine's own folder for temporary files.

    Args:
        shards_dir: the store's folder of shards; created if it does not exist.
        split: split of every record.
        number: number of the shard within the split.
        config_digest: hex digest of the settings that made the records.
        map_bytes: address space to start with; it doubles whenever it is full.

    Raises:
        StoreError: the folder cannot be written to.
        ValueError: an unknown split or a negative number.
    """

    def __init__(
        self, shards_dir: Path, split: str, number: int, config_digest: str, map_bytes: int = MAP_BYTES_AT_FIRST
    ) -> None:
        self.path = shards_dir / shard_name(split, number)
        self._split, self._number, self._config_digest = split, number, config_digest
        # Not the process ID: a process of another machine may have the same ID, and write the same shard.
        self._partial = shards_dir / f"{PARTIAL_PREFIX}{split}-{number:05d}-{uuid4().hex}{SHARD_SUFFIX}"
        self._is_on_network = False
        self._pending: list[tuple[bytes, bytes]] = []
        self._pending_bytes = 0
        self._last_key = b""
        self._num_records = 0
        self._digest = RecordsDigest()
        self._map_bytes = map_bytes
        # New files have LMDB 0.9's format, which every reader knows, even if an environment variable asks for 1.0's.
        oldest: JsonObject = {"lib_version": 0} if lmdb.version()[0] > 0 else {}
        try:
            shards_dir.mkdir(parents=True, exist_ok=True)
            self._is_on_network = is_on_network(shards_dir)
            draft = Path(gettempdir(), f"faceshards{self._partial.name}") if self._is_on_network else self._partial
            # Nothing is synced before `finish`: an unfinished file is never read.
            self._environment: lmdb.Environment | None = lmdb.open(
                str(draft), map_size=map_bytes, subdir=False, lock=False, sync=False, metasync=False, **oldest
            )
            if self._is_on_network:
                draft.unlink()  # the open file stays usable, and a killed process leaves no file
        except (OSError, lmdb.Error) as error:
            raise StoreError(f"shard {self.path}: got {error}, expected a folder to write to") from error

    def put(self, key: str, value: bytes) -> None:
        """Add one record.

        Args:
            key: key of the record, after the previous key in ASCII order; at most 511 characters.
            value: what `encode_record` returned.

        Raises:
            ValueError: the key is too long, or not after the previous one.
            StoreError: the disk is full, or fails.
        """
        self._opened()
        encoded = _encode_key(key)
        if encoded <= self._last_key:
            raise ValueError(
                f"key of {self.path.name}: got {key!r} after {self._last_key.decode('ascii')!r}, "
                "expected keys in increasing order; sort the videos by their keys"
            )
        self._last_key = encoded
        self._num_records += 1
        self._digest.add(key, value)
        self._pending.append((encoded, value))
        self._pending_bytes += len(value)
        if len(self._pending) >= RECORDS_PER_TRANSACTION or self._pending_bytes >= BYTES_PER_TRANSACTION:
            self._commit()

    def finish(self, videos: Sequence[Mapping[str, object]], made_with: dict[str, str]) -> ShardEntry:
        """Add the description, sync the shard to disk and give it its name, replacing a file that no index lists.

        Args:
            videos: outcome of each video of the shard, as JSON, with `video_id` and `content_digest`.
            made_with: versions by distribution name.

        Returns:
            The index entry of the shard.

        Raises:
            StoreError: the disk is full, or fails.
            ValueError: an outcome without `video_id` or `content_digest`.
        """
        _check_videos(videos)
        meta = ShardMeta(
            format_version=FORMAT_VERSION,
            split=self._split,
            number=self._number,
            config_digest=self._config_digest,
            num_records=self._num_records,
            records_sha256=self._digest.hexdigest(),
            videos=tuple(map(dict, videos)),
            made_with=made_with,
        )
        text = json.dumps(asdict(meta), sort_keys=True, separators=(",", ":"))
        self._pending.append((META_KEY, text.encode("ascii")))
        self._commit()
        environment = self._opened()
        try:
            environment.sync(True)
            num_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
            if self._is_on_network:
                with self._partial.open("wb") as copy:
                    environment.copyfd(copy.fileno())
            self._close()
            # LMDB does not write pages that it allocated and freed again, so the last pages may be missing.
            if self._partial.stat().st_size < num_bytes:
                os.truncate(self._partial, num_bytes)
            entry = _entry(meta, self._partial)
            publish(self._partial, self.path)
        except (OSError, lmdb.Error) as error:
            raise self._unwritable(error) from error
        return entry

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Delete the file if it was not finished."""
        self._close()
        self._partial.unlink(missing_ok=True)

    def _commit(self) -> None:
        """Write the pending records in one transaction; while the map is too small for them, double it and retry."""
        environment = self._opened()
        while True:
            try:
                with environment.begin(write=True) as transaction:
                    for key, value in self._pending:
                        # The description is written last, and its key belongs between those of records.
                        transaction.put(key, value, append=key != META_KEY)
                break
            except lmdb.MapFullError:
                self._map_bytes *= 2
                environment.set_mapsize(self._map_bytes)
            except lmdb.Error as error:
                raise self._unwritable(error) from error
        self._pending.clear()
        self._pending_bytes = 0

    def _opened(self) -> lmdb.Environment:
        if self._environment is None:
            raise ValueError(f"shard {self.path.name}: got a record after `finish`, expected none; open another writer")
        return self._environment

    def _close(self) -> None:
        if self._environment is not None:
            self._environment.close()
            self._environment = None

    def _unwritable(self, error: Exception) -> StoreError:
        return StoreError(f"shard {self.path}: got {error}, expected a disk with space; free some and run again")


class ShardReader:
    """Reader of one shard; usable after a fork, where it opens the file again.

    Args:
        path: the shard.
        num_bytes: size of the file in the index, if it is known.

    Raises:
        StoreCorrupt: no file, not a shard, or cut off.
        StoreError: the file cannot be read.
    """

    def __init__(self, path: Path, num_bytes: int | None = None) -> None:
        self.path = path
        self._num_bytes = num_bytes
        self._shared: SharedEnvironment | None = acquire(path, num_bytes)
        self._pid = os.getpid()

    @property
    def meta(self) -> ShardMeta:
        """The description of the shard, read at each access.

        Raises:
            StoreCorrupt: there is no such description.
            StoreError: it was written in a format that this version does not read.
        """
        with lmdb_errors_of(self.path), self._environment().begin() as transaction:
            text = transaction.get(META_KEY)
        if text is None:
            raise StoreCorrupt(f"shard {self.path}: got an LMDB file without {META_KEY!r}, expected a shard")
        return _parse_meta(text, self.path)

    def keys(self) -> list[str]:
        """Return the records' keys in order."""
        with lmdb_errors_of(self.path), self._environment().begin() as transaction:
            found = [bytes(key) for key in transaction.cursor().iternext(keys=True, values=False)]
        return [self._decode_key(key) for key in found if key != META_KEY]

    def get(self, key: str) -> bytes:
        """Return one record's bytes.

        Raises:
            KeyError: there is no such record.
        """
        encoded = key.encode("utf-8")
        value = None
        if 0 < len(encoded) <= MAX_KEY_BYTES and encoded != META_KEY:
            with lmdb_errors_of(self.path), self._environment().begin() as transaction:
                value = transaction.get(encoded)
        if value is None:
            raise KeyError(f"record {key!r}: got no such key in {self.path.name}")
        return value

    def views(self) -> Iterator[tuple[str, memoryview]]:
        """Yield (key, view) of every record in key order; a view is valid until the next one is requested."""
        with lmdb_errors_of(self.path), self._environment().begin(buffers=True) as transaction:
            for key, view in transaction.cursor():
                if key != META_KEY:
                    yield self._decode_key(bytes(key)), view

    def close(self) -> None:
        """Close the file; reading afterwards is an error."""
        if self._shared is not None:
            release(self._shared)
        self._shared = None

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close it."""
        self.close()

    def _environment(self) -> lmdb.Environment:
        if self._shared is None:
            raise ValueError(f"shard {self.path.name}: got a closed reader, expected an open one")
        if self._pid != os.getpid():
            self._shared, self._pid = acquire(self.path, self._num_bytes), os.getpid()
        return self._shared.environment

    def _decode_key(self, key: bytes) -> str:
        try:
            return key.decode("ascii")
        except UnicodeDecodeError as error:
            raise StoreCorrupt(f"shard {self.path}: got key {key!r}, expected ASCII; copy it again") from error


def describe_shard(path: Path) -> ShardEntry:
    """Return the index entry of a finished shard that no index lists, since its run was killed before that.

    Raises:
        StoreCorrupt: the file is not a shard, or has the name of another shard.
    """
    with ShardReader(path) as reader:
        meta = reader.meta
    if path.name != shard_name(meta.split, meta.number):
        own_name = shard_name(meta.split, meta.number)
        raise StoreCorrupt(f"shard {path}: got the description of {own_name}, expected that name; rename the file")
    return _entry(meta, path)


def _entry(meta: ShardMeta, path: Path) -> ShardEntry:
    """Return the index entry of a shard file."""
    return ShardEntry(
        name=shard_name(meta.split, meta.number),
        split=meta.split,
        number=meta.number,
        num_records=meta.num_records,
        num_videos=len(meta.videos),
        num_bytes=path.stat().st_size,
        sha256=sha256_of(path),
        records_sha256=meta.records_sha256,
        config_digest=meta.config_digest,
    )


def _encode_key(key: str) -> bytes:
    encoded = key.encode("utf-8")
    if not key.isascii() or not 0 < len(encoded) <= MAX_KEY_BYTES or not key.isprintable() or encoded == META_KEY:
        raise ValueError(
            f"key of a record: got {key!r}, expected 1 to {MAX_KEY_BYTES} printable ASCII characters "
            f"other than {META_KEY.decode('ascii')!r}; rename the video"
        )
    return encoded


def _check_videos(videos: Sequence[object]) -> None:
    for video in videos:
        if not isinstance(video, dict) or "video_id" not in video or "content_digest" not in video:
            raise ValueError(f"outcome of a video: got {video!r}, expected a dict with video_id and content_digest")


def _parse_meta(text: bytes, path: Path) -> ShardMeta:
    try:
        plain = json.loads(text)
        version = plain["format_version"]
        if version != FORMAT_VERSION:
            raise StoreError(f"shard {path}: got format version {version}, expected {FORMAT_VERSION}")
        shard_name(plain["split"], plain["number"])
        meta = ShardMeta(**(plain | {"videos": tuple(plain["videos"])}))
        _check_videos(meta.videos)
        return meta
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorrupt(f"shard {path}: got a description that is broken ({error!r}), expected JSON") from error
