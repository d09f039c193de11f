"""`faceshards versions`, `rollback` and `compact`: what a store was, and what it keeps of that."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.errors import ConfigError, StoreIncomplete

if TYPE_CHECKING:
    from rich.table import Table

    from storage.upkeep.compact import Compaction
    from storage.upkeep.versions import Version


def add_versions(commands: Any) -> None:
    """Add the three commands to the command line."""
    versions = commands.add_parser("versions", help="list what a store was after each run that changed it")
    versions.add_argument("out", type=Path, metavar="OUT", help="the store's folder")
    versions.add_argument("--keep", type=int, metavar="N", help="let all but the current one and the N-1 newest go")
    versions.set_defaults(run=_versions)

    rollback = commands.add_parser("rollback", help="make an earlier version of a store the current one; can be undone")
    rollback.add_argument("out", type=Path, metavar="OUT", help="the store's folder")
    rollback.add_argument("number", type=int, nargs="?", metavar="NUMBER", help="which (default: the one before)")
    rollback.set_defaults(run=_rollback)

    compact = commands.add_parser("compact", help="write records that count into new shards, so that old files can go")
    compact.add_argument("out", type=Path, metavar="OUT", help="the store's folder")
    compact.add_argument(
        "--above",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="only shards of whose records more than this share (0..1) no longer counts (default: 0)",
    )
    compact.set_defaults(run=_compact)


def _versions(options: argparse.Namespace) -> int:
    from flows.cli.console import stdout
    from storage.files.layout import lock_store
    from storage.index import read_index
    from storage.upkeep.versions import list_versions, prune

    out = stdout()
    index = read_index(options.out)
    if options.keep is not None:
        if options.keep < 1:
            raise ConfigError(f"--keep: got {options.keep}, expected 1 or more: the current version always stays")
        with lock_store(options.out):
            for version in prune(options.out, options.keep):
                out.print(f"Version {version.number} is gone.")
    versions = list_versions(options.out)
    if not versions:
        out.print("No version: the next run that completes the store makes one.")
        return 0
    out.print(_table(options.out, versions, index.version if index.complete else None))
    if not index.complete:
        out.print(f"The last run, from version {index.version} on, did not finish; run it again, or roll back.")
    return 0


def _table(store_dir: Path, versions: list[Version], current: int | None) -> Table:
    """A line for each version, oldest first."""
    from collections import Counter

    from rich import filesize
    from rich.table import Table

    from flows.report.difference import read_difference
    from flows.report.text import in_a_line
    from storage.upkeep.versions import missing_shards

    num_holders = Counter(name for version in versions for name in version.shard_bytes)
    table = Table(box=None, pad_edge=False)
    for name in ("version", "completed (UTC)", "videos", "records", "alone holds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("what its run changed")
    for version in versions:
        own = sum(size for name, size in version.shard_bytes.items() if num_holders[name] == 1)
        num_missing = len(missing_shards(store_dir, version))
        damaged = f"; {num_missing} of its shards are gone" if num_missing else ""
        table.add_row(
            f"{version.number}{' (current)' if version.number == current else ''}",
            version.completed_at[: len("2026-01-31T12:00")].replace("T", " "),
            f"{version.num_videos:,}",
            f"{version.num_records:,}",
            filesize.decimal(own),
            in_a_line(read_difference(version.folder)) + damaged,
        )
    return table


def _rollback(options: argparse.Namespace) -> int:
    from flows.cli.console import stdout
    from storage.files.layout import lock_store
    from storage.index import read_index
    from storage.upkeep.versions import roll_back

    before = read_index(options.out)
    with lock_store(options.out):
        version = roll_back(options.out, options.number)
    out = stdout()
    out.print(
        f"{options.out} is version {version.number} again: {version.num_videos:,} videos, "
        f"{version.num_records:,} records.",
        soft_wrap=True,
        highlight=False,
    )
    if before.complete and before.version != version.number:
        undo = f"`faceshards rollback {options.out} {before.version}` undoes it"
        out.print(f"{undo}, until the next run that changes something goes on from here.", soft_wrap=True)
    return 0


def _compact(options: argparse.Namespace) -> int:
    from rich import filesize

    from flows.cli.console import stdout

    if not 0 <= options.above <= 1:
        raise ConfigError(f"--above: got {options.above}, expected 0..1")
    done = compact_store(options.out, options.above)
    out = stdout()
    if done is None:
        out.print("Nothing to do: no shard holds that many records that no longer count.")
        return 0
    freed = done.num_bytes_old - done.num_bytes_new
    out.print(
        f"{done.num_old} shards became {done.num_new}, {filesize.decimal(freed)} smaller. "
        f"What older versions need is kept: `faceshards versions {options.out} --keep 1` lets it go.",
        soft_wrap=True,
        highlight=False,
    )
    return 0


def compact_store(store_dir: Path, above: float) -> Compaction | None:
    """Compact a complete store; the result takes the place of the version that the store was.

    Args:
        store_dir: the store's folder.
        above: share of a shard's records, 0..1, that must be superseded.

    Returns:
        What was done; None where nothing was to do.

    Raises:
        StoreIncomplete: the last run did not finish.
        StoreBusy: another run is writing to the store.
    """
    from flows.report.page import write_report
    from manifests.videos_table import read_table
    from storage.files.layout import VIDEOS_NAME, lock_store
    from storage.index import read_index
    from storage.upkeep.compact import compact, sparse_shards
    from storage.upkeep.ledger import Ledger
    from storage.upkeep.versions import keep_current, keep_version, list_versions

    index = read_index(store_dir)
    with lock_store(store_dir):
        ledger = Ledger(store_dir, index.config, index.config_digest)
        if not ledger.is_complete:
            raise StoreIncomplete(
                f"store {store_dir}: got one whose last run did not finish, expected a complete one; "
                f"run it again, or go back to where it began with `faceshards rollback {store_dir}`"
            )
        if not sparse_shards(ledger.index.shards, above):
            return None
        before = keep_current(store_dir)
        rows = read_table(store_dir / VIDEOS_NAME)
        ledger.begin(rows)
        done = compact(ledger, store_dir, above)
        ledger.finish([replace(row, shard=ledger.rows[row.video_id].shard) if row.shard else row for row in rows])
        write_report(store_dir)
        num_versions = len(list_versions(store_dir))
        keep_version(store_dir, keep=max(1, num_versions), since=before.number if before else None, is_same=True)
    return done
