"""What a run has to do, and what it has done: the store as it was, held against what lies on disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from flows.config.preprocess import PreprocessConfig, differences
from flows.report.difference import Difference, code_of, compare, count_other_code
from flows.report.text import in_a_line, other_code_in_words, vanished_in_words
from flows.run.relatives import Relatives
from flows.run.shards import keeps_records, outcome, renamed, vanished, with_splits
from flows.run.sources import Indexed, require_apart
from manifests.entry import VideoEntry
from manifests.row import ManifestRow
from manifests.videos_table import read_table
from storage.files.layout import REPORT_HTML_NAME, REPORT_JSON_NAME, SHARDS_DIR, VIDEOS_NAME
from storage.shard import ShardReader
from storage.upkeep.compact import sparse_shards
from storage.upkeep.ledger import Ledger
from storage.upkeep.versions import Version
from tasks.video.provenance import made_with

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a run has found out before it writes anything."""

    rows: tuple[ManifestRow, ...]
    """Every indexed file, with its split."""

    missing: tuple[VideoEntry, ...]
    """Videos that have to be processed."""

    relatives: Relatives
    """What the videos on disk know of each other."""

    test_datasets: tuple[str, ...]
    """Datasets that are for testing only, those of earlier runs among them, sorted."""

    vanished: frozenset[str]
    """video_ids of stored videos whose files are gone, and whose records stay."""


def find_work(config: PreprocessConfig, indexed: Indexed, ledger: Ledger) -> Work:
    """Return what is to do; what can no longer be used stops counting, in memory."""
    ledger.forget(renamed(indexed.rows, ledger.stored_entries()))
    gone = vanished(indexed.rows, ledger.stored_entries(), indexed.roots)
    if config.vanished == "drop":
        ledger.forget(gone)
        gone = set()
    test_datasets = require_apart(indexed, ledger.index.test_datasets)
    rows = with_splits(indexed.rows, config.split, ledger.stored_entries(), test_datasets)
    usable = [row.entry for row in rows if row.status == "pending" and row.entry is not None]
    relatives = Relatives.among(usable, config, ledger.rows)
    made_otherwise = videos_of_other_code(config, ledger) if config.remake == "code" else frozenset()
    missing = [
        entry
        for entry in usable
        if entry.video_id in made_otherwise or not ledger.is_done(entry, relatives.digests.get(entry.video_id))
    ]
    ledger.retract(
        row.video_id
        for row in rows
        if row.status == "rejected" and not keeps_records(row, ledger.rows.get(row.video_id))
    )
    return Work(
        rows=tuple(rows),
        missing=tuple(missing),
        relatives=relatives,
        test_datasets=test_datasets,
        vanished=frozenset(gone),
    )


def videos_of_other_code(config: PreprocessConfig, ledger: Ledger) -> frozenset[str]:
    """Return the video_ids of outcomes that another version of faceshards, or other weights, gave."""
    now = code_of(made_with(config.stages))
    others = {name for name, made in ledger.made_with.items() if code_of(made) != now}
    return frozenset(row.video_id for row in ledger.rows.values() if row.shard in others)


def has_nothing_to_do(config: PreprocessConfig, work: Work, ledger: Ledger) -> bool:
    """Whether the store is as the run would leave it; if so, say it, and what a person should know all the same."""
    reports = [config.out / name for name in (REPORT_JSON_NAME, REPORT_HTML_NAME)]
    if (
        work.missing
        or not all(map(Path.exists, reports))
        or sparse_shards(ledger.index.shards, config.shard.compact_above)
    ):
        return False
    if not ledger.is_up_to_date(outcome(work.rows, ledger.rows)):
        return False
    logger.info("nothing to do: %d videos indexed, none missing in %s", len(work.rows), config.out)
    if work.vanished:
        logger.warning(vanished_in_words(len(work.vanished)))
    code = {name: code_of(made) for name, made in ledger.made_with.items()}
    for versions, num_videos in count_other_code(ledger.rows.values(), code, code_of(made_with(config.stages))).items():
        logger.warning(other_code_in_words(versions, num_videos))
    return True


def difference_since(before: Version | None, config: PreprocessConfig, work: Work, ledger: Ledger) -> Difference | None:
    """Return what a run has changed since the version that it began from; None for a store's first run."""
    if before is None:
        return None
    now = made_with(config.stages)
    made = dict.fromkeys((shard.name for shard in ledger.index.shards), now) | ledger.made_with
    for shard in before.index.shards:
        path = config.out / SHARDS_DIR / shard.name
        if shard.name not in made and path.exists():  # a redo has not looked at it
            with ShardReader(path) as reader:
                made[shard.name] = reader.meta.made_with
    difference = compare(
        before.number,
        read_table(before.folder / VIDEOS_NAME),
        outcome(work.rows, ledger.rows),
        code={name: code_of(versions) for name, versions in made.items()},
        now=code_of(now),
        settings=differences(before.index.config, ledger.index.config),
        vanished=work.vanished,
    )
    logger.info("since version %d: %s", difference.since, in_a_line(difference))
    return difference
