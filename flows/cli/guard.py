"""Start-up check that the top-level packages are those of faceshards.

`flows`, `tasks`, `storage` and `manifests` are common names. Another distribution's wheel can overwrite them in
site-packages, or a folder of the working directory can hide them, and Python reports neither.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from manifests.errors import UserError

PACKAGES = ("manifests", "storage", "tasks", "training", "flows", "faceshards")


def require_own_packages(packages: tuple[str, ...] = PACKAGES) -> None:
    """Raise unless all packages come from the folder above this file's package.

    Raises:
        UserError: a package is missing or comes from another folder, which the message names.
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
