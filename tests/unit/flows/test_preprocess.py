"""What a run is called in Prefect: dataset, compressions, store and version."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flows import preprocess
from storage.index import StoreIndex, write_index


@pytest.mark.parametrize(
    ("dataset", "version", "expected"),
    [
        ({"name": "ffpp", "compressions": ["c23", "c40"]}, None, "ffpp-c23+c40-crops-v1"),
        ({"name": "celeb_df"}, 4, "celeb_df-all-crops-v5"),
    ],
)
def test_dataset_compressions_store_and_the_version_to_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: dict[str, Any], version: int | None, expected: str
) -> None:
    out = tmp_path / "crops"
    if version is not None:
        out.mkdir()
        values: dict[str, Any] = {"faceshards_version": "0", "config_digest": "", "config": {}, "shards": ()}
        write_index(out, StoreIndex(complete=True, version=version, **values))
    parameters = {"config": {"dataset": dataset | {"root": "/data"}, "out": str(out)}}
    monkeypatch.setattr(preprocess, "flow_run", SimpleNamespace(parameters=parameters))
    assert preprocess.run_name() == expected


def test_a_broken_store_is_for_the_run_to_tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.json").write_text("no JSON")
    parameters = {"config": {"dataset": {"root": "/data"}, "out": str(tmp_path)}}
    monkeypatch.setattr(preprocess, "flow_run", SimpleNamespace(parameters=parameters))
    assert preprocess.run_name() == f"auto-all-{tmp_path.name}"
