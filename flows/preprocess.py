"""The flow `preprocess-ffpp`: a dataset on disk becomes a store of training-ready records.

1 index     find every file, and probe or reject it               manifests/
2 split     whole leakage groups into train, val and test         manifests/splits
3 plan      group the videos that the store lacks                 flows/run/shards
4 process   decode → detect → track → align → write, per shard    tasks/
5 compact   rewrite shards with many superseded records           storage/upkeep/compact
6 account   check the totals, write tables and index              storage/upkeep/ledger
7 report    differences, report.json, report.html, artifacts      flows/report
8 keep      keep the store as a version                           storage/upkeep/versions
9 copy      update the copy at `mirror`, if it is set             storage/upkeep/mirror
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from flows.config.preprocess import PreprocessConfig, to_yaml
from flows.report.difference import Difference, write_difference
from flows.report.page import read_report, write_report
from flows.report.text import difference_markdown, rejection_rows, summary_markdown
from flows.report.totals import Report
from flows.run.bars import items_bar, shown
from flows.run.preflight import preflight
from flows.run.progress import RunProgress
from flows.run.runners import process_shards
from flows.run.sources import Indexed, Source, index_sources
from flows.run.task_runs import enable_own_loggers
from flows.run.workload import Workload
from flows.server.events import warn_of_rejections
from manifests.errors import NothingStored, StoreError
from manifests.files import write_atomically
from storage.files.layout import CONFIG_NAME, GEOMETRY_DIR, REPORT_HTML_NAME
from storage.index import stored_index
from storage.upkeep.compact import compact
from storage.upkeep.ledger import Ledger
from storage.upkeep.mirror import push
from storage.upkeep.store_run import store_run
from storage.upkeep.versions import next_version
from tasks.process import ShardPlan

logger = logging.getLogger(__name__)


def run_name() -> str:
    """Return dataset, compressions, store and the version that a change makes: `ffpp-c23-crops-v3`."""
    config = PreprocessConfig.model_validate(flow_run.parameters["config"])
    compressions = "+".join(config.dataset.compressions or ("all",))
    try:
        stored = stored_index(config.out)
        number = next_version(config.out, stored.version if stored else 0)
    except StoreError:  # the run itself will report it
        return f"{config.dataset.name}-{compressions}-{config.out.name}"
    return f"{config.dataset.name}-{compressions}-{config.out.name}-v{number}"


@flow(name="preprocess-ffpp", flow_run_name=run_name, persist_result=False)
def preprocess_ffpp(config: PreprocessConfig) -> dict[str, Any]:
    """Turn a dataset on disk into LMDB shards of face crops, or complete the store that is already there.

    Args:
        config: every setting of the run.

    Returns:
        How many videos this run processed and changed, and the totals of the store's report.

    Raises:
        UserError: the dataset's folder, the split or a setting is wrong.
        StoreError: the store is being written to, is broken, or was made with another configuration.
        NothingStored: every video was rejected.
        AccountingError: the totals do not add up.
    """
    enable_own_loggers()
    prepared = preflight(config)
    config, of_store = prepared.config.run, prepared.config
    with store_run(config.out, of_store.settings, of_store.digest, redo=config.reprocess) as run:
        indexed = index_videos(config, prepared.sources, run.ledger)
        work = Workload.find(config, run, indexed)
        if work.is_done():
            copy_to_mirror(config)
            return result(read_report(config.out), config, num_processed=0)
        run.ledger.begin(work.outcome(), test_datasets=work.test_datasets, leakage_allowed=config.split.allow_leakage)
        write_atomically(config.out / CONFIG_NAME, to_yaml(config).encode())
        plans = work.shards(indexed.roots, prepared.devices)
        with geometry_kept(config.out):
            run_shards(plans, config, run.ledger)
        compact(run.ledger, config.out, config.shard.compact_above)
        difference = work.difference()
        write_difference(config.out, difference)
        is_same = difference is not None and difference.is_empty
        report = run.finish(work.outcome(), write_report, keep=config.versions.keep, is_same=is_same)
        publish(report, difference, config)
        copy_to_mirror(config)
    return result(report, config, num_processed=len(work.missing), difference=difference)


def result(
    report: Report, config: PreprocessConfig, *, num_processed: int, difference: Difference | None = None
) -> dict[str, Any]:
    """Return the result of the flow.

    Raises:
        NothingStored: every video was rejected.
    """
    if report.num_stored == 0:
        raise NothingStored(
            f"{config.dataset.root}: got no video that can be stored, expected at least one; "
            f"{config.out}/report.html shows why each was rejected"
        )
    num_changed = sum(difference.totals.values()) if difference else num_processed
    return {"videos_processed": num_processed, "videos_changed": num_changed} | report.totals


def copy_to_mirror(config: PreprocessConfig) -> None:
    """Update the store's copy at `mirror`, if it is set.

    Raises:
        StoreError: the place has another store or cannot be reached; this store is complete nevertheless.
    """
    if config.mirror is not None:
        copied = push(config.out, config.mirror)
        logger.info("%s: %d shards copied, %d were there", config.mirror, copied.num_copied, copied.num_already_there)


@contextmanager
def geometry_kept(store_dir: Path) -> Iterator[None]:
    """Keep the geometry of originals for their fakes while a run lasts; delete that of earlier runs."""
    folder = store_dir / GEOMETRY_DIR
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def index_videos(config: PreprocessConfig, sources: Sequence[Source], ledger: Ledger) -> Indexed:
    """Probe the datasets' videos; files that an earlier run has measured are not measured again."""
    for source in sources:
        logger.info("%s", source)
    with shown(items_bar("videos"), "probing") as on_video:
        indexed = index_sources(sources, known=ledger.known_entries(), on_video=on_video)
    num_rejected = sum(row.status == "rejected" for row in indexed.rows)
    logger.info("indexed %d files of %s, %d of them rejected", len(indexed.rows), config.dataset.root, num_rejected)
    return indexed


def run_shards(plans: Sequence[ShardPlan], config: PreprocessConfig, ledger: Ledger) -> None:
    """Process the shards on the configured task runner, and add each to the store."""
    with RunProgress(sum(len(plan.entries) for plan in plans)) as progress:
        process_shards(
            plans,
            config,
            on_video=progress.count,
            on_finished=lambda finished: ledger.add(finished.shard, finished.rows),
            on_pause=progress.publish,
        )


def publish(report: Report, difference: Difference | None, config: PreprocessConfig) -> None:
    """Show the outcome in Prefect: a summary, what changed, the rejections, and the path of the report."""
    where = f"\n\nReport: `{config.out / REPORT_HTML_NAME}`"
    create_markdown_artifact(summary_markdown(report) + where, key="preprocess-summary", description=str(config.out))
    if difference is not None:
        text = difference_markdown(difference)
        create_markdown_artifact(text, key="preprocess-difference", description=str(config.out))
    create_table_artifact(rejection_rows(report), key="preprocess-rejections", description="Rejected videos")
    warn_of_rejections(report, config.out, config.report.max_rejected_share)
