"""Exit statuses of exceptions, and the nearest of some names."""

from __future__ import annotations

import pytest

from manifests.errors import AccountingError, ConfigError, StoreBusy, did_you_mean, exit_status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConfigError("a setting"), 2),
        (StoreBusy("a store"), 2),
        (AccountingError("totals"), 1),
        (OSError("a full disk"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_status(error: BaseException, status: int) -> None:
    assert exit_status(error) == status


@pytest.mark.parametrize(("name", "hint"), [("proces", "; did you mean 'process'?"), ("xyz", "")])
def test_the_nearest_name_is_suggested(name: str, hint: str) -> None:
    assert did_you_mean(name, ["thread", "process", "dask"]) == hint
