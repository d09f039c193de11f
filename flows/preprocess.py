"""The flow `preprocess-ffpp`: a dataset on disk becomes a store of training-ready records.

1 index            check the settings, read names and lists              flows/run/preflight
2 probe            measure each video or reject it                       manifests/probe
3 split-and-audit  whole leakage groups into train, val and test         manifests/splits, leakage
4 plan             group the videos that the store lacks                 flows/run/shards
5 process-shard    decode → detect → track → align → write, per shard    tasks/
6 compact          rewrite shards with many superseded records           storage/upkeep/compact
7 tables           check the totals, write tables and index              storage/upkeep/ledger
8 report           differences, report.json, report.html, artifacts      flows/report
9 keep             keep the store as a version                           storage/upkeep/versions
10 copy            update the copy at `mirror`, if it is set             storage/upkeep/mirror

Each step is a task with this name in Prefect's graph; the tasks of step 5 have the names of their shards.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
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
from flows.run.sources import Indexed, Source, ignored_in, index_sources
from flows.run.steps import Steps
from flows.run.task_runs import enable_own_loggers
from flows.run.workload import Workload
from flows.server.events import warn_of_rejections
from manifests.datasets.ignored import read_ignored, write_ignored
from manifests.errors import NothingStored, StoreError
from manifests.files import write_atomically
from storage.files.layout import CONFIG_NAME, GEOMETRY_DIR, IGNORED_NAME, REPORT_HTML_NAME, REPORT_JSON_NAME
from storage.index import stored_index
from storage.upkeep.compact import compact, sparse_shards
from storage.upkeep.ledger import Ledger
from storage.upkeep.mirror import push
from storage.upkeep.store_run import store_run
from storage.upkeep.versions import next_version
from tasks.process import ShardPlan

logger = logging.getLogger(__name__)

UNLESS_DONE = ("plan", "process-shard", "compact", "tables", "report", "keep")  # steps of a run that changes the store


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
    steps = Steps()
    prepared = steps.take("index", preflight, config)
    config, of_store = prepared.config.run, prepared.config
    with store_run(config.out, of_store.settings, of_store.digest, redo=config.reprocess) as run:
        indexed = steps.take("probe", index_videos, config, prepared.sources, run.ledger)
        work = steps.take("split-and-audit", Workload.find, config, run, indexed)
        if work.is_done():
            for name in UNLESS_DONE:
                steps.skip(name, "the store is up to date")
            copy_to_mirror(config, steps)
            return result(read_report(config.out), config, num_processed=0)
        plans = steps.take("plan", plan_run, work, indexed.roots, prepared.devices)
        with geometry_kept(config.out):
            process(plans, config, run.ledger, steps)
        compact_sparse(config, run.ledger, steps)
        difference = steps.take("tables", write_tables, work)
        report = steps.take("report", make_report, config, difference)
        steps.take("keep", run.keep, config.versions.keep, is_same=difference is not None and difference.is_empty)
        copy_to_mirror(config, steps)
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


def copy_to_mirror(config: PreprocessConfig, steps: Steps) -> None:
    """Update the store's copy at `mirror`, if it is set.

    Raises:
        StoreError: the place has another store or cannot be reached; this store is complete nevertheless.
    """
    if config.mirror is not None:
        copied = steps.take("copy", push, config.out, config.mirror)
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
    ignored = tuple(ignored_in(sources))
    if read_ignored(config.out / IGNORED_NAME) != ignored:
        (config.out / REPORT_JSON_NAME).unlink(missing_ok=True)  # it is written again, even if no video is missing
        write_ignored(config.out / IGNORED_NAME, ignored)
    with shown(items_bar("videos"), "probing") as on_video:
        indexed = index_sources(sources, known=ledger.known_entries(), on_video=on_video)
    num_rejected = sum(row.status == "rejected" for row in indexed.rows)
    logger.info("indexed %d files of %s, %d of them rejected", len(indexed.rows), config.dataset.root, num_rejected)
    return indexed


def plan_run(work: Workload, roots: Mapping[str, Path], devices: tuple[str, ...]) -> list[ShardPlan]:
    """Group the videos that the store lacks into shards, and write manifest and settings of the run to disk."""
    config = work.config
    work.run.ledger.begin(work.outcome(), test_datasets=work.test_datasets, leakage_allowed=config.split.allow_leakage)
    write_atomically(config.out / CONFIG_NAME, to_yaml(config).encode())
    return work.shards(roots, devices)


def process(plans: Sequence[ShardPlan], config: PreprocessConfig, ledger: Ledger, steps: Steps) -> None:
    """Process the shards on the configured task runner, and add each to the store."""
    if not plans:
        steps.skip("process-shard", "no video is missing")
        return
    with RunProgress(sum(len(plan.entries) for plan in plans)) as progress:
        task_runs = process_shards(
            plans,
            config,
            after=steps.inputs,
            on_video=progress.count,
            on_finished=lambda finished: ledger.add(finished.shard, finished.rows),
            on_pause=progress.publish,
        )
    steps.follow(task_runs)


def compact_sparse(config: PreprocessConfig, ledger: Ledger, steps: Steps) -> None:
    """Rewrite the shards in which too many records are superseded."""
    above = config.shard.compact_above
    if sparse_shards(ledger.index.shards, above):
        steps.take("compact", compact, ledger, config.out, above)
    else:
        steps.skip("compact", f"in no shard more than {above:.0%} of the records are superseded")


def write_tables(work: Workload) -> Difference | None:
    """Check the totals, write the tables, mark the store as complete, and return what the run has changed."""
    difference = work.difference()  # needs shards that the next line deletes
    write_difference(work.config.out, difference)
    work.run.ledger.finish(work.outcome())
    return difference


def make_report(config: PreprocessConfig, difference: Difference | None) -> Report:
    """Write the report of the store, and publish it in Prefect."""
    report = write_report(config.out)
    publish(report, difference, config)
    return report


def publish(report: Report, difference: Difference | None, config: PreprocessConfig) -> None:
    """Show the outcome in Prefect: a summary, what changed, the rejections, and the path of the report."""
    where = f"\n\nReport: `{config.out / REPORT_HTML_NAME}`"
    create_markdown_artifact(summary_markdown(report) + where, key="preprocess-summary", description=str(config.out))
    if difference is not None:
        text = difference_markdown(difference)
        create_markdown_artifact(text, key="preprocess-difference", description=str(config.out))
    create_table_artifact(rejection_rows(report), key="preprocess-rejections", description="Rejected videos")
    warn_of_rejections(report, config.out, config.report.max_rejected_share)
