"""Compaction: every record that counts keeps its bytes, and the files of which much no longer counts go."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manifests.rejected import Reason
from storage.index import read_index
from storage.shard import ShardReader
from storage.store import RecordStore
from storage.upkeep.compact import compact, sparse_shards
from storage.upkeep.ledger import Ledger
from storage.verify import verify_store
from tests.helpers.ledgers import CONFIG, DIGEST, OTHER_CONTENT, entry_of, make_shard, rejected

OLD, NEW = {"faceshards": "1"}, {"faceshards": "2"}


def write(store_dir: Path, *shards: tuple[list[Any], dict[str, str]]) -> Ledger:
    """A run that has written these shards and not finished: (members, versions that made them) each."""
    ledger = Ledger(store_dir, CONFIG, DIGEST)
    ledger.begin([])
    for members, made_with in shards:
        split = next(member.split for member in members if hasattr(member, "split"))
        ledger.add(*make_shard(store_dir, ledger.next_number(split), members, DIGEST, made_with))
    return ledger


def finished(ledger: Ledger, store_dir: Path) -> dict[str, bytes]:
    """Finish the run; return every record's bytes by its key."""
    ledger.finish(list(ledger.rows.values()))
    assert verify_store(store_dir).problems == ()
    with RecordStore(store_dir) as store:
        return dict(store.encoded(number) for number in range(len(store)))


def changed(name: str) -> Any:
    return entry_of(name, content=OTHER_CONTENT)


ENTRIES = [entry_of(f"{number:03d}") for number in range(4)]
TWO_CHANGED = (ENTRIES, OLD), ([changed("001"), changed("003")], OLD)


def test_records_keep_their_bytes_and_the_old_file_goes(tmp_path: Path) -> None:
    as_it_was = finished(write(tmp_path / "plain", *TWO_CHANGED), tmp_path / "plain")
    ledger = write(tmp_path / "store", *TWO_CHANGED)
    done = compact(ledger, tmp_path / "store", above=0.3)
    assert (done.num_old, done.num_new) == (1, 1)
    assert finished(ledger, tmp_path / "store") == as_it_was
    index = read_index(tmp_path / "store")
    assert [shard.name for shard in index.shards] == ["train-00001.lmdb", "train-00002.lmdb"]
    assert [shard.num_superseded_records for shard in index.shards] == [0, 0]
    assert not (tmp_path / "store/shards/train-00000.lmdb").exists()
    again = Ledger(tmp_path / "store", CONFIG, DIGEST)
    assert again.is_complete
    assert all(again.is_done(entry) for entry in (ENTRIES[0], changed("001"), ENTRIES[2], changed("003")))


@pytest.mark.parametrize(("above", "num_old"), [(0.0, 1), (0.49, 1), (0.5, 0), (1.0, 0)])
def test_the_threshold_is_a_share_of_the_records(tmp_path: Path, above: float, num_old: int) -> None:
    ledger = write(tmp_path, *TWO_CHANGED)
    assert len(sparse_shards(ledger.index.shards, above)) == num_old
    assert compact(ledger, tmp_path, above).num_old == num_old


def test_a_shard_of_which_nothing_counts_is_left_to_the_end_of_the_run(tmp_path: Path) -> None:
    ledger = write(tmp_path, ([entry_of("001")], OLD), ([changed("001")], OLD))
    assert compact(ledger, tmp_path, above=0.0).num_new == 0
    assert len(finished(ledger, tmp_path)) == 2


def test_what_is_left_of_several_shards_comes_together(tmp_path: Path) -> None:
    """Three half-empty shards of four videos: their six videos fill two, in the order of keys."""
    names = [f"{number:03d}" for number in range(12)]
    shards = [([entry_of(name) for name in names[start::3]], OLD) for start in range(3)]  # 000 003 006 009, …
    ledger = write(
        tmp_path, *shards, ([changed(name) for name in names[::2][:4]], OLD), ([changed("008"), changed("010")], OLD)
    )
    done = compact(ledger, tmp_path, above=0.3)
    assert (done.num_old, done.num_new) == (3, 2)
    assert 0 < done.num_bytes_new < done.num_bytes_old
    finished(ledger, tmp_path)
    with ShardReader(tmp_path / "shards/train-00005.lmdb") as reader:
        assert [video["video_id"][-3:] for video in reader.meta.videos] == ["001", "003", "005", "007"]
        keys = reader.keys()
        assert [key[-13:] for key in keys[:3]] == ["001/00/000000", "001/00/000010", "003/00/000000"]
        assert {video["shard"] for video in reader.meta.videos} == {"train-00005.lmdb"}


