"""Verification of a store: every byte is read and every image decoded; nothing is changed.

A shard is opened only if its size and SHA-256 are those in the index, since LMDB maps files into memory and trusts
their inner structure. So a damaged shard is one line of the report and never crashes the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from manifests.errors import StoreCorrupt, StoreError
from manifests.files import PARTIAL_PREFIX, sha256_of
from storage.files.layout import INDEX_NAME, RECORDS_NAME, SHARDS_DIR, VIDEOS_NAME, video_id_of
from storage.format.encoding import decode_record
from storage.format.images import decode_gray, decode_rgb
from storage.format.record import Record
from storage.index import ShardEntry, StoreIndex, read_index
from storage.records_table import read_rows
from storage.shard import RecordsDigest, ShardMeta, ShardReader
from storage.upkeep.versions import protected_shards

MAX_PROBLEMS_PER_SHARD = 20  # broken records that are named; the others are counted

Progress = Callable[[int, int], None]  # (records read, records to read)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """Result of a verification: what was read, and the problems found."""

    num_shards: int
    """Shards that are intact as files."""

    num_records: int
    """Records read; superseded ones do not count."""

    num_images: int
    """Crops and masks decoded."""

    problems: tuple[str, ...]
    """One line for each problem."""

    @property
    def ok(self) -> bool:
        """Return whether no problem was found."""
        return not self.problems


@dataclass(slots=True, kw_only=True)
class _Seen:
    """State of a verification: what has been read so far."""

    problems: list[str] = field(default_factory=list)
    """One line for each problem."""

    num_shards: int = 0
    """Shards that are intact as files."""

    num_records: int = 0
    """Records read; superseded ones do not count."""

    num_images: int = 0
    """Crops and masks decoded."""

    crop_px: int | None = None
    """Side of the first record's crops, pixels; all others must agree."""

    shard_of_video: dict[str, str] = field(default_factory=dict)
    """video_id → file name of the first shard with its records."""

    split_of_group: dict[str, str] = field(default_factory=dict)
    """group_id → split of its first record."""

    records_of_video: Counter[str] = field(default_factory=Counter)
    """video_id → records that count."""

    keeps_groups: bool = True
    """Whether the store promises that no leakage group is in two splits."""

    crossing_groups: frozenset[str] = frozenset()
    """Leakage groups that are known to be in several splits nevertheless."""


def verify_store(store_dir: Path, progress: Progress | None = None) -> VerifyReport:
    """Read a whole store and report every problem.

    Args:
        store_dir: the store's folder.
        progress: called with (records read, records to read) after each record.

    Raises:
        StoreMissing: there is no store.
        StoreError: the index was written in a format that this version does not read.
    """
    seen = _Seen()
    try:
        index = read_index(store_dir)
    except StoreCorrupt as error:
        return VerifyReport(num_shards=0, num_records=0, num_images=0, problems=(str(error),))
    seen.keeps_groups = index.promises_whole_groups
    seen.crossing_groups = frozenset(index.crossing_groups)
    if not index.complete:
        seen.problems.append(
            f"{INDEX_NAME}: got a store whose last run did not finish, expected a complete one; run it again"
        )
    total = sum(index.num_records.values())
    for entry in index.shards:
        _verify_shard(store_dir / SHARDS_DIR / entry.name, entry, seen, lambda done: progress and progress(done, total))
    _find_unlisted(store_dir / SHARDS_DIR, index, seen)
    # If a shard is missing, the tables differ for each of its videos, and a line for each would hide the cause.
    if seen.num_shards == len(index.shards):
        _compare_tables(store_dir, index, seen)
    return VerifyReport(
        num_shards=seen.num_shards,
        num_records=seen.num_records,
        num_images=seen.num_images,
        problems=tuple(seen.problems),
    )


