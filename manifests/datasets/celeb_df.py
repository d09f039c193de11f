"""Celeb-DF v1 and v2 (Li et al., CVPR 2020) and Celeb-DF++ (Li et al., arXiv 2507.18015).

    <root>/Celeb-real/*.mp4                             id0_0000.mp4: a person, and which video of theirs
    <root>/YouTube-real/*.mp4                           00170.mp4: people without an identity
    <root>/Celeb-synthesis/*.mp4                        id0_id1_0000.mp4: the footage id0_0000 with the face of id1
    <root>/Celeb-synthesis/<family>/<method>/*.mp4      in Celeb-DF++, swaps and reenactments named like those of v2,
                                                        talking faces id0_0000_test_<voice>.mp4
    <root>/List_of_testing_videos.txt                   `<1 real | 0 fake> <folder>/<name>.mp4` a line

Names of folders may have any case, and some tools add a `videos/` level. Groups are the connected people: the 5,639
fakes of v2 connect its people into three groups, of 38, 10 and 10. **In the list 1 means real**, the inverse of the
usual label, so each line is compared with the folder that it names.

The folders of Celeb-DF++ are those in the README of OUC-VAS/Celeb-DF-PP. That README does not describe file names: the
rules are taken from public code that reads the dataset. A name that does not begin with a person and a number is
rejected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from manifests.datasets.csv_lists import text_lines
from manifests.datasets.tree_dataset import TreeDataset
from manifests.datasets.walk import TreeFile, glance, is_utf_8, reject, reject_not_utf_8, tree_file
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.groups import connected_groups
from manifests.rejected import Reason, Rejected, Stage

CELEB_REAL, YOUTUBE_REAL, SYNTHESIS = "Celeb-real", "YouTube-real", "Celeb-synthesis"
FOLDERS = {folder.lower(): folder for folder in (CELEB_REAL, YOUTUBE_REAL, SYNTHESIS)}
VIDEOS = "videos"
LIST_NAME = "List_of_testing_videos.txt"

# The methods of Celeb-DF++. Its folder `Celeb-DF` holds the fakes of v2, whose manipulation stays Celeb-synthesis.
METHODS = (
    *("BlendFace", "GHOST", "HifiFace", "InSwapper", "MobileFaceSwap", "SimSwap", "UniFace"),
    *("DaGAN", "FSRT", "HyperReenact", "LIA", "LivePortrait", "MCNET", "TPSMM"),
    *("AniTalker", "EchoMimic", "EDTalk", "FLOAT", "IP_LAP", "Real3DPortrait", "SadTalker"),
)
METHOD_OF_FOLDER = {name.lower(): name for name in METHODS} | dict.fromkeys(("celeb-df", "celeb-df-v2"), SYNTHESIS)

NAMES = {
    CELEB_REAL: re.compile(r"(?P<target>id[0-9]+)_(?P<number>[0-9]+)"),
    YOUTUBE_REAL: re.compile(r"[0-9]+"),
    SYNTHESIS: re.compile(r"(?P<target>id[0-9]+)_(?P<source>id[0-9]+)_(?P<number>[0-9]+)"),
}
# Methods driven by a voice or a picture may append to the file name; every name begins with the footage.
METHOD_NAME = re.compile(r"(?P<target>id[0-9]+)(?:_(?P<source>id[0-9]+))?_(?P<number>[0-9]+)(?:_[A-Za-z0-9_-]+)?")
NAME_EXAMPLES = {CELEB_REAL: "id0_0000.mp4", YOUTUBE_REAL: "00170.mp4", SYNTHESIS: "id0_id1_0000.mp4"}

LIST_LINE = re.compile(r"(?P<is_real>[01])\s+(?P<path>\S.*)")
# If more than this share of the lines contradicts the folders, real and fake are swapped in the whole list.
SHARE_OF_AN_INVERSE_LIST = 0.9


class CelebDF(TreeDataset):
    """The tree of the published archive, with or without its list of test videos."""

    name = "celeb_df"
    title = "Celeb-DF v1, v2 or ++"
    expects = f"{CELEB_REAL}/ or {SYNTHESIS}/, in any case, with <name>.mp4 or {VIDEOS}/<name>.mp4 below"
    manipulations = (SYNTHESIS, *METHODS)

    def recognise(self, root: Path) -> str | None:
        """Return the dataset's folders in the root; None without any, or for YouTube-real alone (others have it)."""
        found = [f"{name}/" for name in self.folders_in(root)]
        return " and ".join(found) if {name.rstrip("/").lower() for name in found} - {YOUTUBE_REAL.lower()} else None

    def folders_in(self, root: Path) -> list[str]:
        """Return the dataset's folders that exist in the root."""
        return [name for name in glance(root) if name.lower() in FOLDERS]

    def read(self, _root: Path, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected]:
        """Yield an entry or a rejection for each file by its path."""
        return map(_read_name, files)

    def compare_lists(self, root: Path, entries: dict[str, VideoEntry]) -> list[Rejected]:
        """Set `listed_split` of the videos in the list; remove and reject videos whose label it contradicts.

        Raises:
            DatasetError: the list cannot be read, or has real and fake swapped.
        """
        return [found for name in self.lists(root) for found in _take_list(root / name, entries)]

    def lists(self, root: Path) -> list[str]:
        """Return the path of the list of test videos."""
        return [name for name in glance(root) if name.lower() == LIST_NAME.lower()][:1]

    def grouped(self, entries: Iterable[VideoEntry]) -> list[VideoEntry]:
        """Return the entries with their groups: connected people; each video of an unknown person is its own group."""
        listed = list(entries)
        people = [entry.target_identity or f"YouTube-{entry.target_id}" for entry in listed]
        groups = connected_groups(
            (person, entry.source_id or person) for person, entry in zip(people, listed, strict=True)
        )
        return [
            replace(entry, group_id=f"{self.name}/{groups[person]}")
            for person, entry in zip(people, listed, strict=True)
        ]


