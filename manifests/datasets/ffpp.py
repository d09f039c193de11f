"""FaceForensics++ (Rössler et al., ICCV 2019) in the folder tree of its official download.

    <root>/original_sequences/{youtube,actors}/{raw|c0,c23,c40}/videos/*.mp4
    <root>/manipulated_sequences/<manipulation>/{raw|c0,c23,c40}/videos/*.mp4
    <root>/manipulated_sequences/<manipulation>/masks/videos/*.mp4

Originals are `NNN.mp4`, fakes `<target>_<source>.mp4`. The 1000 originals form 500 closed pairs, and were cut from 977
YouTube videos. Pairs whose originals were cut from one video are one leakage group, so there are 478 groups.
DeepFakeDetection has `<actor>__<scene>.mp4` and `<target>_<source>__<scene>__<8 characters>.mp4`; its groups are the
connected actors. `downloaded_videos` is ignored; other folders with videos are rejected.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from manifests.datasets.ignored import Ignored, IgnoredReason
from manifests.datasets.pair_lists import splits_of_pairs
from manifests.datasets.tree_dataset import TreeDataset
from manifests.datasets.walk import TreeFile, is_folder, reject
from manifests.entry import Split, VideoEntry
from manifests.errors import SplitError
from manifests.groups import connected_groups
from manifests.rejected import Reason, Rejected

ORIGINALS = "original_sequences"
MANIPULATED = "manipulated_sequences"
DOWNLOADED = "downloaded_videos"  # the YouTube videos from which the originals were cut: ignored
MASKS = "masks"
VIDEOS = "videos"

# The folders of `original_sequences`, and the footage of each manipulation.
YOUTUBE, ACTORS = "youtube", "actors"
FOOTAGE = {
    "Deepfakes": YOUTUBE,
    "Face2Face": YOUTUBE,
    "FaceSwap": YOUTUBE,
    "NeuralTextures": YOUTUBE,
    "FaceShifter": YOUTUBE,
    "DeepFakeDetection": ACTORS,
}
COMPRESSION_OF_FOLDER = {"raw": "raw", "c0": "raw", "c23": "c23", "c40": "c40"}

REAL_NAME = {
    YOUTUBE: re.compile(r"(?P<target>[0-9]{3})"),
    ACTORS: re.compile(r"(?P<target>[0-9]{2})__(?P<scene>[a-z_]+)"),
}
FAKE_NAME = {
    YOUTUBE: re.compile(r"(?P<target>[0-9]{3})_(?P<source>[0-9]{3})"),
    ACTORS: re.compile(r"(?P<target>[0-9]{2})_(?P<source>[0-9]{2})__(?P<scene>[a-z_]+)__[A-Z0-9]{8}"),
}
NAME_EXAMPLES = {YOUTUBE: "519.mp4 or 519_515.mp4", ACTORS: "01__exit_phone_room.mp4 or 01_02__talking__YVGY8LOK.mp4"}

# Originals that were cut from one YouTube video, of all 1000. Counted in dataset/conversion_dict.json of the authors'
# public repository (github.com/ondyari/FaceForensics, MIT), which names the YouTube video of each original.
SEQUENCES_OF_ONE_VIDEO = (
    *("331-332", "524-525", "566-567", "605-606", "614-615", "618-619", "639-640", "685-686-687", "755-756"),
    *("766-767", "769-770", "787-788", "837-838", "875-876", "883-884", "937-938", "942-943", "954-955", "967-968"),
    *("973-974", "982-983", "993-994"),
)
RECORDING_OF = {number: recording for recording in SEQUENCES_OF_ONE_VIDEO for number in recording.split("-")}


class FaceForensicsPP(TreeDataset):
    """The official tree; any subset of manipulations and compressions may be there."""

    name = "ffpp"
    title = "FaceForensics++, official tree"
    expects = f"{ORIGINALS}/ or {MANIPULATED}/, with <folder>/<raw|c0|c23|c40>/{VIDEOS}/*.mp4 below"
    manipulations = tuple(FOOTAGE)
    compressions = ("raw", "c23", "c40")
    left_aside = (DOWNLOADED,)

    def recognise(self, root: Path) -> str | None:
        """Return the folders that exist in the root: originals, fakes or both; None if there are none."""
        return " and ".join(f"{kind}/" for kind in self.folders_in(root)) or None

    def folders_in(self, root: Path) -> list[str]:
        """Return the folders that exist in the root: originals, fakes or both."""
        return [kind for kind in (ORIGINALS, MANIPULATED) if is_folder(root / kind)]

    def read(self, _root: Path, files: Iterable[TreeFile]) -> Iterator[VideoEntry | Rejected | Ignored]:
        """Yield an entry or a rejection for each file by its path; a mask belongs to the entry of its fake."""
        listed = list(files)
        masks = {file.path for file in listed if _is_mask(file)}
        for file in listed:
            if file.path in masks:
                yield Ignored(path=file.path, reason=IgnoredReason.AUXILIARY)
            else:
                yield _read_name(file, masks)

    def grouped(self, entries: Iterable[VideoEntry]) -> list[VideoEntry]:
        """Return the entries with their leakage groups: the connected people."""
        return with_groups(entries)

    def recording_of(self, footage: str) -> str | None:
        """Return the originals cut from one YouTube video, such as `331-332` or `000`; None for footage of actors."""
        return RECORDING_OF.get(footage, footage) if REAL_NAME[YOUTUBE].fullmatch(footage) else None

    def official_splits(self, entries: Sequence[VideoEntry], lists_dir: Path | None) -> dict[str, Split | None]:
        """Return the splits of the authors' three lists of pairs, which do not come with the videos.

        Raises:
            SplitError: the user named no folder of lists, or they cannot be read.
        """
        if lists_dir is None:
            raise SplitError(
                "split.official_dir: got none, expected the folder with the dataset's train, val and test lists; "
                "FaceForensics++ publishes them beside its download script (dataset/splits/*.json)"
            )
        return splits_of_pairs(entries, lists_dir)


def entry_of(file: TreeFile, folder: str, compression: str, masks: Collection[str] = ()) -> VideoEntry | None:
    """Return the entry of a file of FaceForensics++ by its name; None where the dataset has no such name.

    Args:
        file: only its name counts, wherever it lies.
        folder: `youtube`, `actors` or the manipulation.
        compression: `raw`, `c23` or `c40`.
        masks: paths of all mask videos relative to the root; a fake gets the one with its name.

    Returns:
        The entry, with an empty group_id: see `with_groups`.
    """
    is_real = folder in REAL_NAME
    pattern = REAL_NAME[folder] if is_real else FAKE_NAME[FOOTAGE[folder]]
    match = pattern.fullmatch(file.stem)
    if match is None or file.suffix != ".mp4":
        return None
    found = match.groupdict()
    mask_path = f"{MANIPULATED}/{folder}/{MASKS}/{VIDEOS}/{file.stem}.mp4"
    return VideoEntry(
        video_id=f"{FaceForensicsPP.name}/{folder}/{compression}/{file.stem}",
        path=file.path,
        mask_path=mask_path if mask_path in masks else None,
        dataset=FaceForensicsPP.name,
        label="real" if is_real else "fake",
        manipulation=None if is_real else folder,
        compression=compression,
        target_id=f"{found['target']}__{found['scene']}" if "scene" in found else found["target"],
        target_identity=found["target"],
        source_id=found.get("source"),
        group_id="",
    )


def with_groups(entries: Iterable[VideoEntry]) -> list[VideoEntry]:
    """Return entries of `entry_of` with their leakage groups: connected people, and originals cut from one video."""
    listed = list(entries)
    people = [
        [f"{FOOTAGE.get(entry.collection, entry.collection)}/{person}" for person in _people(entry)] for entry in listed
    ]
    known = {f"{YOUTUBE}/{number}": f"{YOUTUBE}/{recording}" for number, recording in RECORDING_OF.items()}
    cuts = [(person, known[person]) for found in people for person in found if person in known]
    groups = connected_groups([*((found[0], found[-1]) for found in people), *cuts])
    return [
        replace(entry, group_id=f"{FaceForensicsPP.name}/{groups[found[0]]}")
        for entry, found in zip(listed, people, strict=True)
    ]


def _is_mask(file: TreeFile) -> bool:
    """Whether a file is in a folder of masks; each manipulation has one such folder, for all compressions."""
    return len(file.folders) == 4 and file.folders[2] == MASKS


def _read_name(file: TreeFile, masks: Collection[str]) -> VideoEntry | Rejected:
    """Return the entry or the rejection of a file by its path."""
    place = _place_of(file)
    if isinstance(place, str):
        return reject(file.path, Reason.UNRECOGNISED_NAME, place)
    folder, compression = place
    entry = entry_of(file, folder, compression, masks)
    if entry is None:
        example = NAME_EXAMPLES[FOOTAGE.get(folder, folder)]
        detail = f"file name: got {file.name!r}, expected one such as {example}"
        return reject(file.path, Reason.UNRECOGNISED_NAME, detail)
    return entry


def _place_of(file: TreeFile) -> tuple[str, str] | str:
    """Return folder and compression of `entry_of` by a path; a string states what is wrong with it."""
    if len(file.folders) != 4 or file.folders[3] != VIDEOS:
        return f"place: got {file.path}, expected <kind>/<folder>/<compression>/{VIDEOS}/<name>.mp4"
    kind, folder, compression, _ = file.folders
    if compression not in COMPRESSION_OF_FOLDER:
        return f"compression: got {compression!r}, expected one of {list(COMPRESSION_OF_FOLDER)}"
    allowed = list(REAL_NAME) if kind == ORIGINALS else list(FOOTAGE)
    if folder not in allowed:
        return f"folder of {kind}: got {folder!r}, expected one of {allowed}"
    return folder, COMPRESSION_OF_FOLDER[compression]


def _people(entry: VideoEntry) -> list[str]:
    """Return the person in the footage, and the donor of the face."""
    return [person for person in (entry.target_identity, entry.source_id) if person is not None]
