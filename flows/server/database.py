"""Check of an SQLite database for Prefect's embedded server; a database of another version is not changed."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final
from urllib.parse import quote

ROOM_BYTES: Final = 4 * 2**20  # a new database has 1.5 MB
LOCK_SECONDS: Final = 3
CHECKED_BYTES: Final = 64 * 2**20  # a larger file would take seconds to check

_REVISION = re.compile(r"^(down_)?revision\b[^=]*= *[\"'](\w+)[\"']", re.MULTILINE)


def fault_of(database: Path) -> str | None:
    """Return why the embedded server cannot use a database file; None if it can, or can make the file.

    Args:
        database: path of the file; its folder is created.
    """
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryFile(dir=database.parent) as file:
            file.write(bytes(ROOM_BYTES))
        if not database.is_file():  # also a link that leads nowhere
            return "which is not a file" if os.path.lexists(database) else None
        if database.stat().st_size == 0:
            return None
        if not os.access(database, os.R_OK | os.W_OK):
            return "which cannot be read and written"
        return _fault_inside(database)
    except OSError as error:
        return f"whose folder cannot be used ({error.strerror})"
    except sqlite3.Error as error:
        return f"which SQLite cannot use ({error})"


def _fault_inside(database: Path) -> str | None:
    """Return why the content of a file cannot be used.

    Raises:
        sqlite3.Error: the file is damaged, locked, or not a database of Prefect.
    """
    # Without a write-ahead log, "immutable" reads the file without creating files beside it.
    log = database.with_name(f"{database.name}-wal")
    how = "mode=ro" if log.exists() and log.stat().st_size else "mode=ro&immutable=1"
    with closing(_connect(database, how)) as connection:
        revisions = {row[0] for row in connection.execute("SELECT version_num FROM alembic_version")}
    newest = newest_revisions()
    if newest and revisions != newest:
        return f"which another version of Prefect made (revision {', '.join(sorted(revisions)) or 'none'})"
    with closing(_connect(database, "mode=rw")) as connection:
        connection.execute("BEGIN IMMEDIATE")  # waits for a lock of another process
        if database.stat().st_size <= CHECKED_BYTES:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return None if verdict == "ok" else f"which is damaged ({verdict})"
    return None


def _connect(database: Path, how: str) -> sqlite3.Connection:
    address = f"file:{quote(str(database.absolute()))}?{how}"
    return sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS, isolation_level=None)


def newest_revisions() -> set[str]:
    """Return the schema revisions to which the installed Prefect brings an SQLite database; empty if unknown."""
    spec = find_spec("prefect")
    home = Path(spec.origin).parent if spec and spec.origin else Path()
    found: dict[bool, set[str]] = {False: set(), True: set()}  # whether another revision builds on it
    for path in home.glob("server/database/_migrations/versions/sqlite/*.py"):
        for is_earlier, name in _REVISION.findall(path.read_text(encoding="utf-8")):
            found[bool(is_earlier)].add(name)
    return found[False] - found[True]
