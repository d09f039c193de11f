"""`faceshards push` and `pull`: a store's copy on a share or on S3-compatible storage."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from storage.upkeep.mirror import Copied

EXIT_OK = 0
URL_HELP = "such as s3://bucket/store: any URL that fsspec knows, or a folder"


def add_mirror(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands `push` and `pull` to the command line."""
    push = commands.add_parser("push", help="bring a store's copy elsewhere up to date")
    push.add_argument("out", type=Path, metavar="OUT", help="the store's folder")
    push.add_argument("url", metavar="URL", help=URL_HELP)
    push.set_defaults(run=run_push)
    pull = commands.add_parser("pull", help="bring a folder up to date with a store's copy")
    pull.add_argument("url", metavar="URL", help=URL_HELP)
    pull.add_argument("out", type=Path, metavar="OUT", help="the folder; made if it is not there")
    pull.set_defaults(run=run_pull)


def run_push(options: argparse.Namespace) -> int:
    """Push; return the exit status.

    Raises:
        StoreError: the store, or the other place, cannot be used.
    """
    from flows.run.bars import shards_bar
    from storage.upkeep.mirror import push

    with shards_bar("pushing") as on_shard:
        copied = push(options.out, options.url, on_shard)
    return _tell(copied, options.url)


def run_pull(options: argparse.Namespace) -> int:
    """Pull; return the exit status.

    Raises:
        StoreError: the copy, or the folder, cannot be used.
    """
    from flows.run.bars import shards_bar
    from storage.upkeep.mirror import pull

    with shards_bar("fetching") as on_shard:
        copied = pull(options.url, options.out, on_shard)
    return _tell(copied, str(options.out))


def _tell(copied: Copied, where: str) -> int:
    from flows.cli.console import stdout

    stdout().print(
        f"{where}: {copied.num_copied} shards copied ({copied.num_bytes / 1e6:,.1f} MB), "
        f"{copied.num_already_there} were there, {copied.num_deleted} deleted",
        soft_wrap=True,
        highlight=False,
    )
    return EXIT_OK
