"""The work of a run: the store, compared with the files on disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from flows.config.preprocess import PreprocessConfig, differences
from flows.report.difference import Difference, code_of, compare, count_other_code
from flows.report.text import in_a_line, other_code_in_words, vanished_in_words
from flows.run.relatives import Relatives
from flows.run.shards import plan_shards
from flows.run.sources import Indexed, require_apart
from flows.run.splitting import with_splits
from manifests.entry import VideoEntry
from manifests.rejected import Reason
from manifests.row import ManifestRow
from manifests.videos_table import read_table
from storage.files.layout import SHARDS_DIR, VIDEOS_NAME
from storage.shard import ShardReader
from storage.upkeep.compact import sparse_shards
from storage.upkeep.ledger import remeasured
from storage.upkeep.store_run import StoreRun
from tasks.process import ShardPlan
from tasks.video.provenance import made_with

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work of one run over one store, known before anything is written."""

    config: PreprocessConfig
    """The run's configuration, completed from the store."""

    run: StoreRun
    """The store, locked."""

    rows: tuple[ManifestRow, ...]
    """Every indexed file, with its split."""

    missing: tuple[VideoEntry, ...]
    """Videos that have to be processed."""

    relatives: Relatives
    """Originals and mask footage of the videos on disk."""

    test_datasets: tuple[str, ...]
    """Datasets for testing only, those of earlier runs included, sorted."""

    vanished: frozenset[str]
    """video_ids of stored videos whose files are gone, and whose records stay."""

    @classmethod
    def find(cls, config: PreprocessConfig, run: StoreRun, indexed: Indexed) -> Workload:
        """Compare the store with the files on disk; records that became invalid are dropped in memory, not on disk.

        Raises:
            ConfigError: a dataset that the store keeps for testing only is now to be trained on.
            SplitError: the split would break its policy's promise.
        """
        ledger = run.ledger
        ledger.forget(renamed(indexed.rows, ledger.stored_entries()))
        gone = vanished(indexed.rows, ledger.stored_entries(), indexed.roots)
        if config.vanished == "drop":
            ledger.forget(gone)
            gone = set()
        test_datasets = require_apart(indexed, ledger.index.test_datasets)
        rows = with_splits(
            indexed.rows, config.split, ledger.stored_entries(), test_datasets, ledger.known_entries().values()
        )
        usable = [row.entry for row in rows if row.status == "pending" and row.entry is not None]
        relatives = Relatives.among(usable, config, ledger.rows)
        outdated = videos_of_other_code(config, run) if config.remake == "code" else frozenset()
        missing = [
            entry
            for entry in usable
            if entry.video_id in outdated or not ledger.is_done(entry, relatives.digests.get(entry.video_id))
        ]
        ledger.retract(
            row.video_id
            for row in rows
            if row.status == "rejected" and not keeps_records(row, ledger.rows.get(row.video_id))
        )
        return cls(
            config=config,
            run=run,
            rows=tuple(rows),
            missing=tuple(missing),
            relatives=relatives,
            test_datasets=test_datasets,
            vanished=frozenset(gone),
        )

    def outcome(self) -> list[ManifestRow]:
        """Return every file's row as the store has it now."""
        return outcome(self.rows, self.run.ledger.rows)

    def is_done(self) -> bool:
        """Return whether the store is up to date; if so, log it, and warn of lost files and records of other code."""
        ledger = self.run.ledger
        if (
            self.missing
            or not self.run.has_reports
            or sparse_shards(ledger.index.shards, self.config.shard.compact_above)
            or not ledger.is_up_to_date(self.outcome())
        ):
            return False
        logger.info("nothing to do: %d videos indexed, none missing in %s", len(self.rows), self.config.out)
        if self.vanished:
            logger.warning(vanished_in_words(len(self.vanished)))
        code = {name: code_of(made) for name, made in ledger.made_with.items()}
        now = code_of(made_with(self.config.stages))
        for versions, num_videos in count_other_code(ledger.rows.values(), code, now).items():
            logger.warning(other_code_in_words(versions, num_videos))
        return True

    def shards(self, roots: Mapping[str, Path], devices: tuple[str, ...]) -> list[ShardPlan]:
        """Return the shards that the missing videos will make; see `flows.run.shards.plan_shards`."""
        ledger = self.run.ledger
        digest = ledger.index.config_digest
        return plan_shards(self.missing, self.config, roots, devices, ledger.next_number, self.relatives, digest)

    def difference(self) -> Difference | None:
        """Return what the run has changed since the version that it began from; None for a store's first run."""
        before, ledger = self.run.before, self.run.ledger
        if before is None:
            return None
        now = made_with(self.config.stages)
        made = dict.fromkeys((shard.name for shard in ledger.index.shards), now) | ledger.made_with
        for shard in before.index.shards:
            path = self.config.out / SHARDS_DIR / shard.name
            if shard.name not in made and path.exists():  # a store that is recomputed: its ledger has no older shards
                with ShardReader(path) as reader:
                    made[shard.name] = reader.meta.made_with
        difference = compare(
            before.number,
            read_table(before.folder / VIDEOS_NAME),
            self.outcome(),
            code={name: code_of(versions) for name, versions in made.items()},
            now=code_of(now),
            settings=differences(before.index.config, ledger.index.config),
            vanished=self.vanished,
        )
        logger.info("since version %d: %s", difference.since, in_a_line(difference))
        return difference


