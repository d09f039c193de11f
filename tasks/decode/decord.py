"""Decoder decord 0.6.0, read strictly forward: exactly the frames asked for, without a seek.

decord's own random access gives wrong pixels without a word on files that researchers have, each case measured with
`benchmarks/decode.py`:

- FaceForensics++ (H.264 4:4:4): a reader whose first frame lies behind the first key frame returns garbage (its issue
  #194).
- Edit lists that hide frames: numbers count hidden frames before a seek and leave them out after one; where 128 or more
  frames are hidden it never returns (its issue #373).
- Open groups of pictures (x265's default): key frames are counted in decoding order, so a seek lands beside its frame.

All of them come from seeking or from skipping past the end. So frames are taken strictly forward from the first one,
over each key frame's border and in steps that stay below 128, which costs a few colour conversions per video. Frame
numbers are then those that a player shows. Exact times come from the container: decord has them in single precision.

While nobody reads, decord goes on decoding into a queue without limit (3 GiB for 1,000 frames of 720p): a reader must
not be kept open while other stages work.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from manifests.errors import StageMissing, VideoRejected
from manifests.probe.container import coded_frames, open_video
from tasks.decode.decoder import Decoder, require_forward
from tasks.media import FrameBatch, Reason, Stage

# Behind the last frame decord queues 128 empty markers and counts them as frames: a longer step can run past them all,
# and then for ever.
MAX_STEP_FRAMES = 100
# Share of frames that decord may replace by their neighbours before it raises; its default replaces them in silence.
FAULT_TOLERANCE = 0.0001

CPP_PLACE = re.compile(r"(\[\d\d:\d\d:\d\d\] )?\S+\.(cc|h):\d+: ")  # `[08:47:08] /…/threaded_decoder.cc:292: `


class DecordDecoder(Decoder):
    """decord behind the decoder contract, with one thread."""

    def open(self, path: Path) -> DecordReader:
        """Open a video.

        Raises:
            VideoRejected: it cannot be opened.
            StageMissing: decord is not installed.
        """
        try:
            import decord
        except ImportError as error:
            raise StageMissing(f"decoder decord: got {error}, expected decord 0.6.0; pip install it") from error
        with open_video(path, Stage.DECODE) as (container, stream):
            frames = coded_frames(container, stream, Stage.DECODE)
        pts_seconds = [float(frame.pts_seconds) for frame in frames if frame.is_shown]
        decord.logging.set_level(decord.logging.QUIET)
        try:
            reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1, fault_tol=FAULT_TOLERANCE)
        except (decord.DECORDError, RuntimeError) as error:
            raise _rejection(path, error) from error
        return DecordReader(path, reader, np.array(pts_seconds, dtype=np.float64))


class DecordReader:
    """One open video, read forward.

    Args:
        path: the file, for messages.
        reader: decord's own reader, of which nothing has been read.
        pts_seconds: (T,) float64 exact presentation times of the frames that are shown.
    """

    def __init__(self, path: Path, reader: Any, pts_seconds: npt.NDArray[np.float64]) -> None:
        self.num_frames = len(pts_seconds)
        self._path = path
        self._reader = reader
        self._key_frames: list[int] = list(reader.get_key_indices())
        self.pts_seconds = pts_seconds
        self._position = 0  # the next frame that comes without a step

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        """Return exactly these frames, (T,H,W,3) uint8 RGB.

        Raises:
            VideoRejected: the stream is broken.
            ValueError: a frame before the one that was read last, or behind the end.
        """
        import decord

        require_forward(self._path, frame_indices, self._position, self.num_frames)
        try:
            first = self._take(int(frame_indices[0]))
            data = np.empty((len(frame_indices), *first.shape), dtype=np.uint8)
            data[0] = first
            for row, number in enumerate(frame_indices[1:], start=1):
                data[row] = self._take(int(number))
        except (decord.DECORDError, decord.DECORDLimitReachedError, RuntimeError, IndexError) as error:
            raise _rejection(self._path, error) from error
        return FrameBatch(data=data, frame_indices=frame_indices, pts_seconds=self.pts_seconds[frame_indices])

    def _take(self, wanted: int) -> npt.NDArray[np.uint8]:
        """Walk to one frame and return it, (H,W,3)."""
        for stepping_stone in self._stepping_stones(wanted):
            self._reader.get_batch([stepping_stone])
        self._position = wanted + 1
        picture: npt.NDArray[np.uint8] = self._reader.get_batch([wanted]).asnumpy()[0]
        return picture

    def _stepping_stones(self, wanted: int) -> Iterator[int]:
        """Yield the frames to read on the way so that decord never seeks and never takes too long a step."""
        position = self._position
        while True:
            border = bisect_right(self._key_frames, position)
            before_border = self._key_frames[border] - 1 if border < len(self._key_frames) else wanted
            stone = min(before_border, position + MAX_STEP_FRAMES)
            if wanted <= stone:
                return
            yield stone
            position = stone + 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._reader = None  # decord frees its decoder and its frame pool with the object


def _rejection(path: Path, error: Exception) -> VideoRejected:
    """Return the rejection for an error of decord's.

    Its messages are a C++ stack, led by the time of day: only the first line's text says something about the video.
    """
    first_line = (str(error).strip().splitlines() or [repr(error)])[0]
    text = CPP_PLACE.sub("", first_line).replace(f"[{path}]", "").strip()
    return VideoRejected(Stage.DECODE, Reason.DECODE_ERROR, f"{path.name}: got '{text}' from decord")
