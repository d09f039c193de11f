"""The contract of a video decoder, and the settings that decoders read."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import Field

from manifests.errors import VideoRejected
from tasks.implementation import NO_OPTIONS, Choice, Implementation, Options
from tasks.media import FrameBatch, Reason, Stage

# The way out where a decoder that the user named, or an old store has, cannot decode a video.
WAY_OUT = "use decode.backend=auto, in another store (--out) or for all of this one (--reprocess)"

# Frames in memory at once: 32 of 1080p need 190 MiB.
MAX_WINDOW_BYTES = 256 * 2**20


def require_window(path: Path, num_frames: int, shape: tuple[int, ...]) -> None:
    """Require that frames which are read together are small enough; a single one always is.

    The caller knows the probed size: a video of masks, or a damaged one, may have larger frames.

    Args:
        path: the file, for the message.
        num_frames: number of frames.
        shape: (H,W,3) of the first.

    Raises:
        VideoRejected: together they have more than MAX_WINDOW_BYTES.
    """
    if num_frames > 1 and num_frames * math.prod(shape) > MAX_WINDOW_BYTES:
        got = f"{num_frames} frames of {shape[1]}×{shape[0]} pixels to be read together"
        detail = f"{path.name}: got {got}, expected at most {MAX_WINDOW_BYTES:,} bytes; scale it down"
        raise VideoRejected(Stage.DECODE, Reason.TOO_LARGE, detail)


def require_forward(path: Path, frame_indices: npt.NDArray[np.int64], position: int, num_frames: int) -> None:
    """Require frame numbers that a forward reader can still return.

    Args:
        path: the file, for the message.
        frame_indices: (T,) int64, the requested frames.
        position: the first frame that can still be requested.
        num_frames: number of frames of the video.

    Raises:
        ValueError: the numbers do not increase, or are out of range.
    """
    if np.any(np.diff(frame_indices, prepend=position - 1, append=num_frames) <= 0):
        raise ValueError(
            f"frame_indices of {path.name}: got {frame_indices.tolist()}, "
            f"expected increasing numbers from {position} to {num_frames - 1}"
        )


class VideoReader(Protocol):
    """One open video. A context manager: leaving it frees the decoder."""

    num_frames: int
    """Number of frames, in display order, that can be requested."""

    pts_seconds: npt.NDArray[np.float64]
    """(N,) float64 presentation times of all frames, in seconds."""

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        """Return exactly these frames.

        Request all frames at once, and close the reader before the next stage, unless it is a `PatientReader`: a
        decoder may continue to decode into memory while nothing is read.

        Args:
            frame_indices: (T,) int64, increasing, each below num_frames; calls must go forward through the video.

        Returns:
            (T,H,W,3) uint8 RGB frames, upright as a player shows them, with their presentation times in seconds.

        Raises:
            VideoRejected: the stream is broken, or a frame is missing. Fewer or other frames are never returned.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


@runtime_checkable
class PatientReader(VideoReader, Protocol):
    """A reader that decodes only while it is read, in bounded memory for videos of any length.

    It may stay open while other stages work, and continues with the next frames where it stopped.
    """

    may_stay_open: Literal[True]
    """Marker of a patient reader."""


class DecoderSettings(Choice):
    """Decoding of frames."""

    chooser: ClassVar[str] = "backend"

    backend: str = "pyav"
    """Name of the decoder."""

    timeout_s: float = Field(120.0, gt=0, le=86400)
    """Time limit for one pass of the decoder over a file, seconds; a slower video is rejected; changes no record."""

    options: Options = NO_OPTIONS
    """Settings, by name, of a decoder that another distribution provides."""


class Decoder(Implementation, ABC):
    """Decoder: returns frames of a video file."""

    @classmethod
    def from_settings(cls, settings: DecoderSettings) -> Self:
        """Make a decoder from the section that chose it, by default without any argument."""
        del settings
        return cls()

    @abstractmethod
    def open(self, path: Path) -> VideoReader:
        """Open a video.

        Raises:
            VideoRejected: the video cannot be opened.
            StageMissing: the decoder's package is not installed.
        """
