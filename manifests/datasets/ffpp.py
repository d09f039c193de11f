"""FaceForensics++ (Rössler et al., ICCV 2019) in the tree of its official download.

    <root>/original_sequences/{youtube,actors}/{raw|c0,c23,c40}/videos/*.mp4
    <root>/manipulated_sequences/<manipulation>/{raw|c0,c23,c40}/videos/*.mp4
    <root>/manipulated_sequences/<manipulation>/masks/videos/*.mp4

Originals are `NNN.mp4`, fakes `<target>_<source>.mp4`. The 1000 originals form 500 closed pairs, so a pair is a
leakage group. DeepFakeDetection is `<actor>__<scene>.mp4` and `<target>_<source>__<scene>__<8 characters>.mp4`; its
groups are the connected actors. Everything else under the root (such as `downloaded_videos`) is not looked at.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.groups import connected_groups
from manifests.rejected import Reason, Rejected, Stage

ORIGINALS = "original_sequences"
MANIPULATED = "manipulated_sequences"
MASKS = "masks"
VIDEOS = "videos"

# The folders of `original_sequences`, and which of them each manipulation was made from.
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

REAL_NAME = {YOUTUBE: re.compile(r"(?P<target>[0-9]{3})"), ACTORS: re.compile(r"(?P<target>[0-9]{2})__[a-z_]+")}
FAKE_NAME = {
    YOUTUBE: re.compile(r"(?P<target>[0-9]{3})_(?P<source>[0-9]{3})"),
    ACTORS: re.compile(r"(?P<target>[0-9]{2})_(?P<source>[0-9]{2})__[a-z_]+__[A-Z0-9]{8}"),
}
NAME_EXAMPLES = {YOUTUBE: "519.mp4 or 519_515.mp4", ACTORS: "01__exit_phone_room.mp4 or 01_02__talking__YVGY8LOK.mp4"}

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where a file stands in the tree: the folders of its path, taken apart."""

    path: str  # POSIX, relative to the dataset root
    kind: str  # ORIGINALS or MANIPULATED
    folder: str  # youtube, actors or the manipulation
    compression: str  # raw, c23 or c40
    footage: str  # youtube or actors: whose naming rule holds


class FaceForensicsPP:
    """The official tree; any subset of manipulations and compressions may be there."""

    name: str = "ffpp"
    manipulations: tuple[str, ...] = tuple(FOOTAGE)
    compressions: tuple[str, ...] = ("raw", "c23", "c40")

    def scan(self, root: Path) -> Iterator[VideoEntry]:
        """Yield every video, ordered by video_id, not probed and without a split.

        Raises:
            DatasetError: `root` does not hold this dataset.
        """
        return (found for found in self.survey(root) if isinstance(found, VideoEntry))

    def survey(self, root: Path) -> Iterator[VideoEntry | Rejected]:
        """Yield every video ordered by video_id, then a `Rejected` for every file that cannot be placed.

        Raises:
            DatasetError: `root` does not hold this dataset, or holds no video of it.
        """
        root = Path(root)
        self._require_tree(root)
        entries: dict[str, VideoEntry] = {}
        rejected: list[Rejected] = []
        for path in _files_below(root, (ORIGINALS, MANIPULATED)):
            found = _read_name(path)
            if isinstance(found, VideoEntry) and found.video_id in entries:
                twin = entries[found.video_id].path
                rejected.append(_reject(path, Reason.DUPLICATE, f"same video as {twin}: keep one of the two"))
            elif isinstance(found, VideoEntry):
                entries[found.video_id] = found
            elif found is not None:
                rejected.append(found)
        if not entries and not rejected:
            raise DatasetError(
                f"FaceForensics++ root: got {root} with no video in it, expected *.mp4 files below "
                f"{ORIGINALS}/<youtube|actors>/<raw|c23|c40>/{VIDEOS}/ or {MANIPULATED}/<manipulation>/…"
            )
        groups = connected_groups(
            (_identity(entry, entry.target_id), _identity(entry, entry.source_id or entry.target_id))
            for entry in entries.values()
        )
        for _, entry in sorted(entries.items()):
            group_id = f"{self.name}/{groups[_identity(entry, entry.target_id)]}"
            yield replace(entry, group_id=group_id, mask_path=_mask_path(root, entry))
        yield from rejected

    def _require_tree(self, root: Path) -> None:
        """Raise unless the root has the two folders of the official tree, or one of them."""
        if not root.is_dir():
            raise DatasetError(f"FaceForensics++ root: got {root}, expected a folder; check the path")
        if any((root / kind).is_dir() for kind in (ORIGINALS, MANIPULATED)):
            return
        below = [child for child in sorted(root.iterdir()) if (child / ORIGINALS).is_dir()]
        found = ", ".join(sorted(child.name for child in root.iterdir())[:6]) or "nothing"
        way_out = f"name {below[0]} instead" if below else "name the folder that the official download script filled"
        raise DatasetError(
            f"FaceForensics++ root: got {root} (holding {found}), expected a folder with {ORIGINALS}/ "
            f"or {MANIPULATED}/; {way_out}"
        )


