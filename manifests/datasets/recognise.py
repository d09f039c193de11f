"""Recognition of a folder's layout: exactly one layout has to fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manifests.datasets import DATASETS
from manifests.datasets.dataset import Dataset
from manifests.datasets.walk import names_in, require_folder, shown, subfolders
from manifests.errors import DatasetError

NUM_HINTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """The layout of a folder, with the names that identify it."""

    dataset: Dataset
    """The layout that fits."""

    why: str
    """Names that identify the layout, for messages."""


def recognise_layout(root: Path) -> Recognised:
    """Return the one layout that fits a folder.

    Raises:
        DatasetError: the path is not a folder, no layout fits, or more than one does.
    """
    require_folder("dataset root", root)
    fitting = _fitting(root)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        found = "; ".join(f"{item.dataset.name} ({item.why})" for item in fitting)
        ways_out = " or ".join(f"--layout {item.dataset.name}" for item in fitting)
        raise DatasetError(
            f"dataset root: got {root}, in which {len(fitting)} layouts fit: {found}; expected one; name it: {ways_out}"
        )
    looked_for = "".join(f"\n  {name}: {dataset.title}: {dataset.expects}" for name, dataset in DATASETS.items())
    raise DatasetError(
        f"dataset root: got {root} (holding {shown(names_in(root))}), in which no layout fits; {_way_out(root)}. "
        f"Looked for{looked_for}"
    )


def dataset_within(folder: Path) -> Path:
    """Return the folder of a dataset: the given one, or the first below it that a layout fits; else the given one.

    Archives often hold a dataset in a folder of its own.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    return next((place for place in (folder, *below) if len(_fitting(place)) == 1), folder)


def _fitting(root: Path) -> list[Recognised]:
    asked = ((dataset, dataset.recognise(root)) for dataset in DATASETS.values())
    return [Recognised(dataset=dataset, why=why) for dataset, why in asked if why is not None]


def _way_out(root: Path) -> str:
    """Return what to do where no layout fits: often the folder above or below is the dataset's."""
    below = [folder for folder in subfolders(root) if _fitting(folder)]
    if below:
        return f"name {' or '.join(map(str, below[:NUM_HINTS]))} instead"
    above = root.absolute().parent
    # The folder above counts only where this folder marks its layout, not another one.
    if any(f"{root.absolute().name}/" in item.why for item in _fitting(above)):
        return f"name {above} instead"
    return "check the path, or name the layout"
