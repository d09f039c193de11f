"""Search for files below a dataset's folder, and rejection of unknown ones; shared by all layouts."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected, Stage

VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})

NUM_NAMES_SHOWN = 6  # in a message about a folder
NUM_FOLDERS_SEARCHED = 200  # subfolders that are searched for a hint; there may be very many


class TreeFile(NamedTuple):
    """One file below a dataset's folder, with the parts of its path.

    A tuple of strings, because a dataset has a hundred thousand files, and building a pathlib path for each would take
    longer than all other steps together.
    """

    path: str
    """POSIX, relative to the root."""

    folders: tuple[str, ...]
    """The folders between the root and the file, outermost first."""

    name: str
    """The last part of the path."""

    stem: str
    """The name without its suffix."""

    suffix: str
    """From the last dot on, in lower case; empty without a dot, or where the name begins with it."""

    @property
    def is_video(self) -> bool:
        """Whether the suffix is that of a video."""
        return self.suffix in VIDEO_SUFFIXES


def tree_file(path: str) -> TreeFile:
    """Return the parts of a POSIX path relative to the root, such as one from a list."""
    parts = PurePosixPath(path).parts
    return _tree_file(parts[:-1], parts[-1] if parts else "")


def is_utf_8(text: str) -> bool:
    """Whether a name is printable text, as tables and terminals need; on disk, a name may be any bytes."""
    return _printable(text) == text


def is_folder(path: Path) -> bool:
    """Whether a path is a folder that can be reached."""
    try:
        return path.is_dir()
    except OSError:
        return False


def require_folder(title: str, root: Path) -> None:
    """Require that `root` is a folder.

    Raises:
        DatasetError: it is no folder.
    """
    if not is_folder(root):
        raise DatasetError(f"{title}: got {root}, expected a folder; check the path")


def names_in(root: Path) -> list[str]:
    """Return the sorted names in a folder.

    Raises:
        DatasetError: it cannot be listed.
    """
    try:
        return sorted(item.name for item in root.iterdir())
    except OSError as error:
        raise DatasetError(f"folder: got {root} ({error.strerror}), expected to read it") from error


def glance(root: Path) -> list[str]:
    """Return the sorted names in a folder; empty if it cannot be listed."""
    try:
        return names_in(root)
    except DatasetError:
        return []


def subfolders(root: Path) -> Iterator[Path]:
    """Yield the first folders directly in a folder, in order; nothing if it cannot be listed."""
    return islice((root / name for name in glance(root) if is_folder(root / name)), NUM_FOLDERS_SEARCHED)


def shown(names: Sequence[str]) -> str:
    """Return the first few names in a folder, for a message."""
    return _printable(", ".join(names[:NUM_NAMES_SHOWN]) or "nothing") + (", …" if len(names) > NUM_NAMES_SHOWN else "")


def files_below(root: Path, folders: Iterable[str] = ("",)) -> Iterator[TreeFile]:
    """Yield all files in some folders below `root`: those of a folder in order, then those of its subfolders.

    Links to folders are followed, unless they lead back to a folder above them; a folder that does not exist counts as
    empty. Hidden names are skipped: unfinished downloads, the files that macOS writes beside others, a trash folder.

    Raises:
        DatasetError: a folder cannot be listed; skipping it would lose its videos silently.
    """
    for start in folders:
        yield from _files_in(root / start, PurePosixPath(start).parts, ())


def told_apart(found: Iterable[VideoEntry | Rejected | None]) -> tuple[dict[str, VideoEntry], list[Rejected]]:
    """Return entries by video_id, and rejections; of two files with one video_id, the second is rejected.

    Args:
        found: an entry or a rejection for each file of a dataset; None for a file that is not one of its videos.
    """
    entries: dict[str, VideoEntry] = {}
    rejected: list[Rejected] = []
    for item in found:
        if isinstance(item, VideoEntry) and item.video_id in entries:
            twin = entries[item.video_id].path
            rejected.append(reject(item.path, Reason.DUPLICATE, f"same video_id as {twin}: keep one of the two"))
        elif isinstance(item, VideoEntry):
            entries[item.video_id] = item
        elif item is not None:
            rejected.append(item)
    return entries, rejected


def strays(root: Path, known: Collection[str]) -> Iterator[Rejected]:
    """Yield a rejection for each video, and each folder with videos, in `root` that has an unknown name.

    A folder is rejected as a whole, so that a misspelt name does not lose a manipulation silently.

    Args:
        root: the dataset's folder.
        known: names in it that belong to the dataset, or that it ignores.
    """
    for name in names_in(root):
        if name in known or name.startswith("."):
            continue
        if is_folder(root / name):
            first = _first_video(root, name)
            if first is not None:
                detail = f"folder: got {name} with videos ({first}, …), expected one of the dataset's; none was read"
                yield reject(name, Reason.UNRECOGNISED_NAME, detail)
        elif _tree_file((), name).is_video:
            detail = f"file: got {name} in the root, expected videos in the dataset's folders"
            yield reject(name, Reason.UNRECOGNISED_NAME, detail)


def _first_video(root: Path, folder: str) -> str | None:
    """Return the path of the first video in a folder of `root`; None without any, or if the folder cannot be read."""
    try:
        return next((file.path for file in files_below(root, [folder]) if file.is_video), None)
    except DatasetError:
        return None  # such as lost+found, where the root is a whole disk


def reject(path: str, reason: Reason, detail: str) -> Rejected:
    """Return the rejection of a file without a video_id, under its path relative to the root."""
    # On disk, a name need not be UTF-8; in tables, it has to be.
    return Rejected(video_id=_printable(path), stage=Stage.INDEX, reason=reason, detail=_printable(detail))


def reject_not_utf_8(file: TreeFile) -> Rejected:
    """Return the rejection of a file whose name cannot be written into a table."""
    return reject(file.path, Reason.UNRECOGNISED_NAME, f"file name: got {file.path!r}, expected UTF-8; rename it")


def _files_in(directory: Path, folders: tuple[str, ...], crossed: tuple[Path, ...]) -> Iterator[TreeFile]:
    """Yield the files of one folder and those below it.

    Args:
        directory: the folder, which may be reached through links.
        folders: its path relative to the root.
        crossed: the real folders that hold the links on the way.
    """
    try:
        with os.scandir(directory) as listing:
            items = sorted((item for item in listing if not item.name.startswith(".")), key=lambda item: item.name)
    except OSError as error:
        _refuse_folder(error)
        return
    subfolders = []
    for item in items:
        if _is_folder_item(item):
            subfolders.append(item)
        else:
            yield _tree_file(folders, item.name)
    for item in subfolders:
        on_the_way = (*crossed, directory.resolve()) if item.is_symlink() else crossed
        real = Path(item.path).resolve() if item.is_symlink() else None
        if real is None or not any(place.is_relative_to(real) for place in on_the_way):
            yield from _files_in(directory / item.name, (*folders, item.name), on_the_way)


def _is_folder_item(item: os.DirEntry[str]) -> bool:
    """Whether an item is a folder or a link to one.

    Raises:
        DatasetError: a link is broken, and its name is not that of a video.
    """
    try:
        return item.is_dir()
    except OSError as error:
        if not _tree_file((), item.name).is_video:
            _refuse_folder(error)
        return False


def _tree_file(folders: tuple[str, ...], name: str) -> TreeFile:
    path = "/".join((*folders, name))
    stem, _, ending = name.rpartition(".")
    if not stem or not ending:
        return TreeFile(path, folders, name, name, "")
    return TreeFile(path, folders, name, stem, f".{ending.lower()}")


def _printable(text: str) -> str:
    """Return a text in which characters that tables or terminals cannot show are escaped."""
    if text.isascii() and text.isprintable():
        return text
    valid = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in valid)


def _refuse_folder(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return
    raise DatasetError(
        f"folder: got {_printable(str(error.filename))} ({error.strerror}), expected to read it"
    ) from error
