"""Official splits as three files `<split>.json` with pairs of ids, such as those that FaceForensics++ publishes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from manifests.entry import SPLITS, Split, VideoEntry
from manifests.errors import SplitError


def splits_of_pairs(entries: Iterable[VideoEntry], official_dir: Path) -> dict[str, Split | None]:
    """Return video_id → split for the videos that three lists of [target_id, target_id] pairs name.

    FaceForensics++ has such lists: 360, 70 and 70 pairs in the folder `dataset/splits` of the authors' repository.

    Raises:
        SplitError: a list is missing or malformed, or an id is in two of them.
    """
    split_of_id: dict[str, Split] = {}
    for split in SPLITS:
        for person_id in _read_pairs(_list_path(official_dir, split)):
            if split_of_id.setdefault(person_id, split) != split:
                raise SplitError(f"official lists: got id {person_id} in {split_of_id[person_id]} and {split}")
    return {entry.video_id: split_of_id[entry.target_id] for entry in entries if entry.target_id in split_of_id}


def lists_digest(official_dir: Path) -> str:
    """Return the hex SHA-256 over the bytes of the three lists of `split.official_dir`.

    Raises:
        SplitError: one of them is missing.
    """
    paths = [_list_path(official_dir, split) for split in SPLITS]
    try:
        return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
    except OSError as error:
        raise SplitError(f"split list {error.filename}: got {error.strerror}, expected to read it") from error


def _list_path(official_dir: Path, split: Split) -> Path:
    """Return the path of one list: a file named `<split>.json` or ending in `_<split>.json`."""
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
    # Lists that were once in a spreadsheet may have lost leading zeros.
    return [
        f"{person_id:03d}" if isinstance(person_id, int) else str(person_id) for pair in pairs for person_id in pair
    ]
