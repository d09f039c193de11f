"""A run from the lock to the version: reports go at its beginning, a version is kept at its end."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.errors import StoreBusy, StoreChanged, StoreIncomplete
from storage.files.layout import REPORT_HTML_NAME, REPORT_JSON_NAME
from storage.index import read_index
from storage.store import RecordStore
from storage.upkeep.store_run import compact_store, store_run
from storage.upkeep.versions import list_versions
from storage.verify import verify_store
from tests.helpers.ledgers import CONFIG, DIGEST, OTHER_CONTENT, OTHER_DIGEST, entry_of, make_shard, pending

ENTRIES = [entry_of(f"{number:03d}") for number in range(4)]
CHANGED = [entry_of(f"{number:03d}", content=OTHER_CONTENT) for number in (1, 3)]


def write_report(store_dir: Path) -> str:
    """Reports that say which version they are of."""
    text = f"version {read_index(store_dir).version}"
    for name in (REPORT_JSON_NAME, REPORT_HTML_NAME):
        (store_dir / name).write_text(text)
    return text


def run_once(store_dir: Path, number: int) -> str:
    """A first run over four videos, or a second one after two of them changed."""
    with store_run(store_dir, CONFIG, DIGEST) as run:
        run.ledger.begin([pending(entry) for entry in ENTRIES])
        assert not run.has_reports
        run.ledger.add(*make_shard(store_dir, number, CHANGED if number else ENTRIES))
        run.ledger.finish(list(run.ledger.rows.values()))
        report = write_report(store_dir)
        run.keep(2)
        assert run.has_reports
    return report


def test_each_run_makes_a_version_on_top_of_the_one_before(tmp_path: Path) -> None:
    assert run_once(tmp_path, 0) == "version 1"
    with store_run(tmp_path, CONFIG, DIGEST) as run:
        assert (run.has_reports, run.ledger.is_complete) == (True, True)
        assert run.before is not None
        assert run.before.number == 1
    assert run_once(tmp_path, 1) == "version 2"
    assert [version.number for version in list_versions(tmp_path)] == [1, 2]
    assert verify_store(tmp_path).problems == ()


def test_a_run_that_ends_between_leaves_an_incomplete_store(tmp_path: Path) -> None:
    run_once(tmp_path, 0)
    with store_run(tmp_path, CONFIG, DIGEST) as run:
        run.ledger.begin([pending(entry) for entry in ENTRIES])
    assert not read_index(tmp_path).complete
    with pytest.raises(StoreIncomplete, match=f"faceshards rollback {tmp_path}"):
        compact_store(tmp_path, 0.0, write_report)


def test_one_run_at_a_time_with_one_configuration(tmp_path: Path) -> None:
    with store_run(tmp_path, CONFIG, DIGEST) as run:
        run.ledger.begin([])
        with pytest.raises(StoreBusy), store_run(tmp_path, CONFIG, DIGEST):
            pass
    with pytest.raises(StoreChanged), store_run(tmp_path, CONFIG, OTHER_DIGEST):
        pass
    with store_run(tmp_path, CONFIG, OTHER_DIGEST, redo=True) as run:
        assert run.ledger.index.config_digest == OTHER_DIGEST


def test_compaction_replaces_the_version_that_the_store_was(tmp_path: Path) -> None:
    run_once(tmp_path, 0)
    assert compact_store(tmp_path, 0.0, write_report) is None
    run_once(tmp_path, 1)
    with RecordStore(tmp_path) as store:
        before = dict(store.encoded(number) for number in range(len(store)))
    done = compact_store(tmp_path, 0.0, write_report)
    assert done is not None
    assert (done.num_old, done.num_new) == (1, 1)
    with RecordStore(tmp_path) as store:
        assert dict(store.encoded(number) for number in range(len(store))) == before
    assert (tmp_path / REPORT_JSON_NAME).read_text() == "version 3"
    assert [version.number for version in list_versions(tmp_path)] == [1, 3]
    assert verify_store(tmp_path).problems == ()
