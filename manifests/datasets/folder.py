"""The user's own videos: two folders, or a table.

    <root>/real/**/*.mp4                    real videos, in any folders below
    <root>/fake/[<manipulation>/]**/*.mp4   fakes; the first folder below names the manipulation, else it is `fake`

in other spellings as well (`LABEL_OF_FOLDER`), and below train/, val/ and test/, which are then the listed splits; or
one CSV file directly in the root, with a line for each video and the columns

    path, label             relative to the root; `real` or `fake`, no numbers: 1 means real in some datasets' lists
    manipulation            name of a fake's manipulation; default: `fake`
    target, source          person in the footage, donor of the face: connected people never cross splits
    group                   leakage group, if more videos belong together than target and source imply
    split                   train, val or test, for the policies `official` and `file`

named in its first line, in upper or lower case and in any order. With a CSV, names of folders have no meaning. Without
target, source and group, each video is a group of its own, even if two of them show the same person.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from manifests.datasets.tree_dataset import WHOLE_ROOT, TreeDataset
from manifests.datasets.walk import TreeFile, glance, is_folder, is_utf_8, reject, reject_not_utf_8, tree_file
from manifests.entry import SPLIT_OF_WORD, Label, Split, VideoEntry
from manifests.errors import DatasetError
from manifests.files import open_text
from manifests.groups import connected_groups
from manifests.rejected import Reason, Rejected, Stage

LABELS: dict[str, Label] = {"real": "real", "fake": "fake"}
# Names of folders in lower case, without `_`, `-` and spaces, as they occur in published datasets and their copies.
_FOLDERS: dict[Label, str] = {
    "real": "real reals realvideos original originals originalvideos genuine authentic pristine bonafide 0real real0",
    "fake": "fake fakes fakevideos deepfake deepfakevideos manipulated manipulatedvideos forged forgery forgeries "
    "synthetic synthesized generated 1fake fake1",
}
LABEL_OF_FOLDER: dict[str, Label] = {name: label for label, names in _FOLDERS.items() for name in names.split()}
SPLIT_OF_FOLDER: dict[str, Split] = {**SPLIT_OF_WORD, "training": "train", "dev": "val", "testing": "test"}
UNNAMED = "fake"  # the manipulation of a fake whose method is not named

MAX_ID_BYTES = 480  # LMDB's longest key is 511 bytes; track and frame follow the video_id in it
TOO_LONG = f"path: got one that makes a video_id of more than {MAX_ID_BYTES} bytes, expected fewer; shorten it"


class Folder(TreeDataset):
    """`real/` and `fake/`, or a CSV with path and label."""

    name = "folder"
    title = "your own videos"
    expects = (
        "real/ and fake/, in any case or spelled as in 0_real/ and 1_fake/ or original/ and manipulated/, perhaps "
        "below train/, val/ and test/, or one CSV with the columns path and label"
    )
    has_users_lists = True

    def recognise(self, root: Path) -> str | None:
        """Return the CSV, or the folders real and fake; None without either."""
        tables = _tables_in(root)
        folders = _labelled_folders(root)
        if tables:
            names = " and ".join(path.name for path in tables)
            besides = ", which is used instead of the folders real and fake" if folders else ""
            return f"{names} with the columns path and label{besides}"
        return " and ".join(f"{name}/" for name in folders) or None

    def folders_in(self, root: Path) -> list[str]:
        """Return the folders real and fake if both are there, or the whole root if a CSV lists its videos.

        Raises:
            DatasetError: there are several such CSV files.
        """
        tables = _tables_in(root)
        if len(tables) > 1:
            listed = ", ".join(path.name for path in tables)
            raise DatasetError(
                f"folder {root}: got {listed}, expected one CSV with path and label; move the others away"
            )
        return [WHOLE_ROOT] if tables else _labelled_folders(root)

    def read(self, root: Path, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected]:
        """Yield an entry or a rejection for each file, by the CSV or else by the folders.

        Raises:
            DatasetError: the CSV cannot be read, or a line of it is malformed.
        """
        tables = _tables_in(root)
        return _from_table(root, tables[0], files) if tables else map(_from_folders, files)

    def lists(self, root: Path) -> list[str]:
        """Return the path of the CSV."""
        return [table.name for table in _tables_in(root)]


def _labelled_folders(root: Path) -> list[str]:
    """Return the folders real and fake, also those in folders of splits; none unless both are there."""
    names = glance(root)
    splits = [name for name in names if name.lower() in SPLIT_OF_FOLDER]
    paths = [*names, *(f"{split}/{name}" for split in splits for name in glance(root / split))]
    folders = [path for path in paths if _label_of(path) and is_folder(root / path)]
    return folders if {_label_of(path) for path in folders} == set(LABELS) else []


def _label_of(folder: str) -> Label | None:
    """Return the label that a folder's name states; None if it states none."""
    return LABEL_OF_FOLDER.get(re.sub("[-_ ]", "", folder.rpartition("/")[2].lower()))


