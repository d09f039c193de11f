"""Markdown: escaped text and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence


def escaped(text: str) -> str:
    """Return text as Markdown that shows it literally, on one line, both in a paragraph and in a table's cell."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text).replace("\n", " ")


def table(heads: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        heads: titles of the columns, as Markdown.
        align: a letter per column, `l` (left, for text) or `r` (right, for numbers); the last one also holds for
            further columns.
        rows: cells as Markdown.
    """
    yield _line(heads)
    yield _line({"l": ":--", "r": "--:"}[letter] for letter in align.ljust(len(heads), align[-1]))
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
