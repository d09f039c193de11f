"""Files that list which video is in which split: three JSON files of pairs, or one CSV of the user's own."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from manifests.entry import SPLITS, Split, VideoEntry
from manifests.errors import SplitError

# Other words for a split in lists that people have.
SPLIT_OF_WORD: dict[str, Split] = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def splits_of_pairs(entries: Iterable[VideoEntry], official_dir: Path) -> dict[str, Split | None]:
    """Return video_id → split by three lists of [target_id, target_id] pairs, of the videos that they name.

    FaceForensics++ has such lists: 360, 70 and 70 pairs in the folder `dataset/splits` of the authors' repository.

    Raises:
        SplitError: a list is missing or malformed, or an id stands in two of them.
    """
    split_of_id: dict[str, Split] = {}
    for split in SPLITS:
        for person_id in _read_pairs(_list_path(official_dir, split)):
            if split_of_id.setdefault(person_id, split) != split:
                raise SplitError(f"official lists: got id {person_id} in {split_of_id[person_id]} and {split}")
    return {entry.video_id: split_of_id[entry.target_id] for entry in entries if entry.target_id in split_of_id}


def splits_of_file(entries: Iterable[VideoEntry], split_file: Path) -> dict[str, Split]:
    """Return video_id → split by a CSV with the columns `video_id` or `path`, and `split`, of the videos that it names.

    Raises:
        SplitError: the file cannot be read, or names a video twice, or none of the videos.
    """
    column, listed = _read_file(split_file)
    found = {entry.video_id: getattr(entry, column) for entry in entries}
    splits = {video_id: listed[name] for video_id, name in found.items() if name in listed}
    if found and not splits:
        raise SplitError(
            f"split.file {split_file}: got {len(listed)} names ({next(iter(listed), 'none')}, …) that no video has, "
            f"expected a {column} such as {next(iter(found.values()))}"
        )
    return splits


def lists_digest(official_dir: Path) -> str:
    """Hex SHA-256 over the bytes of the three lists of `split.official_dir`.

    Raises:
        SplitError: one of them is missing.
    """
    paths = [_list_path(official_dir, split) for split in SPLITS]
    try:
        return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    except OSError as error:
        raise SplitError(f"split list {error.filename}: got {error.strerror}, expected to read it") from error


def _list_path(official_dir: Path, split: Split) -> Path:
    """Return the file of one list, which is `<split>.json` or ends in `_<split>.json`."""
    candidates = [official_dir / f"{split}.json", *sorted(official_dir.glob(f"*_{split}.json"))]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise SplitError(f"official lists: got no {split}.json in {official_dir}, expected the three lists there")
    return path


def _read_pairs(path: Path) -> list[str]:
    """Return the ids of one list."""
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SplitError(
            f"official list {path}: got {error}, expected JSON pairs such as [['071', '054'], …]"
        ) from error
    well_formed = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not well_formed:
        raise SplitError(f"official list {path}: got another shape, expected a list of pairs such as ['071', '054']")
    # Lists that went through a table may have lost their zeros.
    return [
        f"{person_id:03d}" if isinstance(person_id, int) else str(person_id) for pair in pairs for person_id in pair
    ]


def _read_file(path: Path) -> tuple[str, dict[str, Split]]:
    """Return the name of the column that names videos, and name → split."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.DictReader(file)
            names = lines.fieldnames or []
            column = next((name for name in ("video_id", "path") if name in names), None)
            if column is None or "split" not in names:
                raise SplitError(
                    f"split.file {path}: got columns {', '.join(names) or 'none'}, expected video_id or path, and split"
                )
            listed: dict[str, Split] = {}
            for line in lines:
                split = SPLIT_OF_WORD.get((line["split"] or "").strip().lower())
                if split is None:
                    raise SplitError(
                        f"split.file {path}, line {lines.line_num}: got split {line['split']!r}, "
                        f"expected one of {list(SPLITS)}"
                    )
                if listed.setdefault(line[column], split) != split:
                    raise SplitError(
                        f"split.file {path}, line {lines.line_num}: got {line[column]} a second time in another split, "
                        "expected each video once"
                    )
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SplitError(f"split.file {path}: got {error}, expected a CSV file; check the path") from error
    return column, listed
