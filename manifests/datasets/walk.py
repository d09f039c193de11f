"""Search for files below a dataset's folder, and rejection of unknown ones; shared by all layouts."""

from __future__ import annotations

import os
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeAlias

from manifests.datasets.file_kind import VIDEO_SUFFIXES, is_system_name, reason_by_content, reason_by_name
from manifests.datasets.ignored import MAX_NAMES, Ignored, IgnoredReason
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected, Stage

NUM_NAMES_SHOWN = 6  # in a message about a folder
NUM_FOLDERS_SEARCHED = 200  # subfolders that are searched for a hint; there may be very many
MAX_ROWS = 20  # folders with ignored files of one kind; more of them are counted together
# A folder with all of these files holds results of faceshards: a prediction with its annotated clip (also in a folder
# `<name>.scores` without a plot), or a store.
MARKS_OF_RESULTS = (frozenset({"prediction.json", "scores.png"}), frozenset({"index.json", "videos.parquet"}))
RESULTS = frozenset().union(*MARKS_OF_RESULTS)

# (folder, reason) → number of files, and the first of their names in order.
_Counts: TypeAlias = dict[tuple[str, IgnoredReason], tuple[int, tuple[str, ...]]]


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

    is_video: bool
    """Whether the suffix, or else the content, is that of a video."""


def tree_file(path: str) -> TreeFile:
    """Return the parts of a POSIX path relative to the root, such as one from a list."""
    parts = PurePosixPath(path).parts
    return _tree_file(parts[:-1], parts[-1] if parts else "")


def printable(text: str) -> str:
    """Return a text in which characters that tables or terminals cannot show are escaped."""
    if text.isascii() and text.isprintable():
        return text
    valid = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in valid)


def is_utf_8(text: str) -> bool:
    """Whether a name is UTF-8, as tables need; on disk, a name may be any bytes."""
    return text.isascii() or text.encode("utf-8", "replace").decode() == text


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


def leads_to_folder(item: os.DirEntry[str]) -> bool:
    """Whether an item is a folder that can be reached, or a link to one."""
    try:
        return item.is_dir()
    except OSError:
        return False


def subfolders(root: Path) -> Iterator[Path]:
    """Yield the first folders directly in a folder, in order; nothing if it cannot be listed.

    Names of files are not kept: there may be a million.
    """
    try:
        with os.scandir(root) as listing:
            names = sorted(item.name for item in listing if leads_to_folder(item))
    except OSError:
        return iter(())
    return islice((root / name for name in names), NUM_FOLDERS_SEARCHED)


def shown(names: Sequence[str]) -> str:
    """Return the first few names in a folder, for a message."""
    return printable(", ".join(names[:NUM_NAMES_SHOWN]) or "nothing") + (", …" if len(names) > NUM_NAMES_SHOWN else "")


def told_apart(found: Iterable[VideoEntry | Rejected]) -> tuple[dict[str, VideoEntry], list[Rejected]]:
    """Return entries by video_id, and rejections; of two files with one video_id, the second is rejected.

    Args:
        found: an entry or a rejection for each video file of a dataset.
    """
    entries: dict[str, VideoEntry] = {}
    rejected: list[Rejected] = []
    for item in found:
        if isinstance(item, VideoEntry) and item.video_id in entries:
            twin = entries[item.video_id].path
            rejected.append(reject(item.path, Reason.DUPLICATE, f"same video_id as {twin}: keep one of the two"))
        elif isinstance(item, VideoEntry):
            entries[item.video_id] = item
        else:
            rejected.append(item)
    return entries, rejected


def reject(path: str, reason: Reason, detail: str, *, num_files: int = 1) -> Rejected:
    """Return the rejection of a file without a video_id, under its path relative to the root."""
    # On disk, a name need not be UTF-8; in tables, it has to be.
    name, detail = printable(path), printable(detail)
    return Rejected(video_id=name, stage=Stage.INDEX, reason=reason, detail=detail, num_files=num_files)


def reject_not_utf_8(file: TreeFile) -> Rejected:
    """Return the rejection of a file whose name cannot be written into a table."""
    return reject(file.path, Reason.UNRECOGNISED_NAME, f"file name: got {file.path!r}, expected UTF-8; rename it")


