"""Tables of scores: a detector's score for each frame of an evaluation, as arrays, as Parquet, and by video.

A row is one frame, or one clip for a model of clips. `to_videos` reduces the table to a row per person of a video.
Metrics are computed in `training.evaluation.statistics.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.entry import REAL_CLASS
from manifests.errors import UserError
from manifests.files import written_whole
from storage.format.arrays import require_array

TextArray = npt.NDArray[np.object_]

# Column → Arrow type, in the order of the file; followed by a float64 column `p_<class>` for each of several classes.
COLUMN_TYPES: dict[str, str] = {
    "key": "string",
    "dataset": "string",
    "video_id": "string",
    "track_id": "int64",
    "frame_index": "int64",
    "num_frames": "int64",
    "manipulation": "string",  # null for real
    "compression": "string",  # null where the dataset has none
    "label": "int64",  # 0 real, 1 fake
    "p_fake": "float64",
    "class_label": "int64",  # only with classes
}
_NUMPY_TYPES: dict[str, npt.DTypeLike] = {"string": np.object_, "int64": np.int64, "float64": np.float64}
_CLASS_NAMES_KEY = b"class_names"  # key in the metadata of the Parquet file: names in order, one per line
_SUM_TOLERANCE = 1e-3  # of probabilities over classes; bfloat16 has about three digits


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scores:
    """N scored frames (or clips, or videos), one row each, without duplicates.

    Raises:
        TypeError: an array has another dtype than its field states.
        ValueError: arrays have different lengths, a score is not a probability, a label is neither 0 nor 1, a row is
            duplicated, or the fields about classes are incomplete.
    """

    key: TextArray
    """(N,) str, key of the record; of a video `{video_id}/{track_id:02d}`."""

    dataset: TextArray
    """(N,) str, name of the dataset."""

    video_id: TextArray
    """(N,) str, identifier of the video, which includes manipulation and compression."""

    track_id: npt.NDArray[np.int64]
    """(N,) int64, person of the video, 0-based."""

    frame_index: npt.NDArray[np.int64]
    """(N,) int64, position of the (first) frame in the whole video, 0-based."""

    num_frames: npt.NDArray[np.int64]
    """(N,) int64, number of scored frames: 1, or the frames of a clip or video."""

    manipulation: TextArray
    """(N,) str, manipulation; None for real."""

    compression: TextArray
    """(N,) str, compression; None where the dataset has none."""

    label: npt.NDArray[np.int64]
    """(N,) int64, 0 real, 1 fake."""

    p_fake: npt.NDArray[np.float64]
    """(N,) float64, 0..1, score: probability of fake."""

    class_names: tuple[str, ...] | None = None
    """C names of classes, the real one first; None for a model with two classes."""

    class_label: npt.NDArray[np.int64] | None = None
    """(N,) int64, true class 0..C-1; -1 for a class that the model does not have."""

    class_probabilities: npt.NDArray[np.float64] | None = None
    """(N,C) float64, 0..1, rows sum to 1."""

    def __post_init__(self) -> None:
        """Refuse what the type checker cannot see."""
        for name in _column_names(self):
            kind = _NUMPY_TYPES[COLUMN_TYPES[name]]
            require_array("Scores", name, getattr(self, name), kind, (len(self.key),))
        if not np.isin(self.label, (0, 1)).all():
            raise ValueError(f"Scores.label: got {sorted(set(self.label.tolist()))}, expected 0 (real) and 1 (fake)")
        _require_probabilities("p_fake", self.p_fake, self.key)
        _require_classes(self)
        repeated = self.repeated
        if repeated.any():
            raise ValueError(
                f"Scores: got {int(repeated.sum())} rows twice, such as {self.key[repeated][0]!r}, expected each frame "
                "once; if a distributed sampler padded its last batch, join the parts with `join_scores`"
            )

    def __len__(self) -> int:
        return len(self.key)

    @property
    def repeated(self) -> npt.NDArray[np.bool_]:
        """(N,) bool, whether a row duplicates an earlier one."""
        return _repeated(self.dataset, self.key, self.frame_index)

    def where(self, chosen: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Scores:
        """Return the rows selected by a (N,) mask or by positions."""
        names = [*_column_names(self), *(["class_probabilities"] if self.class_probabilities is not None else [])]
        return replace(self, **{name: getattr(self, name)[chosen] for name in names})


def scores_from_columns(columns: Mapping[str, object]) -> Scores:
    """Build a table from columns, converting lists and other number types.

    Args:
        columns: field of `Scores` → N values (`class_names`: C names). Optional: `num_frames` (1 each), and the three
            fields about classes for a model with two.

    Raises:
        ValueError: a column is missing or unknown, or the table is invalid as in `Scores`.
    """
    wanted = [name for name in COLUMN_TYPES if name != "class_label"]
    unknown = set(columns) - {item.name for item in fields(Scores)}
    missing = set(wanted) - set(columns) - {"num_frames"}
    if unknown or missing:
        raise ValueError(f"columns of scores: got {sorted(columns)}, expected {wanted}")
    columns = {"num_frames": np.ones(len(np.asarray(columns["key"]))), **columns}
    converted: dict[str, Any] = {
        name: np.asarray(columns[name], dtype=_NUMPY_TYPES[kind])
        for name, kind in COLUMN_TYPES.items()
        if columns.get(name) is not None
    }
    if columns.get("class_names") is not None:
        converted["class_names"] = tuple(np.asarray(columns["class_names"], dtype=np.object_))
    if columns.get("class_probabilities") is not None:
        converted["class_probabilities"] = np.asarray(columns["class_probabilities"], dtype=np.float64)
    return Scores(**converted)


def join_scores(parts: Sequence[Scores]) -> Scores:
    """Concatenate tables; duplicates, as from the padding of a sampler, are dropped.

    Raises:
        ValueError: there is no part, or parts have different classes.
    """
    if not parts:
        raise ValueError("parts of scores: got none, expected at least one")
    if len({part.class_names for part in parts}) > 1:
        found = sorted({str(part.class_names) for part in parts})
        raise ValueError(f"classes of scores: got {found}, expected the same in each part")
    names = [*_column_names(parts[0]), *(["class_probabilities"] if parts[0].class_names else [])]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    first = ~_repeated(joined["dataset"], joined["key"], joined["frame_index"])
    return Scores(**{name: column[first] for name, column in joined.items()}, class_names=parts[0].class_names)


def to_videos(scores: Scores) -> Scores:
    """Reduce a table to one row per (dataset, video_id, track_id) with its mean score, in order of first appearance.

    The `video_id` includes the manipulation, so the four forgeries of one pair of people remain four videos.

    Raises:
        ValueError: rows of one video differ in label, manipulation or compression.
    """
    group, first = group_rows(scores.dataset, scores.video_id, scores.track_id)
    for name in ("label", "manipulation", "compression"):
        column = getattr(scores, name)
        mixed = column != column[first][group]
        if mixed.any():
            video_id = scores.video_id[mixed][0]
            raise ValueError(f"{name} of {video_id!r}: got more than one, expected the same in all of its rows")
    counts = np.bincount(group, minlength=len(first))
    means = np.bincount(group, weights=scores.p_fake, minlength=len(first)) / counts
    num_frames = np.bincount(group, weights=scores.num_frames, minlength=len(first)).astype(np.int64)
    keys = [f"{video_id}/{track_id:02d}" for video_id, track_id in zip(scores.video_id, scores.track_id, strict=True)]
    probabilities = scores.class_probabilities
    if probabilities is not None:
        sums = np.zeros((len(first), probabilities.shape[1]))
        np.add.at(sums, group, probabilities)
        probabilities = sums / counts[:, None]
    return replace(
        scores.where(first),
        key=np.array(keys, dtype=np.object_)[first],
        num_frames=num_frames,
        p_fake=np.clip(means, 0.0, 1.0),  # rounding may raise a mean of ones above 1
        class_probabilities=probabilities,
    )


def group_rows(*columns: npt.NDArray[np.generic]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Group rows with equal values in all (N,) columns.

    Returns:
        (N,) int64 group of each row, numbered by first appearance, and (G,) int64 first row of each group.
    """
    table = pd.DataFrame({str(number): column for number, column in enumerate(columns)})
    group = np.asarray(table.groupby(list(table.columns), sort=False, dropna=False).ngroup(), dtype=np.int64)
    first = np.unique(group, return_index=True)[1].astype(np.int64)
    return np.asarray(group), np.asarray(first)


