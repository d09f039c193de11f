"""Markdown: escaped text and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence


def escaped(text: str) -> str:
    """Return text as Markdown that shows it literally, on one line, in a paragraph as in the cell of a table."""
    return re.sub(r"([\\`*_{}\[\]<>|])", r"\\\1", text).replace("\n", " ")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, num_text_columns: int) -> Iterator[str]:
    """Yield the lines of a table.

    Args:
        heads: titles of the columns, as Markdown.
        rows: cells as Markdown, as many as there are columns.
        num_text_columns: the first columns, which are aligned left; the others hold numbers and are aligned right.
    """
    yield _line(heads)
    yield _line([":--" if column < num_text_columns else "--:" for column in range(len(heads))])
    yield from map(_line, rows)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
