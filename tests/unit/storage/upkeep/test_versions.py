"""Versions: what a store was is kept, comes back byte for byte, and nothing that a kept version needs is deleted."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import StoreCorrupt, StoreError, StoreMissing
from storage.index import read_index
from storage.store import RecordStore
from storage.upkeep.compact import compact
from storage.upkeep.ledger import Ledger
from storage.upkeep.versions import (
    keep_current,
    keep_version,
    list_versions,
    missing_shards,
    next_version,
    prune,
    roll_back,
)
from storage.verify import verify_store
from tests.helpers.ledgers import CONFIG, DIGEST, OTHER_CONTENT, OTHER_DIGEST, entry_of, make_shard, pending

Members = Sequence[Any]


def run_once(
    store_dir: Path, *shards: Members, keep: int = 9, digest: str = DIGEST, redo: bool = False, same: bool = False
) -> int:
    """A run as the flow does it: new shards, finished, kept; returns the version."""
    ledger = Ledger(store_dir, CONFIG, digest, redo=redo)
    before = keep_current(store_dir)
    ledger.begin((ledger.rows | {entry.video_id: pending(entry) for entry in chain(*shards)}).values())
    for members in shards:
        ledger.add(*make_shard(store_dir, ledger.next_number("train"), members, digest))
    (store_dir / "config.yaml").write_text(f"run: {ledger.index.version + 1}\n")
    ledger.finish([row for row in ledger.rows.values() if row.status != "pending"])
    keep_version(store_dir, keep=keep, since=before.number if before else None, is_same=same)
    return read_index(store_dir).version


def numbers(store_dir: Path) -> list[int]:
    return [version.number for version in list_versions(store_dir)]


def shard_names(store_dir: Path) -> list[str]:
    return sorted(path.name for path in (store_dir / "shards").iterdir())


def videos(store_dir: Path) -> dict[str, str]:
    """Last part of the video_id → first letter of its content."""
    with RecordStore(store_dir) as store:
        return {record.video_id[-3:]: record.content_digest for record in store}


def files(store_dir: Path) -> dict[str, bytes]:
    """Every small file of the store itself."""
    return {path.name: path.read_bytes() for path in store_dir.iterdir() if path.is_file() and path.name != ".lock"}


CHANGED = entry_of("001", content=OTHER_CONTENT)


def test_each_run_makes_a_version_and_says_what_it_holds(tmp_path: Path) -> None:
    assert list_versions(tmp_path) == []
    assert run_once(tmp_path, [entry_of("001"), entry_of("002")]) == 1
    assert run_once(tmp_path, [entry_of("003")]) == 2
    first, second = list_versions(tmp_path)
    assert (first.number, first.num_videos, first.num_records) == (1, 2, 4)
    assert (second.number, second.num_videos, second.num_records) == (2, 3, 6)
    assert second.index == read_index(tmp_path)
    assert second.completed_at.endswith("+00:00")
    assert next_version(tmp_path, 2) == 3


def test_a_version_comes_back_byte_for_byte_and_so_does_the_one_after(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001"), entry_of("002")])
    first, first_videos = files(tmp_path), videos(tmp_path)
    run_once(tmp_path, [CHANGED])
    second, second_videos = files(tmp_path), videos(tmp_path)
    assert first_videos != second_videos
    assert roll_back(tmp_path).number == 1
    assert (files(tmp_path), videos(tmp_path)) == (first, first_videos)
    assert verify_store(tmp_path).problems == ()
    assert roll_back(tmp_path, 2).number == 2
    assert (files(tmp_path), videos(tmp_path)) == (second, second_videos)
    assert verify_store(tmp_path).problems == ()


def test_a_run_goes_on_from_where_the_store_was_rolled_back_to(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001"), entry_of("002")])
    run_once(tmp_path, [CHANGED])
    roll_back(tmp_path)
    # What was rolled back from is not taken up again, although its shard lies there.
    ledger = Ledger(tmp_path, CONFIG, DIGEST)
    assert (ledger.is_complete, ledger.is_done(CHANGED), ledger.is_done(entry_of("001"))) == (True, False, True)
    assert run_once(tmp_path, [entry_of("003")]) == 3
    assert numbers(tmp_path) == [1, 3]  # the one that was left behind is gone
    assert videos(tmp_path)["001"] == entry_of("001").content_digest
    assert len(shard_names(tmp_path)) == 2
    assert verify_store(tmp_path).problems == ()


def test_shards_stay_as_long_as_a_version_needs_them(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001")], keep=2)
    run_once(tmp_path, [CHANGED], keep=2)
    assert shard_names(tmp_path) == ["train-00000.lmdb", "train-00001.lmdb"]
    run_once(tmp_path, [entry_of("001")], keep=2)
    assert numbers(tmp_path) == [2, 3]
    assert shard_names(tmp_path) == ["train-00001.lmdb", "train-00002.lmdb"]
    assert [version.number for version in prune(tmp_path, 1)] == [2]
    assert shard_names(tmp_path) == ["train-00002.lmdb"]
    assert verify_store(tmp_path).problems == ()


def test_a_store_made_anew_can_be_what_it_was(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001")])
    before = files(tmp_path)
    run_once(tmp_path, [entry_of("001")], digest=OTHER_DIGEST, redo=True)
    assert read_index(tmp_path).config_digest == OTHER_DIGEST
    roll_back(tmp_path)
    assert files(tmp_path) == before
    assert read_index(tmp_path).config_digest == DIGEST


def test_a_version_that_differs_in_no_video_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001")], keep=2)
    run_once(tmp_path, [entry_of("002")], keep=2)
    assert run_once(tmp_path, keep=2, same=True) == 3
    assert numbers(tmp_path) == [1, 3]


def test_a_store_from_before_there_were_versions_becomes_one(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001")])
    shutil.rmtree(tmp_path / "versions")
    text = (tmp_path / "index.json").read_text()
    (tmp_path / "index.json").write_text(text.replace(',\n  "version": 1', ""))
    assert read_index(tmp_path).version == 0
    run_once(tmp_path, [entry_of("002")])
    assert numbers(tmp_path) == [0, 1]
    assert roll_back(tmp_path).number == 0
    assert set(videos(tmp_path)) == {"001"}


def test_nothing_is_written_where_the_version_is_there(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001")])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    kept = keep_current(tmp_path)
    assert kept is not None
    assert kept.number == 1
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_cannot_be_rolled_back_to(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        roll_back(tmp_path)
    run_once(tmp_path, [entry_of("001")])
    with pytest.raises(StoreError, match="got 1, expected an earlier version"):
        roll_back(tmp_path)
    run_once(tmp_path, [CHANGED])
    with pytest.raises(StoreError, match="got 1, 2, expected version 7"):
        roll_back(tmp_path, 7)
    (tmp_path / "shards" / "train-00000.lmdb").unlink()
    assert missing_shards(tmp_path, list_versions(tmp_path)[0]) == ["train-00000.lmdb"]
    before = files(tmp_path)
    with pytest.raises(StoreCorrupt, match=r"1 shards that are missing .*train-00000\.lmdb"):
        roll_back(tmp_path)
    assert files(tmp_path) == before
    with pytest.raises(ValueError, match="expected 1 or more"):
        prune(tmp_path, 0)


def test_a_version_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001")])
    (tmp_path / "versions" / "00001" / "index.json").write_text("{")
    with pytest.raises(StoreCorrupt, match=r"00001.*the store itself does not need it"):
        list_versions(tmp_path)
    assert "00001" in verify_store(tmp_path).problems[0]


def test_a_run_that_was_interrupted_can_be_given_up(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001")])
    before = files(tmp_path)
    ledger = Ledger(tmp_path, CONFIG, DIGEST)
    ledger.begin([*ledger.rows.values(), pending(entry_of("002")), pending(CHANGED)])
    ledger.add(*make_shard(tmp_path, 1, [CHANGED]))
    make_shard(tmp_path, 2, [entry_of("002")])  # killed before `add`
    assert roll_back(tmp_path).number == 1
    assert files(tmp_path) == before
    assert shard_names(tmp_path) == ["train-00000.lmdb"]
    assert verify_store(tmp_path).problems == ()


class Killed(BaseException):
    """The process ends here: nothing is caught, nothing is cleaned up."""


def killed_at(call: int, action: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Run, and be killed just before the n-th change that others can see; return whether it came so far."""
    left = call

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            is_seen = any(".partial-" not in str(path) for path in arguments)
            left -= is_seen
            if left == 0 and is_seen:
                raise Killed
            return change(*arguments, **options)

        return wrapped

    with monkeypatch.context() as patched:
        # What half-written and half-deleted folders hold is seen by nobody: none is deleted, as if killed before.
        patched.setattr("storage.upkeep.versions.shutil.rmtree", lambda path: None)
        for name in ("rename", "replace", "unlink"):
            patched.setattr(Path, name, counted(getattr(Path, name)))
        try:
            action()
        except Killed:
            return True
    return False