def videos_of_other_code(config: PreprocessConfig, run: StoreRun) -> frozenset[str]:
    """Return the video_ids whose outcome has another records version, or comes from other weights."""
    now = code_of(made_with(config.stages))
    others = {name for name, made in run.ledger.made_with.items() if code_of(made) != now}
    return frozenset(row.video_id for row in run.ledger.rows.values() if row.shard in others)


def renamed(rows: Iterable[ManifestRow], stored: Iterable[VideoEntry]) -> set[str]:
    """Return the video_ids of stored videos whose file has another video_id today.

    A label that was corrected in a list gives a file a new video_id: the records under the old one are wrong.
    """
    found = {(row.entry.dataset, row.entry.path): row.video_id for row in rows if row.entry is not None}
    return {
        entry.video_id for entry in stored if found.get((entry.dataset, entry.path), entry.video_id) != entry.video_id
    }


def vanished(rows: Iterable[ManifestRow], stored: Iterable[VideoEntry], roots: Mapping[str, Path]) -> set[str]:
    """Return the video_ids of stored videos whose files are gone from a dataset that this run indexes.

    Videos that are on disk but not selected by this run, such as those of another compression, do not count.
    """
    found = {row.video_id for row in rows}
    missing = (entry for entry in stored if entry.video_id not in found and entry.dataset in roots)
    return {entry.video_id for entry in missing if not (roots[entry.dataset] / entry.path).exists()}


def outcome(indexed: Iterable[ManifestRow], processed: Mapping[str, ManifestRow]) -> list[ManifestRow]:
    """Return every file's final row: that of its rejection while indexing, or that of its shard.

    Videos that are stored and no longer on disk keep their rows: an unmounted disk deletes no records.
    """
    rows = {row.video_id: _final(row, processed.get(row.video_id)) for row in indexed}
    gone = {video_id: row for video_id, row in processed.items() if video_id not in rows and row.status == "stored"}
    return [row for _, row in sorted({**rows, **gone}.items())]


def keeps_records(indexed: ManifestRow, processed: ManifestRow | None) -> bool:
    """Return whether stored records stay valid after a rejection while indexing: if the file is only unreadable now."""
    return indexed.reason is Reason.UNREADABLE and processed is not None and processed.status == "stored"


def _final(indexed: ManifestRow, processed: ManifestRow | None) -> ManifestRow:
    """Return one file's final row. A stored video that cannot be read now keeps its row, as on an unmounted disk."""
    if processed is None or (indexed.status == "rejected" and not keeps_records(indexed, processed)):
        return indexed
    return remeasured(processed, indexed.entry)
