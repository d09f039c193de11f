"""The contract of a dataset on disk; the implementations are in `manifests/datasets/`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from manifests.entry import VideoEntry
from manifests.rejected import Rejected


class Dataset(Protocol):
    """One way in which a dataset lies on disk.

    A dataset reads names only: it never opens a video. Probing is the next step (`manifests.probe`).
    """

    name: str
    # name in the registry, first part of every video_id

    manipulations: tuple[str, ...]
    # the forgeries it knows, in the order in which reports list them

    compressions: tuple[str, ...]
    # the compressions it knows, empty where it has none

    def scan(self, root: Path) -> Iterator[VideoEntry]:
        """Yield every video of the dataset, ordered by video_id, not probed and without a split.

        Raises:
            DatasetError: `root` does not hold this dataset.
        """
        ...

    def survey(self, root: Path) -> Iterator[VideoEntry | Rejected]:
        """Yield what `scan` yields, and a `Rejected` for every file in the tree that cannot be placed.

        Raises:
            DatasetError: `root` does not hold this dataset.
        """
        ...
