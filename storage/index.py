"""The index of a store, `index.json`: its shards, their contents, and the configuration that made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeAlias

from manifests.entry import SPLITS
from manifests.errors import StoreCorrupt, StoreError, StoreMissing
from manifests.files import write_atomically
from manifests.splits.policies import POLICIES_THAT_KEEP_GROUPS
from storage.files.layout import FORMAT_VERSION, INDEX_NAME, shard_name

JsonObject: TypeAlias = dict[str, Any]  # settings by section, or another JSON object whose values have many types


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardEntry:
    """The index entry of one shard.

    Raises:
        ValueError: the name does not consist of split and number, or a count is negative.
    """

    name: str
    """File name in `shards/`, such as `train-00003.lmdb`."""

    split: str
    """Split of every record in it: `train`, `val` or `test`."""

    number: int
    """Number within the split, from 0."""

    num_records: int
    """Records in the file, superseded ones included."""

    num_videos: int
    """Number of videos in the shard, stored and rejected ones."""

    num_bytes: int
    """Size of the file."""

    sha256: str
    """Hex digest of the file."""

    records_sha256: str
    """Hex digest of keys and records alone: equal for equal records, even from different runs."""

    config_digest: str
    """Hex digest of the settings that made the records."""

    superseded: tuple[str, ...] = ()
    """video_ids in this shard whose records no longer count, sorted: a later shard replaces them."""

    num_superseded_records: int = 0
    """Number of records of the superseded videos."""

    def __post_init__(self) -> None:
        """Check what types cannot express."""
        if self.name != shard_name(self.split, self.number):
            expected = shard_name(self.split, self.number)
            raise ValueError(f"name of a shard: got {self.name!r}, expected {expected!r} for its split and number")
        for name in ("num_records", "num_videos", "num_bytes", "num_superseded_records"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} of {self.name}: got {getattr(self, name)}, expected 0 or more")
        if self.num_superseded_records > self.num_records or list(self.superseded) != sorted(set(self.superseded)):
            raise ValueError(
                f"superseded of {self.name}: got {self.num_superseded_records} records of {self.superseded}, "
                f"expected at most {self.num_records} records, and each video once, in order"
            )

    @property
    def num_live_records(self) -> int:
        """Records that count."""
        return self.num_records - self.num_superseded_records

    def supersede(self, num_records_by_video: Mapping[str, int]) -> ShardEntry:
        """Return this entry with some of its videos marked as superseded.

        Args:
            num_records_by_video: video_id → number of its records in this shard (0 for a rejected video).
        """
        fresh = {video: count for video, count in num_records_by_video.items() if video not in self.superseded}
        return replace(
            self,
            superseded=tuple(sorted((*self.superseded, *fresh))),
            num_superseded_records=self.num_superseded_records + sum(fresh.values()),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreIndex:
    """The index of a store: everything that a reader needs before it opens a shard.

    Raises:
        ValueError: a shard is listed twice.
    """

    format_version: int = FORMAT_VERSION
    """Format of index, shards and records together."""

    faceshards_version: str
    """Version of the package that wrote the index."""

    complete: bool
    """Whether every video of the last run has its outcome."""

    config_digest: str
    """Hex digest of the settings that made the records."""

    config: JsonObject
    """The settings themselves, as JSON."""

    shards: tuple[ShardEntry, ...]
    """Entries of the shards, in the order of `ordered_shards`."""

    test_datasets: tuple[str, ...] = ()
    """Datasets that are for testing only, sorted."""

    leakage_allowed: bool = False
    """Whether a run was allowed to store a split that breaks its policy's promise."""

    crossing_groups: tuple[str, ...] = ()
    """Leakage groups, by id and sorted, that an earlier run put into several splits although the policy promises whole
    groups: that run did not know that their footage is of one recording.
    """

    store_id: str = ""
    """Identity that all copies of one store share, hex; empty for stores made before copies existed."""

    version: int = 0
    """Number of this version, or of the version that a run in progress began from: `storage.upkeep.versions`."""

    redoing: bool = False
    """Whether a run with `reprocess` is recomputing the store: another such run resumes it."""

    discarded: tuple[str, ...] = ()
    """Shard files in the folder that no longer count and are deleted once the store is complete again; sorted."""

    def __post_init__(self) -> None:
        """Check what types cannot express, and sort the shards."""
        names = [shard.name for shard in self.shards]
        if len(names) != len(set(names)):
            raise ValueError(f"shards of an index: got {names}, expected each name once")
        object.__setattr__(self, "shards", ordered_shards(self.shards))

    @property
    def promises_whole_groups(self) -> bool:
        """Whether the split policy promises whole leakage groups, and no run was allowed to break this promise."""
        policy = self.config.get("split", {}).get("policy", "group")
        return policy in POLICIES_THAT_KEEP_GROUPS and not self.leakage_allowed

    @property
    def num_records(self) -> dict[str, int]:
        """Records that count, by split."""
        return {split: sum(shard.num_live_records for shard in self.shards if shard.split == split) for split in SPLITS}

    @property
    def store_sha256(self) -> str:
        """Hex digest over names, records and superseded videos of all shards: equal for equal stores."""
        rows = sorted([shard.name, shard.records_sha256, list(shard.superseded)] for shard in self.shards)
        return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode("ascii")).hexdigest()


