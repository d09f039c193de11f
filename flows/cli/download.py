"""`faceshards download …`: the words of the command line, and what is printed.

Nothing heavy is imported, and nothing is fetched, before the command runs.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.datasets.ffpp_server import COMPRESSIONS, MANIPULATIONS, PAPER_MANIPULATIONS
from manifests.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from rich.console import Console

    from flows.config.download import ArchiveConfig, DownloadConfig
    from flows.run.download_plan import Survey
    from tasks.download.fetcher import Fetcher

EXIT_OK, EXIT_FAILED = 0, 1
ALL, NONE = "all", "none"
NUM_NAMED = 5  # failed files that are named for each reason; the run's log in Prefect has all of them
TRIES_BEFORE_START = 2  # a wrong address should be told within seconds


def add_download(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `download` with its two kinds to the command line."""
    download = commands.add_parser("download", help="fetch a dataset, or extract its archives")
    kinds = download.add_subparsers(title="what", required=True, metavar="KIND")
    _add_ffpp(kinds.add_parser("ffpp", help="FaceForensics++, from the server that you were given access to"))
    _add_archive(kinds.add_parser("archive", help="archives of any dataset: local files, or http(s) addresses"))


def _add_ffpp(ffpp: argparse.ArgumentParser) -> None:
    ffpp.add_argument("out", type=Path, metavar="OUT", help="the dataset's folder, in the official layout")
    ffpp.add_argument("--server", metavar="URL", help="address that came with your access, or $FACESHARDS_FFPP_SERVER")
    ffpp.add_argument(
        "--accept-terms", action="store_true", help="access was granted to you, and you keep to its terms"
    )
    ffpp.add_argument(
        "--manipulations",
        nargs="+",
        choices=[*MANIPULATIONS, ALL, NONE],
        default=list(PAPER_MANIPULATIONS),
        metavar="NAME",
        help=f"some of {', '.join(MANIPULATIONS)}, or {ALL}, or {NONE} (default: the paper's four)",
    )
    ffpp.add_argument(
        "--originals", action=argparse.BooleanOptionalAction, default=True, help="also the real videos (default: yes)"
    )
    ffpp.add_argument("--compressions", nargs="+", choices=COMPRESSIONS, default=["c23"], help="default: c23")
    ffpp.add_argument("--masks", action="store_true", help="also the masks of the forgeries")
    ffpp.add_argument("--videos", nargs="+", metavar="NAME", help="only these, such as 000 003, with their fakes")
    ffpp.add_argument(
        "--limit", type=int, metavar="N", help="the first N videos of each kind; an even N keeps pairs whole"
    )
    _add_common(ffpp)
    ffpp.set_defaults(run=run_ffpp)


def _add_archive(archive: argparse.ArgumentParser) -> None:
    archive.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="a .zip or .tar, or .tar.gz, .bz2, .xz; or its URL"
    )
    archive.add_argument("out", type=Path, metavar="OUT", help="the folder that they are extracted to")
    archive.add_argument("--sha256", action="append", default=[], metavar="HEX", help="once for each source, in order")
    archive.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'", help="a login for the URLs")
    archive.add_argument(
        "--extract", action=argparse.BooleanOptionalAction, default=True, help="extract them, too (default: yes)"
    )
    _add_common(archive)
    archive.set_defaults(run=run_archive)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--connections", type=int, default=4, metavar="N", help="at once; 4 at most, the default")
    parser.add_argument("--dry-run", action="store_true", help="say what would be fetched, and if the disk can hold it")


def run_ffpp(options: argparse.Namespace) -> int:
    """Fetch FaceForensics++, or say what that would come to; return the exit status."""
    from flows.config.download import DownloadConfig, require_terms, validated
    from flows.run.download_plan import plan_ffpp

    names = ("out", "server", "accept_terms", "originals", "compressions", "masks", "videos", "limit", "connections")
    values = {name: getattr(options, name) for name in names}
    config = validated(DownloadConfig, values | {"manipulations": _manipulations(options.manipulations)})
    require_terms(config)
    with _fetcher(config, None if options.dry_run else TRIES_BEFORE_START) as fetcher:
        with _stderr().status("asking the server for its lists"):
            plan = plan_ffpp(config, fetcher)
        if options.dry_run:
            return _say_survey(fetcher, plan, config)
    start_prefect()
    from flows.download import download_ffpp

    status, _ = _account(lambda: download_ffpp(config), "files")
    if status == EXIT_OK:
        _print(f"Next: faceshards index {config.out}")
    return status


