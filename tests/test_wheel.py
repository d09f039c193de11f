"""The wheel holds what it must and nothing else, and works from an environment and a folder outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.cli.extras import PACKAGES

# On a busy machine the imports of half a dozen processes alone take minutes.
pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[1]
LICENCES = {"LICENSE", "THIRD-PARTY.md"}
QUICK = ("frames.count=2", "crop.size_px=64", "runner.workers=1", "split.ratios=[1, 0, 0]")
Run = Callable[..., str]


def package_files(root: Path) -> set[str]:
    """Files of all packages below a folder, without what Python compiles."""
    files = (path for package in PACKAGES for path in (root / package).rglob("*") if path.is_file())
    return {str(path.relative_to(root)) for path in files if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built without network from a copy of the sources: setuptools would add what an earlier build left."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", *LICENCES):
        shutil.copy(ROOT / name, sources)
    for name in package_files(ROOT):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, sources / name)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(built)]
    pip("wheel", *options, str(sources))
    (path,) = built.iterdir()
    return path


@pytest.fixture(scope="module")
def run(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run a program of an environment that holds the wheel, and sees this environment's packages beside it."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    pip("--python", str(folder / "bin/python"), "install", "--no-deps", "--no-index", "--quiet", str(wheel))
    (site_packages,) = folder.glob("lib/python*/site-packages")
    others = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "dependencies.pth").write_text("\n".join(others))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PREFECT_HOME": str(elsewhere / "prefect"), "DO_NOT_TRACK": "1"}

    def output_of(program: str, *arguments: str) -> str:
        command = [str(folder / "bin" / program), *arguments]
        done = subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return output_of


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    metadata = {name for name in names if name.partition("/")[0].endswith(".dist-info")}
    assert names - metadata == package_files(ROOT)
    assert {name.rpartition("/")[2] for name in metadata if "/licenses/" in name} == LICENCES
    for package in PACKAGES:
        assert f"{package}/py.typed" in names


def test_the_commands_answer_from_the_wheel(run: Run) -> None:
    program = f"import sys, {', '.join(PACKAGES)}\nfor name in {PACKAGES}: print(sys.modules[name].__file__)"
    home = run("python", "-c", "import sys; print(sys.prefix)").strip()
    modules = run("python", "-c", program).split()
    assert [path.startswith(home) for path in modules] == [True] * len(PACKAGES)
    assert "preprocess" in run("faceshards", "--help")
    assert run("python", "-m", "faceshards", "--help") == run("faceshards", "--help")
    assert "dfd-fcg" in run("faceshards", "presets")


def test_a_miniature_becomes_a_store(run: Run) -> None:
    run("faceshards", "sample", "data", "--pairs", "1", "--seconds", "0.4", "0.5")
    settings = [word for setting in QUICK for word in ("--set", setting)]
    shown = run("faceshards", "preprocess", "ffpp", "data", "--out", "out", "--preset", "m2tr", *settings)
    assert "10 indexed = 10 stored + 0 rejected" in shown
    program = """
import json, faceshards
from storage.store import RecordStore
with faceshards.open("out") as one, RecordStore("out") as other:
    print(json.dumps([one.keys() == other.keys(), len(one), one[0].crops.shape]))
"""
    assert json.loads(run("python", "-c", program)) == [True, 20, [1, 64, 64, 3]]
