"""User-defined splits: a CSV that names videos."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

from manifests.entry import SPLIT_OF_WORD, SPLITS, Split, VideoEntry
from manifests.errors import SplitError
from manifests.files import open_text


def splits_of_file(entries: Iterable[VideoEntry], split_file: Path) -> dict[str, Split]:
    """Return video_id → split for the videos in a CSV with the columns `video_id` (or `path`) and `split`.

    Raises:
        SplitError: the file cannot be read, or names a video twice or names none of the videos.
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


def _read_file(path: Path) -> tuple[str, dict[str, Split]]:
    """Return the name of the column that names videos, and name → split."""
    try:
        with open_text(path) as file:
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