def ordered_shards(shards: Iterable[ShardEntry]) -> tuple[ShardEntry, ...]:
    """Return the shards in the order in which a store counts its records: train, val, test, and by number."""
    return tuple(sorted(shards, key=lambda shard: (SPLITS.index(shard.split), shard.number)))


def read_index(store_dir: Path) -> StoreIndex:
    """Return the index of a store.

    Raises:
        StoreMissing: there is no index.
        StoreCorrupt: the file is not an index, or contradicts itself.
        StoreError: it was written in a format that this version does not read.
    """
    path = store_dir / INDEX_NAME
    try:
        plain = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StoreMissing(
            f"store {store_dir}: got no {INDEX_NAME}, expected the folder that was given to `preprocess --out`; "
            "check the path, or run the preprocessing first"
        ) from error
    except OSError as error:
        raise StoreError(f"{path}: got {error.strerror}, expected a file that can be read") from error
    except ValueError as error:
        raise _corrupt(path, f"text that is not JSON ({error})") from error
    if not isinstance(plain, dict):
        raise _corrupt(path, f"a {type(plain).__name__}")
    version = plain.get("format_version")
    if version != FORMAT_VERSION and isinstance(version, int):
        raise StoreError(
            f"{path}: got format version {version}, expected {FORMAT_VERSION}; "
            "read it with the version of faceshards that wrote it, or process again into a new folder"
        )
    return _from_plain(plain, path)


def stored_index(store_dir: Path) -> StoreIndex | None:
    """Return the index of a store, or None where there is none yet."""
    try:
        return read_index(store_dir)
    except StoreMissing:
        return None


def write_index(store_dir: Path, index: StoreIndex) -> None:
    """Write the index; equal indexes give equal files, and a crash leaves the old one or the new one."""
    plain = asdict(index) | {"store_sha256": index.store_sha256}
    text = json.dumps(plain, indent=2, sort_keys=True) + "\n"
    write_atomically(store_dir / INDEX_NAME, text.encode("ascii"))


def _json_types(kind: type[ShardEntry] | type[StoreIndex]) -> dict[str, type]:
    """Return the type that JSON gives each field, by name."""
    types = {"int": int, "str": str, "bool": bool, "JsonObject": dict}
    return {item.name: types.get(str(item.type), list) for item in fields(kind)}


_FIELD_TYPES = _json_types(StoreIndex)
_SHARD_FIELD_TYPES = _json_types(ShardEntry)


def _from_plain(plain: JsonObject, path: Path) -> StoreIndex:
    # For stores made before these fields existed.
    earlier: JsonObject = {"store_id": "", "version": 0, "crossing_groups": []}
    plain = earlier | plain
    for name, kind in _FIELD_TYPES.items():
        if not isinstance(plain.get(name), kind):
            raise _corrupt(path, f"{name} {plain.get(name)!r}, which is not of type {kind.__name__}")
    shards = tuple(_shard_from_plain(row, path) for row in plain["shards"])
    try:
        scalars = {name: plain[name] for name, kind in _FIELD_TYPES.items() if kind is not list}
        texts: JsonObject = {
            name: tuple(map(str, plain[name])) for name in ("test_datasets", "crossing_groups", "discarded")
        }
        index = StoreIndex(**scalars, **texts, shards=shards)
    except ValueError as error:
        raise _corrupt(path, str(error)) from error
    if plain.get("store_sha256") != index.store_sha256:
        raise _corrupt(path, f"store_sha256 {plain.get('store_sha256')!r} where its shards give {index.store_sha256!r}")
    return index


def _shard_from_plain(row: object, path: Path) -> ShardEntry:
    if not isinstance(row, dict):
        raise _corrupt(path, f"a shard {row!r}")
    faults = [name for name, kind in _SHARD_FIELD_TYPES.items() if type(row.get(name)) is not kind]
    if "superseded" not in faults and any(type(video) is not str for video in row["superseded"]):
        faults.append("superseded")
    if faults:
        shown = {name: row.get(name) for name in sorted(faults)}
        raise _corrupt(path, f"shard {row.get('name')!r} with {shown}")
    try:
        return ShardEntry(**{name: row[name] for name in _SHARD_FIELD_TYPES} | {"superseded": tuple(row["superseded"])})
    except ValueError as error:
        raise _corrupt(path, str(error)) from error


def _corrupt(path: Path, got: str) -> StoreCorrupt:
    return StoreCorrupt(f"{path}: got {got}, expected an index as faceshards writes it; restore the file from a copy")
