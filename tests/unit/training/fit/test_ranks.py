"""Processes that train together: each knows its rank, and the fault of one is the fault of all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from manifests.errors import ConfigError
from training.fit.ranks import run_on_ranks

LONG_S = 600


def note(rank: int, folder: Path) -> None:
    (folder / str(rank)).write_text(os.environ["LOCAL_RANK"])


def fail(rank: int) -> None:
    """The first waits for the second, as in a sum over both; the second fails."""
    if rank:
        raise ConfigError("optim.lr: got a bad day, expected another")
    time.sleep(LONG_S)


def test_each_process_knows_its_rank(tmp_path: Path) -> None:
    run_on_ranks(note, (tmp_path,), 2)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "0", "1": "1"}


def test_the_fault_of_one_ends_the_others_and_is_told_as_it_was() -> None:
    with pytest.raises(ConfigError, match="got a bad day"):
        run_on_ranks(fail, (), 2)
