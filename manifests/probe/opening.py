"""Opening of a file as a video, and the limits that hold before anything is decoded.

    file          a regular one: FFmpeg opens no other, whatever a playlist, an address or a name in it says
    format        none that leads to other files, and none that is a program
    streams       MAX_STREAMS
    picture       MAX_PIXELS, which FFmpeg's decoders compare before they allocate one; while a file is opened, only if
                  its header lists its streams: else FFmpeg's own limit holds, twice as many
    packets       MAX_PACKETS of the stream that is shown
    time          SECONDS_PER_CALL without an answer of FFmpeg; COUNTING_SECONDS to decode frames only to count them

The limits are the same on every machine. What a header promises (frames, duration, size of an index) sizes nothing.
"""

from __future__ import annotations

import re
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import VideoRejected
from manifests.files import open_regular
from manifests.rejected import Reason, Stage

if TYPE_CHECKING:
    from av.container import InputContainer

    from manifests.probe.ffmpeg_log import Lines

# FFmpeg's names of playlists, of descriptions of network streams, of numbered pictures, and of scripts.
LEADING_ELSEWHERE = {
    *("applehttp", "hls", "dash", "webm_dash_manifest", "concat", "imf", "sdp", "rtsp", "rtp", "sap", "vobsub", "mlv"),
    *("image2", "image2pipe", "lavfi", "avisynth", "vapoursynth"),
}
MAX_STREAMS = 100
MAX_PIXELS = 142_606_336  # of the highest level of HEVC, 7.2 (ITU-T H.265, table A.8): 16,384 × 8,704
MAX_PACKETS = 2_000_000  # 18 hours of 30 frames per second; they take 1 GB while they are read
SECONDS_PER_CALL = 120.0
COUNTING_SECONDS = 600.0  # of this thread on a core

PICTURE_SIZE = re.compile(r"[Pp]icture size (\d+)x(\d+) (?:exceeds|is invalid)")
OTHER_FORMAT = "Format not on whitelist"


def open_container(path: Path) -> InputContainer:
    """Open a file, whatever the encoding of its texts.

    Raises:
        FFmpegError: FFmpeg does not know the format, the file is broken, or it leads to other files.
        OSError: it is not a regular file, or cannot be read.
    """
    import av

    with open_regular(path):
        pass
    # PyAV hands them on to the decoders of all streams that a header lists.
    options = {"protocol_whitelist": "file", "format_whitelist": _formats(), "max_streams": str(MAX_STREAMS)}
    options["max_pixels"] = str(MAX_PIXELS)
    # An absolute path is never the address of a protocol, as the relative path `concat:a` is.
    name, timeout = str(path.absolute()), (SECONDS_PER_CALL, SECONDS_PER_CALL)
    if int(av.__version__.partition(".")[0]) >= 19:  # it replaces what is not UTF-8, and has no option for it
        return av.open(name, options=options, timeout=timeout)
    return av.open(name, options=options, timeout=timeout, metadata_errors="ignore")


@cache
def _formats() -> str:
    """Return the names of all formats that may be opened, separated by commas."""
    import av

    return ",".join(name for name in sorted(av.formats_available) if name not in LEADING_ELSEWHERE)


def limits_broken(path: Path, stage: Stage, lines: Lines) -> VideoRejected | None:
    """Return the rejection that FFmpeg's log tells, if a limit is the reason why it refused a file."""
    for *_, text in lines:
        if found := PICTURE_SIZE.search(text):
            width, height = map(int, found.groups())
            if width * height > MAX_PIXELS:
                return too_large(path, stage, width, height)
        if OTHER_FORMAT in text:
            detail = f"{path.name}: got a playlist or a script that leads to other files, expected a video"
            return VideoRejected(stage, Reason.NOT_A_VIDEO, detail)
    return None


def too_large(path: Path, stage: Stage, width: int, height: int) -> VideoRejected:
    """Return the rejection of a picture that no decoder may allocate."""
    got = f"a picture of {width}×{height} = {width * height:,} pixels"
    detail = f"{path.name}: got {got}, expected at most {MAX_PIXELS:,}; scale it down"
    return VideoRejected(stage, Reason.TOO_LARGE, detail)


def require_few(path: Path, stage: Stage, num_packets: int) -> None:
    """Require that a stream has no more packets than may be read.

    Raises:
        VideoRejected: it has more.
    """
    if num_packets > MAX_PACKETS:
        detail = f"{path.name}: got more than {MAX_PACKETS:,} packets, expected fewer; cut it into parts"
        raise VideoRejected(stage, Reason.TOO_LARGE, detail)


class CountingTime:
    """Time that may be spent to decode frames only to count them.

    Args:
        path: the file, for the rejection.
        stage: the stage that counts.
    """

    def __init__(self, path: Path, stage: Stage) -> None:
        self._path, self._stage = path, stage
        self._end = time.thread_time() + COUNTING_SECONDS

    def require(self) -> None:
        """Require that some of it is left.

        Raises:
            VideoRejected: it is over.
        """
        if time.thread_time() > self._end:
            got = f"a video that must be decoded to count its frames, for more than {COUNTING_SECONDS:g} s"
            detail = f"{self._path.name}: got {got}, expected less; convert it to progressive H.264, or cut it"
            raise VideoRejected(self._stage, Reason.DECODE_TIMEOUT, detail)
