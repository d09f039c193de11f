"""A start-up check: the top-level packages are ours.

`flows`, `tasks`, `storage` and `manifests` are common names. Another distribution's wheel can overwrite them in
site-packages, or a folder of the working directory can hide them, without a word from Python.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from manifests.errors import UserError

PACKAGES = ("manifests", "storage", "tasks", "training", "flows", "faceshards")


def require_own_packages(packages: tuple[str, ...] = PACKAGES) -> None:
    """Raise unless all packages come from the folder that this file lies in.

    Raises:
        UserError: one of them comes from elsewhere, or is not found; the message says which and from where.
    """
    home = Path(__file__).resolve().parents[2]
    for name in packages:
        spec = find_spec(name)
        found = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if found != home / name:
            raise UserError(
                f"package {name}: got {found or 'nothing'}, expected {home / name}; another distribution or folder of "
                "this name hides faceshards: run from another folder, or install it into an environment of its own"
            )
