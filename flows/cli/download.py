"""The commands `download ffpp` and `download archive`, which fetch a dataset."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.command import Argument, Command, Options, flag, path, repeated, several, switch
from flows.cli.console import complain, end_process, say, working
from manifests.datasets.ffpp_server import COMPRESSIONS, MANIPULATIONS, PAPER_MANIPULATIONS
from manifests.errors import EXIT_FAILED, EXIT_OK, ConfigError

if TYPE_CHECKING:
    from flows.config.download import ArchiveConfig, DownloadConfig
    from flows.download import Account
    from flows.run.download_plan import Survey
    from tasks.download.fetcher import Fetcher, Wanted

ALL, NONE = "all", "none"
NUM_NAMED = 5  # failed files that are named for each reason; the run's log in Prefect has all of them
TRIES_BEFORE_START = 2  # a wrong address should be reported within seconds


def commands() -> Iterator[Command]:
    """Yield the group of commands."""
    known = (*MANIPULATIONS, ALL, NONE)
    named = f"manipulations: {', '.join(MANIPULATIONS)}, or {ALL}, or {NONE} (default: the four of the paper)"
    number = "number of simultaneous connections, 1 to 4 (default: 4)"
    connections = Argument("--connections", number, type=int, default=4, metavar="N")
    dry_run = flag("--dry-run", "print what would be fetched and whether the disk can hold it; fetch nothing")
    of_ffpp = Command(
        "ffpp",
        "fetch FaceForensics++ from the server that you were given access to",
        ffpp,
        path("out", "OUT", "folder for the dataset, in its official layout"),
        Argument("--server", "address that came with your access (default: $FACESHARDS_FFPP_SERVER)", metavar="URL"),
        flag("--accept-terms", "confirm that you have been granted access and keep to the terms of use"),
        several("--manipulations", named, choices=known, default=list(PAPER_MANIPULATIONS), metavar="NAME"),
        switch("--originals", "fetch the real videos"),
        several("--compressions", "compressions to fetch (default: c23)", choices=COMPRESSIONS, default=["c23"]),
        flag("--masks", "fetch the masks of the forgeries"),
        several("--videos", "only these videos, such as 000 003, and their fakes", metavar="NAME"),
        Argument("--limit", "only the first N videos of each kind; an even N keeps pairs whole", type=int, metavar="N"),
        connections,
        dry_run,
    )
    of_archives = Command(
        "archive",
        "fetch and extract archives of any dataset: files or URLs",
        archive,
        several("sources", "path or URL of a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz", metavar="SOURCE"),
        path("out", "OUT", "folder to extract to"),
        repeated("--sha256", "HEX", "SHA-256 of a source; give one for each source, in the same order"),
        repeated("--header", "'NAME: VALUE'", "HTTP header for the URLs, such as a login; may be repeated"),
        switch("--extract", "extract the archives"),
        connections,
        dry_run,
    )
    text = "fetch a dataset, or extract its archives"
    yield Command("download", text, commands=(of_ffpp, of_archives), metavar="KIND")


def ffpp(options: Options) -> int:
    """Fetch FaceForensics++, or with `--dry-run` print what would be fetched."""
    from flows.config.download import DownloadConfig, require_terms
    from flows.config.preprocess import validate
    from flows.run.download_plan import plan_ffpp

    names = ("out", "server", "accept_terms", "originals", "compressions", "masks", "videos", "limit", "connections")
    values = {name: getattr(options, name) for name in names}
    values["manipulations"] = _manipulations(options.manipulations)
    config = validate(DownloadConfig, values, as_options=True)
    require_terms(config)
    with _fetcher(config, None if options.dry_run else TRIES_BEFORE_START) as fetcher:
        with working("asking the server for its lists"):
            plan = plan_ffpp(config, fetcher)
        if options.dry_run:
            return _show_survey(fetcher, plan, config)
    _start_prefect()
    from flows.download import download_ffpp

    account = _run(lambda: download_ffpp(config), "files")
    if account["num_failed"]:
        return EXIT_FAILED
    say(f"Next: faceshards index {config.out}")
    return EXIT_OK


def archive(options: Options) -> int:
    """Fetch and extract archives, or with `--dry-run` print what would be fetched."""
    from flows.config.download import ArchiveConfig
    from flows.config.preprocess import validate
    from flows.run.download_plan import ARCHIVES_DIR, plan_archives
    from manifests.datasets.recognise import dataset_within

    names = ("out", "sources", "sha256", "extract", "connections")
    values = {name: getattr(options, name) for name in names} | {"headers": options.header}
    config = validate(ArchiveConfig, values, as_options=True)
    plan = plan_archives(config)
    if options.dry_run:
        return _show_archives(config, plan)
    _start_prefect()
    from flows.download import download_archive

    account = _run(lambda: download_archive(config), "archives")
    if not config.extract:
        return EXIT_FAILED if account["num_failed"] else EXIT_OK
    if account["num_failed"]:
        say(f"{config.out}: not complete; files that were extracted before the failure are kept")
        return EXIT_FAILED
    written, kept = account["num_files_written"], account["num_files_already_there"]
    say(f"{config.out}: {written:,} files written, {kept:,} were there already")
    if any(wanted.url for wanted in plan):
        say(f"{config.out / ARCHIVES_DIR} holds the archives, which are no longer needed")
    say(f"Next: faceshards index {dataset_within(config.out)}")
    return EXIT_OK


def _start_prefect() -> None:
    """Start Prefect's embedded server, or check that the configured one answers."""
    with working("starting Prefect"):
        from flows.server.embedded import start_embedded_server

        start_embedded_server(end_process)
        import flows.download  # noqa: F401  # takes seconds, which the line above explains


