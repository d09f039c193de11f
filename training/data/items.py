"""The plan of a dataset: which records of the stores become its items, and of which class and manipulation each is.

Labels and manipulations are read once, from `records.parquet` or else from the records' headers, into arrays of some
20 bytes an item.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError, StoreCorrupt
from storage.files.layout import RECORDS_NAME
from storage.format.encoding import read_header
from storage.records_table import read_rows
from storage.store import RecordStore

REAL_NAME = "Real"  # the name of class 0 and of method 0
UNKNOWN = -1  # class of a forgery that is none of a model's

Frames = Literal["single", "clip"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records become items."""

    manipulations: frozenset[str] | None
    compressions: frozenset[str] | None
    keep_bystanders: bool
    frames: Frames

    def takes(self, label: int, manipulation: str | None, compression: str | None, track_choice: str | None) -> bool:
        """Whether a record is wanted."""
        return (
            (self.keep_bystanders or track_choice != "bystander")
            and (self.compressions is None or compression in self.compressions)
            and (self.manipulations is None or not label or manipulation in self.manipulations)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """The items of a dataset."""

    places: npt.NDArray[np.int32]
    """(N,3) int32: number of the store, number of the record in it, number of the frame in that (0 for a clip)."""

    methods: npt.NDArray[np.int32]
    """(N,) int32, position in method_names."""

    method_names: tuple[str, ...]
    """The real ones first."""

    clip_length: int | None
    """T; None for single frames."""


_PLANNED = ("split", "label", "dataset", "manipulation", "compression", "track_choice", "num_frames")


def read_plan(stores: Sequence[RecordStore], wanted: Wanted) -> Plan:
    """Choose the items from what the stores' tables or headers say.

    Raises:
        StoreCorrupt: a table that does not fit its store.
        ConfigError: no records are left, or clips of different lengths.
    """
    if wanted.frames not in ("single", "clip"):
        raise ConfigError(f"frames: got {wanted.frames!r}, expected 'single' or 'clip'")
    places, methods, lengths = array("i"), array("i"), set[int]()
    numbers: dict[str | None, int] = {None: 0}  # by name of the method; None is real
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
        raise ConfigError(
            f"records of {stores}: got none with {shown}, expected at least one; "
            "list what is there with `python -m storage.inspect OUT`"
        )
    if wanted.frames == "clip" and len(lengths) > 1:
        raise ConfigError(
            f"clips: got lengths of {sorted(lengths)} frames, expected one; process with clips of one length, "
            "or take frames='single'"
        )
    # Numbers by name, so that they do not depend on which manipulation comes first.
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


def _rows(store: RecordStore) -> Iterator[tuple[Any, ...]]:
    """`_PLANNED` but the split, of each record in the store's order.

    Raises:
        StoreCorrupt: the table has more or fewer rows than the store has records.
    """
    path = store.path / RECORDS_NAME
    # An interrupted run leaves the table of the run before.
    if not path.exists() or not store.index.complete:
        for _, key, view in store.views():
            header = read_header(view, key)
            scalars = cast(Mapping[str, object], header)
            yield *(scalars[name] for name in _PLANNED[1:-1]), len(header["crops"])
        return
    num_rows = 0
    for split, *others in read_rows(path, _PLANNED):
        if split == store.split:
            num_rows += 1
            yield tuple(others)
    if num_rows != len(store):
        raise StoreCorrupt(
            f"{path}: got {num_rows} rows of split {store.split!r}, expected {len(store)} as the index says; "
            "see `python -m storage.inspect OUT --verify`"
        )


def labels_of(
    plan: Plan, class_names: tuple[str, ...], *, is_binary: bool, allow_unknown: bool = False
) -> npt.NDArray[np.int64]:
    """(N,) class of each item; UNKNOWN for a manipulation that is none of the classes, if that is allowed.

    Raises:
        ConfigError: a manipulation that is none of the classes.
    """
    if is_binary:
        return (plan.methods > 0).astype(np.int64)
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise ConfigError(
            f"classes: got {class_names}, expected 'binary', or the real ones' name and then manipulations"
        )
    unknown = set(plan.method_names[1:]) - set(class_names[1:])
    if unknown and not allow_unknown:
        raise ConfigError(
            f"classes: got {class_names}, expected one for each manipulation of the stores, also {sorted(unknown)}; "
            "name them, or leave their videos out with manipulations="
        )
    known = plan.method_names[1:]
    table = [0, *(UNKNOWN if name in unknown else class_names.index(name, 1) for name in known)]
    return np.array(table, dtype=np.int64)[plan.methods]
