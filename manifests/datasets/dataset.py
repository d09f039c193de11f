"""Contract of a dataset layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from manifests.datasets.ignored import Ignored
from manifests.entry import Split, VideoEntry
from manifests.errors import SplitError
from manifests.rejected import Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Size of one video according to the dataset's own metadata; measurements have to agree with it."""

    source: str
    """The metadata file, POSIX path relative to the dataset root."""

    num_frames: int | None = None
    """Number of frames."""

    width: int | None = None
    """Width of the frames, pixels."""

    height: int | None = None
    """Height of the frames, pixels."""


class Dataset(Protocol):
    """Layout of a dataset on disk.

    A layout reads names and lists only; it opens a file whose name does not tell whether it is a video, for its first
    bytes. Probing is the next step (`manifests.probe.probe`).
    """

    name: str
    """The layout's name in the registry. `VideoEntry.dataset` is such a name: two layouts of one dataset use the same
    one, and the layout with that name gives the official splits of both.
    """

    title: str
    """Name for people, such as `FaceForensics++, official tree`."""

    expects: str
    """Required content of the root in a few words, for messages."""

    manipulations: tuple[str, ...] = ()
    """The dataset's forgeries, in the order of reports; empty where folders or lists name them."""

    compressions: tuple[str, ...] = ()
    """The dataset's compressions; empty where it has none."""

    has_users_lists: bool = False
    """Whether the lists in its folder are the user's own, so that the split policy `file` follows them as well."""

    def recognise(self, root: Path) -> str | None:
        """Return the names in `root` that identify this layout, for messages; None if it is another layout.

        Reads a few names only, and never raises.
        """
        ...

    def is_certain(self, _root: Path, /) -> bool:
        """Whether the names that `recognise` found leave no doubt; otherwise another layout that fits goes first."""
        return True

    def scan(self, root: Path) -> Iterator[VideoEntry]:
        """Yield every video of the dataset, ordered by video_id, not probed and without a split.

        Raises:
            DatasetError: `root` does not hold this dataset.
        """
        return (found for found in self.survey(root) if isinstance(found, VideoEntry))

    def survey(self, root: Path) -> Iterator[VideoEntry | Rejected | Ignored]:
        """Yield the entries of `scan`, a `Rejected` for every video that cannot be placed, then all other files.

        Raises:
            DatasetError: `root` does not hold this dataset.
        """
        ...

    def claims(self, _root: Path, /) -> Mapping[str, Claim]:
        """Return the sizes in the dataset's own metadata, by video_id; most datasets have none.

        Raises:
            DatasetError: the metadata cannot be read.
        """
        return {}

    def recording_of(self, _footage: str, /) -> str | None:
        """Return the name of the recording that some footage was cut from; None where the dataset does not tell.

        Footage of one recording shows one person in one place, so it belongs in one leakage group.

        Args:
            _footage: a `VideoEntry.target_id` or `source_id`.
        """
        return None

    def official_splits(self, entries: Sequence[VideoEntry], _lists_dir: Path | None, /) -> dict[str, Split | None]:
        """Return the split of each video by the dataset's own lists, by video_id.

        None means that the lists do not say whether a video is for training or for validation. A video that is missing
        from the result is in no list and is rejected. By default, the split is `VideoEntry.listed_split`.

        Args:
            entries: videos whose `dataset` is this layout's name.
            _lists_dir: folder with lists that do not come with the videos (`split.official_dir`); None if not set.

        Raises:
            SplitError: there are no lists, or they cannot be read.
        """
        return listed_splits(entries)


def listed_splits(entries: Sequence[VideoEntry]) -> dict[str, Split | None]:
    """Return the splits by lists that come with the videos; if only test videos are listed, the others get None.

    Raises:
        SplitError: no video is in a list.
    """
    listed = {entry.video_id: entry.listed_split for entry in entries}
    if set(listed.values()) == {"test", None}:
        return listed
    named = {video_id: split for video_id, split in listed.items() if split is not None}
    if entries and not named:
        raise SplitError(
            f"split.policy: got official for {entries[0].dataset}, no video of which is in a list, expected its list "
            "of splits in its folder; put it there, or set split.policy=group"
        )
    return dict(named)