def _verify_shard(path: Path, entry: ShardEntry, seen: _Seen, progress: Callable[[int], object]) -> None:
    """Check one shard as a file, against its index entry, and record by record."""
    damage = _damage(path, entry)
    if damage is not None:
        seen.problems.append(damage)
        return
    try:
        with ShardReader(path, entry.num_bytes) as reader:
            meta = reader.meta
            _compare_meta(meta, entry, seen)
            _verify_records(reader, meta, entry, seen, progress)
    except StoreError as error:
        seen.problems.append(str(error))
        return
    seen.num_shards += 1


def _damage(path: Path, entry: ShardEntry) -> str | None:
    """Return the problem of the file itself, checked before LMDB maps it; None if there is none."""
    try:
        num_bytes = path.stat().st_size
        if num_bytes != entry.num_bytes:
            return f"shard {entry.name}: got {num_bytes} bytes, expected {entry.num_bytes}; copy it again"
        sha256 = sha256_of(path)
    except OSError as error:
        return f"shard {entry.name}: got {error.strerror}, expected a file of {entry.num_bytes} bytes; copy it again"
    if sha256 != entry.sha256:
        return f"shard {entry.name}: got SHA-256 {sha256}, expected {entry.sha256}; copy it again"
    return None


def _compare_meta(meta: ShardMeta, entry: ShardEntry, seen: _Seen) -> None:
    compared = ("split", "number", "config_digest", "num_records", "records_sha256")
    values = [(name, getattr(meta, name), getattr(entry, name)) for name in compared]
    for name, got, expected in [*values, ("videos", len(meta.videos), entry.num_videos)]:
        if got != expected:
            seen.problems.append(
                f"shard {entry.name}, {name}: got {got!r} in the shard, expected {expected!r} as in the index"
            )


def _verify_records(
    reader: ShardReader, meta: ShardMeta, entry: ShardEntry, seen: _Seen, progress: Callable[[int], object]
) -> None:
    digest, num_records, num_live, faults = RecordsDigest(), 0, 0, 0
    videos = {video.get("video_id") for video in meta.videos}
    for key, view in reader.views():
        digest.add(key, view)
        num_records += 1
        video_id = video_id_of(key)
        if video_id in entry.superseded:
            continue
        num_live += 1
        found = _faults_of_record(key, view, entry, seen)
        if video_id not in videos:
            found.append(f"record {key}: got a video without an outcome in {entry.name}, expected one for each video")
        faults += len(found)
        seen.problems.extend(found[: max(0, MAX_PROBLEMS_PER_SHARD - faults + len(found))])
        seen.records_of_video[video_id] += 1
        seen.num_records += 1
        progress(seen.num_records)
    if faults > MAX_PROBLEMS_PER_SHARD:
        seen.problems.append(f"shard {entry.name}: got {faults - MAX_PROBLEMS_PER_SHARD} more problems of this kind")
    counted = (("records", num_records, entry.num_records), ("records that count", num_live, entry.num_live_records))
    for what, got, expected in counted:
        if got != expected:
            seen.problems.append(f"shard {entry.name}: got {got} {what}, expected {expected} as in the index")
    if digest.hexdigest() != entry.records_sha256:
        seen.problems.append(
            f"shard {entry.name}, records_sha256: got {digest.hexdigest()}, expected {entry.records_sha256}"
        )


def _faults_of_record(key: str, data: memoryview, entry: ShardEntry, seen: _Seen) -> list[str]:
    """Return the problems of one record: its bytes, images and identity, and how it fits with the others."""
    try:
        record = decode_record(data, key)
        sizes = [decode_rgb(crop).shape[:2] for crop in record.crops_encoded]
        sizes += [decode_gray(mask).shape for mask in record.masks_encoded or ()]
    except StoreCorrupt as error:
        return [str(error) if key in str(error) else f"record {key}: {error}"]
    seen.num_images += len(sizes)
    seen.crop_px = seen.crop_px or sizes[0][0]
    faults = [
        f"record {key}, image {row}: got {height}×{width} pixels, expected {seen.crop_px}×{seen.crop_px} as elsewhere"
        for row, (height, width) in enumerate(sizes)
        if (height, width) != (seen.crop_px, seen.crop_px)
    ]
    faults += [
        f"record {key}, {what}: got {got!r}, expected {expected!r}"
        for what, got, expected in _identities(key, record, entry, seen)
        if got != expected
    ]
    return faults


