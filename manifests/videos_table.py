"""`videos.parquet`: the manifest with one row per indexed file, and conversion of rows to plain values for shards.

A fraction has two integer columns, the seconds of each stage have one column, and all other columns are named after
their field. `content_digest` is a column beside the digests that it is computed from, because records hold it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from manifests.entry import VideoEntry
from manifests.errors import StoreCorrupt
from manifests.files import written_whole
from manifests.rejected import Reason, Stage
from manifests.row import TIMED_STAGES, ManifestRow

if TYPE_CHECKING:
    import pyarrow as pa

# Suffix → separator of a table that is written as text; any other suffix means Parquet.
SEPARATORS = {".csv": ",", ".tsv": "\t"}
# Columns that are not text; everything else is a string or null.
_INTEGERS = (
    *("width", "height", "rotation_degrees", "num_frames", "fps_numerator", "fps_denominator"),
    *("num_bytes", "mtime_ns", "mask_num_bytes", "mask_mtime_ns"),
    *("num_records", "frames_wanted", "frames_got", "num_interpolated", "num_faces", "num_tracks", "num_masks"),
    "num_dropped",
)
_SECONDS = tuple(f"seconds_{stage}" for stage in TIMED_STAGES)
_ENTRY_FIELDS = tuple(item.name for item in fields(VideoEntry))
_ROW_FIELDS = tuple(item.name for item in fields(ManifestRow) if item.name not in ("entry", "seconds"))

COLUMNS: tuple[str, ...] = (
    *("video_id", "path", "status", "stage", "reason", "detail"),
    *(name for name in _ENTRY_FIELDS if name not in ("video_id", "path", "fps")),
    *("fps_numerator", "fps_denominator", "content_digest"),
    *(name for name in _ROW_FIELDS if name not in ("video_id", "path", "status", "stage", "reason", "detail")),
    *_SECONDS,
)


def row_to_plain(row: ManifestRow) -> dict[str, Any]:
    """Return the row as a flat dict of strings, numbers and None, with the keys in COLUMNS."""
    plain: dict[str, Any] = dict.fromkeys(COLUMNS)
    if row.entry is not None:
        plain.update({name: getattr(row.entry, name) for name in _ENTRY_FIELDS if name != "fps"})
        if row.entry.fps is not None:
            plain["fps_numerator"], plain["fps_denominator"] = row.entry.fps.as_integer_ratio()
        plain["content_digest"] = row.entry.content_digest if row.entry.is_probed else None
    plain.update({name: getattr(row, name) for name in _ROW_FIELDS})
    plain.update({f"seconds_{stage}": row.seconds.get(stage) for stage in TIMED_STAGES})
    for name in ("stage", "reason"):
        plain[name] = None if plain[name] is None else str(plain[name])
    return plain


def row_from_plain(plain: dict[str, Any]) -> ManifestRow:
    """Return the row from the values that `row_to_plain` returned.

    Raises:
        StoreCorrupt: a column is missing, or a value is not allowed in a row.
    """
    try:
        entry = None
        if plain["dataset"] is not None:
            numerator, denominator = plain["fps_numerator"], plain["fps_denominator"]
            entry = VideoEntry(
                **{name: plain[name] for name in _ENTRY_FIELDS if name not in ("fps", "picture")},
                picture=plain.get("picture"),  # newer than the first manifests
                fps=None if numerator is None else Fraction(numerator, denominator),
            )
        values = {name: plain[name] for name in _ROW_FIELDS}
        values["stage"] = None if plain["stage"] is None else Stage(plain["stage"])
        values["reason"] = None if plain["reason"] is None else Reason(plain["reason"])
        measured = {stage: plain[f"seconds_{stage}"] for stage in TIMED_STAGES}
        seconds = {stage: value for stage, value in measured.items() if value is not None}
        return ManifestRow(**values, entry=entry, seconds=seconds)
    except (KeyError, ValueError, TypeError) as error:
        raise StoreCorrupt(
            f"manifest row {plain.get('video_id')!r}: got {error!r}, expected the columns of videos.parquet; "
            "it was written by another version: process into a new folder"
        ) from error


def write_table(path: Path, rows: Iterable[ManifestRow]) -> None:
    """Write the rows ordered by video_id, as Parquet or, by the file's suffix, as text; complete or not at all."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    plain = sorted((row_to_plain(row) for row in rows), key=lambda row: str(row["video_id"]))
    columns = {name: [row[name] for row in plain] for name in COLUMNS}
    table = pa.table(columns, schema=_schema())
    with written_whole(path) as partial:
        separator = SEPARATORS.get(path.suffix.lower())
        if separator is None:
            pq.write_table(table, partial, compression="zstd")
        else:
            pyarrow.csv.write_csv(table, partial, pyarrow.csv.WriteOptions(delimiter=separator))


def read_table(path: Path) -> list[ManifestRow]:
    """Return the rows of a manifest; none if the file does not exist.

    Raises:
        StoreCorrupt: the file is not a manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        return []
    try:
        plain = pq.read_table(path).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StoreCorrupt(
            f"manifest {path}: got {error}, expected a Parquet file; process into a new folder"
        ) from error
    return [row_from_plain(row) for row in plain]


def _schema() -> pa.Schema:
    """Return the table's schema: the Arrow type of every column."""
    import pyarrow as pa

    types = {name: pa.int64() for name in _INTEGERS} | {name: pa.float64() for name in _SECONDS}
    return pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
