"""`faceshards weights …`: which weight files there are, where they lie, fetching them, and whether they are right."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from tasks.models.weights import WeightFile

EXIT_OK, EXIT_FAILED = 0, 1
MISSING = "missing"


def add_weights(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command `weights` with its three actions to the command line."""
    weights = commands.add_parser("weights", help="weight files of networks: fetch, list, verify")
    actions = weights.add_subparsers(title="what to do", required=True, metavar="ACTION")
    for name, run, help_line in (
        ("fetch", run_fetch, "download what is missing, and say where each file lies"),
        ("list", run_list, "show which files there are and where they lie"),
        ("verify", run_verify, "compare each file with the published one by its SHA-256"),
    ):
        action = actions.add_parser(name, help=help_line)
        action.add_argument("names", nargs="*", metavar="NAME", help="such as 2dfan4 (default: all of them)")
        action.add_argument(
            "--weights-dir",
            type=Path,
            metavar="DIR",
            help="looked in first, and fetched into; then $FACESHARDS_WEIGHTS, then torch hub's folder",
        )
        action.set_defaults(run=run)


def run_fetch(options: argparse.Namespace) -> int:
    """Download what is missing; return the exit status.

    Raises:
        ConfigError: a name is none of a weight file.
    """
    from flows.run.bars import weights_bar
    from manifests.errors import StageMissing
    from tasks.models.weights import fetch

    status = EXIT_OK
    for weights in _chosen(options.names):
        try:
            with weights_bar(weights) as on_bytes:
                path = fetch(weights.name, options.weights_dir, on_bytes)
        except StageMissing as missing:
            _stderr().print(f"failed: {missing}", soft_wrap=True, highlight=False)
            status = EXIT_FAILED
        else:
            _print(f"{weights.name}: {path}")
    return status


def run_list(options: argparse.Namespace) -> int:
    """Print what there is and where it lies; return the exit status.

    Raises:
        ConfigError: a name is none of a weight file.
    """
    from rich.table import Table

    from tasks.models.weights import find, search_dirs

    table = Table("name", "file", "MB", "where", "used by", "licence", show_lines=True)
    for column in table.columns:
        column.overflow = "fold"  # a path that is cut off cannot be copied
    table.columns[0].no_wrap = table.columns[2].no_wrap = True
    for weights in _chosen(options.names):
        path = find(weights.name, options.weights_dir)
        num_bytes = path.stat().st_size if path else weights.num_bytes
        size = "unknown" if num_bytes is None else f"{num_bytes / 1e6:,.1f}"
        where = str(path.parent) if path else MISSING
        table.add_row(weights.name, weights.file_name, size, where, weights.used_by, weights.licence)
    _print(table)
    _print("Looked in, in this order: " + ", ".join(str(folder) for folder in search_dirs(options.weights_dir)))
    return EXIT_OK


def run_verify(options: argparse.Namespace) -> int:
    """Compare each file with the published one; return the exit status.

    Raises:
        ConfigError: a name is none of a weight file.
        OSError: a file cannot be read.
    """
    from tasks.models.weights import find, verify

    status = EXIT_OK
    for weights in _chosen(options.names):
        path = find(weights.name, options.weights_dir)
        fault = verify(path, weights.name) if path else None
        verdict = MISSING if path is None else f"differs: {fault}" if fault else "ok"
        _print(f"{weights.name}: {verdict}" + (f" ({path})" if path else ""))
        status = status if verdict == "ok" else EXIT_FAILED
    return status


def _chosen(names: Sequence[str]) -> list[WeightFile]:
    """Return the named weight files, each once, or all of them.

    Raises:
        ConfigError: a name is none of a weight file.
    """
    from tasks.models.weights import WEIGHTS, weight_file

    return [weight_file(name) for name in dict.fromkeys(names or WEIGHTS)]


def _print(what: RenderableType) -> None:
    from flows.cli.console import stdout

    stdout().print(what, soft_wrap=isinstance(what, str), highlight=False)


def _stderr() -> Console:
    from flows.cli.console import stderr

    return stderr()