def test_what_was_retracted_does_not_come_back(tmp_path: Path) -> None:
    ledger = write(tmp_path, (ENTRIES, OLD))
    broken = rejected(entry_of("001"), Reason.NOT_A_VIDEO, None)
    ledger.retract([broken.video_id])
    assert compact(ledger, tmp_path, above=0.2).num_new == 1
    ledger.finish([broken if name == broken.video_id else row for name, row in ledger.rows.items()])
    with RecordStore(tmp_path) as store:
        assert {key[-13:-10] for key in store.keys()} == {"000", "002", "003"}  # noqa: SIM118  # not a dict


def test_splits_and_versions_stay_apart(tmp_path: Path) -> None:
    members = [
        ([entry_of("001"), entry_of("002")], OLD),
        ([entry_of("003"), entry_of("004")], NEW),
        ([entry_of("005", "val"), entry_of("006", "val")], OLD),
        ([changed("001"), changed("003")], NEW),
        ([entry_of("005", "val", OTHER_CONTENT)], NEW),
    ]
    ledger = write(tmp_path, *members)
    assert compact(ledger, tmp_path, above=0.3).num_new == 3
    finished(ledger, tmp_path)
    found: dict[str, tuple[str, dict[str, str]]] = {}
    for shard in read_index(tmp_path).shards:
        with ShardReader(tmp_path / "shards" / shard.name) as reader:
            found |= {video["video_id"][-3:]: (shard.split, reader.meta.made_with) for video in reader.meta.videos}
    assert found["002"] == ("train", OLD)
    assert found["004"] == ("train", NEW)
    assert found["006"] == ("val", OLD)


def test_rejections_move_along(tmp_path: Path) -> None:
    no_face = replace(rejected(entry_of("002"), Reason.NO_FACE), shard="train-00000.lmdb")
    ledger = write(tmp_path, ([entry_of("000"), entry_of("001"), no_face], OLD), ([changed("001")], OLD))
    compact(ledger, tmp_path, above=0.3)
    finished(ledger, tmp_path)
    again = Ledger(tmp_path, CONFIG, DIGEST)
    assert again.is_done(entry_of("002"))
    assert again.rows[no_face.video_id].shard == "train-00002.lmdb"


def test_equal_stores_give_equal_shards(tmp_path: Path) -> None:
    digests = []
    for name in ("one", "other"):
        ledger = write(tmp_path / name, *TWO_CHANGED)
        compact(ledger, tmp_path / name, above=0.3)
        finished(ledger, tmp_path / name)
        digests.append([(shard.sha256, shard.records_sha256) for shard in read_index(tmp_path / name).shards])
    assert digests[0] == digests[1]


def test_killed_before_a_compacted_shard_is_listed_the_next_run_takes_it_up(tmp_path: Path) -> None:
    ledger = write(tmp_path, *TWO_CHANGED)
    expected = finished(write(tmp_path / "plain", *TWO_CHANGED), tmp_path / "plain")
    index = (tmp_path / "index.json").read_bytes()
    compact(ledger, tmp_path, above=0.3)
    (tmp_path / "index.json").write_bytes(index)
    again = Ledger(tmp_path, CONFIG, DIGEST)
    assert {shard.name: shard.num_live_records for shard in again.index.shards} == {
        "train-00000.lmdb": 0,
        "train-00001.lmdb": 4,
        "train-00002.lmdb": 4,
    }
    shutil.rmtree(tmp_path / "plain")
    assert finished(again, tmp_path) == expected
