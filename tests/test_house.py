"""The house rules that a program can check: which folder may import which, and what is light to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.guard import PACKAGES, require_own_packages
from manifests.errors import FaceshardsError

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "manifests": set(),
    "storage": {"manifests"},
    "tasks": {"manifests", "storage"},
    "training": {"manifests", "storage"},
    "flows": {"manifests", "storage", "tasks", "training"},
    "faceshards": {"manifests", "storage", "tasks", "training", "flows"},
}
PREFECT_ALLOWED_IN = {"tasks/process.py"}


def imports_of(path: Path) -> set[str]:
    """First parts of every module name that a file imports, wherever in the file."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    return {name.partition(".")[0] for name in names}


def files_of(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no files"
    return files


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_no_import_goes_up(package: str) -> None:
    for path in files_of(package):
        own = imports_of(path) & set(MAY_IMPORT)
        assert own <= MAY_IMPORT[package] | {package}, f"{path} imports {own}"


@pytest.mark.parametrize("package", ["manifests", "storage", "tasks", "training"])
def test_only_one_file_below_flows_knows_prefect(package: str) -> None:
    knowing = {str(path.relative_to(ROOT)) for path in files_of(package) if "prefect" in imports_of(path)}
    assert knowing <= PREFECT_ALLOWED_IN


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import storage.store", {"torch", "prefect", "pandas", "pyarrow", "av"}),
        ("import storage.inspect", {"torch", "prefect", "pandas", "pyarrow", "av"}),
        ("import manifests.datasets", {"torch", "prefect", "pandas", "pyarrow", "av", "cv2"}),
        ("import flows.cli.parser", {"torch", "prefect", "pandas", "pyarrow", "av", "cv2"}),
        ("import tasks.video.video", {"torch", "prefect", "pandas", "pyarrow"}),
    ],
)
def test_heavy_things_load_late(statement: str, forbidden: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not forbidden & set(run.stdout.split())


def test_guard_accepts_this_checkout() -> None:
    require_own_packages()


def test_guard_names_a_package_that_hides_ours(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "__init__.py").write_text("")
    program = (
        f"import sys; sys.path.insert(1, {str(ROOT)!r}); import flows.cli.guard\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "from manifests.errors import FaceshardsError\n"
        "try:\n    flows.cli.guard.require_own_packages()\nexcept FaceshardsError as error:\n    print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert str(tmp_path / "tasks") in run.stdout


def test_guard_says_when_a_package_is_missing() -> None:
    with pytest.raises(FaceshardsError, match="no_such_package: got nothing"):
        require_own_packages((*PACKAGES, "no_such_package"))
