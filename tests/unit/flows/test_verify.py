from __future__ import annotations

import pytest

from flows.verify import fault_rows, require_sound, summary_markdown
from manifests.errors import StoreCorrupt
from storage.verify import VerifyReport

SOUND = VerifyReport(num_shards=3, num_records=1200, num_images=2400, problems=())
BROKEN = VerifyReport(num_shards=1, num_records=8, num_images=8, problems=("shard a: got 1", "shard b: got 2"))


def test_the_summary_has_a_line_for_each_store() -> None:
    lines = summary_markdown({"stores/a": SOUND, "stores/b": BROKEN}).splitlines()

    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 6
    assert lines[2:] == ["| `stores/a` | 3 | 1,200 | 2,400 | none |", "| `stores/b` | 1 | 8 | 8 | **2** |"]


def test_every_fault_is_a_row() -> None:
    assert fault_rows({"stores/a": SOUND, "stores/b": BROKEN}) == [
        {"store": "stores/b", "fault": "shard a: got 1"},
        {"store": "stores/b", "fault": "shard b: got 2"},
    ]


def test_a_sound_store_passes_and_a_broken_one_is_named() -> None:
    require_sound({"stores/a": SOUND})
    with pytest.raises(StoreCorrupt) as failure:
        require_sound({"stores/a": SOUND, "stores/b": BROKEN})
    assert str(failure.value) == "stores/b: shard a: got 1 (and 1 more)"
