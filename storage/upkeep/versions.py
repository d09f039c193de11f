"""Versions of a store: its small files after each run that changed it, kept for rollback.

    OUT/versions/00002/
    ├── version.json      number, time and counts: `Version`
    ├── index.json        OUT/index.json of that time
    └── …                 videos.parquet, records.parquet, config.yaml, report.json, report.html, difference.json

Shards are not copied. They never change, and a shard that a version lists is not deleted while the version is kept.
`version` in `OUT/index.json` is the number of the current version. A version's folder appears complete or not at all.
When a version is deleted, its shards are deleted first: if the process is killed in between, the version is still
listed, and deleted the next time.

Versions form a line, like undo and redo in an editor: after a rollback the newer ones stay until a run changes
something, and the version of that run follows the one that was rolled back to.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from manifests.errors import StoreCorrupt, StoreError
from manifests.files import PARTIAL_PREFIX, sync_folder, write_atomically
from storage.files.layout import (
    BESIDE_INDEX,
    INDEX_NAME,
    SHARDS_DIR,
    VERSION_NAME,
    VERSIONS_DIR,
    VIDEOS_NAME,
    parse_shard_name,
)
from storage.index import StoreIndex, read_index, stored_index, write_index


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One kept version of a store."""

    number: int
    """Number from 1; 0 is a store that was made before versions existed."""

    completed_at: str
    """Time when its run completed the store, UTC, ISO 8601 to the second."""

    num_videos: int
    """Stored videos."""

    folder: Path
    """Folder of its files."""

    index: StoreIndex
    """Its index, which lists its shards."""

    @property
    def num_records(self) -> int:
        """Return the number of its records that count."""
        return sum(self.index.num_records.values())

    @property
    def shard_bytes(self) -> dict[str, int]:
        """Return the size of each of its shards by file name, bytes."""
        return {shard.name: shard.num_bytes for shard in self.index.shards}


def list_versions(store_dir: Path) -> list[Version]:
    """Return the kept versions of a store, oldest first; none without such a folder.

    Raises:
        StoreCorrupt: a version's files cannot be read.
    """
    folder = store_dir / VERSIONS_DIR
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [_read_version(folder / name) for name in names if name.isdecimal()]


def protected_shards(store_dir: Path) -> frozenset[str]:
    """Return the file names of all shards of all kept versions.

    Raises:
        StoreCorrupt: a version's files cannot be read.
    """
    return frozenset(name for version in list_versions(store_dir) for name in version.shard_bytes)


def next_version(store_dir: Path, current: int) -> int:
    """Return the number of the version that a run from `current` makes: above `current` and all kept versions."""
    return max([current, *(version.number for version in list_versions(store_dir))]) + 1


def keep_current(store_dir: Path) -> Version | None:
    """Keep a complete store as a version if it is not one yet; return its current version, or its last one.

    A run calls this before it changes anything: the store may have been made before versions existed, or its last run
    was killed between completing the store and keeping it. Nothing is written if there is nothing to do. The caller
    holds the store's lock.

    Returns:
        The version that the next run begins from; None if there is none.
    """
    index = stored_index(store_dir)
    if index is None:
        return None
    folder = _folder_of(store_dir, index.version)
    if index.complete and not folder.exists() and (store_dir / VIDEOS_NAME).exists():
        for leftover in folder.parent.glob(f"{PARTIAL_PREFIX}*"):  # of a run that was killed
            shutil.rmtree(leftover)
        _copy_store(store_dir, folder, index)
    return _read_version(folder) if folder.exists() else None


def keep_version(store_dir: Path, *, keep: int, since: int | None = None, is_same: bool = False) -> None:
    """Keep a store that a run has just completed as a version; delete older ones and the shards that only they need.

    Args:
        store_dir: the store's folder; the caller holds its lock.
        keep: number of versions that stay, the current one included; 1 or more.
        since: number of the version that the run began from; newer ones, left by a rollback, are deleted.
        is_same: whether no video differs from that version; then the new one takes its place, and newer ones stay.
    """
    keep_current(store_dir)
    current = read_index(store_dir).version
    if since is not None:
        left = [since] if is_same else range(since + 1, current)
        remove_versions(store_dir, [version for version in list_versions(store_dir) if version.number in left])
    prune(store_dir, keep)


def prune(store_dir: Path, keep: int) -> list[Version]:
    """Delete all versions but the current one and the newest of the others, `keep` in all; return the deleted ones.

    Raises:
        ValueError: `keep` is below 1.
    """
    if keep < 1:
        raise ValueError(f"versions to keep: got {keep}, expected 1 or more")
    current = read_index(store_dir).version
    others = [version for version in list_versions(store_dir) if version.number != current]
    deleted = others[: max(0, len(others) - (keep - 1))]
    remove_versions(store_dir, deleted)
    return deleted


def remove_versions(store_dir: Path, versions: Iterable[Version]) -> None:
    """Delete versions, first their shards that neither the store nor another version needs."""
    by_number = {version.number: version for version in versions}
    if not by_number:
        return
    index = stored_index(store_dir)
    needed = {shard.name for shard in index.shards} if index else set()
    needed |= {
        name for version in list_versions(store_dir) if version.number not in by_number for name in version.shard_bytes
    }
    for version in by_number.values():
        for name in version.shard_bytes.keys() - needed:
            (store_dir / SHARDS_DIR / name).unlink(missing_ok=True)
        partial = version.folder.with_name(f"{PARTIAL_PREFIX}{version.folder.name}")
        version.folder.rename(partial)
        shutil.rmtree(partial)


