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

# Container times are exact, but floating-point sums of them are not: two times this close are the same.
SAME_TIME_SECONDS = 1e-6
# A clip whose last frame ends this much early is complete: the duration of a video's last frame is only an estimate.
SHORT_CLIP_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """The frames that are stored, record by record."""

    records: tuple[FrameIndices, ...]
    """(T,) int64 frames of each record; T = 1, or that of clips. A frame repeats while a player shows no newer one."""

    @property
    def frame_indices(self) -> FrameIndices:
        """Every frame once, (N,) int64, increasing."""
        return np.unique(np.concatenate(self.records)) if self.records else np.empty(0, dtype=np.int64)

    def before(self, num_frames: int, *, pad: bool = False) -> Samples:
        """Return the records of a shorter video: those whose frames are all before its end.

        Args:
            num_frames: number of frames of the shorter video.
            pad: also return clips with more than half of their frames before the end; the last frame is repeated.
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
        num_frames: length of the video; if it is shorter than `count`, each of its frames is taken once.
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
    """Return the frames of each clip of a video. Clips follow each other from the first frame on, without overlap.

    Inside a clip, `num_frames` moments are evenly spaced from its first frame to its last, and for each the frame that
    a player shows is taken. The rest after the last complete clip is left out. So is a clip in which no frame begins,
    since it would show only the last picture of the clip before.

    Args:
        pts_seconds: (N,) increasing presentation times of all frames of the video, in seconds.
        clip_seconds: length of a clip.
        num_frames: T, frames taken from a clip.
        short_video: for a video that is shorter than a clip: `pad` makes one clip, whose moments after the end of the
            video repeat its last frame; `reject` rejects the video.

    Returns:
        (T,) int64 non-decreasing positions for each clip.

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
        if first < end  # if one picture is shown for longer than a clip, no frame begins: it is in an earlier clip
    ]
    return [_shown(pts_seconds, times) for times in moments]


def _shown(pts_seconds: npt.NDArray[np.float64], times: npt.NDArray[np.float64]) -> FrameIndices:
    """Return the frame that a player shows at each of the times, (T,) int64."""
    return np.searchsorted(pts_seconds, times + SAME_TIME_SECONDS, side="right") - 1


def farthest_first(num_frames: int, visited: Sequence[int], count: int) -> list[int]:
    """Return up to `count` more frames, each as far as possible from all that were visited or chosen before it.

    Args:
        num_frames: length of the video.
        visited: positions that were visited; if there are none, the first choice is the middle.
        count: number of frames; fewer are returned if the video has no others.
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
