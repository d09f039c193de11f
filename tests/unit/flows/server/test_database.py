"""A database that Prefect's embedded server cannot use is named, and left as it is."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import flows.server.database
from flows.server.database import fault_of, newest_revisions


def with_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))")
        database.execute("INSERT INTO alembic_version VALUES (?)", [revision])
        database.execute("CREATE TABLE flow (name TEXT)")
        database.executemany("INSERT INTO flow VALUES (?)", [(name * 500,) for name in "abcdefghij" * 20])
        database.commit()


def damaged(path: Path) -> None:
    with_revision(path, *newest_revisions())
    data = bytearray(path.read_bytes())
    data[-5000:] = os.urandom(5000)
    path.write_bytes(data)


def test_the_installed_prefect_has_one_newest_revision() -> None:
    (newest,) = newest_revisions()
    assert len(newest) == 12


def of_another_program(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE other (a)")


def test_a_database_of_this_version_or_none_can_be_used(tmp_path: Path) -> None:
    assert fault_of(tmp_path / "new" / "home" / "prefect.db") is None
    (tmp_path / "empty.db").touch()
    assert fault_of(tmp_path / "empty.db") is None
    with_revision(tmp_path / "same.db", *newest_revisions())
    assert fault_of(tmp_path / "same.db") is None


@pytest.mark.parametrize(
    ("make", "fault"),
    [
        (lambda path: with_revision(path, "ffffffffffff"), r"another version of Prefect made \(revision f{12}\)"),
        (lambda path: path.write_bytes(b"no database" * 5000), "file is not a database"),
        (lambda path: path.write_bytes(b"SQLite format 3\0" + b"cut"), "SQLite cannot use"),
        (of_another_program, "no such table: alembic_version"),
        (damaged, "damaged|malformed"),
        (lambda path: path.mkdir(), "not a file"),
        (os.mkfifo, "not a file"),
        (lambda path: path.symlink_to("nowhere"), "not a file"),
    ],
    ids=["another version", "rubbish", "cut short", "another program's", "damaged", "folder", "pipe", "broken link"],
)
def test_a_database_that_cannot_be_used_stays_as_it_is(
    tmp_path: Path, make: Callable[[Path], object], fault: str
) -> None:
    path = tmp_path / "prefect.db"
    make(path)
    before = hashlib.sha256(path.read_bytes()).digest() if path.is_file() else None
    found = fault_of(path)
    assert found is not None
    assert re.search(fault, found), found
    assert before is None or hashlib.sha256(path.read_bytes()).digest() == before
    assert [place.name for place in tmp_path.iterdir()] == ["prefect.db"]


def test_a_locked_database_and_a_folder_that_cannot_be_made_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flows.server.database, "LOCK_SECONDS", 0.01)
    path = tmp_path / "prefect.db"
    with_revision(path, *newest_revisions())
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert fault_of(path) == "which SQLite cannot use (database is locked)"
    assert fault_of(path / "home" / "prefect.db") == "whose folder cannot be used (Not a directory)"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(flows.server.database, "TemporaryFile", full)
    assert fault_of(tmp_path / "prefect.db") == "whose folder cannot be used (No space left on device)"
