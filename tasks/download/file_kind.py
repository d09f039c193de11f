"""Recognition of file kinds by their first bytes, so that a web page is not stored under a video's name."""

from __future__ import annotations

from enum import StrEnum

# A tar header is one block of 512 bytes, with its magic at 257.
SNIFF_BYTES = 512

_TAR_MAGIC_AT = 257
_TAR_CHECKSUM = slice(148, 156)
# Boxes that an MP4 or QuickTime file may begin with; their names follow four bytes of length.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
_MAGICS = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without members
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    # The number with which torch.save began its files before PyTorch 1.6 (torch.serialization.MAGIC_NUMBER), pickled.
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": "a PyTorch file",
}


class Content(StrEnum):
    """Expected kind of a file."""

    VIDEO = "video"
    ARCHIVE = "archive"
    WEIGHTS = "weights"


_ALLOWED = {
    Content.VIDEO: frozenset({"mp4"}),
    Content.ARCHIVE: frozenset({"zip", "tar", "gzip", "bzip2", "xz"}),
    Content.WEIGHTS: frozenset({"zip", "a PyTorch file"}),
}
_EXPECTED = {
    Content.VIDEO: "an MP4 video",
    Content.ARCHIVE: "a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz archive",
    Content.WEIGHTS: "a file that torch.save wrote",
}


def kind_of(head: bytes) -> str:
    """Return the kind of a file.

    Args:
        head: its first `SNIFF_BYTES` bytes, or all bytes of a shorter file.

    Returns:
        `mp4`, `zip`, `tar`, `gzip`, `bzip2`, `xz`, `7z`, `rar`, `a PyTorch file` (of the old form; the present one is
        a `zip`), `a web page`, `JSON`, `nothing` or `something else`.
    """
    if not head:
        return "nothing"
    for magic, kind in _MAGICS.items():
        if head.startswith(magic):
            return kind
    if head[4:8] in _MP4_BOXES:
        return "mp4"
    if _is_tar_header(head):
        return "tar"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        return "a web page"
    return "JSON" if text.startswith((b"{", b"[")) else "something else"


def refusal(head: bytes, content: Content, content_type: str = "") -> str | None:
    """Return why a file is not of the expected kind; None if it is.

    The first bytes decide. The type in the server's answer is only quoted, since many servers give none or a wrong one.
    """
    kind = kind_of(head)
    if kind in _ALLOWED[content]:
        return None
    claimed = f" (sent as {content_type.partition(';')[0].strip()})" if content_type else ""
    return f"got {kind}{claimed}, expected {_EXPECTED[content]}"


def _is_tar_header(block: bytes) -> bool:
    """Return whether the block is a tar header: by its magic, or by its checksum in archives older than POSIX."""
    if block[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return True
    digits = block[_TAR_CHECKSUM].strip(b"\0 ")
    if len(block) < SNIFF_BYTES or not digits or not set(digits) <= set(b"01234567"):
        return False
    return int(digits, 8) == sum(block) - sum(block[_TAR_CHECKSUM]) + 8 * ord(" ")
