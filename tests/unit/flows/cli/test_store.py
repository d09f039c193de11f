"""`versions`, `rollback` and `compact` on the command line: their output, and records that they do not change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.cli.parser import main
from flows.report.difference import code_of, compare, write_difference
from flows.report.page import write_report
from manifests.entry import VideoEntry
from manifests.videos_table import read_table
from storage.index import read_index
from storage.store import RecordStore
from storage.upkeep.ledger import Ledger
from storage.upkeep.versions import keep_current, keep_version
from storage.verify import verify_store
from tests.helpers.ledgers import CONFIG, DIGEST, OTHER_CONTENT, entry_of, make_shard, pending

Output = pytest.CaptureFixture[str]
ENTRIES = [entry_of(f"{number:03d}") for number in range(4)]


def run_once(store_dir: Path, entries: Sequence[VideoEntry], keep: int = 9) -> None:
    """Run the steps of the flow on a store, with a report of the changes."""
    ledger = Ledger(store_dir, CONFIG, DIGEST)
    before = keep_current(store_dir)
    ledger.begin((ledger.rows | {entry.video_id: pending(entry) for entry in entries}).values())
    ledger.add(*make_shard(store_dir, ledger.next_number("train"), entries))
    rows = list(ledger.rows.values())
    if before is not None:
        earlier = read_table(before.folder / "videos.parquet")
        write_difference(store_dir, compare(before.number, earlier, rows, code={}, now=code_of({})))
    ledger.finish(rows)
    write_report(store_dir)
    keep_version(store_dir, keep=keep, since=before.number if before else None)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A store of two versions: four videos, then one of them changed."""
    run_once(tmp_path / "store", ENTRIES)
    run_once(tmp_path / "store", [entry_of("001", content=OTHER_CONTENT)])
    return tmp_path / "store"


def said(capsys: Output, *words: object, status: int = 0) -> str:
    """Run a command; return its stdout, or its stderr where it fails, without line breaks."""
    assert main([str(word) for word in words]) == status
    captured = capsys.readouterr()
    return " ".join((captured.err if status else captured.out).split())


def contents(store_dir: Path) -> dict[str, bytes]:
    with RecordStore(store_dir) as store:
        return dict(store.encoded(number) for number in range(len(store)))


def test_versions_are_listed_with_what_their_runs_changed(out: Path, capsys: Output) -> None:
    shown = said(capsys, "versions", out)
    first, second = shown.index(" 1 20"), shown.index("2 (current) 20")
    assert "4 8 0 bytes first version" in shown[first:second]
    assert "4 8 " in shown[second:]
    assert "1 changed on disk" in shown[second:]


def test_a_rollback_says_how_to_undo_it(out: Path, capsys: Output) -> None:
    shown = said(capsys, "rollback", out)
    assert "is version 1 again: 4 videos, 8 records." in shown
    assert f"`faceshards rollback {out} 2` undoes it" in shown
    assert "1 (current)" in said(capsys, "versions", out)
    assert said(capsys, "rollback", out, 2).startswith(f"{out} is version 2 again")
    assert "got 1, 2, expected version 7" in said(capsys, "rollback", out, 7, status=2)


def test_fewer_versions_hold_fewer_files(out: Path, capsys: Output) -> None:
    run_once(out, [entry_of(f"{number:03d}", content=OTHER_CONTENT) for number in range(4)])
    assert len(list((out / "shards").iterdir())) == 3
    shown = said(capsys, "versions", out, "--keep", 1)
    assert "Version 1 was deleted. Version 2 was deleted." in shown
    assert [path.name for path in (out / "shards").iterdir()] == ["train-00002.lmdb"]
    assert "expected 1 or more" in said(capsys, "versions", out, "--keep", 0, status=2)


def test_compaction_changes_no_record(out: Path, capsys: Output) -> None:
    before = contents(out)
    assert "1 shards became 1" in said(capsys, "compact", out)
    assert contents(out) == before
    assert verify_store(out).problems == ()
    index = read_index(out)
    assert [shard.num_superseded_records for shard in index.shards] == [0, 0]
    # It stands in the place of the version that it was made from; the first one still has its own shard.
    shown = said(capsys, "versions", out)
    assert "3 (current)" in shown
    assert "1 changed on disk" in shown
    assert " 2 20" not in shown
    assert said(capsys, "compact", out).startswith("Nothing to do")
    said(capsys, "versions", out, "--keep", 1)
    assert {path.name for path in (out / "shards").iterdir()} == {shard.name for shard in index.shards}
    assert Ledger(out, CONFIG, DIGEST).is_up_to_date(read_table(out / "videos.parquet"))


def test_a_store_whose_run_did_not_finish_is_not_compacted(out: Path, capsys: Output) -> None:
    ledger = Ledger(out, CONFIG, DIGEST)
    ledger.begin(ledger.rows.values())
    assert "did not finish" in said(capsys, "versions", out)
    assert "got a store whose last run did not finish" in said(capsys, "compact", out, status=2)
    assert "is version 2 again" in said(capsys, "rollback", out)
    assert read_index(out).complete


def test_shards_that_are_gone_are_told(out: Path, capsys: Output) -> None:
    (out / "shards" / "train-00001.lmdb").unlink()
    assert "1 of its shards are missing" in said(capsys, "versions", out)


def test_there_is_no_store(tmp_path: Path, capsys: Output) -> None:
    for command in ("versions", "rollback", "compact"):
        assert "expected the folder that was given to `preprocess --out`" in said(capsys, command, tmp_path, status=2)
    assert list(tmp_path.iterdir()) == []


def test_what_changed_stands_on_the_page(out: Path) -> None:
    page = (out / "report.html").read_text(encoding="utf-8")
    assert '<a href="#changes">' in page
    assert "Since version 1: 1 changed on disk." in page
    odd: Any = replace(entry_of("<b>"), path="odd.mp4")
    run_once(out, [odd])
    assert (
        "<b>"
        not in (out / "report.html").read_text(encoding="utf-8").partition('id="changes"')[2].partition("</section>")[0]
    )
