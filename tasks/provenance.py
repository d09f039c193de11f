"""Which versions made the bytes."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import version

# Distributions whose arithmetic reaches the records.
PACKAGES = ("faceshards", "av", "decord", "facenet-pytorch", "numpy", "opencv-python", "torch", "torchvision")


@cache
def made_with() -> dict[str, str]:
    """Return the versions of Python and of every package that takes part, by distribution name."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}
