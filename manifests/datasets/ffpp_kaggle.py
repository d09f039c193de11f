"""FaceForensics++ at c23 in the layout of its copy on Kaggle: flat folders and a table, without masks and actors.

    <root>/{original,Deepfakes,Face2Face,FaceSwap,NeuralTextures,FaceShifter,DeepFakeDetection}/*.mp4
    <root>/csv/FF++_Metadata.csv        File Path, Label (REAL | FAKE), Frame Count, Width, Height, …

The videos are those of the official tree and have the same video_ids and groups. The table is compared with the folders
here, and with the files once they are probed (`claims`). A video without a line is kept: only the copy has a table, and
the identity of a video follows from its folder and name alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manifests.datasets.csv_lists import columns_in, csv_list
from manifests.datasets.dataset import Claim
from manifests.datasets.ffpp import (
    COMPRESSION_OF_FOLDER,
    FOOTAGE,
    NAME_EXAMPLES,
    YOUTUBE,
    FaceForensicsPP,
    entry_of,
    with_groups,
)
from manifests.datasets.tree_dataset import TreeDataset
from manifests.datasets.walk import TreeFile, glance, is_folder, reject, tree_file
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected, Stage

COMPRESSION = "c23"
ORIGINAL = "original"
# Folder as written on Kaggle, in lower case → folder of the official tree.
FOLDERS = {ORIGINAL: YOUTUBE} | {name.lower(): name for name in FOOTAGE}
TABLE = PurePosixPath("csv/FF++_Metadata.csv")
TABLE_PATH = str(TABLE)
LABELS = {"REAL": "real", "FAKE": "fake"}
COLUMNS: dict[str, tuple[str, ...]] = dict.fromkeys(("filepath", "label", "framecount", "width", "height"), ())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One line of the table."""

    number: int
    """Line number in the file, from 1."""

    path: str
    """Path as written in the table."""

    label: str
    """REAL or FAKE."""

    claim: Claim
    """Frame count and size."""


class FaceForensicsPPOnKaggle(TreeDataset):
    """The flat copy; any subset of its folders may be there, and the table may be missing."""

    name = "ffpp_kaggle"
    title = "FaceForensics++ c23 as on Kaggle"
    expects = f"{ORIGINAL}/ and folders of manipulations with *.mp4 in them, perhaps {TABLE_PATH}"
    manipulations = FaceForensicsPP.manipulations
    compressions = (COMPRESSION,)

    def recognise(self, root: Path) -> str | None:
        """Return the folders that exist in the root; None unless one is a manipulation's, or the table exists.

        Also None if they hold folders of compressions: then `root` is a part of the official tree, whose own root the
        user has to name.
        """
        folders = self.folders_in(root)
        if any(is_folder(root / name / compression) for name in folders for compression in COMPRESSION_OF_FOLDER):
            return None
        table = [TABLE_PATH] if TABLE.name in glance(root / TABLE.parent) else []
        if not table and not {name.lower() for name in folders} - {ORIGINAL}:
            return None
        return " and ".join([*(f"{name}/" for name in folders), *table])

    def folders_in(self, root: Path) -> list[str]:
        """Return the folders of originals and manipulations."""
        return [name for name in glance(root) if name.lower() in FOLDERS]

    def read(self, _root: Path, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected]:
        """Yield an entry or a rejection for each file by its path."""
        return map(_read_name, files)

    def lists(self, _root: Path) -> tuple[str, ...]:
        """Return the path of the table."""
        return (TABLE_PATH,)

    def compare_lists(self, root: Path, entries: dict[str, VideoEntry]) -> Iterator[Rejected]:
        """Yield a rejection for each line that contradicts the folders; such videos are removed from `entries`."""
        for video_id, line in _read_table(root).items():
            entry = entries.get(video_id)
            where = f"{TABLE_PATH}, line {line.number}"
            if entry is None:
                detail = f"{where}: got {line.path}, which is not on disk; download it again"
                yield Rejected(video_id=video_id, stage=Stage.INDEX, reason=Reason.MISSING_FILE, detail=detail)
            elif LABELS[line.label] != entry.label:
                detail = f"{where}: got {line.label} for {entry.path}, expected {entry.label.upper()} by its folder"
                yield Rejected(video_id=video_id, stage=Stage.INDEX, reason=Reason.METADATA_CONFLICT, detail=detail)
                del entries[video_id]

    def grouped(self, entries: Iterable[VideoEntry]) -> list[VideoEntry]:
        """Return the entries with the groups that they have in the official tree."""
        return with_groups(entries)

    def claims(self, root: Path) -> Mapping[str, Claim]:
        """Return the frame counts and sizes of the table.

        Raises:
            DatasetError: the table cannot be read.
        """
        return {video_id: line.claim for video_id, line in _read_table(root).items()}


def _read_name(file: TreeFile) -> VideoEntry | Rejected:
    """Return the entry or the rejection of a file by its path."""
    folder = FOLDERS[file.folders[0].lower()]
    entry = entry_of(file, folder, COMPRESSION) if len(file.folders) == 1 else None
    if entry is None:
        example = NAME_EXAMPLES[FOOTAGE.get(folder, folder)]
        detail = f"file: got {file.path!r}, expected <folder>/<name>, such as {example}"
        return reject(file.path, Reason.UNRECOGNISED_NAME, detail)
    return entry


def _read_table(root: Path) -> dict[str, _Line]:
    """Return the table's lines by video_id; empty if there is no table.

    Raises:
        DatasetError: the table cannot be read, or a line is malformed.
    """
    table = root / TABLE
    lines: dict[str, _Line] = {}
    if not os.path.lexists(table):
        return {}
    found = csv_list(table, COLUMNS)
    if found is None:
        raise DatasetError(
            f"{table}: got the columns {columns_in(table)}, expected File Path, Label, Frame Count, Width and Height; "
            "remove it to index without it"
        )
    for number, row in found.lines():
        video_id, line = _read_line(row, number)
        if line is None:
            raise DatasetError(
                f"{table}, line {number}: got {row}, expected File Path such as "
                "Deepfakes/033_097.mp4, Label REAL or FAKE, and Frame Count, Width, Height as numbers"
            )
        earlier = lines.setdefault(video_id, line)
        if (earlier.label, earlier.claim) != (line.label, line.claim):
            raise DatasetError(
                f"{table}, line {line.number}: got {line.path} a second time, differently from line "
                f"{earlier.number}, expected each video once"
            )
    return lines


def _read_line(row: Mapping[str, str], number: int) -> tuple[str, _Line | None]:
    """Return video_id and content of a line; None for a malformed one."""
    path, label = row["filepath"].replace("\\", "/"), row["label"].upper()
    sizes = [row[name] for name in ("framecount", "width", "height")]
    file = tree_file(path)
    folder = FOLDERS.get(file.folders[0].lower()) if len(file.folders) == 1 else None
    entry = entry_of(file, folder, COMPRESSION) if folder else None
    if entry is None or label not in LABELS or not all(size.isdecimal() for size in sizes):
        return "", None
    num_frames, width, height = map(int, sizes)
    claim = Claim(source=TABLE_PATH, num_frames=num_frames, width=width, height=height)
    return entry.video_id, _Line(number=number, path=path, label=label, claim=claim)
