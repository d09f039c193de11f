"""The user's own videos: two folders, or a table.

    <root>/real/**/*.mp4                    real videos, in any folders below
    <root>/fake/[<manipulation>/]**/*.mp4   fakes; the first folder below names the manipulation, else it is `fake`

in other spellings as well (`LABEL_OF_FOLDER`), and below or above train/, val/ and test/, then the listed
splits; or one CSV file directly in the root (`csv_lists`), with a line for each video and the columns

    path, label             relative to the root; `real` or `fake`, no numbers: 1 means real in some datasets' lists
    manipulation            name of a fake's manipulation; default: `fake`
    target, source          person in the footage, donor of the face: connected people never cross splits
    group                   leakage group, if more videos belong together than target and source imply
    split                   train, val or test, for the policies `official` and `file`

named in its first line, in upper or lower case and in any order. Where no folder is named real and fake, path and label
may have other names (`LIST_COLUMNS`); numbers are then taken in a column `is_fake` or `is_real`. With a CSV, names of
folders have no meaning. Without target, source and group, each video is a group of its own, even if two show a person.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from manifests.datasets.csv_lists import SUFFIXES, TEXT_SUFFIXES, CsvList, columns_in, csv_list
from manifests.datasets.tree_dataset import WHOLE_ROOT, TreeDataset
from manifests.datasets.walk import (
    TreeFile,
    glance,
    is_folder,
    is_utf_8,
    printable,
    reject,
    reject_not_utf_8,
    tree_file,
)
from manifests.entry import SPLIT_OF_WORD, Label, VideoEntry, video_id_from
from manifests.errors import DatasetError
from manifests.groups import connected_groups
from manifests.rejected import Reason, Rejected

LABELS: dict[str, Label] = {"real": "real", "fake": "fake"}
# Names of folders in lower case, without `_`, `-` and spaces, as they occur in published datasets and their copies.
_FOLDERS: dict[Label, str] = {
    "real": "real reals realvideos original originals originalvideos genuine authentic pristine bonafide 0real real0",
    "fake": "fake fakes fakevideos deepfake deepfakevideos manipulated manipulatedvideos forged forgery forgeries "
    "synthetic synthesized generated tampered spoof spoofed 1fake fake1",
}
LABEL_OF_FOLDER: dict[str, Label] = {name: label for label, names in _FOLDERS.items() for name in names.split()}
UNNAMED = "fake"  # the manipulation of a fake whose method is not named

TABLE_COLUMNS = {"path": (), "label": ()}
# Names in published lists, such as DFDC's `filename,label`.
PATH_COLUMNS = ("filepath", "filename", "file", "videopath", "videofile", "videoname", "video", "clip", "name")
LABEL_COLUMNS: dict[str, tuple[str, ...]] = {
    "label": ("class", "groundtruth"),
    "is_fake": ("isfake", "isdeepfake", "deepfake", "fake"),
    "is_real": ("isreal", "real"),
}
LIST_COLUMNS = [{"path": PATH_COLUMNS, column: others} for column, others in LABEL_COLUMNS.items()]
YES, NO = frozenset({"1", "1.0", "true", "yes", "y", "t"}), frozenset({"0", "0.0", "false", "no", "n", "f"})


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
            names = " and ".join(table.path.name for table in tables)
            besides = ", which is used instead of the folders real and fake" if folders else ""
            return f"{names} with the columns {' and '.join(tables[0].named.values())}{besides}"
        unused = [f"; {fault}, so it is not used" for fault in unread_lists(root)] if folders else []
        return " and ".join(f"{name}/" for name in folders) + "".join(unused) or None

    def is_certain(self, root: Path) -> bool:
        """Whether the folders, or a CSV with the very columns path and label, are there."""
        return bool(_labelled_folders(root)) or any(
            table.named.keys() == set(table.named.values()) for table in _tables_in(root)
        )

    def folders_in(self, root: Path) -> list[str]:
        """Return the folders real and fake if both are there, or the whole root if a CSV lists its videos.

        Raises:
            DatasetError: there are several such CSV files.
        """
        tables = _tables_in(root)
        if len(tables) > 1:
            listed = ", ".join(table.path.name for table in tables)
            raise DatasetError(
                f"folder {root}: got {listed}, expected one CSV with path and label; move the others away"
            )
        return [WHOLE_ROOT] if tables else _labelled_folders(root)

    def _way_out(self, root: Path) -> str:
        """Return which folder to name instead, and what is wrong with the lists in this one."""
        return "".join([super()._way_out(root), *(f"; {fault}" for fault in unread_lists(root))])

    def read(self, root: Path, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected]:
        """Yield an entry or a rejection for each file, by the CSV or else by the folders.

        Raises:
            DatasetError: the CSV cannot be read, or a line of it is malformed.
        """
        tables = _tables_in(root)
        return _from_table(root, tables[0], files) if tables else map(_from_folders, files)

    def lists(self, root: Path) -> list[str]:
        """Return the path of the CSV."""
        return [table.path.name for table in _tables_in(root)]


def _labelled_folders(root: Path) -> list[str]:
    """Return the folders real and fake, also those in folders of splits; none unless both are there."""
    names = glance(root)
    splits = [name for name in names if name.lower() in SPLIT_OF_WORD]
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
    if split is None and below and below[0].lower() in SPLIT_OF_WORD:
        split = below.pop(0)
    # A folder fake/real/ names no manipulation: its videos would get the video_ids of real ones.
    has_method = label == "fake" and bool(below) and below[0].lower() not in LABELS
    collection = below.pop(0) if has_method else label
    name = "/".join((*([split] if split else []), *below, file.stem))
    video_id = video_id_from(Folder.name, collection, name)
    return VideoEntry(
        video_id=video_id,
        path=file.path,
        dataset=Folder.name,
        label=label,
        manipulation=collection if label == "fake" else None,
        target_id=video_id.removeprefix(f"{Folder.name}/"),
        group_id=video_id,
        listed_split=SPLIT_OF_WORD[split.lower()] if split else None,
    )


def _tables_in(root: Path) -> list[CsvList]:
    """Return the CSV files in the root with path and label; other words for them count if nothing else is there."""
    paths = _csv_files_in(root)
    tables = [table for path in paths if (table := _opened(path, TABLE_COLUMNS)) is not None]
    if tables or _labelled_folders(root):
        return tables
    paths += _csv_files_in(root, TEXT_SUFFIXES)
    known = (next(filter(None, (_opened(path, wanted) for wanted in LIST_COLUMNS)), None) for path in paths)
    return [table for table in known if table is not None]


def unread_lists(root: Path) -> list[str]:
    """Return what is wrong with each CSV in the root that does not list videos, for messages."""
    faults = []
    for path in _csv_files_in(root):
        try:
            if csv_list(path, TABLE_COLUMNS) is None:
                faults.append(printable(f"{path.name} has the columns {columns_in(path)}, not path and label"))
        except DatasetError as error:
            faults.append(str(error))
    return faults


def _csv_files_in(root: Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    names = (name for name in glance(root) if name.lower().endswith(suffixes) and not name.startswith("."))
    return [root / name for name in names if not is_folder(root / name)]


def _opened(path: Path, wanted: Mapping[str, tuple[str, ...]]) -> CsvList | None:
    """Return the list in a file; None if it has other columns or cannot be read."""
    with suppress(DatasetError):
        return csv_list(path, wanted)
    return None


def _from_table(root: Path, table: CsvList, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected]:
    """Yield an entry or a rejection for each line of the CSV, and a rejection for each video that it does not list.

    Raises:
        DatasetError: a line is malformed.
    """
    # A list written on another system may compose accents in another way than the names on disk.
    videos = dict.fromkeys(sorted(file.path for file in files))
    on_disk = {unicodedata.normalize("NFC", path): path for path in videos} | {path: path for path in videos}
    listed: set[str] = set()
    entries: list[VideoEntry] = []
    for number, line in table.lines():
        where = f"{table.path}, line {number}"
        path, entry = _read_line(root, where, line, on_disk)
        if path in listed:
            raise DatasetError(f"{where}: got {path} a second time, expected each video once")
        listed.add(path)
        if path in videos:
            entries.append(entry)
        else:
            detail = f"{table.path.name}, line {number}: got {path}, which is no video on disk; expected a file there"
            yield replace(reject(path, Reason.MISSING_FILE, detail), video_id=entry.video_id)
    yield from _with_groups(entries)
    for path in sorted(videos.keys() - listed):
        detail = f"{table.path.name}: got no line for {path}, expected one that says its label"
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


def _path_of(root: Path, where: str, text: str, on_disk: Mapping[str, str]) -> str:
    """Return the path in a line relative to the root, as it is on disk; backslashes of Windows separate folders.

    Raises:
        DatasetError: the path leaves the root.
    """
    path, absolute_root = PurePosixPath(text), root.absolute().as_posix()
    if "\\" in text and text not in on_disk and unicodedata.normalize("NFC", text) not in on_disk:
        path = PurePosixPath(text.replace("\\", "/"))
    if path.is_relative_to(absolute_root):
        path = path.relative_to(absolute_root)
    if path.is_absolute() or ".." in path.parts or not path.name or re.fullmatch("[A-Za-z]:", path.parts[0]):
        raise DatasetError(f"{where}: got path {text!r}, expected one below {root}")
    name = path.as_posix()
    return on_disk.get(name) or on_disk.get(unicodedata.normalize("NFC", name), name)


def _label_in(where: str, line: Mapping[str, str]) -> Label:
    """Return the label that a line states.

    Raises:
        DatasetError: it states none.
    """
    column = next(column for column in LABEL_COLUMNS if column in line)
    word = line[column].lower()
    if column != "label" and word in YES | NO:
        return "fake" if (word in YES) == (column == "is_fake") else "real"
    label = _label_of(word)
    if label is not None:
        return label
    if column != "label":
        raise DatasetError(f"{where}: got {column} {line[column]!r}, expected 1 or 0, true or false, or real or fake")
    raise DatasetError(
        f"{where}: got label {line[column]!r}, expected real or fake; numbers are ambiguous: if 1 means fake, name the "
        "column is_fake, if it means real, is_real"
    )


def _read_line(root: Path, where: str, line: Mapping[str, str], on_disk: Mapping[str, str]) -> tuple[str, VideoEntry]:
    """Return the path relative to the root, and the entry that a line describes.

    Raises:
        DatasetError: the path leaves the root, or a value is not allowed.
    """
    path = _path_of(root, where, line["path"], on_disk)
    odd = next((value for name, value in line.items() if name != "path" and not value.isprintable()), None)
    if odd is not None:
        raise DatasetError(f"{where}: got {odd!r}, expected text without control characters")
    label = _label_in(where, line)
    split = SPLIT_OF_WORD.get(line.get("split", "").lower())
    if split is None and line.get("split"):
        raise DatasetError(f"{where}: got split {line['split']!r}, expected train, val, test or nothing")
    collection = (line.get("manipulation") or UNNAMED) if label == "fake" else label
    if "/" in collection or collection in (".", "..") or (label == "fake" and collection.lower() == "real"):
        raise DatasetError(f"{where}: got manipulation {collection!r}, expected a name, without a slash and not real")
    file = tree_file(path)
    name = "/".join((*file.folders, file.stem))
    video_id = video_id_from(Folder.name, collection, name)
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
