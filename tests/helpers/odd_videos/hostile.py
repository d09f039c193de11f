"""Hostile videos: headers that promise too much, pictures too large, times far apart, and lists that lead elsewhere.

`SMALL` takes milliseconds to make; `LARGE` has real pictures or packets, and is made by `benchmarks.hostile`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

Maker = Callable[[Path], Path]
DAY_SECONDS = 86_400


def encoded(
    path: Path,
    size: tuple[int, int] = (160, 120),
    times: Sequence[int] = range(12),
    *,
    codec: str = "libx264",
    base: Fraction = Fraction(1, 25),
) -> Path:
    """Write a video of grey frames at these times, in units of the time base."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = base
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "x264-params": "threads=1:keyint=2:bframes=0"}
        frame = av.VideoFrame(*size, "yuv420p")
        for plane in frame.planes:
            plane.update(bytes([128]) * plane.buffer_size)
        for time in times:
            frame.pts, frame.time_base = time, base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def patched(name: str, marker: bytes, offset: int, value: bytes) -> Maker:
    """Return the maker of a video in which bytes after the first place of a marker are replaced."""

    def make(folder: Path) -> Path:
        path = encoded(folder / name)
        data = bytearray(path.read_bytes())
        at = data.index(marker) + len(marker) + offset
        data[at : at + len(value)] = value
        path.write_bytes(data)
        return path

    return make


def png_in_mov(width: int, height: int) -> Maker:
    """Return the maker of a MOV of PNG whose pictures state another size than the container."""

    def make(folder: Path) -> Path:
        path = folder / "png.mov"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("png", rate=25)
            stream.width, stream.height, stream.pix_fmt = 160, 120, "rgb24"
            for packet in stream.encode(av.VideoFrame(160, 120, "rgb24")):
                container.mux(packet)
            container.mux(stream.encode())
        data = bytearray(path.read_bytes())
        at = data.index(b"IHDR")
        data[at + 4 : at + 12] = struct.pack(">II", width, height)
        data[at + 17 : at + 21] = struct.pack(">I", zlib.crc32(data[at : at + 17]))
        path.write_bytes(data)
        return path

    return make


def gif(width: int, height: int) -> Maker:
    """Return the maker of a GIF with one pixel on a large screen."""

    def make(folder: Path) -> Path:
        path = folder / "screen.gif"
        head = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
        path.write_bytes(head + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00;")
        return path

    return make


def text(name: str, content: str) -> Maker:
    """Return the maker of a list that leads to a video beside it."""

    def make(folder: Path) -> Path:
        encoded(folder / "other.ts", codec="mpeg2video")
        path = folder / name
        path.write_text(content)
        return path

    return make


def times(name: str, at: Sequence[int], base: Fraction = Fraction(1, 25)) -> Maker:
    """Return the maker of a video with frames at these times."""
    return lambda folder: encoded(folder / name, times=at, base=base)


def pixels(name: str, width: int, height: int, num_frames: int = 3) -> Maker:
    """Return the maker of a video with real frames of this size."""
    return lambda folder: encoded(folder / name, (width, height), range(num_frames))


def many_packets(num_packets: int) -> Maker:
    """Return the maker of a video with this many packets of a few bytes."""

    def make(folder: Path) -> Path:
        path = folder / "packets.nut"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("rawvideo", rate=25)
            stream.width, stream.height, stream.pix_fmt = 1, 1, "gray"
            for time in range(num_packets):
                packet = av.Packet(b"\0")
                packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, time, time, True
                container.mux(packet)
        return path

    return make


def grows(folder: Path) -> Path:
    """Write a raw stream whose pictures become large in the middle."""
    parts = [encoded(folder / f"part{side}.h264", (side, side)).read_bytes() for side in (160, 8000)]
    path = folder / "grows.h264"
    path.write_bytes(b"".join(parts))
    return path


MOST_32, MOST_63 = b"\xff" * 4, b"\x7f" + b"\xff" * 7
HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.ts\n#EXT-X-ENDLIST\n"
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
    '<Representation id="1"><BaseURL>other.ts</BaseURL></Representation></AdaptationSet></Period></MPD>'
)
SMALL: dict[str, Maker] = {
    "PNG of 60,000 × 60,000": png_in_mov(60_000, 60_000),
    "PNG of 16,000 × 16,000": png_in_mov(16_000, 16_000),
    "GIF of 65,535 × 65,535": gif(65_535, 65_535),
    "GIF of 16,000 × 16,000": gif(16_000, 16_000),
    "MP4, 2^32-1 samples": patched("stsz.mp4", b"stsz", 8, MOST_32),
    "MP4, 2^32-1 samples at one rate": patched("stts.mp4", b"stts", 8, MOST_32),
    "MP4, duration of 2^32-1": patched("mvhd.mp4", b"mvhd", 16, MOST_32),
    "MP4, stream's duration of 2^32-1": patched("mdhd.mp4", b"mdhd", 16, MOST_32),
    "MP4, time scale of 1": patched("scale.mp4", b"mdhd", 12, b"\0\0\0\1"),
    "MP4, 2^32-1 edits": patched("elst.mp4", b"elst", 4, MOST_32),
    "MP4, edit of 2^63-1": patched("edit.mp4", b"elst", 8, MOST_32),
    "MP4, configuration of 2^31-1 bytes": patched("avcc.mp4", b"avcC", -8, b"\x7f\xff\xff\xff"),
    "AVI, 2^32-1 frames": patched("frames.avi", b"avih", 20, MOST_32),
    "AVI, 2^32-1 frames of the stream": patched("length.avi", b"strh", 36, MOST_32),
    "AVI, 10^9 frames per second": patched("rate.avi", b"strh", 28, struct.pack("<I", 10**9)),
    "AVI, 10^-9 frames per second": patched("slow.avi", b"strh", 24, struct.pack("<I", 10**9)),
    "MKV, cluster of 2^56-2 bytes": patched("cluster.mkv", b"\x1f\x43\xb6\x75", 0, b"\x01" + b"\xff" * 6 + b"\xfe"),
    "MKV, a day between two frames": times("day.mkv", [*range(6), 25 * DAY_SECONDS, 25 * DAY_SECONDS + 1]),
    "MP4, 10^9 s between two frames": times("age.mp4", [0, 10**9, 2 * 10**9], Fraction(1)),
    "HLS named MP4": text("hls.mp4", HLS),
    "concat named MP4": text("concat.mp4", "ffconcat version 1.0\nfile other.ts\n"),
    "DASH named MP4": text("dash.mp4", DASH),
    "SDP named MP4": text("sdp.mp4", SDP),
}
LARGE: dict[str, Maker] = {
    "H.264 of 16,000 × 16,000": pixels("h264.mp4", 16_000, 16_000),
    "the same in MPEG-TS": pixels("h264.ts", 16_000, 16_000),
    "H.264 of 16,384 × 8,704": pixels("level.mp4", 16_384, 8_704),
    "H.264 of 8,192 × 8,192": pixels("square.mkv", 8_192, 8_192, 6),
    "H.264 of 7,680 × 4,320": pixels("8k.mp4", 7_680, 4_320, 8),
    "160 × 160, then 8,000 × 8,000": grows,
    "3,000,000 packets": many_packets(3_000_000),
}
