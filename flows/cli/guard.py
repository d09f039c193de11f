"""Checks of the installation: the top-level packages are those of faceshards, and a missing one names its extra.

`flows`, `tasks`, `storage` and `manifests` are common names. Another distribution's wheel can overwrite them in
site-packages, or a folder of the working directory can hide them, and Python reports neither.
"""

from __future__ import annotations

import re
from importlib.metadata import requires
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


# Import names that differ from the names of their distributions.
DISTRIBUTION_OF = {"skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def missing_package(error: ModuleNotFoundError) -> UserError:
    """Return the message about a package that is not installed, with the extra that brings it."""
    name = (error.name or "").partition(".")[0]
    distribution = DISTRIBUTION_OF.get(name, name).replace("_", "-")
    found = (re.match(r"([\w.-]+).*extra == [\"'](\w+)", line) for line in requires("faceshards") or ())
    extras = [match[2] for match in found if match is not None and match[1].lower() == distribution]
    extra = next((extra for extra in ("pipeline", "train", *extras) if extra in extras), "all")
    return UserError(
        f"this command: got an installation without the package {name}, expected the extra {extra!r}; "
        f"pip install 'faceshards[{extra}]', or '.[{extra}]' in a checkout"
    )