def _identities(key: str, record: Record, entry: ShardEntry, seen: _Seen) -> list[tuple[str, object, object]]:
    """Return (what, got, expected) of each field that must agree with the key, the shard or other records."""
    key_parts = f"{record.video_id}/{record.track_id:02d}/{record.frame_indices[0]:06d}"
    is_whole = seen.keeps_groups and record.group_id not in seen.crossing_groups
    group_split = seen.split_of_group.setdefault(record.group_id, record.split) if is_whole else record.split
    shard = seen.shard_of_video.setdefault(record.video_id, entry.name)
    return [
        ("video, person and first frame", key_parts, key),
        ("split", record.split, entry.split),
        ("config_digest", record.config_digest, entry.config_digest),
        ("label", record.label, 0 if record.manipulation is None else 1),
        (f"split of leakage group {record.group_id}", record.split, group_split),
        ("the only shard of its video", entry.name, shard),
    ]


def _find_unlisted(shards_dir: Path, index: StoreIndex, seen: _Seen) -> None:
    """Name every file in the folder of shards that neither the index nor a kept version lists."""
    try:
        listed = {entry.name for entry in index.shards} | protected_shards(shards_dir.parent)
    except StoreCorrupt as error:
        seen.problems.append(str(error))
        return
    found = sorted(path.name for path in shards_dir.iterdir()) if shards_dir.is_dir() else []
    for name in found:
        if name not in listed:
            cause = "left by a run that was killed" if name.startswith(PARTIAL_PREFIX) else "not in the index"
            seen.problems.append(
                f"{SHARDS_DIR}/{name}: got a file {cause}, expected shards only; the next run lists or removes it"
            )


def _compare_tables(store_dir: Path, index: StoreIndex, seen: _Seen) -> None:
    """Compare the tables that exist with the records that were read."""
    try:
        if (store_dir / RECORDS_NAME).exists():
            listed = read_rows(store_dir / RECORDS_NAME, ["video_id"])
            _compare_counts(RECORDS_NAME, Counter(video_id for (video_id,) in listed), seen)
        if (store_dir / VIDEOS_NAME).exists():
            _compare_videos_table(store_dir / VIDEOS_NAME, index.complete, seen)
    except StoreCorrupt as error:
        seen.problems.append(str(error))


def _compare_videos_table(path: Path, complete: bool, seen: _Seen) -> None:
    """Compare `videos.parquet` with the records that were read."""
    allowed = ("stored", "rejected") if complete else ("stored", "rejected", "pending")
    num_rows: Counter[str] = Counter()
    promised: Counter[str] = Counter()
    for video_id, status, num_records in read_rows(path, ["video_id", "status", "num_records"]):
        num_rows[video_id] += 1
        if status not in allowed:
            seen.problems.append(f"{VIDEOS_NAME}, {video_id}: got status {status!r}, expected one of {list(allowed)}")
        if status == "stored":
            promised[video_id] += num_records
    seen.problems.extend(
        f"{VIDEOS_NAME}, {video_id}: got {count} rows, expected 1" for video_id, count in num_rows.items() if count > 1
    )
    _compare_counts(VIDEOS_NAME, promised, seen)


def _compare_counts(name: str, promised: Counter[str], seen: _Seen) -> None:
    """Report each video for which a table has another number of records than the shards."""
    for video_id in sorted(promised.keys() | seen.records_of_video.keys()):
        if promised[video_id] != seen.records_of_video[video_id]:
            seen.problems.append(
                f"{name}, {video_id}: got {promised[video_id]} records in the table, "
                f"expected {seen.records_of_video[video_id]} as in the shards"
            )
