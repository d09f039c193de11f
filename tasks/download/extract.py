"""Safe extraction of archives: nothing outside the folder, nothing overwritten, no archive bomb, no partial file.

1 check     all members before the first is written: names, kinds, sizes, and files that exist already
2 room      the disk must have space for the missing files
3 write     file by file, to a hidden name, counted and checked, synced, then renamed

An existing file of the right length counts as extracted, since an interrupted run leaves only complete files. Files get
the permissions of any new file; those in the archive are ignored.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from manifests.files import written_whole
from tasks.download.archives import Archive, ArchiveBroken, ArchiveError, ExtractionStopped, Member, open_archive
from tasks.download.disk_space import gigabytes, require_room

EXTRACT_PREFIX = ".extract-"
# Videos hardly shrink in an archive, tables and metadata shrink 10 to 30 times; bombs of deflate begin at about 1000.
MAX_EXPANSION = 100
EXPANSION_SLACK_BYTES = 64 * 1024 * 1024  # a small archive of text may shrink more without harm
MAX_MEMBERS = 1_000_000  # DFDC, the largest, has 0.13 million videos in 50 archives
NUM_NAMED = 5  # files that a message names


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveCheck:
    """Result of the check of an archive: the files that it would add to a folder."""

    missing: tuple[Member, ...]
    """Files to be written, in the archive's order."""

    num_already_there: int
    """Number of files that exist with the right length."""

    num_bytes: int
    """Total length of the missing files, bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extracted:
    """Result of an extraction."""

    num_written: int
    """Files."""

    num_already_there: int
    """Files that an earlier run had written."""

    num_bytes: int
    """Written."""


def check_archive(path: Path, out: Path, should_stop: Callable[[], bool] = lambda: False) -> ArchiveCheck:
    """Inspect an archive without writing anything.

    Args:
        path: the archive.
        out: the folder that it would be extracted to; need not exist.
        should_stop: called between members; True stops.

    Raises:
        ArchiveError: it is broken, holds members that must not be extracted, or a file of another length exists.
        ExtractionStopped: `should_stop` returned True.
    """
    with open_archive(path, should_stop) as archive:
        return _check(archive, path, out, should_stop)


def extract_archive(
    path: Path,
    out: Path,
    *,
    on_checked: Callable[[ArchiveCheck], None] = lambda _: None,
    on_bytes: Callable[[int], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Extracted:
    """Extract an archive, or the files of it that an earlier run did not extract.

    Args:
        path: the archive.
        out: the folder; created if it does not exist.
        on_checked: called with the result of the check, before files are written.
        on_bytes: called with the number of bytes written.
        should_stop: called between pieces of files; True stops.

    Raises:
        ArchiveError: it is broken, holds members that must not be extracted, or a file of another length exists.
        ConfigError: the disk has too little space.
        ExtractionStopped: `should_stop` returned True.
        OSError: a file cannot be written.
    """
    with open_archive(path, should_stop) as archive:
        check = _check(archive, path, out, should_stop)
        require_room(out, check.num_bytes)
        on_checked(check)
        for member in check.missing:
            _write(archive, member, path, out / member.name, on_bytes, should_stop)
    return Extracted(
        num_written=len(check.missing),
        num_already_there=check.num_already_there,
        num_bytes=check.num_bytes,
    )


def _check(archive: Archive, path: Path, out: Path, should_stop: Callable[[], bool]) -> ArchiveCheck:
    members = _within_limits(archive, path, should_stop)
    _refuse_collisions(path, members)
    missing: list[Member] = []
    in_the_way: list[str] = []
    for member in members:
        target = out / member.name
        if not os.path.lexists(target):
            missing.append(member)
        elif not target.is_file() or target.stat().st_size != member.num_bytes:
            in_the_way.append(member.name)
    if in_the_way:
        raise ArchiveError(
            f"archive {path}: got {len(in_the_way)} files that stand in {out} with another length "
            f"({_some(in_the_way)}), expected none; move them away, or choose another folder"
        )
    return ArchiveCheck(
        missing=tuple(missing),
        num_already_there=len(members) - len(missing),
        num_bytes=sum(member.num_bytes for member in missing),
    )


def _within_limits(archive: Archive, path: Path, should_stop: Callable[[], bool]) -> list[Member]:
    """Return all members; raise at the first one over a limit, before more is decompressed."""
    limit = path.stat().st_size * MAX_EXPANSION + EXPANSION_SLACK_BYTES
    members: list[Member] = []
    num_bytes = 0
    for member in archive.members():
        if should_stop():
            raise ExtractionStopped("interrupted")
        members.append(member)
        num_bytes += member.num_bytes
        if num_bytes > limit or len(members) > MAX_MEMBERS:
            raise ArchiveError(
                f"archive {path}: got {len(members):,} files of {gigabytes(num_bytes)} or more, expected at most "
                f"{MAX_MEMBERS:,} of {gigabytes(limit)} ({MAX_EXPANSION} times its own length); this looks like a bomb"
            )
    return members


def _refuse_collisions(path: Path, members: Iterable[Member]) -> None:
    """Raise if two members would be the same file, here or on a system that ignores the case of letters."""
    names: dict[str, str] = {}
    for member in members:
        key = unicodedata.normalize("NFC", member.name).casefold()
        if key in names:
            raise ArchiveError(
                f"archive {path}: got {names[key]!r} and {member.name!r}, expected names that differ by more than case"
            )
        names[key] = member.name
    for key, name in names.items():
        parent = next((str(above) for above in PurePosixPath(key).parents if str(above) in names), None)
        if parent is not None:
            raise ArchiveError(f"archive {path}: got {names[parent]!r} as a file and, for {name!r}, as a folder")


def _write(
    archive: Archive,
    member: Member,
    path: Path,
    target: Path,
    on_bytes: Callable[[int], None],
    should_stop: Callable[[], bool],
) -> None:
    """Write one file; it appears under its name only when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    num_bytes = 0
    with written_whole(target, target.with_name(EXTRACT_PREFIX + target.name)) as partial:
        with partial.open("wb") as file:
            for chunk in archive.chunks(member):
                if should_stop():
                    raise ExtractionStopped("interrupted")
                num_bytes += len(chunk)
                if num_bytes > member.num_bytes:
                    break
                file.write(chunk)
                on_bytes(len(chunk))
        if num_bytes != member.num_bytes:
            raise ArchiveBroken(
                f"archive {path}: got {num_bytes:,} bytes of {member.name!r}, expected {member.num_bytes:,} as its "
                "header says; fetch it again"
            )


def _some(names: list[str]) -> str:
    rest = f", and {len(names) - NUM_NAMED} more" if len(names) > NUM_NAMED else ""
    return ", ".join(map(repr, names[:NUM_NAMED])) + rest
