"""Survey shared by most layouts: in folders with known names, every video file is a video or is rejected."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from manifests.datasets.dataset import Dataset
from manifests.datasets.ignored import IN_PLACE_OF_VIDEOS, Ignored, IgnoredReason, describe
from manifests.datasets.walk import TreeFile, Walk, names_in, printable, require_folder, shown, subfolders, told_apart
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Rejected

WHOLE_ROOT = ""  # as a folder's name: everything below the root


class TreeDataset(Dataset):
    """A layout that names the dataset's folders and identifies the video in each of their files."""

    left_aside: tuple[str, ...] = ()
    """Names in the root that belong to the dataset and hold no video of it."""

    reads: tuple[str, ...] = ()
    """Names of files besides videos that `read` gets."""

    @abstractmethod
    def folders_in(self, root: Path, /) -> list[str]:
        """Return the dataset's folders as POSIX paths relative to a root, or `[WHOLE_ROOT]`; none if it is not there.

        Raises:
            DatasetError: the root holds the dataset, but more than one reading of it is possible.
        """

    @abstractmethod
    def read(self, root: Path, files: Iterable[TreeFile], /) -> Iterator[VideoEntry | Rejected | Ignored | None]:
        """Yield an entry or a rejection for every video file, `Ignored` or None for one that is none of the dataset.

        Raises:
            DatasetError: the dataset's own metadata cannot be read.
        """

    def lists(self, _root: Path, /) -> Collection[str]:
        """Return the paths relative to the root of the dataset's own lists, those that are on disk at least."""
        return ()

    def compare_lists(self, _root: Path, _entries: dict[str, VideoEntry], /) -> Iterable[Rejected]:
        """Return rejections for files that the dataset's own lists contradict; may change `_entries` (by video_id).

        Raises:
            DatasetError: a list cannot be read.
        """
        return ()

    def grouped(self, entries: Iterable[VideoEntry]) -> Iterable[VideoEntry]:
        """Return the entries with leakage groups, for layouts in which groups depend on all names together."""
        return entries

    def survey(self, root: Path) -> Iterator[VideoEntry | Rejected | Ignored]:
        """Yield every video ordered by video_id, a `Rejected` for what cannot be placed, and all other files.

        Raises:
            DatasetError: `root` does not hold this dataset, holds no video of it, or has a list that cannot be read.
        """
        root = Path(root)
        require_folder(self.title, root)
        folders = self.folders_in(root)
        if not folders:
            raise DatasetError(
                f"{self.title}: got {root} (holding {shown(names_in(root))}), expected {self.expects}"
                f"{self._way_out(root)}"
            )
        walk = Walk(root, self.reads, self.lists(root))
        entries, rejected = told_apart(self._placed(root, walk, folders))
        rejected += self.compare_lists(root, entries)
        if not entries and not rejected:
            where = ", ".join(folders) if folders != [WHOLE_ROOT] else "it"
            found = describe([item for item in walk.ignored() if item.reason in IN_PLACE_OF_VIDEOS])
            instead = f", but {'; '.join(found)}; " if found else ", "
            raise DatasetError(f"{self.title}: got {root} with no video in {where}{instead}expected {self.expects}")
        yield from sorted(self.grouped(entries.values()), key=lambda entry: entry.video_id)
        yield from rejected
        if folders != [WHOLE_ROOT]:
            yield from walk.strays(folders, self.left_aside)
        yield from walk.ignored()

    def _placed(self, root: Path, walk: Walk, folders: list[str]) -> Iterator[VideoEntry | Rejected]:
        """Yield the entries and rejections of `read`; count every other video file, so that none is lost silently."""
        unplaced: dict[str, None] = {}

        def files() -> Iterator[TreeFile]:
            for file in walk.files(folders):
                unplaced.update({printable(file.path): None} if file.is_video else {})
                yield file

        for item in self.read(root, files()):
            if isinstance(item, Ignored):
                walk.count(item.path, item.reason)
            elif item is not None:
                yield item
            if item is not None:
                unplaced.pop(printable(item.video_id if isinstance(item, Rejected) else item.path), None)
        for path in unplaced:
            walk.count(path, IgnoredReason.NOT_OF_DATASET)

    def _way_out(self, root: Path) -> str:
        """Return which folder to name instead, where the dataset lies one level below."""
        below = next((folder for folder in subfolders(root) if self.recognise(folder) is not None), None)
        return "" if below is None else f"; name {below} instead"
