"""The store against the files on disk: what was renamed, what is gone, and every file's final row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from flows.run.workload import outcome, renamed, vanished
from manifests.row import ManifestRow
from tests.helpers.rows import entry_of, rejected, row_of, stored


def statuses(rows: Iterable[ManifestRow]) -> dict[str, str]:
    return {row.video_id[-3:]: row.status for row in rows}


def test_the_outcome_is_what_the_shards_say() -> None:
    done, missing, broken, gone = (entry_of(name) for name in ("004", "003", "002", "001"))
    processed = {row.video_id: row for row in (stored(done), stored(broken), stored(gone))}
    rows = outcome([row_of(done), row_of(missing), rejected(broken)], processed)
    # Ordered by video_id; what is no longer on disk keeps its records, what has broken does not.
    assert list(statuses(rows).items()) == [
        ("001", "stored"),
        ("002", "rejected"),
        ("003", "pending"),
        ("004", "stored"),
    ]
    assert rows[0] == stored(gone)


def test_a_vanished_file_without_records_is_forgotten() -> None:
    processed: Mapping[str, ManifestRow] = {
        row.video_id: row for row in (rejected(entry_of("001")), row_of(entry_of("002")))
    }
    assert outcome([], processed) == []


def test_a_file_that_goes_by_another_name_today() -> None:
    """Its label was corrected in the list: what was stored under the old one is wrong."""
    before, same, gone = entry_of("001", "train"), entry_of("002", "train"), entry_of("003", "train")
    now = replace(before, video_id="ffpp/Deepfakes/c23/001", label="fake", manipulation="Deepfakes")
    assert renamed([row_of(now), row_of(same)], [before, same, gone]) == {before.video_id}


def test_vanished_is_what_is_gone_and_not_what_a_run_leaves_aside(tmp_path: Path) -> None:
    rows = [stored(entry_of(name)) for name in ("001", "002", "003")]
    entries = [row.entry for row in rows if row.entry is not None]
    left_aside = tmp_path / entries[1].path
    left_aside.parent.mkdir(parents=True)
    left_aside.touch()
    assert vanished(rows[:1], entries, {"ffpp": tmp_path}) == {rows[2].video_id}
    assert vanished(rows[:1], entries, {"dfdc": tmp_path}) == set()
