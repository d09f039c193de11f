"""The flows `download-ffpp` and `download-archive`, which fetch a dataset.

1 plan      files to have, from the server's lists and the settings       flows/run/download_plan
2 survey    files on the disk, and lengths of the missing ones            flows/run/download_plan
3 space     check that the disk can hold them, before the first byte      tasks/download/disk_space
4 fetch     file by file, resumable, over at most four connections        tasks/download/fetcher
5 extract   archives only: checked first, and resumable                   tasks/download/extract
6 account   each planned file is fetched, already there, or failed with a reason

No list of fetched files is kept: a file under its final name is complete.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

from flows.config.download import ArchiveConfig, DownloadConfig, ServerSettings, connection_settings, require_terms
from flows.run.bars import advancing
from flows.run.download_plan import Survey, plan_archives, plan_ffpp, require_room_for, survey
from flows.run.progress import DownloadProgress
from flows.run.task_runs import TASKS_PER_WINDOW, enable_own_loggers, in_chunks, results
from manifests.errors import AccountingError, ConfigError, FaceshardsError
from storage.files.layout import lock_store
from tasks.download.archives import ArchiveBroken, ArchiveError
from tasks.download.connections import MAX_CONNECTIONS, FetchReason
from tasks.download.extract import ArchiveCheck, Extracted, extract_archive
from tasks.download.fetcher import Fetched, Fetcher, Wanted, is_there

logger = logging.getLogger(__name__)

# A Prefect task fetches a chunk of files: a task for each file would cost more than fetching it. Where there are few
# files, chunks are smaller, so that no connection is idle while another one has many files to fetch.
MAX_FILES_PER_TASK = 32
CHUNKS_PER_CONNECTION = 4
MAX_LISTED_FAILURES = 200  # in the artifact; the log has all of them


class Failure(TypedDict):
    """A file that could not be fetched, or an archive that could not be extracted."""

    path: str
    """Path that the file should have had."""

    reason: str
    """A `FetchReason`."""

    detail: str
    """A sentence with the values that were seen."""


class Account(TypedDict):
    """Outcome of a download; `num_planned` is the sum of the next three."""

    num_planned: int
    """Files that were chosen."""

    num_fetched: int
    """Files that this run fetched."""

    num_already_there: int
    """Files of earlier runs, and local archives."""

    num_failed: int
    """Files that failed."""

    num_bytes_fetched: int
    """Length of what this run fetched, bytes."""

    failures: list[Failure]
    """One entry for each failed file."""

    num_files_written: NotRequired[int]
    """Archives only: files that were extracted."""

    num_files_already_there: NotRequired[int]
    """Archives only: files that were extracted by earlier runs."""

    num_bytes_written: NotRequired[int]
    """Archives only: length of the extracted files, bytes."""


class DownloadIncomplete(FaceshardsError):
    """An error: some files could not be fetched; the others are kept.

    Args:
        account: the result of the flow.
    """

    def __init__(self, account: Account) -> None:
        super().__init__(
            f"download: got {account['num_failed']:,} of {account['num_planned']:,} failed, expected none; "
            "the others are kept: run it again to fetch only what is missing"
        )
        self.account = account


@flow(
    name="download-ffpp",
    flow_run_name="ffpp-{config.out.name}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_CONNECTIONS),  # type: ignore[arg-type]  # generic over results
    persist_result=False,
)
def download_ffpp(config: DownloadConfig) -> Account:
    """Fetch FaceForensics++, or what is missing of it, in its official layout.

    Args:
        config: settings of the download.

    Raises:
        UserError: the terms are not accepted, the address or the choice is wrong, or the disk is too small.
        FetchFailed: the server does not answer.
        StoreBusy: another run writes to the folder.
        DownloadIncomplete: files failed.
    """
    require_terms(config)
    with at_work(config.out, config) as fetcher:
        plan = plan_ffpp(config, fetcher)
        found = surveyed(plan, fetcher, config)
        require_room_for(found, config)
        outcomes = fetch_all(found, fetcher, config.connections)
    return finished(account_of(outcomes, num_planned=len(plan), num_already_there=found.num_already_there))


@flow(
    name="download-archive",
    flow_run_name="archive-{config.out.name}",
    task_runner=ThreadPoolTaskRunner(max_workers=MAX_CONNECTIONS),  # type: ignore[arg-type]  # generic over results
    persist_result=False,
)
def download_archive(config: ArchiveConfig) -> Account:
    """Fetch archives, and extract them and local archives into one folder.

    Args:
        config: settings of the download.

    Raises:
        UserError: a source or a checksum is wrong, or the disk is too small.
        StoreBusy: another run writes to the folder.
        DownloadIncomplete: archives failed.
    """
    plan = plan_archives(config)
    with at_work(config.out, config) as fetcher:
        remote = [wanted for wanted in plan if wanted.url]
        found = surveyed(remote, fetcher, config)
        require_room_for(found, config)
        already_there = [wanted for wanted in plan if is_there(wanted.path)]
        outcomes = [*fetch_all(found, fetcher, config.connections), *map(fetcher.fetch, already_there)]
        extracted: list[Extracted] = []
        if config.extract:
            urls = {wanted.path: wanted.url for wanted in plan}
            outcomes, extracted = extract_all(outcomes, urls, config.out, fetcher)
    account = account_of(outcomes, num_planned=len(plan), num_already_there=0)
    account["num_files_written"] = sum(item.num_written for item in extracted)
    account["num_files_already_there"] = sum(item.num_already_there for item in extracted)
    account["num_bytes_written"] = sum(item.num_bytes for item in extracted)
    return finished(account)


def name_of_chunk(parameters: Mapping[str, Any]) -> str:
    """Return the name of a task run in Prefect: the first file and how many more."""
    chunk: Sequence[Wanted] = parameters["chunk"]
    return chunk[0].path.name + (f" and {len(chunk) - 1} more" if len(chunk) > 1 else "")


# No retries and no caching by Prefect: the fetcher retries, and the files on disk say what is done.
@task(
    name="fetch-files",
    task_run_name=name_of_chunk,  # type: ignore[arg-type]  # a function will do; Prefect's protocol asks for a class
    cache_policy=NO_CACHE,
    persist_result=False,
)
def fetch_files(chunk: Sequence[Wanted], fetcher: Fetcher, on_file: Callable[[Fetched], None]) -> tuple[Fetched, ...]:
    """Fetch a chunk of files, one after the other.

    Args:
        chunk: the files.
        fetcher: shared by all tasks, with its connections.
        on_file: called with each outcome.
    """
    outcomes: list[Fetched] = []
    for wanted in chunk:
        outcome = fetcher.fetch(wanted)
        if outcome.status == "failed" and outcome.reason != FetchReason.NOT_TRIED:
            logger.warning("failed: %s", outcome.detail)
        outcomes.append(outcome)
        on_file(outcome)
    return tuple(outcomes)


@task(name="extract-archive", task_run_name="{path.name}", cache_policy=NO_CACHE, persist_result=False)
def extract_one(path: Path, out: Path, on_bytes: Callable[[int], None], fetcher: Fetcher) -> Extracted:
    """Extract one archive; stop when the fetcher is stopped."""

    def say(check: ArchiveCheck) -> None:
        logger.info("%s: %d files to write", path.name, len(check.missing))

    return extract_archive(path, out, on_checked=say, on_bytes=on_bytes, should_stop=fetcher.stopped.is_set)


@contextmanager
def at_work(out: Path, config: ServerSettings) -> Iterator[Fetcher]:
    """Lock the folder and yield a fetcher, which stops when the block ends for any reason."""
    enable_own_loggers()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: got {out} ({error.strerror}), expected a folder that can be written to") from error
    with lock_store(out), Fetcher(connection_settings(config), max_tries=config.max_tries) as fetcher:
        yield fetcher


def surveyed(plan: Sequence[Wanted], fetcher: Fetcher, config: ServerSettings) -> Survey:
    """Return which files are on the disk and how long the others are; show a bar meanwhile."""
    num_missing = sum(not is_there(wanted.path) for wanted in plan)
    with advancing("asking how long the files are", num_missing) as on_size:
        found = survey(fetcher, plan, config.connections, on_size)
    logger.info("%d files planned, %d already there", found.num_planned, found.num_already_there)
    return found


def fetch_all(found: Survey, fetcher: Fetcher, connections: int) -> list[Fetched]:
    """Fetch the missing files in chunks, of which a limited number is submitted at a time."""
    num_missing = len(found.missing)
    if not num_missing:
        return []
    size = max(1, min(MAX_FILES_PER_TASK, num_missing // (connections * CHUNKS_PER_CONNECTION)))
    num_bytes = None if found.num_unknown else found.num_bytes
    outcomes: list[Fetched] = []
    with DownloadProgress(num_missing, num_bytes, num_bytes_there=found.num_bytes_partly_there) as progress:
        fetcher.on_bytes = progress.count_bytes
        for window in in_chunks(in_chunks(found.missing, size), TASKS_PER_WINDOW):
            futures = [fetch_files.submit(chunk, fetcher, progress.count_file) for chunk in window]
            for done in results(futures, progress.publish):
                outcomes.extend(done)
    return outcomes


def extract_all(
    outcomes: Sequence[Fetched], urls: dict[Path, str], out: Path, fetcher: Fetcher
) -> tuple[list[Fetched], list[Extracted]]:
    """Extract the archives that were fetched, one after the other; one that cannot be extracted counts as failed."""
    after: list[Fetched] = []
    extracted: list[Extracted] = []
    ready = [outcome for outcome in outcomes if outcome.status != "failed"]
    after += [outcome for outcome in outcomes if outcome.status == "failed"]
    with DownloadProgress(len(ready), None, what="extracting", has_artifact=False) as progress:
        for outcome in ready:
            ended = outcome
            try:
                (done,) = results(
                    [extract_one.submit(outcome.path, out, progress.count_bytes, fetcher)], progress.publish
                )
                extracted.append(done)
            except (ArchiveError, ConfigError, OSError) as error:
                reason = FetchReason.WRONG_CONTENT if isinstance(error, ArchiveError) else FetchReason.DISK
                ended = replace(outcome, status="failed", reason=reason, detail=str(error), num_bytes=0)
                if isinstance(error, ArchiveBroken) and urls[outcome.path]:
                    outcome.path.unlink(missing_ok=True)  # the next run fetches it again
            after.append(ended)
            progress.count_file(ended)
    return after, extracted


def account_of(outcomes: Sequence[Fetched], *, num_planned: int, num_already_there: int) -> Account:
    """Return the account of a download.

    Args:
        outcomes: outcomes of the files that were missing.
        num_planned: number of all planned files.
        num_already_there: number of planned files that were on the disk.

    Raises:
        AccountingError: the outcomes do not add up to the planned files.
    """
    by_status = {
        status: sum(outcome.status == status for outcome in outcomes)
        for status in ("fetched", "already_there", "failed")
    }
    by_status["already_there"] += num_already_there
    if sum(by_status.values()) != num_planned:
        raise AccountingError(f"download: got {by_status} of {num_planned} planned files, expected them to add up")
    return {
        "num_planned": num_planned,
        "num_fetched": by_status["fetched"],
        "num_already_there": by_status["already_there"],
        "num_failed": by_status["failed"],
        "num_bytes_fetched": sum(outcome.num_bytes for outcome in outcomes if outcome.status == "fetched"),
        "failures": [
            {"path": str(outcome.path), "reason": str(outcome.reason), "detail": outcome.detail}
            for outcome in outcomes
            if outcome.status == "failed"
        ],
    }


def finished(account: Account) -> Account:
    """Return the account, or publish its failures in Prefect and raise.

    Raises:
        DownloadIncomplete: there are failures.
    """
    if not account["failures"]:
        return account
    listed = [{**failure} for failure in account["failures"][:MAX_LISTED_FAILURES]]
    create_table_artifact(listed, key="download-failures", description="Files that failed")
    raise DownloadIncomplete(account)