def _from_folders(file: TreeFile) -> VideoEntry | Rejected:
    """Return the entry or the rejection of a file by its folders; each video is a group of its own."""
    if not is_utf_8(file.path):
        return reject_not_utf_8(file)
    split = None if _label_of(file.folders[0]) else file.folders[0]
    top, *below = file.folders[1:] if split else file.folders
    label = _label_of(top) or "fake"
    # A folder fake/real/ names no manipulation: its videos would get the video_ids of real ones.
    has_method = label == "fake" and bool(below) and below[0].lower() not in LABELS
    collection = below.pop(0) if has_method else label
    name = "/".join((*([split] if split else []), *below, file.stem))
    video_id = _video_id(collection, name)
    if video_id is None:
        return reject(file.path, Reason.UNRECOGNISED_NAME, TOO_LONG)
    return VideoEntry(
        video_id=video_id,
        path=file.path,
        dataset=Folder.name,
        label=label,
        manipulation=collection if label == "fake" else None,
        target_id=video_id.removeprefix(f"{Folder.name}/"),
        group_id=video_id,
        listed_split=SPLIT_OF_FOLDER[split.lower()] if split else None,
    )


def _video_id(collection: str, name: str) -> str | None:
    """Return a video_id in ASCII, as keys of records require; None for a name that is too long for a key."""
    video_id = f"{Folder.name}/{quote(collection)}/{quote(name)}"
    return video_id if len(video_id) <= MAX_ID_BYTES else None


def _tables_in(root: Path) -> list[Path]:
    """Return the CSV files in the root that have the columns path and label."""
    tables = (root / name for name in glance(root) if name.lower().endswith(".csv"))
    return [path for path in tables if {"path", "label"} <= set(_columns_of(path))]


def _columns_of(path: Path) -> list[str]:
    """Return the column names in the first line of a CSV, in lower case; empty if it cannot be read."""
    try:
        # Broken characters in later lines are reported when these are read.
        with open_text(path, errors="replace") as file:
            return [name.strip().lower() for name in next(csv.reader(file), [])]
    except (OSError, csv.Error):
        return []


def _from_table(root: Path, table: Path, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected]:
    """Yield an entry or a rejection for each line of the CSV, and a rejection for each video that it does not list.

    Raises:
        DatasetError: a line is malformed.
    """
    on_disk = {file.path for file in files}
    listed: set[str] = set()
    entries: list[VideoEntry] = []
    for number, line in _read_table(table):
        path, entry = _read_line(root, f"{table}, line {number}", line)
        if path in listed:
            raise DatasetError(f"{table}, line {number}: got {path} a second time, expected each video once")
        listed.add(path)
        if path in on_disk:
            entries.append(entry)
        else:
            detail = f"{table.name}, line {number}: got {path}, which is no video on disk; expected a file there"
            yield Rejected(video_id=entry.video_id, stage=Stage.INDEX, reason=Reason.MISSING_FILE, detail=detail)
    yield from _with_groups(entries)
    for path in sorted(on_disk - listed):
        detail = f"{table.name}: got no line for {path}, expected one that says its label"
        yield reject(path, Reason.UNRECOGNISED_NAME, detail)


def _with_groups(entries: list[VideoEntry]) -> Iterator[VideoEntry]:
    """Yield the entries with leakage groups, connected by their groups, targets and sources."""
    ties = [
        [f"group {entry.group_id}", f"person {entry.target_id}", f"person {entry.source_id or entry.target_id}"]
        for entry in entries
    ]
    groups = connected_groups((found[0], tie) for found in ties for tie in found[1:])
    for entry, found in zip(entries, ties, strict=True):
        yield replace(entry, group_id=f"{Folder.name}/{groups[found[0]].removeprefix('group ')}")


def _read_table(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, column → value) of each line, columns in lower case.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        with open_text(table) as file:
            reader = csv.DictReader(file)
            for line in reader:
                values = {(name or "").strip().lower(): value for name, value in line.items()}
                yield reader.line_num, {name: (value or "").strip() for name, value in values.items() if name}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{table}: got {error}, expected a CSV file") from error


def _read_line(root: Path, where: str, line: Mapping[str, str]) -> tuple[str, VideoEntry]:
    """Return the path relative to the root, and the entry that a line describes.

    Raises:
        DatasetError: the path leaves the root, or a value is not allowed.
    """
    path, absolute_root = PurePosixPath(line["path"]), root.absolute().as_posix()
    if path.is_relative_to(absolute_root):
        path = path.relative_to(absolute_root)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise DatasetError(f"{where}: got path {line['path']!r}, expected one below {root}")
    odd = next((value for value in line.values() if not value.isprintable()), None)
    if odd is not None:
        raise DatasetError(f"{where}: got {odd!r}, expected text without control characters")
    label = LABELS.get(line["label"].lower())
    if label is None:
        raise DatasetError(f"{where}: got label {line['label']!r}, expected real or fake; numbers are ambiguous")
    split = SPLIT_OF_WORD.get(line.get("split", "").lower())
    if split is None and line.get("split"):
        raise DatasetError(f"{where}: got split {line['split']!r}, expected train, val, test or nothing")
    collection = (line.get("manipulation") or UNNAMED) if label == "fake" else label
    if "/" in collection or collection in (".", "..") or (label == "fake" and collection.lower() == "real"):
        raise DatasetError(f"{where}: got manipulation {collection!r}, expected a name, without a slash and not real")
    file = tree_file(path.as_posix())
    name = "/".join((*file.folders, file.stem))
    video_id = _video_id(collection, name)
    if video_id is None:
        raise DatasetError(f"{where}: {TOO_LONG}")
    entry = VideoEntry(
        video_id=video_id,
        path=file.path,
        dataset=Folder.name,
        label=label,
        manipulation=collection if label == "fake" else None,
        target_id=line.get("target") or video_id.removeprefix(f"{Folder.name}/"),
        target_identity=line.get("target") or None,
        source_id=(line.get("source") or None) if label == "fake" else None,
        group_id=line.get("group") or name,
        listed_split=split,
    )
    return file.path, entry
