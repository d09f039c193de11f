"""Lists of videos that users write: CSV in the separators, encodings and words that spreadsheets and datasets use.

    separator   comma, semicolon, tab or bar: the one with which the first line names the wanted columns
    encoding    UTF-8, UTF-16, or UTF-32 with a byte order mark
    skipped     empty lines, Excel's line `sep=;`, and lines of comment (#) above the first line and between the others

A line that cannot be read is refused by its number, because a list that is read in part loses videos silently.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from manifests.errors import DatasetError
from manifests.files import open_regular

SEPARATORS = (",", ";", "\t", "|")
SUFFIXES = (".csv", ".tsv")
TEXT_SUFFIXES = (".txt", ".tab")  # of files that are a list only if their first line names its columns
# The longest marks first: that of UTF-32 begins with that of UTF-16.
ENCODING_OF_MARK = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# Of UTF-16 without a mark, every second byte of the first names is zero.
_ENCODING_OF_ZEROS = {b"x0x0": "utf-16-le", b"0x0x": "utf-16-be"}
MAX_LINES_ABOVE = 50  # of comment, above the names of the columns
NUM_COLUMNS_SHOWN = 8
MAX_CHARACTERS_SHOWN = 200  # of their names
CHUNK_BYTES = 1 << 16
MAX_LINE_LENGTH = 1 << 20  # characters; Python's csv module takes no field of more than an eighth of it

# Wanted column → its other names, in lower case without `_`, `-` and spaces; the first that is there counts.
Wanted: TypeAlias = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class CsvList:
    """A list whose columns are known."""

    path: Path
    """The file."""

    separator: str
    """One of SEPARATORS."""

    num_lines_above: int
    """Lines up to the one that names the columns, this one included."""

    columns: tuple[str, ...]
    """Names of the columns in lower case, in order."""

    named: Mapping[str, str]
    """Wanted column → the column's own name."""

    def lines(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line number, column → value) of each line that is not empty; wanted columns have their wanted names.

        Values have no spaces at their ends; a missing value is empty, and values beyond the columns are left out.

        Raises:
            DatasetError: the file cannot be read; the message names the line.
        """
        wanted_of = {own: wanted for wanted, own in self.named.items()}
        names = [wanted_of.get(name, name) for name in self.columns]
        twice = next((name for name in names if name and names.count(name) > 1), None)
        if twice is not None:
            where = f"{self.path}, line {self.num_lines_above}"
            raise DatasetError(f"{where}: got the column {twice} twice, expected each once; rename one")
        lines = islice(text_lines(self.path), self.num_lines_above, None)
        rows = csv.reader(lines, delimiter=self.separator, skipinitialspace=True)
        try:
            for row in rows:
                is_comment = bool(row) and row[0].startswith("#") and len(row) != len(names)
                if any(map(str.strip, row)) and not is_comment:
                    values = [*map(str.strip, row), *[""] * (len(names) - len(row))]
                    yield self.num_lines_above + rows.line_num, dict(zip(names, values, strict=False))
        except csv.Error as error:
            where = f"{self.path}, line {self.num_lines_above + rows.line_num}"
            raise DatasetError(f"{where}: got {error}, expected a line of a CSV file") from error


def csv_list(path: Path, wanted: Wanted) -> CsvList | None:
    """Return the list in a file whose first line names all wanted columns; None for another file.

    Args:
        path: the file.
        wanted: the columns that have to be there, with their other names.

    Raises:
        DatasetError: the file cannot be read up to its first line.
    """
    for number, line in enumerate(islice(text_lines(path, "replace"), MAX_LINES_ABOVE), start=1):
        for separator in SEPARATORS:
            columns = _columns_of(line.lstrip("# "), separator)
            named = {column: _own_name(columns, (column, *others)) for column, others in wanted.items()}
            if all(named.values()):
                found = {column: own for column, own in named.items() if own is not None}
                return CsvList(path=path, separator=separator, num_lines_above=number, columns=columns, named=found)
        if not _is_above(line):
            return None
    return None


def columns_in(path: Path) -> str:
    """Return the columns that a file's first line names, for a message; `none` for an empty one.

    Raises:
        DatasetError: the file cannot be read up to its first line.
    """
    line = next((line for line in islice(text_lines(path, "replace"), MAX_LINES_ABOVE) if not _is_above(line)), "")
    columns = max((_columns_of(line, separator) for separator in SEPARATORS), key=len)
    names = ", ".join(name or "''" for name in columns[:NUM_COLUMNS_SHOWN])
    return (names[:MAX_CHARACTERS_SHOWN] or "none") + (", …" if len(columns) > NUM_COLUMNS_SHOWN else "")


def _is_above(line: str) -> bool:
    """Whether a line may stand above the names of the columns: empty, a comment, or Excel's separator."""
    return not line.strip() or line.startswith("#") or re.fullmatch(r'"?sep=.?"?\s*', line, re.IGNORECASE) is not None


def _columns_of(line: str, separator: str) -> tuple[str, ...]:
    with suppress(csv.Error):
        names = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
        return tuple(name.strip().lower() for name in names)
    return ()


def _own_name(columns: Collection[str], names: Collection[str]) -> str | None:
    plain = {re.sub("[-_ ]", "", column): column for column in reversed(tuple(columns))}
    return next((plain[name] for name in names if name in plain), None)


def text_lines(path: Path, errors: str = "strict") -> Iterator[str]:
    """Yield the lines of a text file with their ends, which may be those of any system.

    Args:
        path: the file.
        errors: what happens to bytes that are no text, as for `open`.

    Raises:
        DatasetError: the file cannot be read, or is not text in a known encoding; the message names the line.
    """
    number, pending = 0, ""
    try:
        with open_regular(path) as file:
            mark = file.read(4)
            file.seek(0)
            encoding = next((name for known, name in ENCODING_OF_MARK.items() if mark.startswith(known)), None)
            encoding = encoding or _ENCODING_OF_ZEROS.get(bytes(b"x0"[byte == 0] for byte in mark), "utf-8-sig")
            for text in codecs.iterdecode(iter(lambda: file.read(CHUNK_BYTES), b""), encoding, errors):
                # A text may end in the middle of a line, or between the two characters of its end.
                *whole, pending = re.split(r"(?<=\n)|(?<=\r)(?!\n|$)", pending + text)
                for line in whole:
                    number += 1
                    yield line
                if len(pending) > MAX_LINE_LENGTH:
                    raise DatasetError(f"{path}, line {number + 1}: got one without an end, expected a CSV file")
            if pending:
                yield pending
    except OSError as error:
        raise DatasetError(f"{path}: got {error.strerror}, expected a list that can be read") from error
    except UnicodeDecodeError as error:
        line = number + 1 + error.object[: error.start].count(b"\n")
        raise DatasetError(
            f"{path}, line {line}: got bytes that are not text in UTF-8, expected UTF-8 or UTF-16; save it as UTF-8"
        ) from error
