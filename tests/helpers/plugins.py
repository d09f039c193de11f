"""Distributions that exist for one test: a module and the metadata that announces its entry points."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from manifests.registry import Registry

NAME, VERSION = "labs-own", "1.2"


def install(
    folder: Path,
    entry_points: dict[str, dict[str, str]],
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    module: str = "labs_own",
) -> Path:
    """Install a distribution for this process and for those that it starts, as a wheel in site-packages would be.

    Args:
        folder: an empty folder, which goes onto the path.
        entry_points: group → name → `module:attribute`.
        source: the text of the module.
        monkeypatch: undoes it.
        module: the module's name.
    """
    metadata = folder / f"{NAME.replace('-', '_')}-{VERSION}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n")
    groups = (
        "".join((f"[{group}]\n", *(f"{k} = {v}\n" for k, v in found.items()))) for group, found in entry_points.items()
    )
    (metadata / "entry_points.txt").write_text("\n".join(groups))
    (folder / f"{module}.py").write_text(source)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    monkeypatch.delitem(sys.modules, module, raising=False)
    importlib.invalidate_caches()
    return folder


def refresh(registry: Registry[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a registry of this process list the entry points again, until the end of the test."""
    found = {one.name: one for one in entry_points(group=registry.group)}
    monkeypatch.setitem(vars(registry), "entry_points", found)
