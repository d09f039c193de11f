"""Readers of archives: zip, tar, and tar compressed by gzip, bzip2 or xz, told apart by their bytes, not their names.

Only plain files come out of here, under names that stay below the folder that they are extracted to. An archive with
anything else in it (links, devices, `..`, absolute names, encrypted members) is refused as a whole: datasets have none,
and half an archive is worse than a message.
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

from manifests.errors import FaceshardsError, UserError
from tasks.download.file_kind import SNIFF_BYTES, Content, kind_of, refusal

CHUNK_BYTES = 1024 * 1024
# The longest piece read at once. A tar's own headers are shorter; one that claims more would fill the memory.
MAX_READ_BYTES = CHUNK_BYTES
MAX_TRAILER_BYTES = 16 * 1024 * 1024  # padding behind the last member of a tar; tar pads to 10 KiB, or 512 KiB at most

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
    """An archive is broken, or holds what must not be extracted."""


class ArchiveBroken(ArchiveError):
    """The bytes of an archive are damaged: another download may give the whole archive."""


class ExtractionStopped(FaceshardsError):
    """The run was interrupted; what was extracted stays, and the next run goes on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of an archive."""

    name: str
    """POSIX path below the folder of extraction."""

    num_bytes: int
    """Length of its contents as the archive claims it; may be a lie."""

    handle: Any
    """How its archive knows it: a ZipInfo or TarInfo."""


class Archive(Protocol):
    """An open archive."""

    def members(self) -> Iterator[Member]:
        """Yield its files in order.

        Raises:
            ArchiveError: it is broken or holds something else than files.
        """

    def chunks(self, member: Member) -> Iterator[bytes]:
        """Yield a file's contents in pieces, checked against the archive's own checksum where it has one.

        Raises:
            ArchiveError: it is broken.
        """


@contextmanager
def open_archive(path: Path, should_stop: Callable[[], bool] = lambda: False) -> Iterator[Archive]:
    """Open an archive of any kind.

    Args:
        path: the file.
        should_stop: asked again and again while a compressed tar is wound forward.

    Raises:
        ArchiveError: it is no archive, or a broken one.
        OSError: it cannot be read.
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
        ArchiveError: it leads elsewhere, on this system or on another.
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
                    f"archive {self._path}: got {info.filename!r} encrypted, expected it readable; "
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
        """Read what is behind the last member: tarfile takes garbage and a cut for an end, gzip checks at its end."""
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
    """A stream that reads no more at once than is good for the memory, and that can be stopped while it is wound on."""

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
    """Tell a broken archive from a disk that cannot be read.

    Raises:
        ArchiveError: the archive is broken, or compressed in a way that nobody here can undo.
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
        raise _broken(path, error) from error  # gzip's and bzip2's word for broken data


def _broken(path: Path, error: Exception) -> ArchiveBroken:
    why = str(error) or type(error).__name__
    return ArchiveBroken(f"archive {path}: got broken data ({why}), expected a whole archive; fetch it again")


def _not_a_file(path: Path, name: str) -> ArchiveError:
    return ArchiveError(
        f"archive {path}: got {name!r}, a link, a device or a file with holes, expected files and folders only; "
        "look at it, and extract by hand what you trust"
    )
