"""Decoder `decord` (0.6.0), read strictly forward: exactly the requested frames, without a seek.

decord's own random access silently returns wrong pixels for common research files. Each case was measured with
`benchmarks/decode.py`:

- FaceForensics++ (H.264 4:4:4): a reader whose first frame is after the first key frame returns garbage (decord's issue
  #194).
- Edit lists that hide frames: frame numbers include hidden frames before a seek and exclude them after it; if 128 or
  more frames are hidden, decord never returns (its issue #373).
- Open groups of pictures (x265's default): key frames are counted in decoding order, so a seek ends at a wrong frame.

All of these come from seeking, or from skipping past the end. So frames are read strictly forward from the first one,
across each key frame and in steps below 128, which costs a few colour conversions per video. Frame numbers are then
those that a player shows. Exact times come from the container, since decord has them in single precision.

decord takes a stream by its own rule, knows fewer codings than the library that probes, and takes the order of frames
from times, which AVI does not hold. So a video is rejected before any of its frames is used if it has several streams
of moving pictures, if it is an AVI with B-frames, if decord counts other frames, or if its pictures have another size.
Damaged H.264 is not noticed.

While nothing is read, decord continues to decode into a queue without limit (3 GiB for 1,000 frames of 720p): a reader
must not stay open while other stages work.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from manifests.errors import StageMissing, VideoRejected
from manifests.probe.container import coded_stream, first_frame, open_video
from manifests.probe.picture import beyond_quarter_turns, layout_of, shown_size
from manifests.probe.shown_stream import moving_streams
from tasks.decode.decoder import WAY_OUT, Decoder, require_forward, require_window
from tasks.media import FrameBatch, Reason, Stage

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# After the last frame decord queues 128 empty markers and counts them as frames: a longer step can skip all of them,
# and then never ends.
MAX_STEP_FRAMES = 100
# Share of frames that decord may replace by their neighbours before it raises; by default it replaces them silently.
FAULT_TOLERANCE = 0.0001

VERSION = "decord 0.6.0"
UNKNOWN_CODING = "cannot find video stream"  # in its message about a stream for which it has no decoder
CPP_PLACE = re.compile(r"(\[\d\d:\d\d:\d\d\] )?\S+\.(cc|h):\d+: ")  # `[08:47:08] /…/threaded_decoder.cc:292: `


class DecordDecoder(Decoder):
    """Decoder `decord`, with one thread."""

    def open(self, path: Path) -> DecordReader:
        """Open a video.

        Raises:
            VideoRejected: the video cannot be opened.
            StageMissing: decord is not installed.
        """
        try:
            import decord
        except ImportError as error:
            raise StageMissing(f"decoder decord: got {error}, expected decord 0.6.0; pip install it") from error
        with open_video(path, Stage.DECODE) as (container, stream):
            coded = coded_stream(container, stream, Stage.DECODE)
            odd = _faults(container, stream)
            coding = stream.codec_context.codec.canonical_name.upper()
            layout = layout_of(container, stream, Stage.DECODE)
            first = first_frame(path, Stage.DECODE)
            odd += [] if first is None else [f"a picture {what}" for what in beyond_quarter_turns(first, layout)]
            size = None if first is None else shown_size(first, layout)
        settings = [packet.use.settings for packet in coded.packets if packet.use]  # damaged packets have none
        if not all(later <= settings[0] for later in settings):
            odd.append("a stream whose parameters change")  # decord scales pictures of another size
        if odd:
            got = " and ".join(odd)
            detail = f"{path.name}: got {got}, expected a video that {VERSION} shows as players do; {WAY_OUT}"
            raise VideoRejected(Stage.DECODE, Reason.UNSUPPORTED, detail)
        pts_seconds = [float(time) for time in coded.times]
        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, fault_tol=FAULT_TOLERANCE)
        except (decord.DECORDError, RuntimeError) as error:
            raise _rejection(path, error, coding) from error
        if len(reader) not in (len(coded.times), len(coded.packets)):  # it also counts what an edit list hides
            detail = f"{path.name}: got {len(reader)} frames from {VERSION}, expected {len(coded.times)}; {WAY_OUT}"
            raise VideoRejected(Stage.DECODE, Reason.FRAME_COUNT_MISMATCH, detail)
        return DecordReader(path, reader, np.array(pts_seconds, dtype=np.float64), size, coding)


def _faults(container: InputContainer, stream: VideoStream) -> list[str]:
    """Return what lets decord take another stream than the probed one, or another order of frames in each run."""
    num_streams = len(moving_streams(container))
    faults = {
        f"{num_streams} video streams": num_streams > 1,
        "AVI with B-frames": container.format.name == "avi" and stream.codec_context.has_b_frames,
    }
    return [fault for fault, is_there in faults.items() if is_there]


class DecordReader:
    """One open video, read forward.

    Args:
        path: the file, for messages.
        reader: decord's own reader, at the beginning of the video.
        pts_seconds: (T,) float64 exact presentation times of the frames that are shown.
        size: width and height that they have to have, if known.
        coding: name of the video's coding, for messages.
    """

    def __init__(
        self, path: Path, reader: Any, pts_seconds: npt.NDArray[np.float64], size: tuple[int, int] | None, coding: str
    ) -> None:
        self.num_frames = len(pts_seconds)
        self._path, self._coding = path, coding
        self._size = size
        self._reader = reader
        self._key_frames: list[int] = list(reader.get_key_indices())
        self.pts_seconds = pts_seconds
        self._position = 0  # the next frame that comes without a step

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        """Return exactly these frames, (T,H,W,3) uint8 RGB.

        Raises:
            VideoRejected: the stream is broken.
            ValueError: a frame is before the one that was read last, or after the end.
        """
        import decord

        require_forward(self._path, frame_indices, self._position, self.num_frames)
        try:
            first = self._take(int(frame_indices[0]))
            height, width, _ = first.shape
            if self._size not in (None, (width, height)):
                got = f"pictures of {width}×{height} pixels, expected {self._size}; {WAY_OUT}"
                raise VideoRejected(Stage.DECODE, Reason.UNSUPPORTED, f"{self._path.name}: got {got}")
            require_window(self._path, len(frame_indices), first.shape)
            data = np.empty((len(frame_indices), *first.shape), dtype=np.uint8)
            data[0] = first
            for row, number in enumerate(frame_indices[1:], start=1):
                data[row] = self._take(int(number))
        except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError) as error:
            raise _rejection(self._path, error, self._coding) from error
        return FrameBatch(data=data, frame_indices=frame_indices, pts_seconds=self.pts_seconds[frame_indices])

    def _take(self, wanted: int) -> npt.NDArray[np.uint8]:
        """Go forward to one frame and return it, (H,W,3)."""
        for intermediate in self._intermediate_frames(wanted):
            self._reader.get_batch([intermediate])
        self._position = wanted + 1
        picture: npt.NDArray[np.uint8] = self._reader.get_batch([wanted]).asnumpy()[0]
        return picture

    def _intermediate_frames(self, wanted: int) -> Iterator[int]:
        """Yield the frames to read on the way, so that decord never seeks and no step is too long."""
        position = self._position
        while True:
            border = bisect_right(self._key_frames, position)
            before_border = self._key_frames[border] - 1 if border < len(self._key_frames) else wanted
            number = min(before_border, position + MAX_STEP_FRAMES)
            if wanted <= number:
                return
            yield number
            position = number + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader = None  # decord frees its decoder and its frame pool with the object


def _rejection(path: Path, error: Exception, coding: str) -> VideoRejected:
    """Return the rejection for an error of decord.

    Its messages are a C++ stack after the time of day: only the text of the first line is about the video.
    """
    first_line = (str(error).strip().splitlines() or [repr(error)])[0]
    text = CPP_PLACE.sub("", first_line).replace(f"[{path}]", "").strip()
    is_unknown = UNKNOWN_CODING in text
    got = f"{coding}, which {VERSION} does not know" if is_unknown else f"'{text}' from {VERSION}"
    detail = f"{path.name}: got {got}, expected a video that it can decode; {WAY_OUT}"
    return VideoRejected(Stage.DECODE, Reason.UNSUPPORTED if is_unknown else Reason.DECODE_ERROR, detail)