class Walk:
    """One pass over the files below a dataset's root: videos are yielded, all other files are counted.

    Files that are no videos are counted while a folder is read and not kept, so that a million pictures cost no memory.

    Args:
        root: the dataset's folder.
        reads: names of files that the layout reads itself; they are yielded as well.
        lists: paths relative to the root of the dataset's lists; they count as auxiliary, not as other texts.
    """

    def __init__(self, root: Path, reads: Collection[str] = (), lists: Collection[str] = ()) -> None:
        self._root, self._reads, self._lists = root, frozenset(reads), frozenset(lists)
        self._counts: list[_Counts] = [{}]

    def files(self, folders: Sequence[str] = ("",)) -> Iterator[TreeFile]:
        """Yield the videos in some folders below the root: those of a folder in order, then those of its subfolders.

        Links to folders are followed, unless they lead back to a folder above them; a folder that does not exist counts
        as empty.

        Raises:
            DatasetError: a folder cannot be listed; skipping it would lose its videos silently.
        """
        for start in folders:
            self._counts.append((yield from self._files_in(self._root / start, PurePosixPath(start).parts, ())))

    def strays(self, known: Collection[str], left_aside: Collection[str] = ()) -> Iterator[Rejected]:
        """Yield a rejection for each video, and each folder with videos, that is in none of the dataset's folders.

        A folder is rejected as a whole, so that a misspelt name does not lose a manipulation silently.

        Args:
            known: the dataset's folders, POSIX paths relative to the root.
            left_aside: names in the root that belong to the dataset and hold no video of it.
        """
        yield from self._strays_in((), frozenset(known), frozenset(left_aside))

    def glance(self, folder: str) -> None:
        """Count the files directly in a folder, as far as it can be read."""
        counts: _Counts = {}
        with suppress(DatasetError):
            for item in _listed(self._root / folder):
                if not _is_folder_item(item):
                    self._file(item, PurePosixPath(folder).parts, counts)
        self._counts.append(counts)

    def count(self, path: str, reason: IgnoredReason) -> None:
        """Count a file that was yielded as ignored after all."""
        folder, _, name = path.rpartition("/")
        _add(self._counts[0], folder, reason, name)

    def ignored(self) -> list[Ignored]:
        """Return what was counted so far, by folder and reason."""
        whole: _Counts = {}
        for counts in self._counts:
            for (folder, reason), (num_files, names) in counts.items():
                _add(whole, folder, reason, *names, num_files=num_files)
        found = []
        for (folder, reason), (num_files, names) in sorted(whole.items()):
            path, shown_names = folder or ".", tuple(map(printable, names))
            if num_files == len(names) == 1:
                path, shown_names = f"{folder}/{names[0]}".lstrip("/"), ()
            found.append(Ignored(path=printable(path), reason=reason, num_files=num_files, names=shown_names))
        return found

    def _strays_in(
        self, folders: tuple[str, ...], known: frozenset[str], left_aside: frozenset[str]
    ) -> Iterator[Rejected]:
        counts: _Counts = {}
        self._counts.append(counts)
        for item in _listed(self._root.joinpath(*folders)):
            path = "/".join((*folders, item.name))
            if path in known:
                continue
            if not _is_folder_item(item):
                file = self._file(item, folders, counts)
                if file is not None and file.is_video:
                    where = "the root" if not folders else "/".join(folders)
                    detail = f"file: got {item.name} in {where}, expected videos in the dataset's folders"
                    yield reject(path, Reason.UNRECOGNISED_NAME, detail)
            elif path in left_aside:
                _add_all(counts, item, path, IgnoredReason.AUXILIARY)
            elif any(other.startswith(f"{path}/") for other in known):
                yield from self._strays_in((*folders, item.name), known, left_aside)
            else:
                yield from self._stray_folder(item, path)

    def _stray_folder(self, item: os.DirEntry[str], path: str) -> Iterator[Rejected]:
        """Count the files of a folder that is none of the dataset's; yield its rejection if it has videos."""
        counts: _Counts = {}
        self._counts.append(counts)
        if is_system_name(item.name):
            _add_all(counts, item, path, IgnoredReason.HIDDEN)
            return
        if item.is_symlink() and self._root.resolve().is_relative_to(Path(item.path).resolve()):
            _add(counts, path.rpartition("/")[0], IgnoredReason.LINK_LOOP, item.name)
            return
        try:
            videos = (file.path for file in self.files([path]) if file.is_video)
            first = next(videos, None)
            if first is not None:
                detail = f"folder: got {path} with videos ({first}, …), expected one of the dataset's; none was read"
                yield reject(path, Reason.UNRECOGNISED_NAME, detail, num_files=1 + sum(1 for _ in videos))
        except DatasetError:  # such as lost+found, where the root is a whole disk
            _add(counts, path, IgnoredReason.UNREADABLE)

    def _files_in(
        self, directory: Path, folders: tuple[str, ...], crossed: tuple[Path, ...]
    ) -> Generator[TreeFile, None, _Counts]:
        """Yield the files of one folder and those below it, and return the counts of the others.

        Args:
            directory: the folder, which may be reached through links.
            folders: its path relative to the root.
            crossed: the real folders that hold the links on the way.
        """
        counts: _Counts = {}
        files: list[TreeFile] = []
        subfolders: list[os.DirEntry[str]] = []
        joined: set[IgnoredReason] = set()
        own: set[str] = set()  # files that mark a folder of results
        for item in _listed(directory):
            if _is_folder_item(item):
                subfolders.append(item)
                continue
            own |= {item.name} & RESULTS
            file = self._file(item, folders, counts)
            if file is not None:
                files.append(file)
        path = "/".join(folders)
        is_prediction = directory.name.endswith(".scores") and "prediction.json" in own
        if is_prediction or any(marks <= own for marks in MARKS_OF_RESULTS):
            return {(path, IgnoredReason.AUXILIARY): (_num_files_below(directory), tuple(sorted(own)))}
        yield from sorted(files)
        for item in sorted(subfolders, key=lambda item: item.name):
            below = "/".join((*folders, item.name))
            if is_system_name(item.name):
                _add_all(counts, item, below, IgnoredReason.HIDDEN)
                continue
            on_the_way = (*crossed, directory.resolve()) if item.is_symlink() else crossed
            real = Path(item.path).resolve() if item.is_symlink() else None
            if real is not None and any(place.is_relative_to(real) for place in on_the_way):
                _add(counts, path, IgnoredReason.LINK_LOOP, item.name)
                continue
            found = yield from self._files_in(directory / item.name, (*folders, item.name), on_the_way)
            _merge(counts, found, path, joined)
        return counts

    def _file(self, item: os.DirEntry[str], folders: tuple[str, ...], counts: _Counts) -> TreeFile | None:
        """Return a video, or a file that the layout reads; count any other file and return None."""
        file = _tree_file(folders, item.name)
        if file.is_video and not item.name.startswith("."):
            return file  # whatever it is: what cannot be read is rejected when it is opened
        reason = reason_by_name(item.name, file.suffix)
        if not _is_regular(item):
            reason = IgnoredReason.NOT_REGULAR if Path(item.path).exists() else IgnoredReason.BROKEN_LINK
        elif reason is None:
            reason = reason_by_content(Path(item.path))
        if reason is None:
            return file._replace(is_video=True)
        is_read = item.name in self._reads
        reason = IgnoredReason.AUXILIARY if is_read or file.path in self._lists else reason
        _add(counts, "/".join(folders), reason, item.name)
        return file if is_read else None


