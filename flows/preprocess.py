"""The flow `preprocess-ffpp`: a dataset on disk becomes a store of training-ready records.

1 index     every file is found, and probed or rejected           manifests/
2 split     whole leakage groups go to train, val and test        manifests/splits
3 plan      what the store lacks is cut into shards               flows/plan
4 process   decode → detect → track → align → write, per shard    tasks/
5 account   everything adds up, tables and index are written      storage/ledger
6 report    report.json, report.html, artifacts in Prefect        flows/report
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
from prefect.task_runners import ThreadPoolTaskRunner

from flows.bars import probing_bar
from flows.config import PreprocessConfig, to_yaml
from flows.plan import keeps_records, outcome, plan_shards, renamed, with_splits
from flows.preflight import preflight
from flows.progress import RunProgress
from flows.relatives import Relatives
from flows.report import Report, build_report, rejection_rows, summary_markdown, write_report
from flows.sources import Indexed, index_sources, require_apart
from flows.task_runs import TASKS_PER_WINDOW, in_chunks, let_own_loggers_speak, results
from manifests.errors import NothingStored
from storage.layout import CONFIG_NAME, GEOMETRY_DIR, REPORT_HTML_NAME, REPORT_JSON_NAME, lock_store, write_atomically
from storage.ledger import Ledger
from tasks.process import ShardPlan, process_shard
from tasks.workers import worker_processes

logger = logging.getLogger(__name__)

# While one shard's last videos are at work, those of the next ones keep the other workers busy.
SHARDS_AT_ONCE = 4


@flow(
    name="preprocess-ffpp",
    flow_run_name="{config.dataset.name}-{config.out.name}",
    task_runner=ThreadPoolTaskRunner(max_workers=SHARDS_AT_ONCE),  # type: ignore[arg-type]  # generic over results
    persist_result=False,
)
def preprocess_ffpp(config: PreprocessConfig) -> dict[str, Any]:
    """Turn a dataset on disk into LMDB shards of face crops, or complete the store that is already there.

    Args:
        config: everything that the run can be told.

    Returns:
        How many videos this run processed, and the totals of the store's report.

    Raises:
        UserError: the dataset's folder, the split or a setting is wrong.
        StoreError: the store is being written to, is broken, or was made with another configuration.
        NothingStored: every video was rejected.
        AccountingError: the totals do not add up.
    """
    let_own_loggers_speak()
    devices = preflight(config)
    with lock_store(config.out), worker_processes():
        ledger = Ledger(config.out, config.store_settings(), config.config_digest, redo=config.reprocess)
        indexed = index_videos(config, ledger)
        ledger.forget(renamed(indexed.rows, ledger.stored_entries()))
        test_datasets = require_apart(indexed, ledger.index.test_datasets)
        rows = with_splits(indexed.rows, config.split, ledger.stored_entries(), test_datasets)
        usable = [row.entry for row in rows if row.status == "pending" and row.entry is not None]
        relatives = Relatives.among(usable, config, ledger.rows)
        missing = [entry for entry in usable if not ledger.is_done(entry, relatives.digests.get(entry.video_id))]
        ledger.retract(
            row.video_id
            for row in rows
            if row.status == "rejected" and not keeps_records(row, ledger.rows.get(row.video_id))
        )
        reports = [config.out / name for name in (REPORT_JSON_NAME, REPORT_HTML_NAME)]
        if not missing and ledger.is_up_to_date(outcome(rows, ledger.rows)) and all(map(Path.exists, reports)):
            logger.info("nothing to do: %d videos indexed, none missing in %s", len(rows), config.out)
            return result(build_report(config.out), config, num_processed=0)
        for stale in reports:
            stale.unlink(missing_ok=True)
        ledger.begin(
            outcome(rows, ledger.rows),
            test_datasets=test_datasets,
            leakage_allowed=config.split.allow_leakage,
        )
        write_atomically(config.out / CONFIG_NAME, to_yaml(config).encode())
        with geometry_kept(config.out):
            run_shards(plan_shards(missing, config, indexed.roots, devices, ledger.next_number, relatives), ledger)
        ledger.finish(outcome(rows, ledger.rows))
        report = write_report(config.out)
    publish(report, config)
    return result(report, config, num_processed=len(missing))


def result(report: Report, config: PreprocessConfig, *, num_processed: int) -> dict[str, Any]:
    """Return what the flow returns.

    Raises:
        NothingStored: every video was rejected.
    """
    if report.num_stored == 0:
        raise NothingStored(
            f"{config.dataset.root}: got no video that can be stored; {config.out}/report.html says why"
        )
    return {"videos_processed": num_processed} | report.totals


@contextmanager
def geometry_kept(store_dir: Path) -> Iterator[None]:
    """Keep what fakes take over from their originals while a run lasts, and nothing of an earlier run."""
    folder = store_dir / GEOMETRY_DIR
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def index_videos(config: PreprocessConfig, ledger: Ledger) -> Indexed:
    """Find and probe the datasets' videos; what an earlier run has measured is not measured again."""
    with probing_bar() as on_video:
        indexed = index_sources(config.dataset, config.test_datasets, known=ledger.known_entries(), on_video=on_video)
    num_rejected = sum(row.status == "rejected" for row in indexed.rows)
    logger.info("indexed %d files of %s, %d of them rejected", len(indexed.rows), config.dataset.root, num_rejected)
    return indexed


def run_shards(plans: Sequence[ShardPlan], ledger: Ledger) -> None:
    """Process the shards, a few at a time, and list each in the store's index as soon as it is complete."""
    with RunProgress(sum(len(plan.entries) for plan in plans)) as progress:
        for window in in_chunks(plans, TASKS_PER_WINDOW):
            futures = [process_shard.submit(plan, progress.count) for plan in window]
            for finished in results(futures, progress.publish):
                ledger.add(finished.shard, finished.rows)


def publish(report: Report, config: PreprocessConfig) -> None:
    """Show the outcome in Prefect: a summary, the rejections, and where the report lies."""
    where = f"\n\nReport: `{config.out / REPORT_HTML_NAME}`"
    create_markdown_artifact(summary_markdown(report) + where, key="preprocess-summary", description=str(config.out))
    create_table_artifact(rejection_rows(report), key="preprocess-rejections", description="Rejected videos")
