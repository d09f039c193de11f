"""The contract of a video decoder; the implementations are in `tasks/decoders/`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

from tasks.media import FrameBatch


class VideoReader(Protocol):
    """One open video. A context manager: leaving it frees the decoder."""

    num_frames: int
    # frames in display order that can be asked for

    pts_seconds: npt.NDArray[np.float64]
    # (N,) float64 presentation times of all of them, in seconds

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        """Return exactly these frames.

        Ask for all the frames that are wanted at once and leave the reader before the next stage, unless it is a
        `PatientReader`: a decoder may go on decoding into memory while nobody reads.

        Args:
            frame_indices: (T,) int64, increasing, each below num_frames; calls must go forward through the video.

        Returns:
            (T,H,W,3) uint8 RGB frames, upright as a player shows them, with their presentation times in seconds.

        Raises:
            VideoRejected: the stream is broken, or a frame did not come: never fewer frames, never another one.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class PatientReader(VideoReader, Protocol):
    """A reader that decodes nothing while nobody reads, in bounded memory however far it is read.

    It may stay open while other stages work, and goes on with the next frames where it stopped.
    """

    may_stay_open: Literal[True]


class Decoder(Protocol):
    """A way to get frames out of a file."""

    def open(self, path: Path) -> VideoReader:
        """Open a video.

        Raises:
            VideoRejected: it cannot be opened.
            StageMissing: the decoder's package is not installed.
        """
        ...