def write_scores(path: Path, scores: Scores) -> None:
    """Write a table as Parquet, atomically."""
    kinds = {name: pa.type_for_alias(COLUMN_TYPES[name]) for name in _column_names(scores)}
    columns = [pa.array(getattr(scores, name), type=kind) for name, kind in kinds.items()]
    names, metadata = list(kinds), {}
    if scores.class_names is not None and scores.class_probabilities is not None:
        columns += [pa.array(column) for column in scores.class_probabilities.T]
        names += [f"p_{name}" for name in scores.class_names]
        metadata[_CLASS_NAMES_KEY] = "\n".join(scores.class_names).encode()
    table = pa.table(columns, names=names).replace_schema_metadata(metadata or None)
    with written_whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def read_scores(path: Path) -> Scores:
    """Read a table that `write_scores` wrote.

    Raises:
        UserError: the file cannot be read as a table of scores.
    """
    try:
        table = pq.read_table(path)
        packed = (table.schema.metadata or {}).get(_CLASS_NAMES_KEY)
        class_names = tuple(packed.decode().split("\n")) if packed is not None else None
        names = [name for name in COLUMN_TYPES if name != "class_label" or class_names is not None]
        columns: dict[str, object] = {name: table.column(name).to_pylist() for name in names}
        if class_names is not None:
            probabilities = [table.column(f"p_{name}").to_numpy() for name in class_names]
            columns |= {"class_names": class_names, "class_probabilities": np.stack(probabilities, axis=1)}
        return scores_from_columns(columns)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path}: got {error}, expected a table of scores; evaluate again, or name another file"
        ) from error


