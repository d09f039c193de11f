"""Corpus of small video files of unusual kinds, each with the frames that a player shows, known by construction.

Every picture shows its number as eight light or dark blocks above a red and a blue patch, so that a wrong frame, a
turned or mirrored picture and wrong colours are seen. PyAV makes all files; some are then changed byte by byte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

Picture = npt.NDArray[np.uint8]  # (H,W,3) RGB

WIDTH, HEIGHT = 128, 96
NUMBERS = tuple(range(5, 17))  # in the pictures of a file: no picture is black
NUM_BITS, NUM_COLUMNS = 8, 4
DARK, LIGHT = 40, 215
RED, BLUE = (200, 40, 40), (40, 40, 200)
QUIET: dict[str, Any] = {"x265-params": "log-level=none:pools=none:frame-threads=1"}
COLOURS_OFF = 60  # levels that coarse codecs at 4:2:0 may be wrong by


def painted(number: int, width: int = WIDTH, height: int = HEIGHT) -> Picture:
    """Return the picture of a number."""
    picture = np.empty((height, width, 3), np.uint8)
    for bit in range(NUM_BITS):
        row, column = divmod(bit, NUM_COLUMNS)
        level = LIGHT if number >> bit & 1 else DARK
        picture[row * height // 3 : (row + 1) * height // 3, column * width // 4 : (column + 1) * width // 4] = level
    picture[2 * height // 3 :, : width // 2], picture[2 * height // 3 :, width // 2 :] = RED, BLUE
    return picture


def number_of(picture: Picture, tolerance: int = COLOURS_OFF) -> int:
    """Return the number that a picture of any size shows, read in the middles of its parts; -1 if it shows none."""
    height, width, _ = picture.shape
    blocks = [
        picture[height * (2 * row + 1) // 6, width * (2 * column + 1) // 8].astype(int).mean()
        for row in range(2)
        for column in range(NUM_COLUMNS)
    ]
    patches = picture[height * 5 // 6, width // 4], picture[height * 5 // 6, width * 3 // 4]
    wrong = np.abs(np.array(patches, int) - np.array([RED, BLUE])).max()
    levels = [min(abs(block - DARK), abs(block - LIGHT)) for block in blocks]
    if wrong > tolerance or max(levels) > tolerance:
        return -1
    return sum(1 << bit for bit, block in enumerate(blocks) if block > 127)


def encode(
    path: Path,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    *,
    numbers: Iterable[int] = NUMBERS,
    picture: Callable[[int], Picture] = painted,
    times: Sequence[int] | None = None,
    aspect: Fraction | None = None,
    rotation: int = 0,
    space: str | None = None,
    is_full: bool = False,
    muxing: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Encode pictures at 25 frames per second.

    Args:
        path: the file; its suffix names the container.
        codec: FFmpeg's name of the encoder.
        pix_fmt: pixel format.
        numbers: numbers of the frames.
        picture: the picture of a number.
        times: time of each frame in 25ths of a second, if they are not one after another.
        aspect: width of a pixel divided by its height.
        rotation: what the container asks of a player, degrees counterclockwise.
        space: PyAV's name of the matrix, such as ITU709.
        is_full: whether levels have the full range.
        muxing: options of the container.
        options: options of the encoder.
    """
    from av.video.reformatter import ColorRange, Colorspace

    numbers = tuple(numbers)
    with av.open(str(path), "w", options=muxing or {}) as output:
        stream: Any = output.add_stream(codec, rate=25, options={"threads": "1", **options})
        stream.height, stream.width = picture(numbers[0]).shape[:2]
        stream.pix_fmt = pix_fmt
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for place, number in enumerate(numbers):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            colours = Colorspace[space] if space else None
            levels = ColorRange.JPEG if is_full else ColorRange.MPEG
            if space or is_full:
                frame = frame.reformat(format=pix_fmt, dst_colorspace=colours, dst_color_range=levels)
            frame.pts, frame.time_base = (times or range(len(numbers)))[place], Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def packets_of(path: Path) -> tuple[Any, list[Any]]:
    """Return an open container, whose stream is a template, and its packets in decoding order."""
    source = av.open(str(path))
    return source, [packet for packet in source.demux(video=0) if packet.size > 0]


def remux(source: Path, path: Path, change: Callable[[list[Any]], Iterable[Any]]) -> Path:
    """Copy packets into another container, as changed."""
    opened, packets = packets_of(source)
    with opened, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(opened.streams.video[0])
        for packet in change(packets):
            packet.stream = stream
            output.mux(packet)
    return path


def replaced(packet: Any, data: bytes) -> Any:
    """Return a packet with other bytes and the same times."""
    new: Any = av.Packet(data)
    new.pts, new.dts, new.time_base, new.duration = packet.pts, packet.dts, packet.time_base, packet.duration
    new.is_keyframe = packet.is_keyframe
    return new


