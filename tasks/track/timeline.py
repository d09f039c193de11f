"""Timeline of a video: the frames that were searched for faces, their times, and the cuts between shots."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tasks.media import FaceTrack

SAME_TIME_SECONDS = 1e-6  # container times are exact, but differences of them as floating-point numbers are not


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Timeline:
    """The frames of a video that were searched for faces, and which of them a track may cover."""

    frame_indices: npt.NDArray[np.int64]
    """(T,) int64 in the whole video, increasing."""

    pts_seconds: npt.NDArray[np.float64]
    """(T,) float64 presentation time in seconds."""

    cuts: tuple[int, ...] = ()
    """Frames with which a shot begins, increasing; the first shot is not listed."""

    max_gap_s: float | None = None
    """Longest time between two detections across which a track is interpolated, seconds; None: no limit."""

    def only(self, frame_indices: npt.NDArray[np.int64], max_gap_s: float | None) -> Timeline:
        """Return the timeline of some of the frames, with another limit."""
        seconds = self._seconds(frame_indices)
        return replace(self, frame_indices=frame_indices, pts_seconds=seconds, max_gap_s=max_gap_s)

    def shot_of(self, track: FaceTrack) -> tuple[int, int | None]:
        """Return the first frame of a track's shot, and that of the next shot; None if it is the last."""
        first = max((cut for cut in self.cuts if cut <= track.frame_indices[0]), default=0)
        return first, min((cut for cut in self.cuts if cut > track.frame_indices[-1]), default=None)

    def in_shot_of(self, track: FaceTrack) -> npt.NDArray[np.bool_]:
        """Return for each of the T frames whether it is in a track's shot, (T,) bool."""
        first, end = self.shot_of(track)
        return (self.frame_indices >= first) & (self.frame_indices < (np.inf if end is None else end))

    def covers(self, track: FaceTrack) -> npt.NDArray[np.bool_]:
        """Return for each of the T frames whether it may be stored with this track, (T,) bool.

        It must be in the track's shot, and either show the face, or lie between two frames with the face that are at
        most `max_gap_s` apart, or before the first or after the last of them if the shot begins or ends within half of
        that. So each stored frame is at most half of `max_gap_s` away from a frame with the face.
        """
        frames, inside = self.frame_indices, self.in_shot_of(track)
        if self.max_gap_s is None:
            return inside
        known, seconds = self._seconds(track.frame_indices), self._seconds(frames)
        after = np.searchsorted(track.frame_indices, frames)
        before = np.searchsorted(track.frame_indices, frames, side="right") - 1
        gaps = known[after.clip(max=len(known) - 1)] - known[before.clip(min=0)]
        limit, shot = self.max_gap_s + SAME_TIME_SECONDS, seconds[inside]
        covered: npt.NDArray[np.bool_] = inside & (gaps <= limit)
        if known[0] - shot[0] > limit / 2:
            covered &= seconds >= known[0]
        if shot[-1] - known[-1] > limit / 2:
            covered &= seconds <= known[-1]
        return covered

    def span_of(self, track: FaceTrack, num_frames: int) -> tuple[int, int]:
        """Return the first frame, and the end, of the part of a video of `num_frames` frames that a track covers."""
        rows = np.flatnonzero(self.covers(track))
        first, end = self.shot_of(track)
        frames = self.frame_indices
        is_first = rows[0] == 0 or frames[rows[0] - 1] < first
        is_last = rows[-1] == len(frames) - 1 or (end is not None and frames[rows[-1] + 1] >= end)
        return (
            first if is_first else int(frames[rows[0]]),
            (end or num_frames) if is_last else int(frames[rows[-1]]) + 1,
        )

    def _seconds(self, frame_indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return the times of frames; those of frames that were not searched are interpolated."""
        return np.interp(frame_indices, self.frame_indices, self.pts_seconds)
