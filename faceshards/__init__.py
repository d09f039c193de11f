"""Public interface of faceshards: the names in `__all__` keep their meaning within a major version.

    import faceshards

    faceshards.preprocess("ROOT", "OUT", preset="m2tr", frames={"count": 8})
    store = faceshards.open("OUT", split="train")                    # records as NumPy arrays; needs no torch
    dataset = faceshards.FaceDataset("OUT", "train")                 # for torch.utils.data.DataLoader
    loader = DataLoader(dataset, batch_size=32, collate_fn=faceshards.collate)

`import faceshards` loads no other package; each name loads what it needs at its first use. `open` needs the base
installation, `FaceDataset` and `collate` also torch, `preprocess` the extra `pipeline`.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faceshards.preprocessing import preprocess
    from manifests.errors import FaceshardsError
    from storage.store import RecordStore
    from training.data.batch import collate
    from training.data.dataset import StoreDataset as FaceDataset

    __version__: str

__all__ = ["FaceDataset", "FaceshardsError", "__version__", "collate", "open", "preprocess"]

# Packages of this project. Their names are common: another distribution's wheel can overwrite them in site-packages, or
# a folder of the working directory can hide them, and Python reports neither.
_PACKAGES = ("manifests", "storage", "tasks", "training", "flows")
_HOMES = {
    "FaceDataset": ("training.data.dataset", "StoreDataset"),
    "FaceshardsError": ("manifests.errors", "FaceshardsError"),
    "collate": ("training.data.batch", "collate"),
    "preprocess": ("faceshards.preprocessing", "preprocess"),
}


def open(path: str | os.PathLike[str], split: str | None = None, *, allow_incomplete: bool = False) -> RecordStore:
    """Open a store for reading: `len(store)`, `store[0]`, `store.get(key)`, `for record in store`.

    Args:
        path: the store's folder.
        split: `train`, `val` or `test`; None for all three.
        allow_incomplete: also open a store whose last run was interrupted or is still running.

    Raises:
        StoreMissing: there is no store.
        StoreIncomplete: the last run did not finish.
        StoreCorrupt: the index is broken.
        ValueError: an unknown split.
    """
    store: RecordStore = imported("storage.store").RecordStore(path, split, allow_incomplete)
    return store


def imported(module: str) -> ModuleType:
    """Import a module of faceshards.

    Raises:
        ImportError: another folder or distribution hides a package, or one that the module needs is not installed.
    """
    for package in _PACKAGES:
        own, spec = Path(__file__).resolve().parents[1] / package, find_spec(package)
        found = Path(spec.origin).resolve().parent if spec is not None and spec.origin else None
        if found != own:
            raise ImportError(
                f"package {package}: got {found or 'nothing'}, expected {own}; another folder or distribution of this "
                "name hides faceshards: run from another folder, or install it into an environment of its own"
            )
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in (*_PACKAGES, __name__):
            raise  # a module of faceshards itself: a damaged installation
        raise ImportError(
            f"{module}: got an installation without the package {error.name}, expected it; pip install {error.name}, "
            "or 'faceshards[all]'"
        ) from error


if not TYPE_CHECKING:  # type checkers see the imports above, and refuse other names

    def __getattr__(name: str) -> Any:
        """Import a public name at its first use (PEP 562)."""
        if name == "__version__":
            from importlib.metadata import version

            value: object = version("faceshards")
        elif name in _HOMES:
            module, attribute = _HOMES[name]
            value = getattr(imported(module), attribute)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
