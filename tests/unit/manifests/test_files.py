"""Files appear whole or not at all, and locks exclude each other."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from manifests.files import locked, open_regular, remove_partials, write_atomically, written_whole


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "index.json"
    write_atomically(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["index.json"]
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["index.json"]


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"bytes")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zeros").symlink_to("/dev/zero")
    with open_regular(tmp_path / "link", max_bytes=5) as file:
        assert file.read() == b"bytes"
    for name, reason in (
        ("pipe", "a pipe, not a regular file"),
        ("zeros", "a device, not a regular file"),
        ("file", "a file of 5 bytes, more than 4"),
        (".", "Is a directory"),
        ("none", "No such file or directory"),
        ("zero\0byte", "a path that no file can have"),
        ("\ud800", "a path that no file can have"),
    ):
        with pytest.raises(OSError, match=reason), open_regular(tmp_path / name, max_bytes=4):
            pass


def test_only_partial_files_are_removed(tmp_path: Path) -> None:
    for name in (".partial-train-00000-7.lmdb", ".partial-7-index.json", "train-00000.lmdb", ".lock"):
        (tmp_path / name).touch()
    assert remove_partials(tmp_path) == (".partial-7-index.json", ".partial-train-00000-7.lmdb")
    assert names_in(tmp_path) == [".lock", "train-00000.lmdb"]
    assert remove_partials(tmp_path / "not there") == ()


def test_what_ends_in_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "table"
    path.write_text("old")

    def write_half(partial: Path) -> None:
        partial.write_text("ne")
        raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"), written_whole(path) as partial:
        write_half(partial)
    assert (path.read_text(), names_in(tmp_path)) == ("old", ["table"])
    with written_whole(path, tmp_path / ".growing") as partial:
        partial.write_text("new")
        assert names_in(tmp_path) == [".growing", "table"]
    assert (path.read_text(), names_in(tmp_path)) == ("new", ["table"])


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_lock_is_held_by_one_at_a_time(tmp_path: Path, is_folder: bool) -> None:
    path = tmp_path if is_folder else tmp_path / ".lock"
    entered = threading.Event()

    def enter() -> None:
        with locked(path):
            entered.set()

    waiting = threading.Thread(target=enter)
    with locked(path):
        with pytest.raises(BlockingIOError), locked(path, wait=False):
            pass
        waiting.start()
        assert not entered.wait(0.1)
    waiting.join(10)
    assert entered.is_set()
    with locked(path, wait=False):
        pass


def test_nothing_can_be_locked_where_there_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="none"), locked(tmp_path / "none" / ".lock"):
        pass