def _column_names(scores: Scores) -> list[str]:
    """Return the names of the (N,) columns of this table."""
    return [
        item.name for item in fields(scores) if item.name in COLUMN_TYPES and getattr(scores, item.name) is not None
    ]


def _repeated(*columns: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Return the (N,) bool whether a row has the values of an earlier one in all (N,) columns."""
    return np.asarray(pd.DataFrame(dict(enumerate(columns))).duplicated(), dtype=np.bool_)


def _require_probabilities(name: str, values: npt.NDArray[np.float64], keys: TextArray) -> None:
    wrong = ~((values >= 0.0) & (values <= 1.0))  # includes NaN
    if wrong.any():
        row = int(np.nonzero(wrong)[0][0])
        raise ValueError(
            f"Scores.{name}: got {values[row]} for {keys[row]!r} (and {int(wrong.sum()) - 1} more), expected 0..1; "
            "NaN means that the model has diverged: evaluate another checkpoint"
        )


def _require_classes(scores: Scores) -> None:
    """Require all fields about classes or none, and that they agree with `p_fake`."""
    given = [scores.class_names is not None, scores.class_label is not None, scores.class_probabilities is not None]
    if not any(given):
        return
    if scores.class_names is None or scores.class_label is None or scores.class_probabilities is None:
        raise ValueError(
            "Scores: got only some of class_names, class_label, class_probabilities, expected all of them or none"
        )
    num_classes = len(scores.class_names)
    require_array("Scores", "class_probabilities", scores.class_probabilities, np.float64, (len(scores), num_classes))
    _require_probabilities("class_probabilities", scores.class_probabilities.min(axis=1, initial=1.0), scores.key)
    if not ((scores.class_label >= -1) & (scores.class_label < num_classes)).all():
        raise ValueError(f"Scores.class_label: got another value, expected -1 (unknown) to {num_classes - 1}")
    if (abs(scores.class_probabilities.sum(axis=1) - 1.0) > _SUM_TOLERANCE).any():
        raise ValueError("Scores.class_probabilities: got rows with another sum, expected 1; apply a softmax first")
    if (abs(1.0 - scores.class_probabilities[:, REAL_CLASS] - scores.p_fake) > _SUM_TOLERANCE).any():
        raise ValueError(f"Scores.p_fake: got other values, expected 1 − p({scores.class_names[REAL_CLASS]})")
