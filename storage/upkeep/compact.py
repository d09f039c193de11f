"""Compaction: copies the valid records out of shards with many superseded records, and deletes the old files.

Records are copied byte for byte, without decoding. A compacted shard is an ordinary shard whose records supersede the
older ones, so the next run resumes a compaction that was killed at any point.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from manifests.row import ManifestRow
from manifests.videos_table import row_to_plain
from storage.files.layout import SHARDS_DIR, video_id_of
from storage.index import ShardEntry
from storage.shard import ShardReader, ShardWriter
from storage.upkeep.ledger import Ledger

MadeWith = tuple[tuple[str, str], ...]  # `ShardMeta.made_with`, sorted


@dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """Result of a compaction."""

    num_old: int = 0
    """Shards that were compacted."""

    num_new: int = 0
    """Shards that replace them."""

    num_bytes_old: int = 0
    """Size of the compacted shards."""

    num_bytes_new: int = 0
    """Size of the shards that replace them."""


def sparse_shards(shards: Iterable[ShardEntry], above: float) -> list[ShardEntry]:
    """Return the shards whose share of superseded records, 0..1, is above a limit.

    Shards without any valid video are not among them, since they are deleted in any case.
    """
    return [
        shard
        for shard in shards
        if shard.num_superseded_records > above * shard.num_records and len(shard.superseded) < shard.num_videos
    ]


def compact(ledger: Ledger, store_dir: Path, above: float) -> Compaction:
    """Copy the valid records of sparse shards into new shards; the ledger's `finish` deletes the old files.

    Records keep their bytes, and videos their splits. A new shard has at most as many videos as the store's largest.
    Only shards made by the same versions are merged, so that `made_with` stays true. Equal stores give equal
    shards. The caller holds the store's lock and has called the ledger's `begin`.

    Args:
        ledger: the ledger of the store.
        store_dir: the store's folder.
        above: share of a shard's records, 0..1, that must be superseded.

    Raises:
        StoreCorrupt: a shard cannot be read.
        StoreError: a shard cannot be written.
    """
    index = ledger.index
    sparse = sparse_shards(index.shards, above)
    videos_per_shard = max((shard.num_videos for shard in index.shards), default=1)
    by_name = {shard.name: shard for shard in sparse}
    rows_of = _live_rows(ledger.rows.values(), by_name)
    numbers = {split: count(ledger.next_number(split)) for split in {shard.split for shard in sparse}}
    written: list[ShardEntry] = []
    for made_with, shards in _alike(sparse, store_dir / SHARDS_DIR):
        rows = sorted((row for shard in shards for row in rows_of[shard.name]), key=lambda row: f"{row.video_id}/")
        for start in range(0, len(rows), videos_per_shard):
            chunk = rows[start : start + videos_per_shard]
            number = next(numbers[shards[0].split])
            shard, moved = _write(store_dir / SHARDS_DIR, shards[0], number, chunk, dict(made_with))
            ledger.add(shard, moved)
            ledger.made_with[shard.name] = dict(made_with)
            written.append(shard)
    return Compaction(
        num_old=len(sparse),
        num_new=len(written),
        num_bytes_old=sum(shard.num_bytes for shard in sparse),
        num_bytes_new=sum(shard.num_bytes for shard in written),
    )


def _live_rows(rows: Iterable[ManifestRow], shards: dict[str, ShardEntry]) -> dict[str, list[ManifestRow]]:
    """Return the rows of the videos that count, by shard."""
    found: dict[str, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        if row.shard in shards and row.video_id not in shards[row.shard].superseded:
            found[row.shard].append(row)
    return found


def _alike(shards: Sequence[ShardEntry], shards_dir: Path) -> Iterator[tuple[MadeWith, list[ShardEntry]]]:
    """Yield groups of shards that may be merged: same split, configuration and versions."""
    groups: dict[tuple[str, str, MadeWith], list[ShardEntry]] = defaultdict(list)
    for shard in shards:
        with ShardReader(shards_dir / shard.name, shard.num_bytes) as reader:
            made_with = tuple(sorted(reader.meta.made_with.items()))
        groups[shard.split, shard.config_digest, made_with].append(shard)
    for (_, _, made_with), members in sorted(groups.items()):
        yield made_with, members


def _write(
    shards_dir: Path, like: ShardEntry, number: int, rows: Sequence[ManifestRow], made_with: dict[str, str]
) -> tuple[ShardEntry, list[ManifestRow]]:
    """Write one shard with the records of these videos; return its entry and rows."""
    names = sorted({row.shard for row in rows if row.shard is not None})
    with ExitStack() as stack:
        readers = {name: stack.enter_context(ShardReader(shards_dir / name)) for name in names}
        keys: dict[tuple[str, str], list[str]] = defaultdict(list)  # (shard, video_id) → keys in order
        for name, reader in readers.items():
            held = reader.keys()
            for key in held:
                keys[name, video_id_of(key)].append(key)
        writer = stack.enter_context(ShardWriter(shards_dir, like.split, number, like.config_digest))
        for row in rows:
            for key in keys.get((str(row.shard), row.video_id), ()):
                writer.put(key, readers[str(row.shard)].get(key))
        moved = [replace(row, shard=writer.path.name) for row in rows]
        return writer.finish([row_to_plain(row) for row in moved], made_with), moved