def _run(flow: Callable[[], Account], what: str) -> Account:
    """Run a flow, print its account, and return it."""
    from flows.download import DownloadIncomplete
    from tasks.download.disk_space import gigabytes
    from tasks.workers.interrupts import interrupts_remembered

    started_seconds = time.monotonic()
    try:
        with interrupts_remembered():
            account = flow()
    except DownloadIncomplete as incomplete:
        account = incomplete.account
    seconds = time.monotonic() - started_seconds
    say(
        f"{account['num_planned']:,} {what} = {account['num_fetched']:,} fetched "
        f"+ {account['num_already_there']:,} already there + {account['num_failed']:,} failed; "
        f"{gigabytes(account['num_bytes_fetched'])} in {seconds:,.0f} s"
    )
    if account["failures"]:
        _complain_of((failure["reason"], failure["detail"]) for failure in account["failures"])
        complain("The others are kept: run the same command again to try only what is missing.")
    return account


def _complain_of(failures: Iterable[tuple[str, str]]) -> None:
    """Print failures as (reason, detail), the most frequent reason first, and a few of each."""
    by_reason: defaultdict[str, list[str]] = defaultdict(list)
    for reason, detail in failures:
        by_reason[reason].append(detail)
    for reason, details in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        for detail in details[:NUM_NAMED]:
            complain(f"failed: {reason}, {detail}")
        if len(details) > NUM_NAMED:
            complain(f"failed: {reason}, {len(details) - NUM_NAMED:,} more")


def _show_survey(fetcher: Fetcher, plan: Sequence[Wanted], config: DownloadConfig | ArchiveConfig) -> int:
    """Print what would be fetched; return the exit status.

    Raises:
        ConfigError: the files do not fit on the disk.
    """
    from flows.run.bars import advancing
    from flows.run.download_plan import require_room_for, survey

    with advancing("asking how long the files are", len(plan)) as on_size:
        found = survey(fetcher, plan, config.connections, on_size)
    say(_survey_lines(found, config.out))
    _complain_of(("not available", problem) for problem in found.problems.values())
    require_room_for(found, config)
    return EXIT_FAILED if found.problems else EXIT_OK


def _survey_lines(found: Survey, out: Path) -> str:
    from tasks.download.disk_space import free_bytes, gigabytes

    num_to_fetch = len(found.missing) - len(found.problems)
    unknown = f", and {found.num_unknown:,} files of unknown length" if found.num_unknown else ""
    partly = found.num_bytes_partly_there
    return (
        f"{found.num_planned:,} files = {found.num_already_there:,} already there + {num_to_fetch:,} to fetch "
        f"+ {len(found.problems):,} not available\n"
        f"To fetch: {gigabytes(found.num_bytes)}{unknown}"
        + (f"; an earlier run has fetched {gigabytes(partly)} of it" if partly else "")
        + f"\nFree on the disk of {out}: {gigabytes(free_bytes(out))}"
    )


def _show_archives(config: ArchiveConfig, plan: Sequence[Wanted]) -> int:
    """Print what archives hold, or how long they are; nothing is written."""
    from tasks.download.disk_space import gigabytes, require_room
    from tasks.download.extract import check_archive
    from tasks.download.fetcher import is_there

    status = EXIT_OK
    remote = [wanted for wanted in plan if wanted.url]
    if remote:
        with _fetcher(config) as fetcher:
            status = _show_survey(fetcher, remote, config)
    num_bytes = 0
    for wanted in plan:
        if config.extract and is_there(wanted.path):
            check = check_archive(wanted.path, config.out)
            num_bytes += check.num_bytes
            say(
                f"{wanted.path}: {len(check.missing):,} files to write, {gigabytes(check.num_bytes)}; "
                f"{check.num_already_there:,} already there"
            )
    require_room(config.out, num_bytes)
    return status


def _manipulations(names: Sequence[str]) -> list[str]:
    """Return the named manipulations; `all` and `none` stand for several."""
    if len(names) > 1 and {ALL, NONE} & set(names):
        raise ConfigError(f"--manipulations: got {' '.join(names)}, expected {ALL} or {NONE} alone, or names only")
    return {ALL: list(MANIPULATIONS), NONE: []}.get(names[0], list(names))


def _fetcher(config: DownloadConfig | ArchiveConfig, max_tries: int | None = None) -> AbstractContextManager[Fetcher]:
    from flows.config.download import connection_settings
    from tasks.download.fetcher import Fetcher

    return Fetcher(connection_settings(config), max_tries=max_tries or config.max_tries)
