"""The contract of a dataset on disk; the implementations are in `manifests/datasets/`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from manifests.entry import VideoEntry
from manifests.rejected import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a dataset's own metadata says about one video; what is measured must agree."""

    source: str
    """The file that says so, POSIX path relative to the dataset root."""

    num_frames: int | None = None
    """Frames."""

    width: int | None = None
    """Pixels."""

    height: int | None = None
    """Pixels."""


class Dataset(Protocol):
    """One way in which a dataset lies on disk.

    A dataset reads names and lists only: it never opens a video. Probing is the next step (`manifests.probe.probe`).
    """

    name: str
    """The layout's name in the registry; two layouts of one dataset give the same `VideoEntry.dataset`."""

    title: str
    """The same for people, such as `FaceForensics++, official tree`."""

    expects: str
    """What lies in the root, in a few words, for messages that say what was looked for."""

    manipulations: tuple[str, ...]
    """The forgeries it knows, in the order in which reports list them; empty where folders or lists name their own."""

    compressions: tuple[str, ...]
    """The compressions it knows, empty where it has none."""

    def recognise(self, root: Path) -> str | None:
        """Return what in the folder `root` marks this layout, for a person; None where it is another one.

        A quick look at a few names; never an error.
        """
        ...

    def scan(self, root: Path) -> Iterator[VideoEntry]:
        """Yield every video of the dataset, ordered by video_id, not probed and without a split.

        Raises:
            DatasetError: `root` does not hold this dataset.
        """
        return (found for found in self.survey(root) if isinstance(found, VideoEntry))

    def survey(self, root: Path) -> Iterator[VideoEntry | Rejected]:
        """Yield what `scan` yields, and a `Rejected` for every file in the tree that cannot be placed.

        Raises:
            DatasetError: `root` does not hold this dataset.
        """
        ...

    def claims(self, root: Path) -> Mapping[str, Claim]:
        """Return what the dataset's own metadata says of its videos, by video_id; most datasets have none.

        Raises:
            DatasetError: the metadata cannot be read.
        """
        return {}
