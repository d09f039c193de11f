"""The message about a package that is not installed, which names the extra that brings it."""

from __future__ import annotations

import re
from importlib.metadata import requires

from manifests.errors import UserError

PACKAGES = ("manifests", "storage", "tasks", "training", "flows", "faceshards")  # of this project

# Import names that differ from the names of their distributions.
DISTRIBUTION_OF = {"skimage": "scikit-image", "sklearn": "scikit-learn", "yaml": "pyyaml"}


def missing_package(error: ModuleNotFoundError) -> UserError:
    """Return the error for a package that cannot be imported."""
    name = (error.name or "").partition(".")[0]
    distribution = DISTRIBUTION_OF.get(name, name).replace("_", "-")
    found = (re.match(r"([\w.-]+).*extra == [\"'](\w+)", line) for line in requires("faceshards") or ())
    extras = [match[2] for match in found if match is not None and match[1].lower() == distribution]
    extra = next((extra for extra in ("pipeline", "train", *extras) if extra in extras), "all")
    return UserError(
        f"this command: got an installation without the package {name}, expected the extra {extra!r}; "
        f"pip install 'faceshards[{extra}]', or '.[{extra}]' in a checkout"
    )
