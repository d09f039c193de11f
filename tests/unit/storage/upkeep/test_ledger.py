"""The ledger: whatever a killed run left behind, the files alone tell what counts and what is missing."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from manifests.entry import VideoEntry
from manifests.errors import AccountingError, StoreChanged, StoreCorrupt, StoreIncomplete
from manifests.rejected import Reason
from manifests.row import ManifestRow
from manifests.videos_table import read_table
from storage.index import ShardEntry, read_index
from storage.store import RecordStore
from storage.upkeep.ledger import Ledger
from storage.upkeep.versions import keep_version
from tests.helpers.ledgers import (
    CONFIG,
    DIGEST,
    OTHER_CONTENT,
    OTHER_DIGEST,
    entry_of,
    make_shard,
    pending,
    rejected,
    split_of,
)


def make_store(store_dir: Path, *shards: Sequence[VideoEntry | ManifestRow]) -> list[ManifestRow]:
    """A finished store with these shards; returns its rows."""
    ledger = Ledger(store_dir, CONFIG, DIGEST)
    ledger.begin(member if isinstance(member, ManifestRow) else pending(member) for shard in shards for member in shard)
    for members in shards:
        ledger.add(*make_shard(store_dir, ledger.next_number(split_of(members)), members))
    rows = list(ledger.rows.values())
    ledger.finish(rows)
    return rows


def reopened(store_dir: Path, **options: Any) -> Ledger:
    return Ledger(store_dir, CONFIG, DIGEST, **options)


def status_of(ledger: Ledger) -> dict[str, str]:
    return {video_id[-3:]: row.status for video_id, row in ledger.rows.items()}


def live_records(ledger: Ledger) -> int:
    return sum(shard.num_live_records for shard in ledger.index.shards)


def shard_names(store_dir: Path) -> list[str]:
    return sorted(path.name for path in (store_dir / "shards").iterdir())


def test_a_new_store_holds_nothing(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "store", CONFIG, DIGEST)
    assert (ledger.rows, ledger.index.shards, ledger.is_complete) == ({}, (), False)
    assert (ledger.index.config, ledger.index.config_digest) == (CONFIG, DIGEST)
    assert ledger.next_number("train") == 0
    # Looking declares nothing: without `begin` there is no index.
    assert shard_names(tmp_path / "store") == []
    assert not (tmp_path / "store" / "index.json").exists()


def test_a_finished_run_is_found_again(tmp_path: Path) -> None:
    no_face = rejected(entry_of("003"), Reason.NO_FACE)
    rows = make_store(tmp_path, [entry_of("001"), no_face], [entry_of("002", "val")])
    ledger = reopened(tmp_path)
    assert ledger.is_complete
    assert ledger.index == read_index(tmp_path)
    assert [shard.name for shard in ledger.index.shards] == ["train-00000.lmdb", "val-00000.lmdb"]
    assert ledger.rows == {row.video_id: row for row in rows}
    assert ledger.known_entries() == {row.video_id: row.entry for row in rows}
    assert ledger.is_up_to_date(sorted(rows, key=lambda row: row.video_id))
    assert not ledger.is_up_to_date([*rows, pending(entry_of("004"))])
    assert (ledger.next_number("train"), ledger.next_number("val"), ledger.next_number("test")) == (1, 1, 0)
    with RecordStore(tmp_path) as store:
        assert len(store) == 4


def test_a_run_that_only_began_keeps_its_splits_and_measurements(tmp_path: Path) -> None:
    entries = [entry_of("001", "test"), entry_of("002", "val")]
    Ledger(tmp_path, CONFIG, DIGEST).begin(pending(entry) for entry in entries)
    ledger = reopened(tmp_path)
    assert ledger.known_entries() == {entry.video_id: entry for entry in entries}
    assert status_of(ledger) == {"001": "pending", "002": "pending"}
    assert not ledger.is_complete
    with pytest.raises(StoreIncomplete):
        RecordStore(tmp_path)


def test_what_an_older_version_measured_and_did_not_process_is_measured_again(tmp_path: Path) -> None:
    older = replace(entry_of("001", "test"), picture=None)
    Ledger(tmp_path, CONFIG, DIGEST).begin([pending(older), pending(entry_of("002"))])
    known = reopened(tmp_path).known_entries()
    assert [entry.is_probed for entry in known.values()] == [False, True]
    assert known[older.video_id].split == "test"


def test_what_is_said_of_a_split_is_said_until_it_is_made_anew(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    rows = list(reopened(tmp_path).rows.values())
    for told, expected in (
        ({"leakage_allowed": True, "test_datasets": ["dfdc"]}, (True, ("dfdc",))),
        ({"test_datasets": ["celeb_df"]}, (True, ("celeb_df", "dfdc"))),
        ({}, (True, ("celeb_df", "dfdc"))),
    ):
        ledger = reopened(tmp_path)
        ledger.begin(rows, **told)
        ledger.finish(rows)
        index = read_index(tmp_path)
        assert (index.leakage_allowed, index.test_datasets) == expected
    redone = Ledger(tmp_path, CONFIG, DIGEST, redo=True).index
    assert (redone.leakage_allowed, redone.test_datasets) == (False, ())


@pytest.mark.parametrize(("policy", "crossing"), [("group", ("001",)), ("official", ())])
def test_groups_that_cross_splits_stand_in_the_index_of_a_store_that_promised_whole_groups(
    tmp_path: Path, policy: str, crossing: tuple[str, ...]
) -> None:
    rows = [
        pending(replace(entry_of(name, split), group_id="001")) for name, split in (("001", "train"), ("002", "val"))
    ]
    ledger = Ledger(tmp_path, {"split": {"policy": policy}}, DIGEST)
    ledger.begin(rows)
    assert read_index(tmp_path).crossing_groups == crossing
    ledger.begin(rows[:1])
    assert read_index(tmp_path).crossing_groups == ()


def test_a_run_that_was_killed_can_be_made_anew(tmp_path: Path) -> None:
    """Its splits are what may have to go: it is no redo that was interrupted."""
    ledger = Ledger(tmp_path, CONFIG, DIGEST)
    ledger.begin([pending(entry_of("001", "test"))], leakage_allowed=True)
    redone = reopened(tmp_path, redo=True)
    assert redone.known_entries()[entry_of("001").video_id].split is None
    assert not redone.index.leakage_allowed
    redone.begin([pending(entry_of("001", "train"))])
    # Now it is one, and told so again it goes on.
    assert reopened(tmp_path, redo=True).known_entries()[entry_of("001").video_id].split == "train"


def test_what_is_forgotten_counts_no_longer(tmp_path: Path) -> None:
    first, second = make_store(tmp_path, [entry_of("001"), entry_of("002")])
    ledger = reopened(tmp_path)
    ledger.forget({first.video_id})
    assert list(ledger.rows) == [second.video_id]
    assert not ledger.is_up_to_date([second])
    ledger.begin([second])
    ledger.finish([second])
    with RecordStore(tmp_path) as store:
        assert {record.video_id for record in store} == {second.video_id}


def test_a_complete_shard_that_no_index_lists_is_adopted(tmp_path: Path) -> None:
    first, second = entry_of("001"), rejected(entry_of("002"), Reason.NO_FACE)
    Ledger(tmp_path, CONFIG, DIGEST).begin([pending(first), pending(entry_of("002"))])
    shard, rows = make_shard(tmp_path, 0, [first, second])  # killed before `add`
    ledger = reopened(tmp_path)
    assert ledger.index.shards == (shard,)
    assert list(ledger.rows.values()) == rows
    assert not ledger.is_complete
    ledger.begin(rows)
    ledger.finish(rows)
    assert reopened(tmp_path).is_complete


def test_an_unlisted_shard_makes_a_complete_store_incomplete(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    make_shard(tmp_path, 1, [entry_of("002")])
    assert not reopened(tmp_path).is_complete


def test_what_no_run_can_have_left_is_not_taken_up_but_goes(tmp_path: Path) -> None:
    """A complete store's index lists all that counts: another shard is of a version that was given up."""
    rows = make_store(tmp_path, [entry_of("001")])
    make_shard(tmp_path, 1, [entry_of("002")])
    ledger = reopened(tmp_path)
    assert live_records(ledger) == 2
    assert not ledger.is_done(entry_of("002"))
    ledger.finish(rows)
    assert [path.name for path in (tmp_path / "shards").iterdir()] == ["train-00000.lmdb"]


