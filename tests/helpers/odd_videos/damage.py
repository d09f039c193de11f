"""Damage of files, byte by byte."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path


def cut(content: bytes) -> bytes:
    """End at 60 %, as a broken download."""
    return content[: len(content) * 6 // 10]


def zeroed(content: bytes) -> bytes:
    """Overwrite from 50 % to 80 % by zeros, as a download in parts whose part is missing."""
    start, end = len(content) // 2, len(content) * 8 // 10
    return content[:start] + bytes(end - start) + content[end:]


def overwritten(mark: bytes, start: int, value: bytes, content: bytes) -> bytes:
    """Overwrite bytes that begin some bytes after a mark in the second half of a file, or the first mark in it."""
    found = content.find(mark, len(content) // 2)
    place = (content.index(mark) if found < 0 else found) + start
    return content[:place] + value + content[place + len(value) :]


def listed_twice(content: bytes) -> bytes:
    """List the fourth picture in the place of the third in an AVI's index."""
    place = content.index(b"idx1") + 8 + 2 * 16
    return content[:place] + content[place + 16 : place + 32] + content[place + 16 :]


# name → coding, container, change that the container or the content of a packet contradicts
CONTRADICTIONS: dict[str, tuple[str, str, Callable[[bytes], bytes]]] = {
    "times of other pictures (stts)": ("H.264 B", "mp4", partial(overwritten, b"stts", 15, b"\x0b")),
    "display times of other pictures (ctts)": ("H.264 B", "mp4", partial(overwritten, b"ctts", 14, b"\1")),
    "places of other pictures (stsc)": ("ProRes", "mov", partial(overwritten, b"stsc", 19, b"\1")),
    "a chunk without its name": ("HuffYUV", "avi", partial(overwritten, b"00dc", 0, bytes(4))),
    "a chunk of another length": ("MJPEG", "avi", partial(overwritten, b"00dc", 5, b"\3")),
    "a picture that is listed twice": ("raw", "avi", listed_twice),
    "no cluster": ("VP8", "webm", partial(overwritten, b"\xa3\x40", 0, bytes(9))),
    "zeros in a picture": ("VP8", "webm", partial(overwritten, b"\x9d\1\x2a", 20, bytes(64))),
    "zeros in a VP9 picture": ("VP9", "mp4", partial(overwritten, b"\x49\x83\x42", 40, bytes(64))),
    "a tag of unknown kind": ("H.264", "flv", partial(overwritten, b"\0\0\0\0\x27\1\0\0", -7, b"\0")),
    "a tag of another length": ("H.264", "flv", partial(overwritten, b"\0\0\0\0\x27\1\0\0", -6, b"\0\1\0")),
    "a packet without its first byte": ("H.264", "m2ts", lambda content: content[:964] + b"\0" + content[965:]),
    "a picture without data": ("MJPEG", "mov", partial(overwritten, b"\xff\xda", 1, b"\xfe")),
    "commands beyond the picture": ("QT animation", "mov", zeroed),
    "no block": ("GIF", "gif", zeroed),
}


def damaged(change: Callable[[bytes], bytes], make: Callable[[Path], Path], folder: Path) -> Path:
    """Make a file and change its bytes."""
    path = make(folder)
    path.write_bytes(change(path.read_bytes()))
    return path
