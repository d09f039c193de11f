"""Test videos of which every frame is known: plain, unusual and damaged ones.

The expected frames of a file are a slice of the frames that PyAV decodes from its undamaged parent, one after another
from the first. All files are encoded, recut or damaged here, so they can be made again.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from av import VideoStream

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
FPS = 25
CELL_PX = 8  # pictures are compared by the mean colours of cells of this size: conversion to RGB may differ by a level
SMALL = (240, 320)  # height, width in pixels
NUM_NUMBER_BITS = 12  # of the frame number painted into each picture

Pixels = npt.NDArray[np.uint8]  # (T,H,W,3) RGB
Thumbnails = npt.NDArray[np.float32]  # (T,h,w,3) mean colours of cells


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A file and its expected frames."""

    name: str
    """Name in the tables."""

    path: Path
    """The file."""

    truth: Thumbnails
    """(T,h,w,3) thumbnails of every frame that a player shows, in order; of a damaged file, those still in it."""

    is_whole: bool = True
    """Whether all frames are there; if False, a decoder has to report that frames are missing."""


def paint(number: int, height: int, width: int) -> Pixels:
    """Return a (1,H,W,3) picture that shows its number: moving waves, and the number's bits as light and dark bars."""
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [127 + 90 * np.sin((columns * speed + rows * 2 + number * 40) / 61) for speed in (1, 2, 3)]
    picture = np.stack(waves, axis=-1).astype(np.uint8)
    for bit in range(NUM_NUMBER_BITS):
        bar = slice(bit * width // NUM_NUMBER_BITS, (bit + 1) * width // NUM_NUMBER_BITS)
        picture[: height // 4, bar] = 230 if number >> bit & 1 else 20
    return picture[None]


def encode(path: Path, num_frames: int, size: tuple[int, int], *, codec: str = "libx264", **options: str) -> Path:
    """Encode painted frames of (height, width), 25 a second, with the index in front."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = cast("VideoStream", container.add_stream(codec, rate=FPS, options={"preset": "veryfast", **options}))
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(paint(number, *size)[0], format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def remux(source: Path, path: Path, change: Callable[[int, Any], bool]) -> Path:
    """Copy the packets that `change(number in the stream, packet)` keeps, with the times it gives them."""
    import av

    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size > 0 and change(number, packet):
                packet.stream = stream
                new.mux(packet)
    return path


def thumbnails(pictures: Pixels) -> Thumbnails:
    """Return the (T,h,w,3) mean colours of the cells of (T,H,W,3) pictures."""
    frames, height, width, _ = pictures.shape
    height, width = height // CELL_PX * CELL_PX, width // CELL_PX * CELL_PX
    cells = pictures[:, :height, :width].reshape(frames, height // CELL_PX, CELL_PX, width // CELL_PX, CELL_PX, 3)
    means: Thumbnails = cells.mean(axis=(2, 4), dtype=np.float32)
    return means


def truth_of(path: Path) -> Thumbnails:
    """Return the thumbnails of every frame that PyAV decodes in one go, turned upright."""
    import av

    found = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = cast("Pixels", frame.to_ndarray(format="rgb24"))
            found.append(thumbnails(np.rot90(picture, frame.rotation // 90)[None]))
    return np.concatenate(found)


def timing_clip(folder: Path) -> Clip:
    """Make the clip for timing: 12 seconds of 720p, two groups of pictures, B-frames."""
    path = encode(folder / "synthetic_720p.mp4", 300, (720, 1280), g="150", bf="2")
    return Clip(name="synthetic 720p", path=path, truth=truth_of(path))


def real_clips(folder: Path) -> list[Clip]:
    """Return the videos under a folder, with all their frames as the truth."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not paths:
        raise SystemExit(f"--clips: got {folder} without videos, expected a folder with {', '.join(VIDEO_SUFFIXES)}")
    return [Clip(name=str(path.relative_to(folder)), path=path, truth=truth_of(path)) for path in paths]


def unusual_clips(folder: Path) -> Iterator[Clip]:
    """Make undamaged files of unusual kinds, as cameras and editors write them."""
    plain = encode(folder / "plain.mp4", 200, SMALL, g="50", bf="2")
    truth = truth_of(plain)
    yield Clip(name="plain H.264", path=plain, truth=truth)
    x265 = encode(folder / "x265.mp4", 200, SMALL, codec="libx265", g="50", **{"x265-params": "log-level=none"})
    yield Clip(name="x265, open groups", path=x265, truth=truth_of(x265))
    kept = [number for number in range(200) if number < 80 or number % 3 == 0]
    even = encode(folder / "even.mp4", 200, SMALL, g="1")
    uneven = remux(even, folder / "uneven.mp4", lambda number, _: number in kept)
    yield Clip(name="variable frame rate", path=uneven, truth=truth_of(even)[kept])
    rotated = folder / "rotated.mp4"
    rotated.write_bytes(with_quarter_turn(plain.read_bytes()))
    yield Clip(name="rotated by 90°", path=rotated, truth=np.rot90(truth, -1, (1, 2)))
    yield hiding(plain, truth, 33, "groups of 50")
    one_group = encode(folder / "one_group.mp4", 600, SMALL, g="1000", sc_threshold="0")
    long_truth = truth_of(one_group)
    yield hiding(one_group, long_truth, 33, "one group")
    yield hiding(one_group, long_truth, 300, "one group")


def hiding(source: Path, truth: Thumbnails, num_hidden: int, groups: str) -> Clip:
    """Hide the first frames with an edit list, as cutting without encoding does: the muxer hides times before 0."""

    def earlier(_: int, packet: Any) -> bool:
        ticks = int(Fraction(num_hidden, FPS) / packet.time_base)
        packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
        return True

    path = remux(source, source.with_name(f"{source.stem}_hides_{num_hidden}.mp4"), earlier)
    return Clip(name=f"{num_hidden} frames hidden, {groups}", path=path, truth=truth[num_hidden:])


def with_quarter_turn(content: bytes) -> bytes:
    """Write the matrix of a quarter turn clockwise into an MP4's first track header (ISO/IEC 14496-12, 8.3.2)."""
    matrix_at = content.index(b"tkhd") + 44
    quarter_turn = (0, 1 << 16, 0, -1 << 16, 0, 0, SMALL[0] << 16, 0, 1 << 30)
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in quarter_turn)
    return content[:matrix_at] + matrix + content[matrix_at + len(matrix) :]


def damaged_clips(folder: Path) -> Iterator[Clip]:
    """Make damaged files."""
    plain = encode(folder / "to_be_damaged.mp4", 200, SMALL, g="50", bf="2")
    truth, content = truth_of(plain), plain.read_bytes()
    index_last = remux(plain, folder / "index_last.mp4", lambda *_: True).read_bytes()
    num_kept, payload = len(content) * 6 // 10, content.index(b"mdat") + 4
    noise = random.Random(0)
    corrupt = bytearray(content)
    for _ in range(200):
        corrupt[noise.randrange(payload + (len(content) - payload) // 3, len(content))] = noise.randrange(256)
    files = {
        "zero bytes": b"",
        "text named .mp4": b"no video at all\n" * 200,
        "cut to 60 %, index first": content[:num_kept],
        "cut to 60 %, index last": index_last[: len(index_last) * 6 // 10],
        "200 bytes overwritten": bytes(corrupt),
        "last 40 % zeroed": content[:num_kept].ljust(len(content), b"\0"),
        "all frames zeroed": content[:payload].ljust(len(content), b"\0"),
        "audio only": audio_only(folder / "audio.mp4"),
    }
    for number, (name, damaged) in enumerate(files.items()):
        path = folder / f"damaged_{number}.mp4"
        path.write_bytes(damaged)
        yield Clip(name=name, path=path, truth=truth, is_whole=False)
    headless = remux(plain, folder / "headless.mp4", lambda number, _: number >= 10)
    yield Clip(name="does not begin with a key frame", path=headless, truth=truth[50:], is_whole=False)


def audio_only(path: Path) -> bytes:
    """Return an MP4 of one second of silence."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode()])
    return path.read_bytes()
