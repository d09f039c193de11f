"""The public interface: its names, their types, and that `import faceshards` loads nothing but itself."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import assert_type

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from torch.utils.data import DataLoader

import faceshards
from flows.cli.extras import PACKAGES
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


def without_extras(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these words as if only the base of pyproject.toml was installed."""
    extras = (Requirement(line) for line in requires("faceshards") or () if "extra ==" in line)
    absent = {canonicalize_name(requirement.name) for requirement in extras}
    blocked = {
        name for name, found in packages_distributions().items() if absent & {canonicalize_name(one) for one in found}
    }
    blocked -= set(PACKAGES)
    (tmp_path / "sitecustomize.py").write_text(
        f"import sys\nBLOCKED = {blocked!r}\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in BLOCKED:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )


def test_the_base_installation_reads_a_store(tmp_path: Path) -> None:
    shown = without_extras(tmp_path, "-c", f"import faceshards; print(faceshards.open({str(STORE)!r})[0].crops.shape)")
    assert (shown.returncode, shown.stderr, shown.stdout) == (0, "", f"{faceshards.open(STORE)[0].crops.shape}\n")
    verified = without_extras(tmp_path, "-m", "storage.inspect", str(STORE), "--verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "no problems" in verified.stdout


def test_the_base_installation_says_what_else_is_needed(tmp_path: Path) -> None:
    dataset = without_extras(tmp_path, "-c", "import faceshards; faceshards.FaceDataset")
    assert dataset.stderr.endswith(
        "ImportError: training.data.dataset: got an installation without the package torch, expected it; "
        "pip install torch, or 'faceshards[all]'\n"
    )
    command = without_extras(tmp_path, "-m", "faceshards", "presets")
    assert (command.returncode, command.stdout) == (2, "")
    assert command.stderr == (
        "error: this command: got an installation without the package yaml, expected the extra 'pipeline'; "
        "pip install 'faceshards[pipeline]', or '.[pipeline]' in a checkout\n"
    )
    assert "preprocess" in without_extras(tmp_path, "-m", "faceshards", "--help").stdout


@pytest.mark.parametrize("package", ["storage", "manifests", "flows", "tasks"])
def test_a_foreign_folder_that_hides_a_package_is_named(tmp_path: Path, package: str) -> None:
    (tmp_path / package).mkdir()
    (tmp_path / package / "__init__.py").touch()
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    program = f"import faceshards, faceshards.__main__\nfaceshards.open({str(STORE)!r})"
    if package == "flows":
        program = "import sys, faceshards.__main__ as command\nsys.exit(command.main())"
    if package == "tasks":
        program = "import runpy\nrunpy.run_module('flows', run_name='__main__')"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    last = run.stderr.splitlines()[-1]
    assert f"package {package}: got {tmp_path / package}, expected {ROOT / package}; another folder" in last


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
