"""Survey shared by most layouts: in folders with known names, every file is a video or is rejected."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path

from manifests.datasets.dataset import Dataset
from manifests.datasets.walk import (
    TreeFile,
    files_below,
    names_in,
    require_folder,
    shown,
    strays,
    subfolders,
    told_apart,
)
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Rejected

WHOLE_ROOT = ""  # as a folder's name: everything below the root


class TreeDataset(Dataset):
    """A layout that names the dataset's folders and identifies the video in each of their files."""

    left_aside: tuple[str, ...] = ()
    """Names in the root that are ignored."""

    @abstractmethod
    def folders_in(self, root: Path, /) -> list[str]:
        """Return the names of the dataset's folders in a root, or `[WHOLE_ROOT]`; none if the dataset is not there.

        Raises:
            DatasetError: the root holds the dataset, but more than one reading of it is possible.
        """

    @abstractmethod
    def read(self, root: Path, files: Iterable[TreeFile], /) -> Iterator[VideoEntry | Rejected | None]:
        """Yield an entry or a rejection for every video among the files, None for any other file.

        Raises:
            DatasetError: the dataset's own metadata cannot be read.
        """

    def compare_lists(self, _root: Path, _entries: dict[str, VideoEntry], /) -> Iterable[Rejected]:
        """Return rejections for files that the dataset's own lists contradict; may change `_entries` (by video_id).

        Raises:
            DatasetError: a list cannot be read.
        """
        return ()

    def grouped(self, entries: Iterable[VideoEntry]) -> Iterable[VideoEntry]:
        """Return the entries with leakage groups, for layouts in which groups depend on all names together."""
        return entries

    def survey(self, root: Path) -> Iterator[VideoEntry | Rejected]:
        """Yield every video ordered by video_id, then a `Rejected` for every file or line that cannot be placed.

        Raises:
            DatasetError: `root` does not hold this dataset, holds no video of it, or has a list that cannot be read.
        """
        root = Path(root)
        require_folder(self.title, root)
        names = names_in(root)
        folders = self.folders_in(root)
        if not folders:
            raise DatasetError(
                f"{self.title}: got {root} (holding {shown(names)}), expected {self.expects}{self._way_out(root)}"
            )
        entries, rejected = told_apart(self.read(root, files_below(root, folders)))
        rejected += self.compare_lists(root, entries)
        if not entries and not rejected:
            where = ", ".join(folders) if folders != [WHOLE_ROOT] else "it"
            raise DatasetError(f"{self.title}: got {root} with no video in {where}, expected {self.expects}")
        yield from sorted(self.grouped(entries.values()), key=lambda entry: entry.video_id)
        yield from rejected
        if folders != [WHOLE_ROOT]:
            yield from strays(root, (*folders, *self.left_aside))

    def _way_out(self, root: Path) -> str:
        """Return which folder to name instead, where the dataset lies one level below."""
        below = next((folder for folder in subfolders(root) if self.recognise(folder) is not None), None)
        return "" if below is None else f"; name {below} instead"
