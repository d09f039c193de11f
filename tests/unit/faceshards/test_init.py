"""The public interface: its names, their types, and that `import faceshards` loads nothing but itself."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import assert_type

import numpy as np
import pytest
from torch.utils.data import DataLoader

import faceshards
from manifests.errors import StoreMissing
from storage.store import RecordStore
from training.data.batch import Batch
from training.data.dataset import StoreDataset

ROOT = Path(__file__).resolve().parents[3]
STORE = ROOT / "tests/fixtures/store_0.1.0/store"


def modules_after(statement: str) -> set[str]:
    """First parts of the modules that a new process has loaded after a statement."""
    program = f"import sys\nbefore = set(sys.modules)\n{statement}\nprint(*set(sys.modules) - before)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_the_import_loads_the_standard_library_alone() -> None:
    assert modules_after("import faceshards; dir(faceshards)") - sys.stdlib_module_names == {"faceshards"}


def test_opening_a_store_loads_neither_torch_nor_prefect() -> None:
    loaded = modules_after(f"import faceshards; faceshards.open({str(STORE)!r})[0].crops")
    assert not loaded & {"torch", "prefect", "pandas", "pyarrow", "av"}


def test_every_public_name_exists_and_no_other() -> None:
    assert dir(faceshards) == sorted(faceshards.__all__)
    for name in faceshards.__all__:
        assert getattr(faceshards, name) is getattr(faceshards, name)
    with pytest.raises(AttributeError, match="no attribute 'opne'; it has FaceDataset"):
        faceshards.opne  # type: ignore[attr-defined]  # noqa: B018  # the name is wrong on purpose


def test_the_version_is_that_of_the_distribution() -> None:
    assert f'version = "{faceshards.__version__}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_a_store_is_opened_by_its_path() -> None:
    store = assert_type(faceshards.open(STORE, split="train"), RecordStore)
    assert (store.split, len(store)) == ("train", len(RecordStore(STORE, "train")))
    with pytest.raises(StoreMissing):
        faceshards.open(STORE / "elsewhere")
    assert issubclass(StoreMissing, faceshards.FaceshardsError)


def test_a_store_feeds_a_data_loader() -> None:
    dataset = assert_type(faceshards.FaceDataset(STORE, "train"), StoreDataset)
    batch = next(iter(DataLoader(dataset, batch_size=2, collate_fn=faceshards.collate)))
    assert isinstance(batch, Batch)
    expected = np.stack([faceshards.open(STORE, "train")[number].crops[0] for number in range(2)])
    assert np.array_equal(batch.pixels.numpy().transpose(0, 2, 3, 1), expected)


def test_the_package_runs_as_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["faceshards", "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("faceshards", run_name="__main__")
    assert ended.value.code == 0
    assert "usage: faceshards" in capsys.readouterr().out
