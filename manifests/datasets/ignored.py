"""`Ignored`: files below a dataset's folder that are no videos of it, counted by folder and reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from manifests.errors import StoreCorrupt
from manifests.files import write_atomically

MAX_NAMES = 10  # of the files in one folder that are kept
MAX_SHOWN = 5  # folders, and names in each, that a text names for each reason


class IgnoredReason(StrEnum):
    """Reasons for which a file is not taken as a video. The set is closed: users' scripts match on these words."""

    PICTURE = "picture"  # also one of many frames
    UNFINISHED = "unfinished_download"  # a name that browsers and downloaders give to the bytes so far
    ARCHIVE = "archive"  # not unpacked, or one part of several
    AUDIO = "audio"  # sound alone
    EMPTY = "empty_file"  # zero bytes, under a name that does not promise a video
    NOT_OF_DATASET = "not_of_the_dataset"  # a video that the layout does not take
    NOT_A_VIDEO = "not_a_video"  # neither name nor first bytes are those of a video
    UNREADABLE = "unreadable"  # a file or a folder that the file system cannot read
    NOT_REGULAR = "not_a_regular_file"  # a pipe, a socket or a device
    BROKEN_LINK = "broken_link"  # it leads nowhere
    LINK_LOOP = "link_loop"  # it leads back to a folder above it
    BACKUP = "backup_copy"  # a copy that an editor or a user left
    TEXT = "text"  # notes, tables, subtitles, programs
    DATA = "data"  # arrays, models, databases
    HIDDEN = "hidden_or_system_file"  # a dot file, or one that an operating system writes beside others
    AUXILIARY = "auxiliary"  # belongs to the dataset or to faceshards: masks, official lists, .json, README, results


WAYS_OUT = {
    IgnoredReason.PICTURE: "pictures are not taken, even if they are the frames of a video; give the videos",
    IgnoredReason.UNFINISHED: "finish such downloads, or fetch the files again",
    IgnoredReason.ARCHIVE: "unpack such files",
    IgnoredReason.UNREADABLE: "check permissions and disk",
    IgnoredReason.NOT_A_VIDEO: "if one is a video nevertheless, rename it, such as to .mp4",
    IgnoredReason.BACKUP: "rename the one to be used",
}
# A folder of the dataset that has such files and no video was meant to hold videos.
IN_PLACE_OF_VIDEOS = frozenset(
    {IgnoredReason.PICTURE, IgnoredReason.UNFINISHED, IgnoredReason.ARCHIVE, IgnoredReason.EMPTY}
    | {IgnoredReason.NOT_A_VIDEO, IgnoredReason.DATA, IgnoredReason.AUDIO, IgnoredReason.BACKUP}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignored:
    """One ignored file, or all those in a folder that have the same reason."""

    path: str
    """POSIX path relative to the dataset root: of the file, or of the folder (`.` is the root)."""

    reason: IgnoredReason
    """Reason, for programs."""

    num_files: int = 1
    """Number of files; a link that is not followed counts as one."""

    names: tuple[str, ...] = ()
    """Names of the first files in order, at most MAX_NAMES, where `path` is a folder."""

    def __str__(self) -> str:
        """Return path, number and some names, for a person."""
        names = ", ".join(self.names[:MAX_SHOWN]) + (", …" if self.num_files > MAX_SHOWN else "")
        return f"{self.path} ({self.num_files:,}: {names})" if self.names else self.path


def num_files_of(ignored: Iterable[Ignored]) -> dict[IgnoredReason, int]:
    """Return the number of files by reason, in the order of `IgnoredReason`; reasons without files are left out."""
    counts: Counter[IgnoredReason] = Counter()
    for item in ignored:
        counts[item.reason] += item.num_files
    return {reason: counts[reason] for reason in IgnoredReason if counts[reason]}


def describe(ignored: Sequence[Ignored]) -> list[str]:
    """Return a line for each reason but `auxiliary`: number of files, the first places, and the way out."""
    lines = []
    for reason, num_files in num_files_of(ignored).items():
        if reason is not IgnoredReason.AUXILIARY:
            places = [str(item) for item in ignored if item.reason is reason]
            more = f", and in {len(places) - MAX_SHOWN:,} more places" if len(places) > MAX_SHOWN else ""
            way_out = f"; {WAYS_OUT[reason]}" if reason in WAYS_OUT else ""
            files = "1 file" if num_files == 1 else f"{num_files:,} files"
            lines.append(f"{files} ({reason}): {', '.join(places[:MAX_SHOWN])}{more}{way_out}")
    return lines


def write_ignored(path: Path, ignored: Iterable[Ignored]) -> None:
    """Write a list of ignored files as JSON, atomically."""
    plain = [asdict(item) for item in ignored]
    write_atomically(path, (json.dumps(plain, indent=1, ensure_ascii=False) + "\n").encode("utf-8"))


def read_ignored(path: Path) -> tuple[Ignored, ...]:
    """Return a list that `write_ignored` wrote; an empty one if there is no file, as in stores made before it existed.

    Raises:
        StoreCorrupt: it is not such a list.
    """
    try:
        plain = json.loads(path.read_bytes())
        typed = ({**item, "reason": IgnoredReason(item["reason"]), "names": tuple(item["names"])} for item in plain)
        return tuple(Ignored(**item) for item in typed)
    except FileNotFoundError:
        return ()
    except (ValueError, TypeError, KeyError) as error:
        raise StoreCorrupt(f"{path}: got {error!r}, expected a list of ignored files; delete it") from error
