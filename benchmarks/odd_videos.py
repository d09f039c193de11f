"""Table of odd videos: what the probe says of each, what comes of it by default and by decord, and whether they agree.

    python -m benchmarks.odd_videos [--only WORD …] [--json FILE]

The files are those of tests/contracts/test_odd_videos.py: containers, codings, times, edit lists, geometry, colours,
hidden pictures and damage. `right` means that every frame shows the number that was painted into it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import write_figures
from tests.helpers.odd_videos.corpus import corpus
from tests.helpers.odd_videos.making import Odd, number_of
from tests.helpers.odd_videos.outcomes import Outcome, frames_or_reason

os.environ.setdefault("SVT_LOG", "1")  # errors only


def in_words(outcome: Outcome, odd: Odd) -> str:
    """Return the reason of a rejection, or whether the frames are right."""
    if outcome.reason is not None:
        return outcome.reason
    shown = tuple(number_of(picture, odd.tolerance) for picture in outcome.pictures)
    return "right" if shown == odd.numbers and outcome.size == odd.size else "WRONG"


def agreement(ours: Outcome, decord: Outcome) -> str:
    """Return whether the pixels of both are equal; empty if one is rejected."""
    if ours.reason is not None or decord.reason is not None:
        return ""
    if ours.pictures.shape != decord.pictures.shape:
        return "NO"
    mean = float(np.abs(ours.pictures.astype(int) - decord.pictures).mean())
    return "yes" if mean == 0 else f"{mean:.2f} levels"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="files whose names hold one of the words"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    options = parser.parse_args()
    columns = ("file", "probe", "auto", "decord", "equal?")
    rows = []
    for name, odd in corpus().items():
        if not any(word in name for word in options.only):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = odd.make(Path(folder))
            ours, decord = frames_or_reason("pyav", path), frames_or_reason("decord", path)
        probed = f"{ours.measured} {ours.notes}".strip() or "rejected"
        rows.append((name, probed, in_words(ours, odd), in_words(decord, odd), agreement(ours, decord)))
    table = Table(*columns)
    for row in rows:
        table.add_row(*row)
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table)
    console.print(f"{len(rows)} files")
    write_figures(options.json, [dict(zip(columns, row, strict=True)) for row in rows])
    return 0


if __name__ == "__main__":
    sys.exit(main())
