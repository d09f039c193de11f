"""Export as plain files: images, and `records.csv`."""

from __future__ import annotations

import csv
from pathlib import Path, PurePosixPath

from manifests.entry import cut_short
from manifests.errors import StoreCorrupt
from storage.exports.exporter import Exporter
from storage.format.encoding import decode_record
from storage.format.images import suffix_of
from storage.format.record import Record
from storage.records_table import COLUMN_TYPES, record_row
from storage.store import RecordStore

RECORDS_CSV_NAME = "records.csv"
MAX_PART_BYTES = 255  # of a path, in most file systems; an escaped name in another script may be longer


class PlainFiles(Exporter):
    """The stored images, byte for byte, and a table; nothing is encoded again.

    A frame becomes `<key>.jpg` (or .png, .webp) and `<key>_mask.png`, a clip `<key>/000.jpg …` and
    `<key>/000_mask.png …`. `records.csv` has the columns of `records.parquet` after `image` and `mask`, which are
    relative to the directory and, for a clip, name its first frame.
    """

    title = "images and records.csv"

    def write(self, store: RecordStore, directory: Path) -> int:
        """Write every record into an empty folder; return the number of records.

        Raises:
            StoreCorrupt: a record is broken, or its key would lead out of the directory.
        """
        num_records = 0
        with (directory / RECORDS_CSV_NAME).open("x", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["image", "mask", *COLUMN_TYPES])
            table.writeheader()
            for shard, key, view in store.views():
                images = _write_images(decode_record(view, key), directory)
                table.writerow(images | record_row(shard, key, view))
                num_records += 1
        return num_records


def _write_images(record: Record, directory: Path) -> dict[str, str]:
    """Write a record's images; return the paths of its first image and first mask, relative to the directory."""
    stem = _safe_stem(record.key)
    is_clip = record.num_frames > 1
    first = {"image": "", "mask": ""}
    for row, crop in enumerate(record.crops_encoded):
        place = stem / f"{row:03d}" if is_clip else stem
        files = {"image": (place.with_name(f"{place.name}.{suffix_of(crop)}"), crop)}
        if record.masks_encoded is not None:
            files["mask"] = (place.with_name(f"{place.name}_mask.png"), record.masks_encoded[row])
        for kind, (relative, data) in files.items():
            first[kind] = first[kind] or str(relative)
            path = directory / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:  # x: two keys that differ only in case must not share a file
                file.write(data)
    return first


def _safe_stem(key: str) -> PurePosixPath:
    """Return the key as a relative path, in which a digest replaces the end of a part that is too long.

    Raises:
        StoreCorrupt: the key, as a path, would lead out of the directory.
    """
    parts = key.split("/")
    if any(part in ("", ".", "..") or "\\" in part or ":" in part for part in parts):
        raise StoreCorrupt(
            f"record {key}: got a key that is no path below a folder, expected parts without '..', '\\' and ':'"
        )
    return PurePosixPath(
        *(cut_short(part, MAX_PART_BYTES, part) if len(part) > MAX_PART_BYTES else part for part in parts)
    )
