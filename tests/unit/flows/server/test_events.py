from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows.server import events as alerts


@pytest.fixture
def emitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    seen: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(alerts, "emit_event", lambda event, **parts: seen.append((event, parts)))
    return seen


@pytest.mark.parametrize(
    ("num_indexed", "num_rejected", "too_many"),
    [(10, 2, False), (10, 3, True), (1000, 201, True), (1, 0, False), (0, 0, False)],
)
def test_an_event_goes_out_when_more_are_rejected_than_allowed(
    emitted: list[Any], num_indexed: int, num_rejected: int, too_many: bool
) -> None:
    report: Any = SimpleNamespace(totals={"num_indexed": num_indexed, "num_rejected": num_rejected})

    assert alerts.warn_of_rejections(report, Path("/stores/ffpp"), max_share=0.2) is too_many
    assert len(emitted) == too_many


def test_the_event_names_the_store_and_the_numbers(emitted: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    report: Any = SimpleNamespace(totals={"num_indexed": 8, "num_rejected": 4})
    alerts.warn_of_rejections(report, Path("/stores/ffpp"), max_share=0.25)

    ((event, parts),) = emitted
    assert event == "faceshards.rejections-high"
    assert parts["resource"] == {
        "prefect.resource.id": "faceshards.store.ffpp",
        "prefect.resource.name": "/stores/ffpp",
    }
    assert parts["payload"] == {
        "num_indexed": 8,
        "num_rejected": 4,
        "rejected_share": 0.5,
        "max_rejected_share": 0.25,
    }
    assert "got 4 of 8 videos rejected (50.0 %), expected at most 25.0 %" in caplog.text
