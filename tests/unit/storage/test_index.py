"""The index proves itself: written the same way each time, and refused when anything in it is not as written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifests.errors import StoreCorrupt, StoreError, StoreMissing
from storage.files.layout import shard_name
from storage.index import ShardEntry, StoreIndex, read_index, stored_index, write_index


def shard(split: str, number: int, **changes: Any) -> ShardEntry:
    values: dict[str, Any] = {
        **{"name": shard_name(split, number), "split": split, "number": number, "config_digest": "c" * 64},
        **{"num_records": 10, "num_videos": 3, "num_bytes": 4096, "sha256": "a" * 64, "records_sha256": "b" * 64},
    }
    return ShardEntry(**(values | changes))


def an_index(*shards: ShardEntry, **changes: Any) -> StoreIndex:
    values: dict[str, Any] = {
        **{"faceshards_version": "0.1.0", "complete": True, "config_digest": "c" * 64},
        "config": {"crop": {"size_px": 224, "kind": "square"}, "umlaut": "ü"},
    }
    return StoreIndex(**(values | changes), shards=shards)


FULL = an_index(
    shard("test", 0, num_records=4),
    shard("train", 10, num_records=6, superseded=("ffpp/a", "ffpp/b"), num_superseded_records=5),
    shard("train", 9, num_records=20),
    test_datasets=("celeb_df", "dfdc"),
    leakage_allowed=True,
)


def test_round_trip(tmp_path: Path) -> None:
    write_index(tmp_path, FULL)
    assert read_index(tmp_path) == FULL


def test_shards_are_ordered_by_split_and_number() -> None:
    assert [entry.name for entry in FULL.shards] == ["train-00009.lmdb", "train-00010.lmdb", "test-00000.lmdb"]


def test_superseded_records_do_not_count() -> None:
    assert FULL.num_records == {"train": 21, "val": 0, "test": 4}


def test_equal_indexes_give_equal_files(tmp_path: Path) -> None:
    write_index(tmp_path, FULL)
    first = (tmp_path / "index.json").read_bytes()
    config = {"umlaut": "ü", "crop": {"kind": "square", "size_px": 224}}  # another order
    said = {"test_datasets": FULL.test_datasets, "leakage_allowed": True}
    write_index(tmp_path, an_index(*reversed(FULL.shards), config=config, **said))
    assert (tmp_path / "index.json").read_bytes() == first
    assert first.count(b"\n") > 20, "it is laid out for people"


def test_store_digest_depends_on_records_and_nothing_else() -> None:
    same = an_index(*(shard("train", 0, sha256="f" * 64, num_bytes=8192),), complete=False)
    assert same.store_sha256 == an_index(shard("train", 0)).store_sha256
    others = [
        an_index(shard("train", 0, records_sha256="f" * 64)),
        an_index(shard("train", 1)),
        an_index(shard("train", 0, superseded=("ffpp/a",))),
        an_index(),
    ]
    assert len({same.store_sha256, *(other.store_sha256 for other in others)}) == 5


def test_superseding_adds_up_and_counts_each_video_once() -> None:
    once = shard("train", 0).supersede({"ffpp/b": 3})
    twice = once.supersede({"ffpp/a": 2, "ffpp/b": 3})
    assert (twice.superseded, twice.num_superseded_records) == (("ffpp/a", "ffpp/b"), 5)
    assert (twice.num_records, twice.num_live_records) == (10, 5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../train-00000.lmdb"}, "expected 'train-00000.lmdb'"),
        ({"num_records": -1}, "num_records of train-00000.lmdb: got -1"),
        ({"num_superseded_records": 11}, "expected at most 10 records"),
        ({"superseded": ("b", "a")}, "each video once, in order"),
        ({"superseded": ("a", "a")}, "each video once, in order"),
    ],
)
def test_a_shard_that_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        shard("train", 0, **changes)


def test_a_shard_is_listed_once() -> None:
    with pytest.raises(ValueError, match="expected each name once"):
        an_index(shard("train", 0), shard("train", 0))


@pytest.mark.parametrize("place", [".", "not/there", "a_file"])
def test_no_index_is_no_store(tmp_path: Path, place: str) -> None:
    (tmp_path / "a_file").touch()
    with pytest.raises(
        StoreMissing, match=r"got no index.json, expected the folder that was given to `preprocess --out`"
    ):
        read_index(tmp_path / place)
    assert stored_index(tmp_path / place) is None


def test_another_format_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    write_index(tmp_path, FULL)
    path = tmp_path / "index.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(StoreError, match="got format version 2, expected 1"):
        read_index(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("complete"),
        lambda plain: plain.pop("format_version"),
        lambda plain: plain.pop("store_sha256"),
        lambda plain: plain.update(complete="yes"),
        lambda plain: plain.update(config=[]),
        lambda plain: plain.update(shards={}),
        lambda plain: plain["shards"].append(7),
        lambda plain: plain["shards"].append(plain["shards"][0]),
        lambda plain: plain["shards"].pop(),
        lambda plain: plain["shards"][0].pop("sha256"),
        lambda plain: plain["shards"][0].update(num_records="20"),
        lambda plain: plain["shards"][0].update(num_records=True),
        lambda plain: plain["shards"][0].update(superseded=None),
        lambda plain: plain["shards"][0].update(superseded=[1]),
        lambda plain: plain["shards"][0].update(name="/etc/passwd"),
        lambda plain: plain["shards"][0].update(split="dev"),
        lambda plain: plain["shards"][0].update(records_sha256="0" * 64),
    ],
)
def test_an_index_that_was_tampered_with_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    write_index(tmp_path, FULL)
    path = tmp_path / "index.json"
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(StoreCorrupt, match="expected an index as faceshards writes it"):
        read_index(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff\xfe\x00", b"null"])
def test_what_is_no_index_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "index.json").write_bytes(text)
    with pytest.raises(StoreCorrupt, match=r"index.json: got"):
        read_index(tmp_path)