def _read_name(file: TreeFile) -> VideoEntry | Rejected:
    """Return the entry or the rejection of a file by its path."""
    if not is_utf_8(file.path):
        return reject_not_utf_8(file)
    folder, *below = file.folders
    collection = _collection_of(FOLDERS[folder.lower()], below)
    if collection is None:
        place = "/".join(file.folders)
        detail = f"place: got {place}, expected one of {', '.join(METHODS)} below {SYNTHESIS}/<family>/"
        return reject(file.path, Reason.UNRECOGNISED_NAME, detail)
    entry = _entry_of(file, collection) if file.suffix == ".mp4" else None
    if entry is None:
        example = NAME_EXAMPLES.get(collection, NAME_EXAMPLES[SYNTHESIS])
        detail = f"file name: got {file.name!r}, expected one such as {example}"
        return reject(file.path, Reason.UNRECOGNISED_NAME, detail)
    return entry


def _collection_of(folder: str, below: Sequence[str]) -> str | None:
    """Return the collection in a folder: a folder of the dataset or a method of Celeb-DF++; None for any other."""
    levels = [name for name in below if name.lower() != VIDEOS]
    if not levels:
        return folder
    if folder != SYNTHESIS or len(levels) > 2:
        return None
    return METHOD_OF_FOLDER.get(levels[-1].lower())


def _entry_of(file: TreeFile, collection: str) -> VideoEntry | None:
    """Return the entry of a file by its name; None where the dataset has no such name."""
    match = NAMES.get(collection, METHOD_NAME).fullmatch(file.stem)
    if match is None:
        return None
    found = match.groupdict()  # empty for a video from YouTube
    is_real = collection in (CELEB_REAL, YOUTUBE_REAL)
    return VideoEntry(
        video_id=f"{CelebDF.name}/{collection}/{file.stem}",
        path=file.path,
        dataset=CelebDF.name,
        label="real" if is_real else "fake",
        manipulation=None if is_real else collection,
        target_id=f"{found['target']}_{found['number']}" if found else file.stem,
        target_identity=found.get("target"),
        source_id=found.get("source"),
        group_id="",  # set once all names have been read
    )


def _take_list(path: Path, entries: dict[str, VideoEntry]) -> list[Rejected]:
    """Set `listed_split` of the videos in the list; remove and reject videos whose label it contradicts.

    Raises:
        DatasetError: a line is malformed, or the list has real and fake swapped.
    """
    rejected: list[Rejected] = []
    listed = list(_read_list(path))
    for video_id, listed_path, is_real in listed:
        entry = entries.get(video_id)
        if entry is None:
            detail = f"{path.name}: got {listed_path}, which is not on disk; download it again"
            rejected.append(Rejected(video_id=video_id, stage=Stage.INDEX, reason=Reason.MISSING_FILE, detail=detail))
        elif (entry.label == "real") != is_real:
            detail = f"{path.name}: got {int(is_real)} ({'real' if is_real else 'fake'}) for {listed_path}"
            rejected.append(
                Rejected(video_id=video_id, stage=Stage.INDEX, reason=Reason.METADATA_CONFLICT, detail=detail)
            )
            del entries[video_id]
        else:
            entries[video_id] = replace(entry, listed_split="test")
    num_contradicted = sum(row.reason is Reason.METADATA_CONFLICT for row in rejected)
    num_found = len(listed) - sum(row.reason is Reason.MISSING_FILE for row in rejected)
    if num_contradicted > SHARE_OF_AN_INVERSE_LIST * num_found:
        raise DatasetError(
            f"{path}: got {num_contradicted} of {num_found} lines that contradict their folders, expected 1 for real "
            "and 0 for fake as in the dataset's own list; swap them back"
        )
    return rejected


def _read_list(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Yield (video_id, path as listed, whether it is listed as real) for each line.

    Raises:
        DatasetError: the list cannot be read, or a line is malformed or names a video twice.
    """
    seen: set[str] = set()
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        match = LIST_LINE.fullmatch(line.strip())
        file = tree_file(match["path"].replace("\\", "/") if match else "")
        folder = FOLDERS.get(file.folders[0].lower()) if file.folders else None
        collection = _collection_of(folder, file.folders[1:]) if folder else None
        if match is None or collection is None:
            raise DatasetError(
                f"{path}, line {number}: got {line.strip()!r}, expected 1 (real) or 0 (fake) and a path such as "
                f"{CELEB_REAL}/{NAME_EXAMPLES[CELEB_REAL]}"
            )
        video_id = f"{CelebDF.name}/{collection}/{file.stem}"
        if video_id in seen:
            raise DatasetError(f"{path}, line {number}: got {file.path} a second time, expected each video once")
        seen.add(video_id)
        yield video_id, file.path, match["is_real"] == "1"
