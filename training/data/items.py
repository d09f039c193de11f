"""Items of a dataset: the selected records of its stores, with class and manipulation of each.

Labels and manipulations are read once, from `records.parquet` or otherwise from the headers of the records, into arrays
of about 20 bytes per item.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt

from manifests.entry import MINIATURE
from manifests.errors import ConfigError, StoreCorrupt
from storage.files.layout import RECORDS_NAME, VIDEOS_NAME
from storage.format.encoding import read_header
from storage.records_table import read_rows
from storage.store import RecordStore

REAL_NAME = "Real"  # name of class 0 and of method 0
UNKNOWN = -1  # class of a manipulation that is not among the classes of a model

Frames = Literal["single", "clip"]


class NoItems(ConfigError):
    """No record of a split is selected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Selection of the records that become items."""

    manipulations: frozenset[str] | None
    """Manipulations of fakes; None: all."""

    compressions: frozenset[str] | None
    """Compressions; None: all."""

    keep_bystanders: bool
    """Whether people who are neither manipulated nor the main person are included."""

    frames: Frames
    """Whether an item is a single frame or a clip."""

    def takes(self, label: int, manipulation: str | None, compression: str | None, track_choice: str | None) -> bool:
        """Return whether a record is selected."""
        return (
            (self.keep_bystanders or track_choice != "bystander")
            and (self.compressions is None or compression in self.compressions)
            and (self.manipulations is None or not label or manipulation in self.manipulations)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """The items of a dataset, as arrays."""

    places: npt.NDArray[np.int32]
    """(N,3) int32: numbers of the store, of the record in it, of the frame in the record (0 for a clip); 0-based."""

    methods: npt.NDArray[np.int32]
    """(N,) int32 manipulation, position in method_names."""

    method_names: tuple[str, ...]
    """Names of the manipulations; `Real` first."""

    clip_length: int | None
    """T, frames of a clip; None for single frames."""


# label, dataset, manipulation, compression, track_choice, num_frames of a record
_Row = tuple[int, str, str | None, str | None, str | None, int]
_PLANNED = ("split", "label", "dataset", "manipulation", "compression", "track_choice", "num_frames")


def read_plan(stores: Sequence[RecordStore], wanted: Wanted) -> Plan:
    """Select items by the tables of the stores, or by the headers of their records.

    Raises:
        StoreCorrupt: a table does not match its store.
        NoItems: no record is selected.
        ConfigError: clips have different lengths.
    """
    if wanted.frames not in ("single", "clip"):
        raise ConfigError(f"frames: got {wanted.frames!r}, expected 'single' or 'clip'")
    places, methods, lengths = array("i"), array("i"), set[int]()
    numbers: dict[str | None, int] = {None: 0}  # number of each method by name; None: real
    for store_number, store in enumerate(stores):
        for record_number, row in enumerate(_rows(store)):
            label, dataset, manipulation, compression, track_choice, num_frames = row
            if not wanted.takes(label, manipulation, compression, track_choice):
                continue
            method = numbers.setdefault((manipulation or dataset) if label else None, len(numbers))
            lengths.add(num_frames)
            for frame in range(num_frames if wanted.frames == "single" else 1):
                places.extend((store_number, record_number, frame))
                methods.append(method)
    if not methods:
        shown = {"manipulations": wanted.manipulations, "compressions": wanted.compressions}
        raise NoItems(
            f"records of {stores}: got none with {shown}, expected at least one; "
            "list them with `python -m storage.inspect OUT`"
        )
    if wanted.frames == "clip" and len(lengths) > 1:
        raise ConfigError(
            f"clips: got lengths of {sorted(lengths)} frames, expected one; preprocess with clips of one length, "
            "or take frames='single'"
        )
    # Numbers follow the names, so that they do not depend on the order of records.
    names = [REAL_NAME, *sorted(name for name in numbers if name is not None)]
    renumbered = np.zeros(len(numbers), dtype=np.int32)
    for name, number in numbers.items():
        renumbered[number] = 0 if name is None else names.index(name, 1)
    return Plan(
        places=np.frombuffer(places, dtype=np.int32).reshape(-1, 3),
        methods=renumbered[np.frombuffer(methods, dtype=np.int32)],
        method_names=tuple(names),
        clip_length=lengths.pop() if wanted.frames == "clip" else None,
    )


def _rows(store: RecordStore) -> Iterator[_Row]:
    """Yield `_PLANNED` without the split for each record, in the order of the store.

    Raises:
        StoreCorrupt: the numbers of rows and of records differ.
    """
    path = store.path / RECORDS_NAME
    # After an interrupted run, the table is that of the previous run.
    if not path.exists() or not store.index.complete:
        for _, key, view in store.views():
            header = read_header(view, key)
            scalars = cast(Mapping[str, object], header)
            yield cast(_Row, (*(scalars[name] for name in _PLANNED[1:-1]), len(header["crops"])))
        return
    num_rows = 0
    for split, *others in read_rows(path, _PLANNED):
        if split == store.split:
            num_rows += 1
            yield cast(_Row, tuple(others))
    if num_rows != len(store):
        raise StoreCorrupt(
            f"{path}: got {num_rows} rows of split {store.split!r}, expected {len(store)} as in the index; "
            "check the store with `python -m storage.inspect OUT --verify`"
        )


def present_names(store: Path) -> dict[str, str]:
    """Return the present names of datasets, by the names in the records of a store, where these differ.

    Records of a miniature from before it had a name of its own have the name of the dataset that it imitates. The table
    of videos, which every run writes, has the present name.
    """
    path = store / VIDEOS_NAME
    present = {name for (name,) in read_rows(path, ["dataset"]) if name} if path.exists() else set()
    return {old: name for name in present if (old := name.removeprefix(MINIATURE)) not in present}


def labels_of(
    plan: Plan, class_names: tuple[str, ...], *, is_binary: bool, allow_unknown: bool = False
) -> npt.NDArray[np.int64]:
    """Return the (N,) int64 class of each item; UNKNOWN for manipulations without a class, if these are allowed.

    Raises:
        ConfigError: a manipulation has no class.
    """
    if is_binary:
        return (plan.methods > 0).astype(np.int64)
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise ConfigError(f"classes: got {class_names}, expected 'binary', or a name for reals, then manipulations")
    unknown = set(plan.method_names[1:]) - set(class_names[1:])
    if unknown and not allow_unknown:
        raise ConfigError(
            f"classes: got {class_names}, expected a class for each manipulation of the stores; add {sorted(unknown)}, "
            "or exclude their videos with manipulations="
        )
    known = plan.method_names[1:]
    table = [0, *(UNKNOWN if name in unknown else class_names.index(name, 1) for name in known)]
    return np.array(table, dtype=np.int64)[plan.methods]
