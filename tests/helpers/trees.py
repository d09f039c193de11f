"""Trees of empty files, for layouts that are recognised by file names."""

from __future__ import annotations

from pathlib import Path


def touch(root: Path, *paths: str) -> Path:
    """Make empty files below a folder, and return the folder."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root
