"""One Prefect server for all flow runs of a test session, and a dataset small enough to be processed often."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manifests.miniature import write_miniature
from tests.helpers.deployed import Server, shared_server
from tests.helpers.processes import QUICK, locked


@pytest.fixture(scope="session")
def shared_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for what all processes of a test session use: a server, a dataset, a store."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def server(shared_dir: Path) -> Iterator[Server]:
    """A server on SQLite; tests that ask a server for all of its runs start one of their own."""
    with shared_server(shared_dir / "prefect") as server:
        yield server


@pytest.fixture(scope="session")
def prefect_server(server: Server) -> Iterator[str]:
    """The shared server's address; flows that are called in this process run on it."""
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }
    from prefect.events.worker import EventsWorker
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with temporary_settings({PREFECT_API_URL: server.api_url}):
        yield server.api_url
        EventsWorker.drain_all()


@pytest.fixture(scope="session")
def miniature(shared_dir: Path) -> Path:
    """Two pairs in both directions: 4 originals, 16 fakes with their masks; not to be changed."""
    root = shared_dir / "ffpp"
    with locked(shared_dir / "ffpp.lock"):
        write_miniature(root, num_pairs=2, seconds=(0.8, 1.2), seed=1)
    return root


@pytest.fixture
def dataset(miniature: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(miniature, tmp_path / "ffpp"))


@pytest.fixture(scope="session")
def configure() -> Callable[..., Any]:
    """Make the configuration of a quick run."""
    from flows.config.preprocess import load_config

    def make(root: Path, out: Path, *assignments: str) -> Any:
        return load_config(None, [*QUICK, *assignments], {"dataset": {"root": root}, "out": out})

    return make


@pytest.fixture(scope="session")
def finished(
    miniature: Path, shared_dir: Path, prefect_server: str, configure: Callable[..., Any]
) -> tuple[Path, dict[str, Any]]:
    """An undisturbed run over the miniature dataset, and what it returned; not to be changed."""
    from flows.preprocess import preprocess_ffpp

    out, totals = shared_dir / "finished", shared_dir / "totals.json"
    with locked(shared_dir / "finished.lock"):
        if not totals.exists():
            totals.write_text(json.dumps(preprocess_ffpp(configure(miniature, out))))
    return out, json.loads(totals.read_text())
