"""The commands about stores: `report`, `versions`, `rollback`, `compact`, `push` and `pull`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.command import STORE, Argument, Command, Options, path
from flows.cli.console import say
from manifests.errors import EXIT_OK, ConfigError
from storage.files.layout import REPORT_HTML_NAME

if TYPE_CHECKING:
    from rich.table import Table

    from storage.upkeep.mirror import Copied
    from storage.upkeep.versions import Version

URL = Argument(
    "url", "place of the copy: a folder, or any URL that fsspec knows, such as s3://bucket/store", metavar="URL"
)


def commands() -> Iterator[Command]:
    """Yield the commands."""
    yield Command("report", "rewrite report.json and report.html of a store", report, STORE)
    kept = "delete all versions except N: the current one and the newest others"
    keep = Argument("--keep", kept, type=int, metavar="N")
    yield Command("versions", "list the versions of a store, one for each run that changed it", versions, STORE, keep)
    text = "number of the version (default: the one before the current one)"
    number = Argument("number", text, type=int, nargs="?", metavar="NUMBER")
    yield Command("rollback", "make an earlier version of a store the current one", rollback, STORE, number)
    share = "rewrite only shards in which more than this share of records (0..1) is superseded (default: 0)"
    above = Argument("--above", share, type=float, default=0.0, metavar="SHARE")
    yield Command("compact", "rewrite shards to remove superseded records", compact, STORE, above)
    yield Command("push", "copy a store to another place, or update the copy there", push, STORE, URL)
    target = path("out", "OUT", "folder of the store; created if it does not exist")
    yield Command("pull", "copy a store from another place, or update the store here", pull, URL, target)


def report(options: Options) -> int:
    """Rewrite the report."""
    from flows.report.page import write_report
    from flows.report.text import summary_table

    say(summary_table(write_report(options.out)))
    say(f"Report: {options.out / REPORT_HTML_NAME}")
    return EXIT_OK


def versions(options: Options) -> int:
    """List a store's versions, after deleting those that are not to be kept."""
    from storage.files.layout import lock_store
    from storage.index import read_index
    from storage.upkeep.versions import list_versions, prune

    index = read_index(options.out)
    if options.keep is not None:
        if options.keep < 1:
            raise ConfigError(f"--keep: got {options.keep}, expected 1 or more: the current version always stays")
        with lock_store(options.out):
            for version in prune(options.out, options.keep):
                say(f"Version {version.number} was deleted.")
    found = list_versions(options.out)
    if not found:
        say("No version: the next run that completes the store makes one.")
        return EXIT_OK
    say(_table(options.out, found, index.version if index.complete else None))
    if not index.complete:
        say(f"The last run, which began at version {index.version}, did not finish; run it again, or roll back.")
    return EXIT_OK


def _table(store_dir: Path, found: list[Version], current: int | None) -> Table:
    """Return the table of versions, oldest first."""
    from rich import filesize
    from rich.table import Table

    from flows.report.difference import read_difference
    from flows.report.text import in_a_line
    from storage.upkeep.versions import missing_shards

    num_holders = Counter(name for version in found for name in version.shard_bytes)
    table = Table(box=None, pad_edge=False)
    for name in ("version", "completed (UTC)", "videos", "records", "in no other version"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what its run changed")
    for version in found:
        own = sum(size for name, size in version.shard_bytes.items() if num_holders[name] == 1)
        num_missing = len(missing_shards(store_dir, version))
        damaged = f"; {num_missing} of its shards are missing" if num_missing else ""
        table.add_row(
            f"{version.number}{' (current)' if version.number == current else ''}",
            version.completed_at[: len("2026-01-31T12:00")].replace("T", " "),
            f"{version.num_videos:,}",
            f"{version.num_records:,}",
            filesize.decimal(own),
            in_a_line(read_difference(version.folder)) + damaged,
        )
    return table


def rollback(options: Options) -> int:
    """Make an earlier version the current one."""
    from storage.files.layout import lock_store
    from storage.index import read_index
    from storage.upkeep.versions import roll_back

    before = read_index(options.out)
    with lock_store(options.out):
        version = roll_back(options.out, options.number)
    counts = f"{version.num_videos:,} videos, {version.num_records:,} records"
    say(f"{options.out} is version {version.number} again: {counts}.")
    if before.complete and before.version != version.number:
        undo = f"`faceshards rollback {options.out} {before.version}` undoes it"
        say(f"{undo} until a run has changed the store.")
    return EXIT_OK


def compact(options: Options) -> int:
    """Compact a store."""
    from rich import filesize

    from flows.report.page import write_report
    from storage.upkeep.store_run import compact_store

    if not 0 <= options.above <= 1:
        raise ConfigError(f"--above: got {options.above}, expected 0..1")
    done = compact_store(options.out, options.above, write_report)
    if done is None:
        say("Nothing to do: no shard has that many superseded records.")
        return EXIT_OK
    freed = filesize.decimal(done.num_bytes_old - done.num_bytes_new)
    say(
        f"{done.num_old} shards became {done.num_new}, {freed} smaller. Older versions keep the shards that they need: "
        f"`faceshards versions {options.out} --keep 1` deletes them."
    )
    return EXIT_OK


def push(options: Options) -> int:
    """Update a copy elsewhere."""
    from flows.run.bars import items_bar, shown
    from storage.upkeep.mirror import push as push_store

    with shown(items_bar("shards"), "pushing") as on_shard:
        return _show_copied(push_store(options.out, options.url, on_shard), options.url)


def pull(options: Options) -> int:
    """Update a store from a copy elsewhere."""
    from flows.run.bars import items_bar, shown
    from storage.upkeep.mirror import pull as pull_store

    with shown(items_bar("shards"), "fetching") as on_shard:
        return _show_copied(pull_store(options.url, options.out, on_shard), str(options.out))


def _show_copied(copied: Copied, where: str) -> int:
    say(
        f"{where}: {copied.num_copied} shards copied ({copied.num_bytes / 1e6:,.1f} MB), "
        f"{copied.num_already_there} were there, {copied.num_deleted} deleted"
    )
    return EXIT_OK