def _files_below(root: Path, folders: tuple[str, ...]) -> Iterator[str]:
    """Yield POSIX paths relative to root, in order; links to folders are followed, once each."""
    seen: set[str] = set()
    for kind in folders:
        for directory, subfolders, names in os.walk(root / kind, onerror=_refuse_folder, followlinks=True):
            subfolders[:] = sorted(name for name in subfolders if os.path.realpath(Path(directory, name)) not in seen)
            seen.add(os.path.realpath(directory))
            yield from (Path(directory, name).relative_to(root).as_posix() for name in sorted(names))


def _refuse_folder(error: OSError) -> None:
    """Raise where a folder cannot be listed: its videos would be lost without a word."""
    if isinstance(error, FileNotFoundError):
        return  # one of the two trees may be absent
    raise DatasetError(
        f"FaceForensics++ folder: got {error.filename} ({error.strerror}), expected to read it"
    ) from error


def _read_name(path: str) -> VideoEntry | Rejected | None:
    """Read a video's identity from its path; None for a file that makes no claim to be one of the videos."""
    parts = PurePosixPath(path)
    if not (parts.parent.name == VIDEOS or parts.suffix.lower() in VIDEO_SUFFIXES):
        return None  # frames, landmarks and the like, put beside the videos by other tools
    if len(parts.parts) == 5 and parts.parts[2] == MASKS:
        return None  # found from its video's side
    place = _place_of(parts)
    if isinstance(place, str):
        return _reject(path, Reason.UNRECOGNISED_NAME, place)
    real = place.kind == ORIGINALS
    match = (REAL_NAME if real else FAKE_NAME)[place.footage].fullmatch(parts.stem)
    if match is None or parts.suffix.lower() != ".mp4":
        detail = f"file name: got {parts.name!r}, expected one such as {NAME_EXAMPLES[place.footage]}"
        return _reject(path, Reason.UNRECOGNISED_NAME, detail)
    return VideoEntry(
        video_id=f"{FaceForensicsPP.name}/{place.folder}/{place.compression}/{parts.stem}",
        path=path,
        dataset=FaceForensicsPP.name,
        label="real" if real else "fake",
        manipulation=None if real else place.folder,
        compression=place.compression,
        target_id=match["target"],
        source_id=None if real else match["source"],
        group_id="",  # known once every name has been read
    )


def _place_of(parts: PurePosixPath) -> _Place | str:
    """Take the folders of a path apart; a string says what is wrong with them."""
    if len(parts.parts) != 5 or parts.parts[3] != VIDEOS:
        return f"place: got {parts}, expected <kind>/<folder>/<compression>/{VIDEOS}/<name>.mp4"
    kind, folder, compression = parts.parts[:3]
    if compression not in COMPRESSION_OF_FOLDER:
        return f"compression: got {compression!r}, expected one of {list(COMPRESSION_OF_FOLDER)}"
    allowed = list(REAL_NAME) if kind == ORIGINALS else list(FOOTAGE)
    if folder not in allowed:
        return f"folder of {kind}: got {folder!r}, expected one of {allowed}"
    return _Place(
        path=str(parts),
        kind=kind,
        folder=folder,
        compression=COMPRESSION_OF_FOLDER[compression],
        footage=FOOTAGE.get(folder, folder),
    )


def _identity(entry: VideoEntry, person_id: str) -> str:
    """Return an id that keeps actor 01 and YouTube video 001 apart."""
    footage = FOOTAGE[entry.manipulation] if entry.manipulation else PurePosixPath(entry.path).parts[1]
    return f"{footage}/{person_id}"


def _mask_path(root: Path, entry: VideoEntry) -> str | None:
    """Return the mask video's relative path: masks are kept per manipulation, not per compression."""
    if entry.manipulation is None:
        return None
    relative = f"{MANIPULATED}/{entry.manipulation}/{MASKS}/{VIDEOS}/{PurePosixPath(entry.path).stem}.mp4"
    return relative if (root / relative).is_file() else None


def _reject(path: str, reason: Reason, detail: str) -> Rejected:
    # A name need not be UTF-8 on disk, but in tables it has to be.
    printable = path.encode("utf-8", "backslashreplace").decode()
    detail = detail.encode("utf-8", "backslashreplace").decode()
    return Rejected(video_id=printable, stage=Stage.INDEX, reason=reason, detail=detail)
