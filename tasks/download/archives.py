"""Readers of archives: zip, tar, and tar compressed by gzip, bzip2 or xz, recognised by their bytes, not their names.

The readers return only plain files, with names below the folder that they are extracted to. An archive with anything
else in it (links, devices, `..`, absolute names, encrypted members) is refused as a whole: datasets have no such
members, and half an archive is worse than an error.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from manifests.datasets.file_kind import SNIFF_BYTES, kind_of
from manifests.errors import FaceshardsError, UserError
from tasks.download.file_kind import Content, refusal

CHUNK_BYTES = 1024 * 1024
# The longest piece read at once. A tar's own headers are shorter; a header that claims more would fill the memory.
MAX_READ_BYTES = CHUNK_BYTES
MAX_TRAILER_BYTES = 16 * 1024 * 1024  # padding after the last member of a tar; tar pads to 10 KiB, or 512 KiB at most

_OPENERS: dict[str, Callable[[Path], Any]] = {
    "tar": lambda path: path.open("rb"),
    "gzip": gzip.open,
    "bzip2": bz2.open,
    "xz": lzma.open,
}
_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    RecursionError,  # a chain of headers without end
)
_WINDOWS_DRIVE = re.compile(r"[A-Za-z]:")


class ArchiveError(UserError):
    """An archive is broken, or holds members that must not be extracted."""


class ArchiveBroken(ArchiveError):
    """The bytes of an archive are damaged: another download may succeed."""


class ExtractionStopped(FaceshardsError):
    """The run was interrupted; extracted files are kept, and the next run resumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive."""

    name: str
    """POSIX path below the folder of extraction."""

    num_bytes: int
    """Length of its contents according to the archive, bytes; may be wrong."""

    handle: Any
    """Description of the file in its archive: a ZipInfo or TarInfo."""


class Archive(Protocol):
    """An open archive."""

    def members(self) -> Iterator[Member]:
        """Yield its files in order.

        Raises:
            ArchiveError: the archive is broken, or holds other members than files.
        """

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Yield a file's contents in pieces, checked against the archive's own checksum if it has one.

        Raises:
            ArchiveError: the archive is broken.
        """


@contextmanager
def open_archive(path: Path, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Archive]:
    """Open an archive of any kind.

    Args:
        path: the file.
        should_stop: called repeatedly while a compressed tar is read up to a position.

    Raises:
        ArchiveError: the file is not an archive, or a broken one.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(SNIFF_BYTES)
    wrong = refusal(head, Content.ARCHIVE)
    if wrong is not None:
        raise ArchiveError(f"archive {path}: {wrong}")
    kind = kind_of(head)
    with ExitStack() as opened:
        with _reading(path):
            if kind == "zip":
                archive: Archive = _Zip(path, opened.enter_context(zipfile.ZipFile(path)))
            else:
                stream = opened.enter_context(_OPENERS[kind](path))
                archive = _Tar(path, _Guarded(stream, should_stop, is_packed=kind != "tar"))
        yield archive


def safe_name(name: str) -> str:
    """Return a member's name as a POSIX path below the folder of extraction.

    Raises:
        ArchiveError: the name leads out of the folder, on this system or on another.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    leads_out = name.startswith("/") or ".." in parts or _WINDOWS_DRIVE.match(name)
    if not parts or leads_out or "\\" in name or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise ArchiveError(f"member: got the name {name!r}, expected one that stays below the folder of extraction")
    return "/".join(parts)


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self._path = path
        self._archive = archive

    def members(self) -> Iterator[Member]:
        for info in self._archive.infolist():
            if info.flag_bits & 1:
                raise ArchiveError(
                    f"archive {self._path}: got {info.filename!r} encrypted, expected no encrypted file; "
                    "extract it by hand with its password"
                )
            file_type = stat.S_IFMT(info.external_attr >> 16)
            if info.is_dir():
                continue
            if file_type not in (0, stat.S_IFREG):
                raise _not_a_file(self._path, info.filename)
            yield Member(name=safe_name(info.filename), num_bytes=info.file_size, handle=info)

    def chunks(self, member: Member) -> Iterator[bytes]:
        with _reading(self._path), self._archive.open(member.handle) as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


class _Tar:
    def __init__(self, path: Path, stream: _Guarded) -> None:
        self._path = path
        self._stream = stream
        self._archive = tarfile.TarFile(fileobj=cast(Any, stream), mode="r")

    def members(self) -> Iterator[Member]:
        with _reading(self._path):
            for info in self._archive:
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise _not_a_file(self._path, info.name)
                yield Member(name=safe_name(info.name), num_bytes=info.size, handle=info)
            self._require_end()

    def chunks(self, member: Member) -> Iterator[bytes]:
        with _reading(self._path):
            file = self._archive.extractfile(member.handle)
            while chunk := file.read(CHUNK_BYTES) if file else b"":
                yield chunk

    def _require_end(self) -> None:
        """Read on after the last member: for tarfile, garbage or a cut is an end, and gzip checks only at its end."""
        self._stream.seek(self._archive.offset)
        block = self._stream.read(tarfile.BLOCKSIZE)
        if len(block) != tarfile.BLOCKSIZE or any(block):
            raise tarfile.ReadError("it ends without its closing block")
        num_read = 0
        while chunk := self._stream.read(CHUNK_BYTES):
            num_read += len(chunk)
            if num_read > MAX_TRAILER_BYTES:
                raise tarfile.ReadError(f"more than {MAX_TRAILER_BYTES:,} bytes follow its end")


class _Guarded:
    """A stream that limits the size of each read, to protect the memory, and that can be stopped while it seeks."""

    def __init__(self, stream: Any, should_stop: Callable[[], bool], *, is_packed: bool) -> None:
        self._stream = stream
        self._should_stop = should_stop
        self._is_packed = is_packed

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_READ_BYTES:
            raise tarfile.ReadError(f"it claims a header of {size:,} bytes")
        return bytes(self._stream.read(size))

    def seek(self, position: int) -> int:
        """Go to a position from the start, in bytes; a compressed stream is unpacked up to there."""
        if not self._is_packed or position < self.tell():
            return int(self._stream.seek(position))
        while (left := position - self.tell()) > 0 and self._stream.read(min(left, CHUNK_BYTES)):
            if self._should_stop():
                raise ExtractionStopped("interrupted")
        return self.tell()

    def tell(self) -> int:
        return int(self._stream.tell())


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn errors of a broken archive into ours; errors of the disk stay.

    Raises:
        ArchiveError: the archive is broken, or compressed in a way that is not supported here.
    """
    try:
        yield
    except _BROKEN as error:
        raise _broken(path, error) from error
    except NotImplementedError as error:
        raise ArchiveError(
            f"archive {path}: got {error}, expected deflate, bzip2 or xz; extract it by hand, with 7-Zip for instance"
        ) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _broken(path, error) from error  # the exception of gzip and bzip2 for broken data


def _broken(path: Path, error: Exception) -> ArchiveBroken:
    why = str(error) or type(error).__name__
    return ArchiveBroken(f"archive {path}: got broken data ({why}), expected a whole archive; fetch it again")


def _not_a_file(path: Path, name: str) -> ArchiveError:
    return ArchiveError(
        f"archive {path}: got {name!r}, a link, a device or a file with holes, expected files and folders only; "
        "inspect it, and extract by hand what you trust"
    )