def test_a_rollback_that_is_killed_anywhere_leaves_a_store_that_can_be_read_and_is_completed_by_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start"
    run_once(start, [entry_of("001")])
    first, first_videos = files(start), videos(start)
    run_once(start, [CHANGED], [entry_of("002")])
    second_videos = videos(start)
    for call in range(1, 200):
        store_dir = Path(shutil.copytree(start, tmp_path / f"{call}"))
        was_killed = killed_at(call, lambda store_dir=store_dir: roll_back(store_dir, 1), monkeypatch)  # type: ignore[misc]
        assert videos(store_dir) in (first_videos, second_videos)
        roll_back(store_dir, 1)
        Ledger(store_dir, CONFIG, DIGEST)  # removes what was half-written, as any run does
        assert files(store_dir) == first
        assert verify_store(store_dir).problems == ()
        if not was_killed:
            break
    assert 5 < call < 199


@pytest.mark.parametrize("same", [False, True], ids=["another version", "in the place of the one before"])
def test_keeping_a_version_that_is_killed_anywhere_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """The store is complete before its version is kept; whatever is left, the next run puts right."""
    start = tmp_path / "start"
    run_once(start, [entry_of("001")], keep=2)
    run_once(start, [CHANGED], keep=2)
    ledger = Ledger(start, CONFIG, DIGEST)
    ledger.begin([*ledger.rows.values(), pending(entry_of("002"))])
    ledger.add(*make_shard(start, 2, [entry_of("002"), entry_of("003")]))
    ledger.finish(list(ledger.rows.values()))
    expected = videos(start)
    for call in range(1, 200):
        store_dir = Path(shutil.copytree(start, tmp_path / f"{call}"))

        def keep(store_dir: Path = store_dir) -> None:
            keep_version(store_dir, keep=2, since=2, is_same=same)

        was_killed = killed_at(call, keep, monkeypatch)
        assert videos(store_dir) == expected
        ledger = Ledger(store_dir, CONFIG, DIGEST)
        assert ledger.is_complete, "nothing may come back that a version has left behind"
        assert run_once(store_dir, [entry_of("004")], keep=2) == 4
        assert numbers(store_dir) == [3, 4]
        assert verify_store(store_dir).problems == ()
        assert all(missing_shards(store_dir, version) == [] for version in list_versions(store_dir))
        assert sorted(path.name for path in (store_dir / "versions").iterdir()) == ["00003", "00004"]
        if not was_killed:
            break
    # The new version's folder, a shard that only the first needs, and the folder of the one that goes.
    assert call - 1 == (2 if same else 3)


def test_a_compacted_store_can_be_rolled_back(tmp_path: Path) -> None:
    run_once(tmp_path, [entry_of("001"), entry_of("002")])
    first = videos(tmp_path)
    ledger = Ledger(tmp_path, CONFIG, DIGEST)
    ledger.begin([*ledger.rows.values()])
    ledger.add(*make_shard(tmp_path, 1, [CHANGED]))
    compact(ledger, tmp_path, 0.3)
    ledger.finish(list(ledger.rows.values()))
    keep_version(tmp_path, keep=2)
    assert [shard.name for shard in read_index(tmp_path).shards] == ["train-00001.lmdb", "train-00002.lmdb"]
    roll_back(tmp_path)
    assert videos(tmp_path) == first