def missing_shards(store_dir: Path, version: Version) -> list[str]:
    """Return the file names of a version's shards that are missing, or have another size."""
    paths = {name: store_dir / SHARDS_DIR / name for name in version.shard_bytes}
    return [
        name
        for name, num_bytes in version.shard_bytes.items()
        if not paths[name].is_file() or paths[name].stat().st_size != num_bytes
    ]


def roll_back(store_dir: Path, number: int | None = None) -> Version:
    """Make a kept version the current one; the store stays available as a version, so this can be undone.

    Readers see one version or the other: `index.json` is replaced in one step, after everything else. The shards of an
    interrupted run are deleted. If the process is killed at any point, the same call completes the rollback.

    Args:
        store_dir: the store's folder; the caller holds its lock.
        number: number of the version. None: the version before, or, if the last run was interrupted, the version that
            it began from.

    Returns:
        The new current version.

    Raises:
        StoreMissing: there is no store.
        StoreError: there is no such version, or the current store cannot be kept as a version.
        StoreCorrupt: a shard of the version is missing.
    """
    index = read_index(store_dir)
    keep_current(store_dir)
    if index.complete and not _folder_of(store_dir, index.version).exists():
        raise StoreError(
            f"store {store_dir}: got no {VIDEOS_NAME}, expected one, since the current store could not be restored "
            "without it; run the preprocessing again first"
        )
    target = _chosen(store_dir, index, number)
    gone = missing_shards(store_dir, target)
    if gone:
        raise StoreCorrupt(
            f"version {target.number} of {store_dir}: got {len(gone)} shards that are missing or have another size "
            f"({gone[0]}), expected all of them; choose another version: see `faceshards versions {store_dir}`"
        )
    for name in BESIDE_INDEX:
        kept = target.folder / name
        if kept.exists():
            write_atomically(store_dir / name, kept.read_bytes())
        else:
            (store_dir / name).unlink(missing_ok=True)
    on_disk = {path.name for path in (store_dir / SHARDS_DIR).iterdir() if parse_shard_name(path.name) is not None}
    unlisted = sorted(on_disk - protected_shards(store_dir))
    if unlisted:  # recorded before they are deleted; otherwise the next run would adopt them as unlisted work
        write_index(store_dir, replace(target.index, store_id=index.store_id, discarded=tuple(unlisted)))
        for name in unlisted:
            (store_dir / SHARDS_DIR / name).unlink()
    write_index(store_dir, replace(target.index, store_id=index.store_id))
    return target


def _chosen(store_dir: Path, index: StoreIndex, number: int | None) -> Version:
    versions = {version.number: version for version in list_versions(store_dir)}
    if number is None:
        older = [known for known in versions if known < index.version or not index.complete]
        number = max((known for known in older if known <= index.version), default=None)
    if number not in versions:
        wanted = "an earlier version" if number is None else f"version {number}"
        known = ", ".join(map(str, versions)) or "none"
        raise StoreError(
            f"versions of {store_dir}: got {known}, expected {wanted}; keep more of them with versions.keep"
        )
    return versions[number]


def files_of(store_dir: Path, index: StoreIndex) -> Path:
    """Return the folder with the small files that belong to an index: that of its version, which never changes.

    A run, or a killed rollback, may have changed the files in the store's own folder since the index was read.
    """
    folder = _folder_of(store_dir, index.version)
    version = _read_version(folder) if folder.exists() else None
    return folder if version is not None and version.index == index else store_dir


def _folder_of(store_dir: Path, number: int) -> Path:
    return store_dir / VERSIONS_DIR / f"{number:05d}"


def _copy_store(store_dir: Path, folder: Path, index: StoreIndex) -> None:
    """Copy a complete store's small files into a version's folder, which appears with all of them."""
    from storage.records_table import read_rows  # loads packages that only tables need

    completed = datetime.fromtimestamp((store_dir / INDEX_NAME).stat().st_mtime, UTC)
    status = read_rows(store_dir / VIDEOS_NAME, ["status"])
    plain = {
        "number": index.version,
        "completed_at": completed.isoformat(timespec="seconds"),
        "num_videos": sum(found == "stored" for (found,) in status),
    }
    partial = folder.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{folder.name}")
    partial.mkdir(parents=True)
    for name in BESIDE_INDEX:
        if (store_dir / name).exists():
            write_atomically(partial / name, (store_dir / name).read_bytes())
    write_atomically(partial / VERSION_NAME, (json.dumps(plain, indent=2) + "\n").encode("ascii"))
    write_index(partial, index)
    partial.rename(folder)
    sync_folder(folder.parent)


def _read_version(folder: Path) -> Version:
    try:
        plain = json.loads((folder / VERSION_NAME).read_bytes())
        index = read_index(folder)
        return Version(
            number=int(plain["number"]),
            completed_at=str(plain["completed_at"]),
            num_videos=int(plain["num_videos"]),
            folder=folder,
            index=index,
        )
    except (OSError, ValueError, TypeError, KeyError, StoreError) as error:
        raise StoreCorrupt(
            f"version {folder}: got {error!r}, expected {VERSION_NAME} and {INDEX_NAME}; "
            "delete the folder: the store itself does not need it"
        ) from error