def run_archive(options: argparse.Namespace) -> int:
    """Fetch and extract archives, or say what that would come to; return the exit status."""
    from flows.config.download import ArchiveConfig, validated
    from flows.run.download_plan import ARCHIVES_DIR, plan_archives

    config = validated(
        ArchiveConfig,
        {
            "out": options.out,
            "sources": options.sources,
            "sha256": options.sha256,
            "headers": options.header,
            "extract": options.extract,
            "connections": options.connections,
        },
    )
    plan = plan_archives(config)
    if options.dry_run:
        return _say_archives(config)
    start_prefect()
    from flows.download import download_archive

    status, account = _account(lambda: download_archive(config), "archives")
    if config.extract and status == EXIT_FAILED:
        _print(f"{config.out}: not complete; what was extracted before the fault lies there")
    elif config.extract:
        _print(
            f"{config.out}: {account['num_files_written']:,} files written, "
            f"{account['num_files_already_there']:,} were there already"
        )
    if config.extract and any(wanted.url for wanted in plan) and status == EXIT_OK:
        _print(f"{config.out / ARCHIVES_DIR} holds the archives, which are no longer needed")
    if config.extract and status == EXIT_OK:
        _print(f"Next: faceshards index {dataset_in(config.out)}")
    return status


def dataset_in(folder: Path) -> Path:
    """Return where the dataset lies: archives often hold it in a folder of its own."""
    from manifests.datasets.recognise import recognise_layout

    for place in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
        with contextlib.suppress(DatasetError):
            recognise_layout(place)
            return place
    return folder


def start_prefect() -> None:
    """Start Prefect's embedded server, or find the one that is configured."""
    with _stderr().status("starting Prefect"):
        from flows.server.embedded import start_embedded_server

        start_embedded_server()
        import flows.download  # noqa: F401  # takes seconds, which the line above explains


def _account(flow: Callable[[], dict[str, Any]], what: str) -> tuple[int, dict[str, Any]]:
    """Run a flow and print its account."""
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
    _print(
        f"{account['num_planned']:,} {what} = {account['num_fetched']:,} fetched "
        f"+ {account['num_already_there']:,} already there + {account['num_failed']:,} failed; "
        f"{gigabytes(account['num_bytes_fetched'])} in {seconds:,.0f} s"
    )
    if account["failures"]:
        _say_failures(account["failures"])
        _stderr().print("The others are kept: run the same command again to try only what is missing.")
    return (EXIT_FAILED if account["failures"] else EXIT_OK), account


def _say_failures(failures: Sequence[dict[str, str]]) -> None:
    counts = Counter(failure["reason"] for failure in failures)
    for reason, count in counts.most_common():
        details = [failure["detail"] for failure in failures if failure["reason"] == reason]
        for detail in details[:NUM_NAMED]:
            _stderr().print(f"failed: {reason}, {detail}", soft_wrap=True, highlight=False)
        if count > NUM_NAMED:
            _stderr().print(f"failed: {reason}, {count - NUM_NAMED:,} more", highlight=False)


def _say_survey(fetcher: Fetcher, plan: Sequence[Any], config: DownloadConfig | ArchiveConfig) -> int:
    """Print what would be fetched; return the exit status.

    Raises:
        ConfigError: it does not fit the disk.
    """
    from flows.run.download_plan import require_room_for, survey
    from flows.run.download_progress import size_bar

    with size_bar(len(plan)) as on_size:
        found = survey(fetcher, plan, config.connections, on_size)
    _print(_survey_lines(found, config.out))
    _say_failures([{"reason": "not available", "detail": problem} for problem in found.problems.values()])
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
        + (f"; {gigabytes(partly)} of it are there from an earlier run" if partly else "")
        + f"\nFree on the disk of {out}: {gigabytes(free_bytes(out))}"
    )


def _say_archives(config: ArchiveConfig) -> int:
    """Print what archives hold, or how long they are; nothing is written."""
    from flows.run.download_plan import plan_archives
    from tasks.download.disk_space import gigabytes, require_room
    from tasks.download.extract import judge_archive
    from tasks.download.fetcher import is_there

    plan = plan_archives(config)
    status = EXIT_OK
    remote = [wanted for wanted in plan if wanted.url]
    if remote:
        with _fetcher(config) as fetcher:
            status = _say_survey(fetcher, remote, config)
    num_bytes = 0
    for wanted in plan:
        if config.extract and is_there(wanted.path):
            judgement = judge_archive(wanted.path, config.out)
            num_bytes += judgement.num_bytes
            _print(
                f"{wanted.path}: {len(judgement.missing):,} files to write, {gigabytes(judgement.num_bytes)}; "
                f"{judgement.num_already_there:,} already there"
            )
    require_room(config.out, num_bytes)
    return status


def _manipulations(names: Sequence[str]) -> list[str]:
    """Read the two words that stand for several."""
    if len(names) > 1 and {ALL, NONE} & set(names):
        raise ConfigError(f"--manipulations: got {' '.join(names)}, expected {ALL} or {NONE} alone, or names only")
    if names == [ALL]:
        return list(MANIPULATIONS)
    return [] if names == [NONE] else list(names)


def _fetcher(config: DownloadConfig | ArchiveConfig, max_tries: int | None = None) -> AbstractContextManager[Fetcher]:
    from flows.config.download import connection_settings
    from tasks.download.fetcher import Fetcher

    return Fetcher(connection_settings(config), max_tries=max_tries or config.max_tries)


def _print(text: str) -> None:
    from flows.cli.console import stdout

    stdout().print(text, soft_wrap=True, highlight=False)


def _stderr() -> Console:
    from flows.cli.console import stderr

    return stderr()
