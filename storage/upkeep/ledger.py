"""The ledger: the writer's view of a store, with the stored videos, the missing ones and those that a run adds.

The shards are the source of truth. Each holds the rows of its videos, so the work of a killed run can be found from the
files alone:

    complete, listed in index.json       counts
    complete, not listed                 its run was killed before it listed the shard: listed now, if its configuration
                                         is that of the store and the store was incomplete
    … but part of a kept version         left alone: `storage.upkeep.versions`
    listed, but gone or of another size  dropped from the index: its videos are missing again
    hidden `.partial-…`                  removed

So the index need not be written after each shard, which would write n²/2 entries for a store of n shards.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from uuid import uuid4

from manifests.entry import VideoEntry
from manifests.errors import AccountingError, StoreChanged
from manifests.files import remove_partials
from manifests.rejected import Reason
from manifests.row import ManifestRow
from manifests.splits.policies import crossing_groups
from manifests.videos_table import read_table, row_from_plain, write_table
from storage.files.layout import (
    RECORDS_NAME,
    REPORT_HTML_NAME,
    REPORT_JSON_NAME,
    SHARDS_DIR,
    VIDEOS_NAME,
    parse_shard_name,
)
from storage.index import ShardEntry, StoreIndex, stored_index, write_index
from storage.records_table import write_records_table
from storage.shard import ShardReader, describe_shard
from storage.upkeep.versions import next_version, protected_shards

# Rejections that may be temporary, or depend on the machine: the next run tries these videos again.
TRANSIENT = frozenset({Reason.CRASHED, Reason.DECODE_TIMEOUT, Reason.TOO_LARGE, Reason.UNREADABLE})

# The index is written as soon as one in this many shards of the store is unlisted, so that the total of all writing is
# linear in the number of shards: each of the first 16 is listed at once.
LISTED_PER_UNLISTED = 16
# The index is also written when it is this old, so that readers see the progress of a run.
MAX_INDEX_AGE_SECONDS = 30.0


class Ledger:
    """The contents of a store, updated shard by shard. The caller holds the store's lock.

    Args:
        store_dir: the store's folder.
        config: the settings that every shard of the store must share, as plain values.
        config_digest: hex digest of these settings.
        redo: discard records of another configuration, instead of raising an error.

    Raises:
        StoreChanged: the store was made with another configuration.
        StoreCorrupt: its index or a shard cannot be read.
    """

    def __init__(
        self, store_dir: Path, config: Mapping[str, object], config_digest: str, *, redo: bool = False
    ) -> None:
        self._store_dir = store_dir
        self._shards_dir = store_dir / SHARDS_DIR
        stored = stored_index(store_dir)
        if stored is not None and stored.config_digest != config_digest and not redo:
            raise StoreChanged(
                f"store {store_dir}: got configuration {stored.config_digest[:12]}, not {config_digest[:12]}"
            )
        # A redo that was interrupted is resumed: its finished shards already have the requested configuration.
        is_begun = stored is not None and stored.redoing and stored.config_digest == config_digest
        redo = redo and not is_begun
        self._shards_dir.mkdir(parents=True, exist_ok=True)
        remove_partials(store_dir)
        remove_partials(self._shards_dir)
        self._written = read_table(store_dir / VIDEOS_NAME)
        self._measured = {row.video_id: row.entry for row in self._written if row.entry is not None}
        self.rows = {video_id: _pending(entry, keep_split=not redo) for video_id, entry in self._measured.items()}
        was_complete = stored is not None and stored.complete and not redo
        listed = () if stored is None or redo else stored.shards
        kept = [shard for shard in listed if self._is_there(shard)]
        on_disk = set(self._shards_on_disk())
        gone = {shard.name for shard in listed} - {shard.name for shard in kept}
        discarded = on_disk if redo else on_disk & (gone | set(stored.discarded if stored else ()))
        # Without an index only the shards are known, and those of earlier versions are adopted as well.
        others = protected_shards(store_dir) if stored else frozenset()
        unlisted = on_disk - discarded - others - {shard.name for shard in kept}
        # A complete store has no shards of an unfinished run: unlisted ones belong to an abandoned version or worker.
        leftovers = unlisted if was_complete else set()
        discarded |= leftovers
        found = self._unlisted(unlisted - leftovers, config_digest)
        self._header = StoreIndex(  # the index without its shards
            faceshards_version=version("faceshards"),
            complete=False,
            config_digest=config_digest,
            config=dict(config),
            shards=(),
            test_datasets=stored.test_datasets if stored and not redo else (),
            leakage_allowed=bool(stored and not redo and stored.leakage_allowed),
            store_id=(stored.store_id if stored else "") or uuid4().hex,
            version=stored.version if stored else 0,
            redoing=redo or is_begun,
            discarded=tuple(sorted(discarded)),
        )
        self._shards: dict[str, ShardEntry] = {}  # by name
        # File name of each shard that was there when the ledger was opened → versions that made it, by name.
        self.made_with: dict[str, dict[str, str]] = {}
        self._num_unlisted = 0  # shards that `index.json` does not list yet
        self._index_written_seconds = 0.0  # time of the last writing, by the monotonic clock
        for shard in sorted([*kept, *found], key=lambda entry: (entry.split, entry.number)):
            self._take(shard, self._rows_of(shard))
        self.is_complete = was_complete and len(kept) == len(listed) and not leftovers
        self._header = replace(self._header, complete=self.is_complete)

    @property
    def index(self) -> StoreIndex:
        """The current index, built at each access."""
        return replace(self._header, shards=tuple(self._shards.values()))

    def known_entries(self) -> dict[str, VideoEntry]:
        """Return the probed entries of earlier runs by video_id.

        Videos still to process whose entry says nothing about their picture are not probed: versions that wrote such
        entries counted packets as frames.
        """
        known = {video_id: row.entry for video_id, row in self.rows.items() if row.entry is not None}
        outdated = [name for name, entry in known.items() if self.rows[name].status == "pending" and not entry.picture]
        return known | {video_id: replace(known[video_id], sha256=None) for video_id in outdated}

    def stored_entries(self) -> list[VideoEntry]:
        """Return the entries whose records the store holds, with their splits."""
        return [row.entry for row in self.rows.values() if row.status == "stored" and row.entry is not None]

    def is_done(self, entry: VideoEntry, relatives_digest: str | None = None) -> bool:
        """Return whether a shard holds exactly this content under this configuration, or a final rejection of it.

        Args:
            entry: the video as it is on disk.
            relatives_digest: digest of what its records depend on in other videos; None if these videos are not on
                disk now, which makes no record invalid.
        """
        row = self.rows.get(entry.video_id)
        return (
            row is not None
            and row.entry is not None
            and row.status != "pending"
            and row.config_digest == self._header.config_digest
            and row.reason not in TRANSIENT
            and relatives_digest in (None, row.relatives_digest)
            and row.entry.is_probed
            and row.entry.content_digest == entry.content_digest
        )

    def is_up_to_date(self, rows: Sequence[ManifestRow]) -> bool:
        """Return whether the store was complete when it was opened and its table has exactly these rows."""
        has_tables = (self._store_dir / RECORDS_NAME).exists()
        return self.is_complete and has_tables and list(rows) == self._written

    def next_number(self, split: str) -> int:
        """Return the number of the split's next shard: higher than that of any shard on disk or in any index."""
        listed = {name: parse_shard_name(name) for name in {*self._shards, *protected_shards(self._store_dir)}}
        known = self._shards_on_disk() | {name: found for name, found in listed.items() if found is not None}
        return max((number + 1 for found, number in known.values() if found == split), default=0)

    def begin(
        self, rows: Iterable[ManifestRow], *, test_datasets: Iterable[str] = (), leakage_allowed: bool = False
    ) -> None:
        """Record the plan of the run, so that a killed run keeps its splits and measurements.

        Args:
            rows: every indexed file.
            test_datasets: datasets for testing only, in addition to those of earlier runs.
            leakage_allowed: whether this run may store a split that breaks its policy's promise; the index keeps this.
        """
        listed = list(rows)
        entries = [row.entry for row in listed if row.entry is not None]
        crossing = crossing_groups(entries) if self._header.promises_whole_groups else ()
        self._header = replace(
            self._header,
            complete=False,
            crossing_groups=tuple(crossing),
            test_datasets=tuple(sorted({*self._header.test_datasets, *test_datasets})),
            leakage_allowed=self._header.leakage_allowed or leakage_allowed,
        )
        for name in (REPORT_JSON_NAME, REPORT_HTML_NAME):  # of the run before
            (self._store_dir / name).unlink(missing_ok=True)
        self._write_index()
        write_table(self._store_dir / VIDEOS_NAME, listed)

    def add(self, shard: ShardEntry, rows: Sequence[ManifestRow]) -> None:
        """Add a finished shard and supersede older records of its videos; the index may be written a little later."""
        self._take(shard, rows)
        self._num_unlisted += 1
        is_old = time.monotonic() - self._index_written_seconds >= MAX_INDEX_AGE_SECONDS
        if is_old or self._num_unlisted * LISTED_PER_UNLISTED >= len(self._shards):
            self._write_index()

    def retract(self, video_ids: Iterable[str]) -> None:
        """Mark the records of videos whose files have become unusable as superseded."""
        held: dict[str, dict[str, int]] = defaultdict(dict)  # shard → video_id → number of its records
        for row in (self.rows[video_id] for video_id in set(video_ids) & self.rows.keys()):
            if row.shard is not None:
                held[row.shard][row.video_id] = row.num_records
        for name in held.keys() & self._shards.keys():
            self._shards[name] = self._shards[name].supersede(held[name])

    def forget(self, video_ids: Iterable[str]) -> None:
        """Remove the rows and records of videos that no longer exist under these names."""
        gone = set(video_ids)
        self.retract(gone)
        for video_id in gone:
            del self.rows[video_id]

    def finish(self, rows: Sequence[ManifestRow]) -> None:
        """Check that the counts add up, write the tables, and mark the store as complete.

        Args:
            rows: every indexed file with its final status.

        Raises:
            AccountingError: a video has no outcome, or the records are not those that the rows claim.
        """
        pending = [row.video_id for row in rows if row.status == "pending"]
        if pending:
            raise AccountingError(
                f"accounts: got {len(pending)} videos without an outcome ({pending[:3]}), expected none"
            )
        self._drop_empty()
        self._write_index()  # before the files are deleted: an index never lists a missing file
        self._remove_unlisted()
        write_table(self._store_dir / VIDEOS_NAME, rows)
        num_records = write_records_table(self._store_dir)
        claimed = sum(row.num_records for row in rows)
        if num_records != claimed:
            raise AccountingError(
                f"accounts: got {num_records} records in the shards, expected the {claimed} of the rows"
            )
        number = next_version(self._store_dir, self._header.version)
        self._header = replace(self._header, complete=True, redoing=False, version=number)
        self._write_index()
        self.is_complete = True

    def _write_index(self) -> None:
        """List every shard that counts."""
        write_index(self._store_dir, self.index)
        self._num_unlisted, self._index_written_seconds = 0, time.monotonic()

    def _shards_on_disk(self) -> dict[str, tuple[str, int]]:
        """Return split and number of every file with the name of a shard, whether the index lists it or not."""
        parsed = {path.name: parse_shard_name(path.name) for path in self._shards_dir.iterdir()}
        return {name: found for name, found in parsed.items() if found is not None}

    def _is_there(self, shard: ShardEntry) -> bool:
        path = self._shards_dir / shard.name
        return path.is_file() and path.stat().st_size == shard.num_bytes

    def _unlisted(self, names: set[str], config_digest: str) -> list[ShardEntry]:
        """Describe the complete shards of this configuration among files that no index lists.

        Raises:
            StoreChanged: a shard was made with another configuration, and there is no index to explain it.
        """
        described = [describe_shard(self._shards_dir / name) for name in sorted(names)]
        foreign = [shard.name for shard in described if shard.config_digest != config_digest]
        if foreign and stored_index(self._store_dir) is None:
            raise StoreChanged(
                f"store {self._store_dir}: got shards of another configuration ({foreign[0]}) and no index, expected "
                "both or none; choose another --out, or recompute this store with --reprocess"
            )
        return [shard for shard in described if shard.config_digest == config_digest]

    def _remove_unlisted(self) -> None:
        """Delete shards that neither the store nor a kept version needs, now that the new ones are complete."""
        for name in self._shards_on_disk().keys() - self._shards.keys() - protected_shards(self._store_dir):
            (self._shards_dir / name).unlink()
        self._header = replace(self._header, discarded=())

    def _drop_empty(self) -> None:
        """Remove shards from the index if all their videos are superseded."""
        self._shards = {name: shard for name, shard in self._shards.items() if len(shard.superseded) < shard.num_videos}

    def _rows_of(self, shard: ShardEntry) -> list[ManifestRow]:
        """Return the rows of a shard, without those that a later shard has replaced.

        If manifest and shard describe the same content, the manifest's measurements are newer: the file may have been
        moved or touched since.
        """
        with ShardReader(self._shards_dir / shard.name) as reader:
            meta = reader.meta
        self.made_with[shard.name] = meta.made_with
        rows = [row_from_plain(dict(row)) for row in meta.videos if row["video_id"] not in shard.superseded]
        return [remeasured(row, self._measured.get(row.video_id)) for row in rows]

    def _take(self, shard: ShardEntry, rows: Sequence[ManifestRow]) -> None:
        """Add a shard, and let its rows replace older ones of the same videos."""
        self.retract(row.video_id for row in rows)
        self._shards[shard.name] = shard
        self.rows.update((row.video_id, row) for row in rows)


def remeasured(row: ManifestRow, entry: VideoEntry | None) -> ManifestRow:
    """Return a video's row with newer measurements of the same content; other content changes nothing."""
    if row.entry is None or entry is None or not (row.entry.is_probed and entry.is_probed):
        return row
    if row.entry.content_digest != entry.content_digest:
        return row
    return replace(row, path=entry.path, entry=replace(entry, split=row.entry.split))


def _pending(entry: VideoEntry, *, keep_split: bool) -> ManifestRow:
    """Return the row of a video with measurements and no outcome, which only a shard knows."""
    kept = entry if keep_split else replace(entry, split=None)
    return ManifestRow(video_id=entry.video_id, path=entry.path, entry=kept)