def filtered(source: Path, path: Path, name: str) -> Path:
    """Copy a file through one of FFmpeg's bitstream filters."""
    from av.bitstream import BitStreamFilterContext

    opened, packets = packets_of(source)
    with opened, av.open(str(path), "w") as output:
        stream = output.add_stream_from_template(opened.streams.video[0])
        through = BitStreamFilterContext(name, opened.streams.video[0], stream)
        for packet in packets:
            is_key = packet.is_keyframe  # the filter takes the packet's content
            for changed in through.filter(packet):
                changed.stream, changed.is_keyframe = stream, is_key
                output.mux(changed)
    return path


def shifted(num_frames: int) -> Callable[[list[Any]], list[Any]]:
    """Return a change that moves all packets in time, by frames."""

    def change(packets: list[Any]) -> list[Any]:
        for packet in packets:
            ticks = int(Fraction(num_frames, 25) / packet.time_base)
            packet.pts, packet.dts = packet.pts + ticks, packet.dts + ticks
        return packets

    return change


def with_box(path: Path, parents: Sequence[bytes], box: bytes, *, header: int = 0, instead: bytes = b"") -> Path:
    """Put a box into an MP4 whose index is at its end.

    Args:
        path: the file, which is changed.
        parents: the boxes around it, from the outside.
        box: the box with its size and name.
        header: bytes between the last parent's name and its first box.
        instead: name of a box to take out, the first in the last parent.
    """
    data = path.read_bytes()
    places = []
    at = 0
    for parent in parents:
        at = data.index(parent, at)
        places.append(at - 4)
    start = at + 4 + header
    removed = 0
    if instead:
        start = data.index(instead, start) - 4
        removed = int.from_bytes(data[start : start + 4], "big")
    content = bytearray(data[:start] + box + data[start + removed :])
    for place in places:
        size = int.from_bytes(content[place : place + 4], "big") + len(box) - removed
        content[place : place + 4] = size.to_bytes(4, "big")
    path.write_bytes(content)
    return path


def words(*values: int) -> bytes:
    """Return 32-bit numbers, most significant byte first."""
    return b"".join((value & 0xFFFFFFFF).to_bytes(4, "big") for value in values)


def with_matrix(path: Path, a: float, b: float, c: float, d: float) -> Path:
    """Write the upper left of the display matrix into an MP4's first track header (ISO/IEC 14496-12, 8.3.2)."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 44
    values = [round(value * 65536) for value in (a, b, 0, c, d, 0, 0, 0, 16384)]
    data[start : start + 36] = words(*values)
    path.write_bytes(data)
    return path


def with_edits(path: Path, *edits: tuple[int, int]) -> Path:
    """Replace an MP4's edit list: (duration in 1000ths of a second, first time in 12800ths; -1 shows nothing)."""
    entries = b"".join(words(duration, start, 1 << 16) for duration, start in edits)
    listed = words(16 + len(entries)) + b"elst" + words(0, len(edits)) + entries
    box = words(8 + len(listed)) + b"edts" + listed
    return with_box(path, [b"moov", b"trak"], box, instead=b"edts")


def bordered(number: int, below: int = 24) -> Picture:
    """Return the picture of a number inside a green frame: 16 pixels left, 32 right, 8 above, some below."""
    picture = np.full((HEIGHT + 8 + below, WIDTH + 48, 3), (40, 200, 40), np.uint8)
    picture[8 : 8 + HEIGHT, 16 : 16 + WIDTH] = painted(number)
    return picture


def with_clean_aperture(path: Path) -> Path:
    """Hide the frame of `bordered` by MP4's `clap` (ISO/IEC 14496-12, 12.1.4): sizes and offsets of the middle."""
    box = words(40) + b"clap" + words(WIDTH, 1, HEIGHT, 1, -16, 2, -16, 2)
    return with_box(path, [b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"], box, header=78)


def with_pixel_crop(path: Path) -> Path:
    """Hide the frame of `bordered`, without its lower part, by Matroska's PixelCrop in place of the rotation."""
    data = path.read_bytes()
    rotation = data.index(b"\x76\x70\x8b")
    crops = b"\x54\xcc\x81\x10" + b"\x54\xdd\x81\x20" + b"\x54\xbb\x81\x08" + b"\xec\x80"
    path.write_bytes(data[:rotation] + crops + data[rotation + len(crops) :])
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Odd:
    """One file of the corpus, and what has to come of it."""

    make: Callable[[Path], Path]
    """Write it into a folder."""

    numbers: tuple[int, ...] = NUMBERS
    """Numbers of the frames that a player shows."""

    size: tuple[int, int] = (WIDTH, HEIGHT)
    """Width and height that it shows."""

    refused: tuple[str, ...] = ()
    """Reasons of which one is expected; none: the frames."""

    is_whole: bool = True
    """Whether the file is sound; a damaged one is refused for any reason, or all its frames are right."""

    tolerance: int = COLOURS_OFF
    """Levels by which colours may be wrong."""

    notes: tuple[str, ...] = ()
    """Words that the manifest has to hold about the picture."""

    def refusing(self, *reasons: str) -> Odd:
        """Return it with the reasons for which it is refused."""
        return replace(self, refused=reasons)
