"""One Prefect server for all flow runs of a test session, and a dataset small enough to be processed often."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from manifests.miniature import write_miniature

# Importing and starting Prefect's server takes 15–26 s on two cores, close to the harness's own limit of 30 s.
SERVER_STARTUP_SECONDS = 180

QUICK = ("frames.count=3", "crop.size_px=64", "runner.workers=2", "shard.videos=8", "split.ratios=[0.5, 0.5, 0]")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """Start a temporary server on SQLite; return its address, for other processes."""
    os.environ |= {
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
    }
    from prefect.settings import get_current_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=SERVER_STARTUP_SECONDS):
        yield str(get_current_settings().api.url)


@pytest.fixture(scope="session")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pairs in both directions: 4 originals, 16 fakes with their masks; not to be changed."""
    root = tmp_path_factory.mktemp("miniature") / "ffpp"
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
        quick = [
            "frames.count=3",
            "crop.size_px=64",
            "runner.workers=2",
            "shard.videos=8",
            "split.ratios=[0.5, 0.5, 0]",
        ]
        return load_config(None, [*quick, *assignments], {"dataset": {"root": root}, "out": out})

    return make
