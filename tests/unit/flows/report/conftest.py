"""A store that several tests of reports read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.report.page import write_report
from tests.helpers.reports import EIGHT_ROWS, write_store


@pytest.fixture(scope="session")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of five stored and three rejected videos, with its report."""
    store_dir = write_store(tmp_path_factory.mktemp("eight") / "store", EIGHT_ROWS)
    write_report(store_dir)
    return store_dir
