"""Recognition of a folder's layout: exactly one layout has to fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from manifests.datasets import DATASETS
from manifests.datasets.dataset import Dataset
from manifests.datasets.dfdc import unread_metadata
from manifests.datasets.folder import unread_lists
from manifests.datasets.ignored import IN_PLACE_OF_VIDEOS, Ignored, describe
from manifests.datasets.walk import Walk, names_in, require_folder, shown, subfolders
from manifests.errors import DatasetError

NUM_HINTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognised:
    """The layout of a folder, with the names that identify it."""

    dataset: Dataset
    """The layout that fits."""

    why: str
    """Names that identify the layout, for messages."""


# How to name a layout that is not recognised, on the command line and for a dataset for testing.
NAMING = "`faceshards preprocess {name} {root} …`, `faceshards index {root} --layout {name}`"
NAMING_HELD_OUT = "--set 'test_datasets=[{{root: {root}, name: {name}}}]' in place of --test"


def recognise_layout(root: Path, naming: str = NAMING) -> Recognised:
    """Return the one layout that fits a folder.

    Args:
        root: the folder.
        naming: how the user can name a layout, with `{name}` and `{root}` to be filled in.

    Raises:
        DatasetError: the path is not a folder, no layout fits, or more than one does.
    """
    require_folder("dataset root", root)
    fitting = _fitting(root)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        found = "; ".join(f"{item.dataset.name} ({item.why})" for item in fitting)
        ways_out = " or ".join(naming.format(name=item.dataset.name, root=root) for item in fitting)
        raise DatasetError(
            f"dataset root: got {root}, in which {len(fitting)} layouts fit: {found}; expected one; name it: {ways_out}"
        )
    looked_for = "".join(f"\n  {name}: {dataset.title}: {dataset.expects}" for name, dataset in DATASETS.items())
    raise DatasetError(
        f"dataset root: got {root} (holding {shown(names_in(root))}), in which no layout fits; "
        f"{_way_out(root, naming)}. Looked for{looked_for}"
    )


def dataset_within(folder: Path) -> Path:
    """Return the folder of a dataset: the given one, or the first below it that a layout fits; else the given one.

    Archives often hold a dataset in a folder of its own.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir())
    return next((place for place in (folder, *below) if len(_fitting(place)) == 1), folder)


def _fitting(root: Path) -> list[Recognised]:
    asked = ((dataset, dataset.recognise(root)) for dataset in DATASETS.values())
    fitting = [Recognised(dataset=dataset, why=why) for dataset, why in asked if why is not None]
    certain = [item for item in fitting if item.dataset.is_certain(root)] if len(fitting) > 1 else []
    return certain or fitting


def _way_out(root: Path, naming: str) -> str:
    """Return what to do where no layout fits: often the folder above or below is the dataset's."""
    below = [folder for folder in subfolders(root) if _fitting(folder)]
    if below:
        return f"name {' or '.join(map(str, below[:NUM_HINTS]))} instead"
    above = root.absolute().parent
    # The folder above counts only where this folder marks its layout, not another one.
    if any(f"{root.absolute().name}/" in item.why for item in _fitting(above)):
        return f"name {above} instead"
    instead = [*unread_lists(root), *unread_metadata(root), *describe(_at_a_glance(root))]
    if instead:
        return f"it has no dataset, but {'; '.join(instead)}"
    return f"check the path, or name the layout: {naming.format(name='LAYOUT', root=root)}"


def _at_a_glance(root: Path) -> list[Ignored]:
    """Return the files in a folder and directly in its subfolders that may stand in place of videos."""
    walk = Walk(root)
    for folder in ("", *(folder.name for folder in subfolders(root))):
        walk.glance(folder)
    return [item for item in walk.ignored() if item.reason in IN_PLACE_OF_VIDEOS]
