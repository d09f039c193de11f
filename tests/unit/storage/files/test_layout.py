"""Names of a store's files, and its lock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.errors import StoreBusy, StoreError
from storage.files.layout import lock_store, parse_shard_name, shard_name, video_id_of

HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from storage.files.layout import lock_store
with lock_store(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_shard_names_are_made_and_taken_apart() -> None:
    assert shard_name("train", 3) == "train-00003.lmdb"
    assert parse_shard_name("train-00003.lmdb") == ("train", 3)
    assert parse_shard_name(shard_name("test", 123_456)) == ("test", 123_456)


@pytest.mark.parametrize("name", ["train-3.lmdb", "dev-00003.lmdb", ".partial-train-00003-17.lmdb", "index.json", ""])
def test_other_names_are_no_shards(name: str) -> None:
    assert parse_shard_name(name) is None


def test_a_shard_needs_a_known_split_and_a_number() -> None:
    with pytest.raises(ValueError, match=r"got 'dev', expected one of \['train', 'val', 'test'\]"):
        shard_name("dev", 0)
    with pytest.raises(ValueError, match="got -1, expected 0 or more"):
        shard_name("train", -1)


def test_a_key_begins_with_its_video() -> None:
    assert video_id_of("ffpp/Deepfakes/c23/519_515/00/000042") == "ffpp/Deepfakes/c23/519_515"


def test_a_second_run_is_told_who_is_at_work(tmp_path: Path) -> None:
    store_dir = tmp_path / "deep" / "store"
    with (
        lock_store(store_dir),
        pytest.raises(StoreBusy, match=f"held by process {os.getpid()}, expected no other run"),
        lock_store(store_dir),
    ):
        pass
    with lock_store(store_dir):
        pass  # it was given back


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreBusy, match=f"process {holder.pid}"), lock_store(tmp_path):
            pass
        holder.kill()
        holder.wait()
    with lock_store(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize(
    ("make", "got"),
    [
        (lambda path: path.mkdir(), "not a file"),
        (os.mkfifo, "not a file"),
        (lambda path: path.symlink_to("/nowhere/lock"), "not a file"),
    ],
    ids=["folder", "pipe", "broken link"],
)
def test_a_lock_that_is_no_file_is_named(tmp_path: Path, make: Callable[[Path], object], got: str) -> None:
    make(tmp_path / ".lock")
    with pytest.raises(StoreError, match=rf"lock {tmp_path}/\.lock: got {got}, expected a file"), lock_store(tmp_path):
        pass


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(StoreError, match="got No locks available"), lock_store(tmp_path):
        pass
