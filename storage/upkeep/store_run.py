"""A run that writes to a store, from the lock to the new version.

    lock        one run at a time                                      storage.files.layout
    ledger      the contents of the store                              storage.upkeep.ledger
    before      the version that the run begins from                   storage.upkeep.versions
    begin       the store is marked as incomplete, old reports are deleted
    …           shards are added, superseded ones rewritten            storage.upkeep.compact
    finish      tables, the complete index
    report      written by the caller
    keep        the store as a version

A process that is killed at any point leaves a store that the next run completes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from manifests.errors import StoreIncomplete
from manifests.videos_table import read_table
from storage.files.layout import REPORT_HTML_NAME, REPORT_JSON_NAME, VIDEOS_NAME, lock_store
from storage.index import read_index
from storage.upkeep.compact import Compaction, compact, sparse_shards
from storage.upkeep.ledger import Ledger
from storage.upkeep.versions import Version, keep_current, keep_version, list_versions


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreRun:
    """One run that writes to a store; it holds the store's lock."""

    store_dir: Path
    """The store's folder."""

    ledger: Ledger
    """Ledger of the store, kept up to date."""

    before: Version | None
    """The version that the run begins from; None for the first run."""

    @property
    def has_reports(self) -> bool:
        """Return whether the last run that changed something wrote its reports."""
        return all((self.store_dir / name).exists() for name in (REPORT_JSON_NAME, REPORT_HTML_NAME))

    def keep(self, number: int, *, is_same: bool = False) -> None:
        """Keep the finished store as a version.

        Args:
            number: number of versions that stay, the new one included; 1 or more.
            is_same: whether no video differs from the version before; then the new version replaces that one.
        """
        keep_version(self.store_dir, keep=number, since=self.before.number if self.before else None, is_same=is_same)


@contextmanager
def store_run(
    store_dir: Path, config: Mapping[str, object], config_digest: str, *, redo: bool = False
) -> Iterator[StoreRun]:
    """Lock a store, read what it holds, and keep its current version.

    Args:
        store_dir: the store's folder; it is created if it does not exist.
        config: the settings that every shard of the store shares, as plain values.
        config_digest: hex digest of these settings.
        redo: discard records of another configuration, instead of raising an error.

    Raises:
        StoreBusy: another run is writing to the store.
        StoreChanged: the store was made with another configuration.
        StoreCorrupt: its index or a shard cannot be read.
    """
    with lock_store(store_dir):
        ledger = Ledger(store_dir, config, config_digest, redo=redo)
        yield StoreRun(store_dir=store_dir, ledger=ledger, before=keep_current(store_dir))


def compact_store(store_dir: Path, above: float, write_report: Callable[[Path], object]) -> Compaction | None:
    """Compact a complete store; the result replaces its current version.

    Args:
        store_dir: the store's folder.
        above: share of superseded records in a shard, 0..1, above which the shard is rewritten without them.
        write_report: writes the store's reports.

    Returns:
        What was done; None if no shard has that many superseded records.

    Raises:
        StoreIncomplete: the last run did not finish.
        StoreBusy: another run is writing to the store.
    """
    index = read_index(store_dir)
    with store_run(store_dir, index.config, index.config_digest) as run:
        ledger = run.ledger
        if not ledger.is_complete:
            raise StoreIncomplete(
                f"store {store_dir}: got a store whose last run did not finish, expected a complete one; "
                f"run it again, or return to the version before with `faceshards rollback {store_dir}`"
            )
        if not sparse_shards(ledger.index.shards, above):
            return None
        rows = read_table(store_dir / VIDEOS_NAME)
        ledger.begin(rows)
        done = compact(ledger, store_dir, above)
        moved = [replace(row, shard=ledger.rows[row.video_id].shard) if row.shard else row for row in rows]
        ledger.finish(moved)
        write_report(store_dir)
        run.keep(max(1, len(list_versions(store_dir))), is_same=True)
    return done
