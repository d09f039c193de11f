"""Sampling: which frames of a video are taken, and which of them make one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from tasks.media import Reason, Stage

FrameIndices = npt.NDArray[np.int64]

# Container times are exact, and sums of them in floating point are not: two times this near are one.
SAME_TIME_SECONDS = 1e-6
# A clip whose last frame ends this much early is whole: the length of a last frame is known from the others only.
SHORT_CLIP_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """The frames that are stored, record by record."""

    records: tuple[FrameIndices, ...]
    """(T,) int64 each: the frames of one record; T = 1, or a clip's. A number repeats where nothing newer is shown."""

    @property
    def frame_indices(self) -> FrameIndices:
        """(N,) int64, every frame once, increasing."""
        return np.unique(np.concatenate(self.records)) if self.records else np.empty(0, dtype=np.int64)

    def before(self, num_frames: int, *, pad: bool = False) -> Samples:
        """Return the records of a video that ends sooner: those that lie before this frame altogether.

        Args:
            num_frames: where it ends.
            pad: also clips of which more than half lies before it; the last frame that does stands for the others.
        """
        kept: list[FrameIndices] = []
        for record in self.records:
            inside = record < num_frames
            if inside.all():
                kept.append(record)
            elif pad and 2 * inside.sum() > len(record):
                kept.append(np.where(inside, record, record[inside].max()))
        return Samples(records=tuple(kept))


def single_frames(frame_indices: FrameIndices) -> Samples:
    """Return a record for each of these (T,) frames."""
    return Samples(records=tuple(frame_indices.reshape(-1, 1)))


def frame_indices(mode: str, num_frames: int, *, count: int, stride: int) -> FrameIndices:
    """Return the (T,) int64 increasing positions of the frames to take, 0-based.

    Args:
        mode: `uniform` takes `count` frames from the first to the last, as
            `numpy.linspace(0, num_frames - 1, count, dtype=int)` places them; `stride` every `stride`-th; `all` each.
        num_frames: length of the video; one shorter than `count` gives each of its frames once.
        count: T of mode `uniform`.
        stride: distance in frames of mode `stride`.

    Raises:
        ValueError: an unknown mode, or a length below 1.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames: got {num_frames}, expected at least 1")
    if mode == "uniform":
        return np.unique(np.linspace(0, num_frames - 1, min(count, num_frames), dtype=np.int64))
    if mode in ("stride", "all"):
        return np.arange(0, num_frames, stride if mode == "stride" else 1, dtype=np.int64)
    raise ValueError(f"mode: got {mode!r}, expected 'uniform', 'stride' or 'all'")


def clips(
    pts_seconds: npt.NDArray[np.float64], *, clip_seconds: float, num_frames: int, short_video: str
) -> list[FrameIndices]:
    """Return the frames of each clip of a video: clips follow each other from the first frame on, without overlap.

    Inside a clip, `num_frames` moments lie evenly from its first frame to its last; of each the frame that a player
    shows is taken. What remains behind the last whole clip is left out; so is a clip in which no frame begins, since
    it would show the last picture of the one before.

    Args:
        pts_seconds: (N,) increasing presentation times of all frames of the video, in seconds.
        clip_seconds: length of a clip.
        num_frames: T, frames taken of a clip.
        short_video: what becomes of a video that is shorter than a clip: `pad` makes one clip of it, whose moments
            behind the video's end show its last frame again; `reject` drops it.

    Returns:
        (T,) int64 not decreasing positions for each clip.

    Raises:
        VideoRejected: the video is shorter than a clip, and `short_video` is `reject`.
    """
    start, last = float(pts_seconds[0]), float(pts_seconds[-1])
    frame_seconds = (last - start) / (len(pts_seconds) - 1) if len(pts_seconds) > 1 else 0.0
    duration = last + frame_seconds - start
    num_clips = int((duration + SHORT_CLIP_SECONDS) / clip_seconds)
    if num_clips == 0 and short_video == "reject":
        detail = (
            f"video: got {duration:.2f} s, expected at least {clip_seconds:g} s for one clip (frames.clip_seconds); "
            "frames.short_video=pad makes a clip of it"
        )
        raise VideoRejected(Stage.SAMPLE, Reason.TOO_SHORT, detail)
    if num_clips == 0:
        return [_shown(pts_seconds, np.linspace(start, start + clip_seconds - frame_seconds, num_frames))]
    borders = start + clip_seconds * np.arange(num_clips + 1) - SAME_TIME_SECONDS
    firsts = np.searchsorted(pts_seconds, borders)
    moments = [
        np.linspace(pts_seconds[first], pts_seconds[end - 1], num_frames)
        for first, end in pairwise(firsts)
        if first < end  # while a picture stands longer than a clip, no frame begins: it is in an earlier clip
    ]
    return [_shown(pts_seconds, times) for times in moments]


def _shown(pts_seconds: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> FrameIndices:
    """(T,) int64 the frame that a player shows at each of the times."""
    return np.searchsorted(pts_seconds, times + SAME_TIME_SECONDS, side="right") - 1


def farthest_first(num_frames: int, visited: Sequence[int], count: int) -> list[int]:
    """Return up to `count` frames more, each as far as can be from all that were visited or chosen before it.

    Args:
        num_frames: length of the video.
        visited: positions that have been looked at; none at all begins with the middle.
        count: how many are wanted; fewer come when the video has no others.
    """
    positions = np.arange(num_frames)
    distance = np.full(num_frames, num_frames, dtype=np.int64)
    for position in visited:
        distance = np.minimum(distance, np.abs(positions - position))
    chosen: list[int] = []
    while len(chosen) < count and distance.max() > 0:
        farthest = int(distance.argmax()) if visited or chosen else num_frames // 2
        chosen.append(farthest)
        distance = np.minimum(distance, np.abs(positions - farthest))
    return chosen
