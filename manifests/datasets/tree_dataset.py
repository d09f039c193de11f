"""The survey that most datasets share: in folders of known names, every file is a video or is rejected."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from manifests.datasets.dataset import Dataset
from manifests.datasets.walk import (
    TreeFile,
    files_below,
    is_folder,
    names_in,
    require_folder,
    shown,
    strays,
    told_apart,
)
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Rejected

WHOLE_ROOT = ""  # as a folder's name: everything below the root
NUM_FOLDERS_SEARCHED = 200  # one level below a root that does not hold the dataset, for a hint


class TreeDataset(Dataset):
    """A dataset that only has to say which folders are its own, and which video each file in them is."""

    left_aside: tuple[str, ...] = ()
    """Names in the root that are neither read nor reported."""

    @abstractmethod
    def folders_in(self, root: Path, /) -> list[str]:
        """Return the names of the dataset's folders in a root, or `[WHOLE_ROOT]`; none where it does not lie there.

        Raises:
            DatasetError: the dataset lies there, but it is not clear which part of it counts.
        """

    @abstractmethod
    def read(self, root: Path, files: Iterable[TreeFile], /) -> Iterator[VideoEntry | Rejected | None]:
        """Yield an entry or a rejection for every video among the files, None for a file that claims to be none.

        Raises:
            DatasetError: the dataset's own metadata cannot be read.
        """

    def compare_lists(self, _root: Path, _entries: dict[str, VideoEntry], /) -> Iterable[Rejected]:
        """Return rejections for what the dataset's own lists contradict; may change the entries, which are by video_id.

        Raises:
            DatasetError: a list cannot be read.
        """
        return ()

    def grouped(self, entries: Iterable[VideoEntry]) -> Iterable[VideoEntry]:
        """Return the entries with their leakage groups, where these are known only once every name has been read."""
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
                f"{self.title}: got {root} (holding {shown(names)}), expected {self.expects}"
                f"{self._way_out(root, names)}"
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

    def _way_out(self, root: Path, names: Sequence[str]) -> str:
        """Return which folder to name instead, where the dataset lies one level below."""
        folders = islice((root / name for name in names if is_folder(root / name)), NUM_FOLDERS_SEARCHED)
        below = next((folder for folder in folders if self.recognise(folder) is not None), None)
        return "" if below is None else f"; name {below} instead"
