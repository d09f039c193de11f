"""A web server that serves one video, and a fetcher that does not sleep."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.fetching import NAME, VIDEO, Client
from tests.helpers.servers import WebServer, running


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A web server that serves one video."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with running(WebServer(files={NAME: VIDEO})) as web:
        yield web


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "out")
    with client.fetcher:
        yield client