def test_a_number_is_not_given_twice_though_its_shard_is_lost(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")], [entry_of("002")])
    keep_version(tmp_path, keep=2)
    roll_on = reopened(tmp_path)
    (tmp_path / "shards" / "train-00001.lmdb").unlink()
    assert roll_on.next_number("train") == 2
    assert reopened(tmp_path).next_number("train") == 2


def test_shards_alone_are_enough(tmp_path: Path) -> None:
    rows = make_store(tmp_path, [entry_of("001")], [entry_of("001", content=OTHER_CONTENT), entry_of("002")])
    for name in ("index.json", "videos.parquet", "records.parquet"):
        (tmp_path / name).unlink()
    ledger = reopened(tmp_path)
    assert ledger.rows == {row.video_id: row for row in rows}
    assert live_records(ledger) == 4


def test_a_shard_of_which_nothing_counts_any_more_is_deleted(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")], [entry_of("001", content=OTHER_CONTENT), entry_of("002")])
    assert shard_names(tmp_path) == ["train-00001.lmdb"]


def test_a_video_that_crashes_in_every_run_does_not_fill_the_folder(tmp_path: Path) -> None:
    crashed = rejected(entry_of("001"), Reason.CRASHED)
    make_store(tmp_path, [entry_of("002")], *([replace(crashed, shard=f"train-{n:05d}.lmdb")] for n in range(1, 4)))
    assert shard_names(tmp_path) == ["train-00000.lmdb", "train-00003.lmdb"]


def test_shards_of_another_configuration_without_an_index_are_not_deleted(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    (tmp_path / "index.json").unlink()
    with pytest.raises(StoreChanged, match="no index"):
        Ledger(tmp_path, CONFIG, OTHER_DIGEST)
    assert shard_names(tmp_path) == ["train-00000.lmdb"]


def test_a_redo_that_was_interrupted_is_gone_on_with(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")], [entry_of("002")])
    ledger = reopened(tmp_path, redo=True)
    ledger.begin([pending(entry_of("001")), pending(entry_of("002"))])
    ledger.add(*make_shard(tmp_path, 2, [entry_of("001")]))
    again = reopened(tmp_path, redo=True)
    assert (again.is_done(entry_of("001")), again.is_done(entry_of("002"))) == (True, False)


def test_newer_measurements_of_the_same_content_are_kept(tmp_path: Path) -> None:
    """A dataset that was copied has new times: it is measured once, and not again in every run."""
    make_store(tmp_path, [entry_of("001")])
    moved = replace(entry_of("001"), mtime_ns=77, path="moved.mp4")
    ledger = reopened(tmp_path)
    ledger.begin([replace(ledger.rows[moved.video_id], entry=moved, path=moved.path)])
    assert reopened(tmp_path).known_entries()[moved.video_id] == moved


def test_half_written_files_are_removed_and_strangers_are_not(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    strangers = ["notes.txt", "train-1.lmdb", "train-00001.lmdb.bak"]
    for name in [".partial-train-00001-77.lmdb", *strangers]:
        (tmp_path / "shards" / name).write_text("bytes")
    ledger = reopened(tmp_path)
    assert shard_names(tmp_path) == sorted(["train-00000.lmdb", *strangers])
    assert (ledger.is_complete, ledger.next_number("train")) == (True, 1)
    ledger.finish(list(ledger.rows.values()))
    assert shard_names(tmp_path) == sorted(["train-00000.lmdb", *strangers])


def test_videos_of_a_lost_shard_are_missing_again(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")], [entry_of("002")])
    (tmp_path / "shards" / "train-00001.lmdb").unlink()
    ledger = reopened(tmp_path)
    assert status_of(ledger) == {"001": "stored", "002": "pending"}
    assert ledger.rows["ffpp/youtube/c23/002"].entry == entry_of("002")
    assert not ledger.is_done(entry_of("002"))
    assert (ledger.is_complete, live_records(ledger), ledger.next_number("train")) == (False, 2, 1)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.25], ids=["empty", "half", "a page too few", "a page too many"])
def test_videos_of_a_shard_of_another_size_are_missing_again(tmp_path: Path, share: float) -> None:
    make_store(tmp_path, [entry_of("001")], [entry_of("002")])
    path = tmp_path / "shards" / "train-00001.lmdb"
    os.truncate(path, int(path.stat().st_size * share))
    ledger = reopened(tmp_path)
    assert status_of(ledger) == {"001": "stored", "002": "pending"}
    assert (ledger.is_complete, live_records(ledger)) == (False, 2)
    # The next run may be killed, too: the damaged file must not stand in the way of the one after it.
    ledger.begin(ledger.rows.values())
    ledger = reopened(tmp_path)
    ledger.add(*make_shard(tmp_path, ledger.next_number("train"), [entry_of("002")]))
    ledger.finish(list(ledger.rows.values()))
    assert (live_records(reopened(tmp_path)), len(shard_names(tmp_path))) == (4, 2)


def test_a_file_that_is_no_shard_is_not_passed_over(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    reopened(tmp_path).begin([])
    (tmp_path / "shards" / "train-00001.lmdb").write_bytes(bytes(16384))
    with pytest.raises(StoreCorrupt, match=r"train-00001\.lmdb"):
        reopened(tmp_path)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "killed before it was listed"])
def test_a_later_shard_replaces_a_video(tmp_path: Path, listed: bool) -> None:
    make_store(tmp_path, [entry_of("001"), entry_of("002")])
    changed = entry_of("001", content=OTHER_CONTENT)
    ledger = reopened(tmp_path)
    ledger.begin(ledger.rows.values())
    shard, rows = make_shard(tmp_path, 1, [changed])
    if listed:
        ledger.add(shard, rows)
        assert (live_records(ledger), ledger.rows[changed.video_id]) == (4, rows[0])
    ledger = reopened(tmp_path)
    older, newer = ledger.index.shards
    assert (older.superseded, older.num_live_records) == (("ffpp/youtube/c23/001",), 2)
    assert (newer.superseded, newer.num_live_records) == ((), 2)
    assert ledger.rows["ffpp/youtube/c23/001"] == rows[0]
    assert ledger.is_done(changed)
    assert not ledger.is_done(entry_of("001"))
    ledger.finish(list(ledger.rows.values()))
    with RecordStore(tmp_path) as store:
        found = {record.video_id[-3:]: record.content_digest for record in store}
    assert found == {"001": changed.content_digest, "002": entry_of("002").content_digest}


def test_a_later_rejection_replaces_records(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001"), entry_of("002")])
    ledger = reopened(tmp_path)
    changed = entry_of("001", content=OTHER_CONTENT)
    ledger.add(*make_shard(tmp_path, 1, [rejected(changed, Reason.NO_FACE)]))
    assert (live_records(ledger), status_of(ledger)["001"]) == (2, "rejected")
    again = reopened(tmp_path)
    assert (live_records(again), status_of(again)["001"]) == (2, "rejected")


def test_a_shard_of_which_nothing_counts_any_more_goes(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    ledger = reopened(tmp_path)
    ledger.begin(ledger.rows.values())
    ledger.add(*make_shard(tmp_path, 1, [entry_of("001", content=OTHER_CONTENT)]))
    assert shard_names(tmp_path) == ["train-00000.lmdb", "train-00001.lmdb"]
    ledger.finish(list(ledger.rows.values()))
    assert shard_names(tmp_path) == ["train-00001.lmdb"]
    with RecordStore(tmp_path) as store:
        assert len(store) == 2


def test_records_do_not_come_back_when_what_replaced_them_is_lost(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001"), entry_of("002")])
    ledger = reopened(tmp_path)
    ledger.add(*make_shard(tmp_path, 1, [entry_of("001", content=OTHER_CONTENT)]))
    (tmp_path / "shards" / "train-00001.lmdb").unlink()
    again = reopened(tmp_path)
    assert status_of(again) == {"001": "pending", "002": "stored"}
    assert live_records(again) == 2


def test_retracted_videos_stay_retracted(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001"), entry_of("002")])
    ledger = reopened(tmp_path)
    broken = rejected(entry_of("001"), Reason.NOT_A_VIDEO, None)
    ledger.retract([broken.video_id, "ffpp/youtube/c23/999"])
    ledger.retract([broken.video_id])
    assert live_records(ledger) == 2
    rows = [broken, ledger.rows["ffpp/youtube/c23/002"]]
    ledger.begin(rows)
    ledger.finish(rows)
    again = reopened(tmp_path)
    assert again.is_complete
    assert (status_of(again), live_records(again)) == ({"001": "pending", "002": "stored"}, 2)
    with RecordStore(tmp_path) as store:
        assert {record.video_id for record in store} == {"ffpp/youtube/c23/002"}


def test_another_configuration_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    partial = tmp_path / "shards" / ".partial-train-00001-77.lmdb"
    partial.touch()
    with pytest.raises(StoreChanged, match=f"got configuration {DIGEST[:12]}, not {OTHER_DIGEST[:12]}"):
        Ledger(tmp_path, CONFIG, OTHER_DIGEST)
    assert partial.exists()


def test_redoing_starts_from_measurements_alone(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")], [entry_of("002", "val")])
    ledger = Ledger(tmp_path, {"frames": {"count": 3}}, OTHER_DIGEST, redo=True)
    assert (ledger.index.shards, ledger.is_complete) == ((), False)
    assert ledger.known_entries() == {f"ffpp/youtube/c23/{name}": entry_of(name, split=None) for name in ("001", "002")}
    # The old shards stay, and keep their numbers, until the new ones are complete.
    assert ledger.next_number("train") == 1
    ledger.begin([pending(entry_of("001")), pending(entry_of("002"))])
    ledger.add(*make_shard(tmp_path, 1, [entry_of("001"), entry_of("002")], OTHER_DIGEST))
    assert shard_names(tmp_path) == ["train-00000.lmdb", "train-00001.lmdb", "val-00000.lmdb"]
    ledger.finish(list(ledger.rows.values()))
    assert shard_names(tmp_path) == ["train-00001.lmdb"]
    assert read_index(tmp_path).config == {"frames": {"count": 3}}


def test_redoing_that_was_killed_goes_on_with_the_new_shards_only(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001"), entry_of("002")])
    ledger = Ledger(tmp_path, CONFIG, OTHER_DIGEST, redo=True)
    ledger.begin([pending(entry_of("001")), pending(entry_of("002"))])
    make_shard(tmp_path, 1, [entry_of("001")], OTHER_DIGEST)  # killed before `add`
    again = Ledger(tmp_path, CONFIG, OTHER_DIGEST)
    assert [shard.name for shard in again.index.shards] == ["train-00001.lmdb"]
    assert status_of(again) == {"001": "stored", "002": "pending"}


def test_redoing_with_the_same_settings_that_was_killed_does_not_go_back(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001", "val")], [entry_of("002")])
    ledger = reopened(tmp_path, redo=True)
    ledger.begin([pending(entry_of("001", "test")), pending(entry_of("002"))])
    ledger.add(*make_shard(tmp_path, 0, [entry_of("001", "test")]))  # a new split: from val to test
    again = reopened(tmp_path)
    assert again.known_entries()["ffpp/youtube/c23/001"].split == "test"
    assert [shard.name for shard in again.index.shards] == ["test-00000.lmdb"]


def test_what_is_done_need_not_be_done_again(tmp_path: Path) -> None:
    final, crashed, slow, unreadable = (entry_of(name) for name in ("002", "003", "004", "005"))
    other_settings, before_settings = entry_of("006"), entry_of("007")
    members: list[VideoEntry | ManifestRow] = [
        entry_of("001"),
        rejected(final, Reason.NO_FACE),
        rejected(crashed, Reason.CRASHED),
        rejected(slow, Reason.DECODE_TIMEOUT),
        rejected(unreadable, Reason.UNREADABLE),
        rejected(other_settings, Reason.NO_FACE, OTHER_DIGEST),
        rejected(before_settings, Reason.TRUNCATED, None),
    ]
    make_store(tmp_path, members)
    ledger = reopened(tmp_path)
    assert ledger.is_done(entry_of("001"))
    assert ledger.is_done(replace(entry_of("001"), path="moved.mp4"))
    assert ledger.is_done(final)
    for entry in (crashed, slow, unreadable, other_settings, before_settings):
        assert not ledger.is_done(entry), entry.video_id
    assert not ledger.is_done(entry_of("001", content=OTHER_CONTENT))
    assert not ledger.is_done(replace(entry_of("001"), mask_sha256=OTHER_CONTENT))
    assert not ledger.is_done(entry_of("999"))


def test_a_new_try_of_a_transient_rejection_counts(tmp_path: Path) -> None:
    make_store(tmp_path, [rejected(entry_of("001"), Reason.CRASHED)], [entry_of("001")])
    ledger = reopened(tmp_path)
    assert status_of(ledger) == {"001": "stored"}
    assert ledger.is_done(entry_of("001"))


def test_numbers_go_on_above_every_file(tmp_path: Path) -> None:
    make_store(tmp_path, [entry_of("001")])
    make_shard(tmp_path, 7, [entry_of("002")])
    make_shard(tmp_path, 123_456, [entry_of("003", "val")])
    make_shard(tmp_path, 9, [entry_of("004", "test")], OTHER_DIGEST)
    ledger = reopened(tmp_path)
    assert [ledger.next_number(split) for split in ("train", "val", "test")] == [8, 123_457, 10]


def test_shards_of_another_configuration_are_left_alone_until_the_end(tmp_path: Path) -> None:
    rows = make_store(tmp_path, [entry_of("001")])
    make_shard(tmp_path, 1, [entry_of("002")], OTHER_DIGEST)
    ledger = reopened(tmp_path)
    assert [shard.name for shard in ledger.index.shards] == ["train-00000.lmdb"]
    assert shard_names(tmp_path) == ["train-00000.lmdb", "train-00001.lmdb"]
    ledger.finish(rows)
    assert shard_names(tmp_path) == ["train-00000.lmdb"]


def test_a_video_without_an_outcome_is_not_passed_over(tmp_path: Path) -> None:
    rows = make_store(tmp_path, [entry_of("001")])
    ledger = reopened(tmp_path)
    ledger.begin(rows)
    with pytest.raises(AccountingError, match=r"got 1 videos without an outcome \(\['ffpp/youtube/c23/002'\]\)"):
        ledger.finish([*rows, pending(entry_of("002"))])
    assert not read_index(tmp_path).complete


@pytest.mark.parametrize("claimed", [1, 3])
def test_rows_that_claim_other_records_than_there_are(tmp_path: Path, claimed: int) -> None:
    rows = make_store(tmp_path, [entry_of("001")])
    ledger = reopened(tmp_path)
    ledger.begin(rows)
    with pytest.raises(AccountingError, match=f"got 2 records in the shards, expected the {claimed} of the rows"):
        ledger.finish([replace(rows[0], num_records=claimed)])
    assert not read_index(tmp_path).complete
    assert not reopened(tmp_path).is_complete


def test_the_tables_say_what_the_shards_hold(tmp_path: Path) -> None:
    rows = make_store(tmp_path, [entry_of("001"), rejected(entry_of("002"), Reason.NO_FACE)])
    assert read_table(tmp_path / "videos.parquet") == rows
    plain = json.loads((tmp_path / "index.json").read_text())
    assert (plain["complete"], plain["config"], plain["shards"][0]["num_videos"]) == (True, CONFIG, 2)


class Listings:
    """Count the writes of the index, with a clock that stands still until it is advanced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[int] = []  # shards listed, by each writing
        self.now_seconds = 1000.0
        monkeypatch.setattr("storage.upkeep.ledger.write_index", lambda _, index: self.sizes.append(len(index.shards)))
        monkeypatch.setattr("storage.upkeep.ledger.time.monotonic", lambda: self.now_seconds)


def empty_shard(number: int) -> ShardEntry:
    """The entry of a shard of one rejected video."""
    return ShardEntry(
        name=f"train-{number:05d}.lmdb",
        split="train",
        number=number,
        num_records=0,
        num_videos=1,
        num_bytes=8192,
        sha256="0" * 64,
        records_sha256="1" * 64,
        config_digest=DIGEST,
    )


def test_listing_is_linear_in_the_number_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = Listings(monkeypatch)
    entries_written = {}
    for num_shards in (100, 400):
        ledger = Ledger(tmp_path / str(num_shards), CONFIG, DIGEST)
        ledger.begin([])
        listings.sizes.clear()
        for number in range(num_shards):
            ledger.add(empty_shard(number), [])
        entries_written[num_shards] = sum(listings.sizes)
        assert listings.sizes[:16] == list(range(1, 17))
        assert listings.sizes[-1] > num_shards * 16 / 17 - 1
        assert len(ledger.index.shards) == num_shards
    assert entries_written[400] < 5 * entries_written[100]  # 16 times, were each shard listed at once


def test_an_index_does_not_grow_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listings = Listings(monkeypatch)
    ledger = Ledger(tmp_path, CONFIG, DIGEST)
    for number in range(100):
        ledger.add(empty_shard(number), [])
    assert listings.sizes[-1] < 100
    listings.now_seconds += 30
    ledger.add(empty_shard(100), [])
    assert listings.sizes[-1] == 101


def test_shards_that_wait_to_be_listed_are_not_lost(tmp_path: Path) -> None:
    names = [f"{number:03d}" for number in range(19)]
    ledger = Ledger(tmp_path, CONFIG, DIGEST)
    ledger.begin([pending(entry_of(name)) for name in names])
    for number, name in enumerate(names):
        ledger.add(*make_shard(tmp_path, number, [entry_of(name)]))
    assert len(read_index(tmp_path).shards) == 18  # one alone is less than a 16th
    again = reopened(tmp_path)
    assert again.index.shards == ledger.index.shards
    assert status_of(again) == dict.fromkeys(names, "stored")
    assert live_records(again) == 2 * len(names)
