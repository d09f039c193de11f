"""A store's copy elsewhere: in a folder, and in fsspec's memory, which behaves as an object store does."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from manifests.errors import StageMissing, StoreCorrupt, StoreError, StoreIncomplete, StoreMissing
from manifests.videos_table import write_table
from storage.files.layout import RECORDS_NAME
from storage.index import read_index, write_index
from storage.store import RecordStore
from storage.upkeep import mirror
from storage.upkeep.mirror import Copied, Remote, pull, push
from storage.upkeep.versions import keep_version
from tests.helpers.stores import write_forgeries

MEMORY = "memory://bucket/store"


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    yield
    memory.store.clear()


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "share" / "copy") if request.param == "folder" else MEMORY


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return write_forgeries(tmp_path / "store")


def without_last_shard(store: Path) -> str:
    """Take a shard out of the index, as a run does that rewrote it; return its name."""
    index = read_index(store)
    *kept, last = index.shards
    write_index(store, replace(index, shards=tuple(kept)))
    return last.name


def is_same(one: Path, other: Path) -> bool:
    """Whether two stores have the same index, tables and shards, byte for byte, and nothing else."""
    files = [{path.relative_to(root): path.read_bytes() for path in root.rglob("[!.]*.*")} for root in (one, other)]
    return files[0] == files[1]


def test_there_and_back_again_gives_the_same_store(store: Path, url: str, tmp_path: Path) -> None:
    pushed = push(store, url)
    assert (pushed.num_copied, pushed.num_already_there, pushed.num_deleted) == (3, 0, 0)
    back = tmp_path / "back"
    assert pull(url, back) == pushed
    assert is_same(back, store)
    assert [record.key for record in RecordStore(back)] == [record.key for record in RecordStore(store)]


def test_what_is_there_is_not_sent_again(
    store: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(store, url)
    pull(url, tmp_path / "back")

    def refuse(*_: object) -> None:
        raise AssertionError("something was written")

    monkeypatch.setattr(Remote, "send", refuse)
    monkeypatch.setattr(mirror, "write_index", refuse)
    idle = Copied(num_copied=0, num_already_there=3, num_deleted=0, num_bytes=0)
    assert push(store, url) == idle
    assert pull(url, tmp_path / "back") == idle


def test_shards_that_no_longer_count_go(store: Path, url: str, tmp_path: Path) -> None:
    push(store, url)
    pull(url, tmp_path / "back")
    name = without_last_shard(store)
    assert push(store, url).num_deleted == 1
    assert name not in Remote(url).shards()
    assert pull(url, tmp_path / "back").num_deleted == 1
    assert not (tmp_path / "back" / "shards" / name).exists()
    assert len(read_index(tmp_path / "back").shards) == 2


def test_a_push_that_was_killed_is_refused_and_completed_by_the_next(
    store: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = Remote.send

    def dies_at_tables(self: Remote, path: Path, name: str) -> None:
        if name == RECORDS_NAME:
            raise KeyboardInterrupt
        send(self, path, name)

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "send", dies_at_tables)
        with pytest.raises(KeyboardInterrupt):
            push(store, url)
    with pytest.raises(StoreIncomplete, match="push"):
        pull(url, tmp_path / "back")
    assert push(store, url).num_copied == 0
    pull(url, tmp_path / "back")
    assert is_same(tmp_path / "back", store)


def test_a_shard_that_was_damaged_on_the_way_is_not_taken(store: Path, tmp_path: Path) -> None:
    push(store, MEMORY)
    memory = fsspec.filesystem("memory")
    name = read_index(store).shards[0].name
    path = f"/bucket/store/shards/{name}"
    data = bytearray(memory.cat_file(path))
    data[len(data) // 2] ^= 1
    memory.pipe_file(path, bytes(data))
    with pytest.raises(StoreCorrupt, match=f"{name}: got SHA-256"):
        pull(MEMORY, tmp_path / "back")
    assert not (tmp_path / "back" / "shards" / name).exists()
    assert not (tmp_path / "back" / "index.json").exists()


def test_a_shard_of_another_length_is_sent_again(store: Path, tmp_path: Path) -> None:
    push(store, MEMORY)
    fsspec.filesystem("memory").pipe_file(f"/bucket/store/shards/{read_index(store).shards[1].name}", b"cut")
    assert push(store, MEMORY).num_copied == 1
    pull(MEMORY, tmp_path / "back")
    assert is_same(tmp_path / "back", store)


def test_another_store_is_not_written_over(store: Path, url: str, tmp_path: Path) -> None:
    push(store, url)
    other = write_forgeries(tmp_path / "other", seed=1)
    with pytest.raises(StoreError, match="another store"):
        push(other, url)
    with pytest.raises(StoreError, match="another store"):
        pull(url, other)
    pull(url, tmp_path / "back")
    assert read_index(tmp_path / "back") == read_index(store)


def test_another_store_is_told_by_its_id_whatever_its_shards_are_called(store: Path, url: str, tmp_path: Path) -> None:
    write_index(store, replace(read_index(store), store_id="a" * 32))
    push(store, url)
    other = write_forgeries(tmp_path / "other")
    write_index(other, replace(read_index(other), store_id="b" * 32))
    with pytest.raises(StoreError, match="another store"):
        push(other, url)
    with pytest.raises(StoreError, match="another store"):
        pull(url, other)


def test_the_same_store_made_anew_replaces_its_copy(store: Path, url: str, tmp_path: Path) -> None:
    """After a rollback a version number may be reused; readers meanwhile see that the copy is incomplete."""
    write_index(store, replace(read_index(store), store_id="a" * 32))
    push(store, url)
    pull(url, tmp_path / "back")
    shutil.rmtree(store)
    write_forgeries(store, seed=1)
    write_index(store, replace(read_index(store), store_id="a" * 32))
    assert push(store, url).num_copied == 3
    assert pull(url, tmp_path / "back").num_copied == 3
    assert is_same(tmp_path / "back", store)


def test_folders_with_versions_are_left_alone(store: Path, tmp_path: Path) -> None:
    push(store, MEMORY)
    write_table(store / "videos.parquet", [])
    keep_version(store, keep=2)
    with pytest.raises(StoreError, match="versions of its own"):
        push(store, str(store))
    with pytest.raises(StoreError, match="versions of its own"):
        pull(MEMORY, store)


def test_a_damaged_shard_is_not_pushed(store: Path, url: str) -> None:
    path = store / "shards" / read_index(store).shards[1].name
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(StoreCorrupt, match="or other bytes, expected those in the index"):
        push(store, url)
    with pytest.raises(StoreIncomplete):
        pull(url, store.with_name("back"))


def test_what_arrived_before_a_kill_is_not_sent_again(
    store: Path, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways: list[Callable[[], Copied]] = [lambda: push(store, url), lambda: pull(url, tmp_path / "back")]
    for way in ways:
        with monkeypatch.context() as patch:
            patch.setattr(mirror, "_send_shard", dying_after(1, mirror._send_shard))
            patch.setattr(mirror, "_fetch_shard", dying_after(1, mirror._fetch_shard))
            with pytest.raises(KeyboardInterrupt):
                way()
        assert (copied := way()).num_copied == 2
        assert copied.num_already_there == 1
    assert is_same(tmp_path / "back", store)


def dying_after(num_calls: int, function: Callable[..., None]) -> Callable[..., None]:
    calls = iter(range(num_calls))

    def call(*arguments: object) -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        function(*arguments)

    return call


def test_small_files_that_are_gone_go_there_too(store: Path, url: str, tmp_path: Path) -> None:
    (store / "difference.json").write_text("{}")
    push(store, url)
    pull(url, tmp_path / "back")
    (store / "difference.json").unlink()
    write_index(store, replace(read_index(store), version=7))
    push(store, url)
    pull(url, tmp_path / "back")
    assert is_same(tmp_path / "back", store)


def test_what_cannot_be_pushed_or_pulled(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreMissing, match="pushed there"):
        pull(MEMORY, tmp_path / "back")
    write_index(store, replace(read_index(store), complete=False))
    with pytest.raises(StoreIncomplete):
        push(store, MEMORY)
    with pytest.raises(StoreError, match="nonsense"):
        push(write_forgeries(tmp_path / "whole"), "nonsense://x")

    def missing(_url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "url_to_fs", missing)
    with pytest.raises(StageMissing, match=r"faceshards\[s3\]"):
        Remote("s3://bucket/store")


def test_a_server_that_fails_is_named(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no credentials")

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "put_file", fail)
    with pytest.raises(StoreError, match=r"memory://bucket/store: got RuntimeError: no credentials"):
        push(store, MEMORY)


def test_progress_is_told(store: Path) -> None:
    seen: list[tuple[int, int]] = []
    push(store, MEMORY, lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
