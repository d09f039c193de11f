"""Atomic writes, safe reads, locks and digests of files.

A file gets its own name only when it is complete and synced to disk; until then its name is `.partial-…`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path

PARTIAL_PREFIX = ".partial-"


@contextmanager
def open_regular(path: Path, max_bytes: int | None = None) -> Iterator[BufferedReader]:
    """Open a file for reading in bytes; a pipe, which may block for ever, and a device, which has no end, are refused.

    Args:
        path: a regular file, or a link to one.
        max_bytes: the largest size that is accepted; None: any.

    Raises:
        OSError: the file cannot be opened, is not a regular file or is too large; `strerror` says which.
    """
    try:
        # Opening a pipe without O_NONBLOCK waits for a writer. On a regular file the flag has no effect.
        opened = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    except ValueError as error:  # a zero byte, or a character that is no text
        raise OSError(errno.EINVAL, "a path that no file can have", str(path)) from error
    with opened as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            kind = "a pipe" if stat.S_ISFIFO(found.st_mode) else "a device"
            raise OSError(errno.EINVAL, f"{kind}, not a regular file", str(path))
        if max_bytes is not None and found.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"a file of {found.st_size:,} bytes, more than {max_bytes:,}", str(path))
        yield file


@contextmanager
def open_text(path: Path) -> Iterator[TextIOWrapper]:
    """Open a regular file for reading UTF-8, with or without a byte order mark; line ends are not translated.

    Raises:
        OSError: see `open_regular`.
    """
    with open_regular(path) as file, TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
        yield text


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_to_be(path: Path) -> Path:
    """Return a path at which there is a folder, or at which one can be created.

    Raises:
        ValueError: there is a file at the path, or no folder can have this name.
    """
    try:
        if path.exists() and not path.is_dir():
            raise ValueError("expected a folder, and this is a file")
    except OSError as error:
        raise ValueError(f"expected the path of a folder: {error.strerror}") from error
    return path


@contextmanager
def written_whole(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path to write to; the file gets its own name when the block ends without an error.

    Args:
        path: final path of the file; an existing file is replaced.
        partial: temporary path in the same folder; by default one that contains the process id.
    """
    partial = partial or path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}")
    try:
        yield partial
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file atomically: after a crash at any moment it has either all new bytes or its earlier content."""
    with written_whole(path) as partial:
        partial.write_bytes(data)


def publish(partial: Path, path: Path) -> None:
    """Sync a finished file to disk and rename it to its own name; both paths are in one file system."""
    with partial.open("rb") as written:
        os.fsync(written.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Sync a folder to disk, and with it the names of its files."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_partials(folder: Path) -> tuple[str, ...]:
    """Delete the half-written files of killed processes from a folder; no other process may be writing to it.

    Returns:
        The names that were deleted.
    """
    leftovers = sorted(folder.glob(f"{PARTIAL_PREFIX}*"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return tuple(leftover.name for leftover in leftovers)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a file or a folder; the kernel releases it when the process ends in any way.

    Spawned processes do not inherit the lock.

    Args:
        path: a folder that exists, or a file, which is created and stays: two processes that each delete and create
            it would lock two different files.
        wait: wait until the lock is free.

    Raises:
        BlockingIOError: another process, or another thread of this one, holds the lock, and `wait` is False.
        OSError: the path cannot be opened, or its file system has no locks.
    """
    import fcntl  # here, since reading a store works on systems without it

    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    descriptor = os.open(path, flags, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)
