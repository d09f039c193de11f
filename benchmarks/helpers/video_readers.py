"""Readers of video frames: plain ones, and this project's decoders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.helpers.odd_videos import Pixels


class OpenVideo(Protocol):
    """One reader on one file."""

    num_frames: int
    """Number of frames that the reader reports."""

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """Return the (T,H,W,3) RGB frames that the reader gives for these increasing (T,) positions."""
        ...


class PyAvSequential:
    """PyAV's usual loop: decode from the first frame and keep the wanted ones."""

    def __init__(self, path: Path) -> None:
        import av

        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size > 0]
        self.num_frames = sum(not packet.is_discard for packet in packets)
        container = av.open(str(path))
        container.streams.video[0].codec_context.thread_count = 1
        self._frames = enumerate(container.decode(video=0))

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """Decode up to the last wanted frame."""
        wanted, found = set(frame_indices.tolist()), []
        for number, frame in self._frames:
            if number in wanted:
                found.append(frame.to_ndarray(format="rgb24"))
            if number >= frame_indices[-1]:
                break
        return np.stack(found).astype(np.uint8, copy=False)


class OpenCvSequential:
    """OpenCV's usual loop: grab every frame and retrieve the wanted ones."""

    def __init__(self, path: Path) -> None:
        import cv2

        cv2.setNumThreads(1)
        self._video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        self.num_frames = int(self._video.get(cv2.CAP_PROP_FRAME_COUNT))
        self._next = 0

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """Grab up to the last wanted frame."""
        import cv2

        found = []
        for wanted in frame_indices.tolist():
            while self._next <= wanted and self._video.grab():
                self._next += 1
            came, picture = self._video.retrieve() if self._next > wanted else (False, None)
            if not came or picture is None:
                break
            found.append(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
        return np.stack(found).astype(np.uint8, copy=False)


class DecordGetBatch:
    """decord as its README uses it."""

    def __init__(self, path: Path) -> None:
        import decord

        self._reader = decord.VideoReader(str(path), num_threads=1)
        self.num_frames = len(self._reader)

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """One call for all of them."""
        pictures: Pixels = self._reader.get_batch(frame_indices).asnumpy()
        return pictures


class Ours:
    """A decoder behind this project's contract.

    Args:
        name: key of DECODERS.
        path: the file.
    """

    def __init__(self, name: str, path: Path) -> None:
        from tasks.decode import DECODERS

        self._reader = DECODERS[name]().open(path)
        self.num_frames = self._reader.num_frames

    def read(self, frame_indices: npt.NDArray[np.int64]) -> Pixels:
        """One call for all of them."""
        return self._reader.read(frame_indices).data


READERS: dict[str, Callable[[Path], OpenVideo]] = {
    "PyAV, sequential": PyAvSequential,
    "OpenCV, sequential": OpenCvSequential,
    "decord, get_batch": DecordGetBatch,
    "ours: decord": lambda path: Ours("decord", path),
    "ours: pyav": lambda path: Ours("pyav", path),
}
DECORD_READERS = ("decord, get_batch", "ours: decord")  # readers that measure another distribution of `decord`
