"""Feed of a file's packets into FFmpeg's decoder, which notes damage by every sign that FFmpeg gives.

    packet    marked corrupt: cut short, or others before it are lost, as counters of MPEG-TS tell; not just before a
              key frame, where segments of a download or a broadcast are joined
    error     FFmpeg cannot read or decode the packet
    content   zeros for a part of a VP8 or VP9 picture, or no data of a JPEG picture
    frame     marked corrupt, or parts of it are concealed
    log       a line of FFmpeg's log that has no other sign, see DAMAGE_LINES; `crccheck` compares checksums

How much this finds was measured with benchmarks/damage.py: one or three bits are changed in files of each coding, and
a file counts as visibly damaged if a frame differs from the sound one by more than 2 of 255 levels on average.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from manifests.probe.container import open_video
from manifests.probe.ffmpeg_log import log_lines
from tasks.media import Stage

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Codings and containers, by FFmpeg's names, whose damage has no other sign than a line of the log.
TOLD_BY_LOG = {"hevc", "mjpeg", "ffv1", "msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "qtrle", "ogg", "asf"}
DAMAGE_LINES = re.compile(
    "mismatch|undecodable NALU|Could not find ref with POC|error y=|bad vlc|error count|overflow|concealing|"
    "fragment position invalid|overread|Problem: pixel_ptr"
)
ZEROS = bytes(64)  # no arithmetic coder writes so many for a picture; a lost sector has at least 512
JPEG_SCAN = b"\xff\xda"  # marker before the data of a picture (ITU-T T.81, B.2.3)
MAX_JOINED_PACKETS = 3  # from a mark to the key frame: FFmpeg marks the packet that it was putting together
# Times of frames that a muxer wrote in a wrong order differ by a few frames, joined recordings by more.
MAX_STEP_BACK_SECONDS = 0.5
MAX_NAMED_RANGES = 5  # of damaged frames in one message


class Fault(Exception):
    """Raised if the frames of a stream differ from what its packets announce; the text is the difference."""


class PacketFeed:
    """Forward pass over a file's packets, which sends them to its decoder with one thread."""

    def __init__(self, path: Path) -> None:
        self._closing = ExitStack()
        container, stream = self._closing.enter_context(open_video(path, Stage.DECODE))
        self._decoder = stream.codec_context
        self._coding = self._decoder.codec.canonical_name
        self._reads_log = bool(TOLD_BY_LOG & {self._coding, container.format.name})
        self._decoder.options = {**self._decoder.options, "err_detect": "crccheck"}
        self._packets = (packet for packet in container.demux(stream) if packet.size > 0)
        self.place = 0  # number of the next packet in decoding order
        self.is_over = False  # whether all packets are decoded, and the decoder has returned all frames
        self.damaged_times: list[float | None] = []  # seconds of each damaged packet or frame; None: unknown
        self.marked: list[tuple[int, float | None]] = []  # (place, seconds) of packets that may be damaged, or joined

    def skip(self, is_needed: npt.NDArray[np.bool_]) -> None:
        """Go to the next packet that is needed, according to a (P,) mask."""
        while self.place < len(is_needed) and not is_needed[self.place]:
            next(self._packets, None)
            self.place += 1

    def decode(self) -> list[VideoFrame]:
        """Decode the next packet, and return the frames that come out, if any; damage is noted.

        Raises:
            OSError: the file system cannot read the file.
        """
        import av

        packet, frames = None, []
        with log_lines(av.logging.WARNING) if self._reads_log else nullcontext(()) as lines:
            try:
                packet = next(self._packets, None)
                self.is_over = packet is None
                frames = self._decoder.decode(packet)
                is_damaged = False
            except av.error.FFmpegError as error:
                if isinstance(error, OSError):
                    raise
                is_damaged = True
        self.place += packet is not None
        has_hole = packet is not None and self._has_hole(packet)
        if is_damaged or has_hole or any(DAMAGE_LINES.search(text) for *_, text in lines):
            self.damaged_times.append(_seconds_of(packet))
        self._judge_marks(packet)
        self.damaged_times += [frame.time for frame in frames if frame.is_corrupt]
        return frames

    def _has_hole(self, packet: Packet[VideoStream]) -> bool:
        """Whether a part is missing that FFmpeg takes for zeros, or shows an earlier picture for."""
        if self._coding in ("vp8", "vp9"):
            return ZEROS in bytes(packet)
        return self._coding == "mjpeg" and JPEG_SCAN not in bytes(packet)

    def _judge_marks(self, packet: Packet[VideoStream] | None) -> None:
        """Take packets that are marked corrupt as damaged, but those just before a key frame."""
        if packet is not None and packet.is_keyframe:
            self.marked.clear()
        if packet is not None and packet.is_corrupt:
            self.marked.append((self.place, _seconds_of(packet)))
        while self.marked and (packet is None or self.place - self.marked[0][0] >= MAX_JOINED_PACKETS):
            self.damaged_times.append(self.marked.pop(0)[1])

    def close(self) -> None:
        """Free the decoder and close the file."""
        self._closing.close()


def _seconds_of(packet: Packet[VideoStream] | None) -> float | None:
    if packet is None:
        return None
    ticks = packet.dts if packet.pts is None else packet.pts
    return None if ticks is None or packet.time_base is None else float(ticks * packet.time_base)


def all_frames(path: Path) -> Iterator[VideoFrame]:
    """Yield every frame of a file in display order."""
    feed = PacketFeed(path)
    try:
        while not feed.is_over:
            yield from feed.decode()
    finally:
        feed.close()


def require_sound(path: Path, pts_seconds: npt.NDArray[np.float64]) -> None:
    """Decode a whole file, and require that every frame comes out undamaged.

    Args:
        path: the file.
        pts_seconds: (N,) float64 times of its frames.

    Raises:
        Fault: frames are damaged, which the text names by their numbers; or their number is another one; or their times
            go back, as where two recordings are joined, so that they are not in the order of `pts_seconds`.
    """
    feed, num_found, latest, damaged = PacketFeed(path), 0, -math.inf, set[int]()
    try:
        while not feed.is_over:
            for frame in feed.decode():
                now = latest if frame.pts is None else frame.time
                if now < latest - MAX_STEP_BACK_SECONDS:
                    raise Fault(f"times that go back from {latest:.1f} to {now:.1f} s at frame {num_found}")
                latest, num_found = max(latest, now), num_found + 1
            for time in feed.damaged_times:
                later = num_found if time is None else int(np.searchsorted(pts_seconds, time, side="right"))
                damaged.add(min(max(later - 1, 0), len(pts_seconds) - 1))
            feed.damaged_times.clear()
    finally:
        feed.close()
    if damaged:
        raise Fault(f"damage in {named_frames(sorted(damaged))} of {len(pts_seconds)}")
    if num_found != len(pts_seconds):
        raise Fault(f"{num_found} frames for {len(pts_seconds)} packets")


def named_frames(numbers: list[int]) -> str:
    """Return increasing frame numbers as text: `frame 4`, `frames 3-9, 12`."""
    known = set(numbers)
    starts, ends = ([number for number in numbers if number + step not in known] for step in (-1, 1))
    ranges = [str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True)]
    more = f" and {len(ranges) - MAX_NAMED_RANGES} more places" if len(ranges) > MAX_NAMED_RANGES else ""
    return f"frame{'s' if len(numbers) > 1 else ''} {', '.join(ranges[:MAX_NAMED_RANGES])}{more}"
