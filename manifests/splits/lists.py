"""User-defined splits: a CSV that names videos."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from manifests.datasets.csv_lists import columns_in, csv_list
from manifests.entry import SPLIT_OF_WORD, SPLITS, Split, VideoEntry
from manifests.errors import DatasetError, SplitError

# Column that names videos → its other names, as in `manifests.datasets.csv_lists`.
NAMES_OF_VIDEOS: dict[str, tuple[str, ...]] = {"video_id": ("videoid",), "path": ("filepath", "filename", "videopath")}


def splits_of_file(entries: Iterable[VideoEntry], split_file: Path) -> dict[str, Split]:
    """Return video_id → split for the videos in a CSV with the columns `video_id` (or `path`) and `split`.

    Raises:
        SplitError: the file cannot be read, or names a video twice or names none of the videos.
    """
    column, listed = _read_file(split_file)
    found = {entry.video_id: getattr(entry, column) for entry in entries}
    # A list written on another system may compose accents in another way than the names on disk.
    composed = {_composed(name): split for name, split in listed.items()}
    matched = ((video_id, listed.get(name) or composed.get(_composed(name))) for video_id, name in found.items())
    splits = {video_id: split for video_id, split in matched if split is not None}
    if found and not splits:
        raise SplitError(
            f"split.file {split_file}: got {len(listed)} names ({next(iter(listed), 'none')}, …) that no video has, "
            f"expected a {column} such as {next(iter(found.values()))}"
        )
    return splits


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _read_file(path: Path) -> tuple[str, dict[str, Split]]:
    """Return the name of the column that names videos, and name → split."""
    try:
        wanted = ({column: others, "split": ()} for column, others in NAMES_OF_VIDEOS.items())
        table = next(filter(None, (csv_list(path, columns) for columns in wanted)), None)
        if table is None:
            raise SplitError(f"split.file {path}: got columns {columns_in(path)}, expected video_id or path, and split")
        column = next(name for name in NAMES_OF_VIDEOS if name in table.named)
        listed: dict[str, Split] = {}
        for number, line in table.lines():
            where = f"split.file {path}, line {number}"
            name = PurePosixPath(line[column].replace("\\", "/")).as_posix()  # without `./`
            split = SPLIT_OF_WORD.get(line["split"].lower())
            if split is None:
                raise SplitError(f"{where}: got split {line['split']!r}, expected one of {list(SPLITS)}")
            if listed.setdefault(name, split) != split:
                raise SplitError(f"{where}: got {name} a second time in another split, expected each video once")
    except DatasetError as error:
        raise SplitError(f"split.file {error}") from error
    return column, listed