def _add(counts: _Counts, folder: str, reason: IgnoredReason, *names: str, num_files: int = 1) -> None:
    """Count files; the names kept are the first in order, whatever the order on disk is."""
    before, kept = counts.get((folder, reason), (0, ()))
    if len(kept) < MAX_NAMES or any(name < kept[-1] for name in names):
        kept = tuple(sorted((*kept, *names))[:MAX_NAMES])
    counts[folder, reason] = before + num_files, kept


def _add_all(counts: _Counts, item: os.DirEntry[str], path: str, reason: IgnoredReason) -> None:
    """Count all files in a folder."""
    num_files = _num_files_below(Path(item.path))
    if num_files:
        _add(counts, path, reason, num_files=num_files)


def _merge(counts: _Counts, below: _Counts, folder: str, joined: set[IgnoredReason]) -> None:
    """Add the counts of a subfolder; if too many folders have files of one kind, they become one row.

    Args:
        counts: the counts of the folder and its subfolders so far.
        below: the counts of the next subfolder.
        folder: path of the folder.
        joined: reasons for which the folders have become one row.
    """
    for (place, reason), (num_files, names) in below.items():
        _add(counts, place, reason, *names, num_files=num_files)
    for reason in {reason for _, reason in below}:
        places = [key for key in counts if key[1] is reason and key[0] != folder]
        if reason in joined or len(places) > MAX_ROWS:
            joined.add(reason)
            for place, _ in places:
                num_files, names = counts.pop((place, reason))
                relative = place.removeprefix(f"{folder}/")
                _add(counts, folder, reason, *(f"{relative}/{name}" for name in names), num_files=num_files)


def _listed(directory: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the items of a folder in the order on disk; nothing if it does not exist.

    Raises:
        DatasetError: it cannot be listed.
    """
    try:
        with os.scandir(directory) as listing:
            yield from listing
    except OSError as error:
        _refuse_folder(error)


def _num_files_below(directory: Path) -> int:
    """Return the number of files in a folder and all below it, without following links."""
    return sum(len(names) for _, _, names in os.walk(directory))


def _is_folder_item(item: os.DirEntry[str]) -> bool:
    """Whether an item is a folder or a link to one.

    Raises:
        DatasetError: a link is broken, and its name is not that of a video.
    """
    try:
        return item.is_dir()
    except OSError as error:
        if not tree_file(item.name).is_video:
            _refuse_folder(error)
        return False


def _is_regular(item: os.DirEntry[str]) -> bool:
    """Whether an item is a regular file, or a link to one."""
    try:
        return item.is_file()
    except OSError:
        return False  # a link that leads to itself


def _tree_file(folders: tuple[str, ...], name: str) -> TreeFile:
    path = "/".join((*folders, name))
    stem, _, ending = name.rpartition(".")
    if not stem or not ending:
        return TreeFile(path, folders, name, name, "", False)
    suffix = f".{ending.lower()}"
    return TreeFile(path, folders, name, stem, suffix, suffix in VIDEO_SUFFIXES)


def _refuse_folder(error: OSError) -> None:
    if isinstance(error, FileNotFoundError):
        return
    raise DatasetError(
        f"folder: got {printable(str(error.filename))} ({error.strerror}), expected to read it"
    ) from error
