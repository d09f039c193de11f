"""Shots of a video: the hard cuts among the frames that were searched for faces.

If two successive frames of these differ, the frames between them are decoded as thumbnails, which shows whether there
is a cut, and where. All such frames are read in one pass forward through the video. A video whose picture changes
little has none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from tasks.track.cuts import REACH, Thumbnail, difference, first_frames, thumbnail
from tasks.video.context import VideoContext
from tasks.video.frame_faces import FrameFaces
from tasks.video.frames import FrameSource

WINDOW_BYTES = 32 * 2**20  # frames in memory while thumbnails are made, beside the window that is kept for cropping


class Shots:
    """Hard cuts of one video that are known so far.

    Args:
        video: the video.
    """

    def __init__(self, video: VideoContext) -> None:
        self._threshold = video.settings.track.cut_threshold
        self._source = FrameSource(video.job, video.stages, video.time_limit, video.tally, WINDOW_BYTES)
        self._cuts: set[int] = set()
        self._read: list[tuple[int, int]] = []

    def cuts(self, seen: Sequence[FrameFaces]) -> tuple[int, ...]:
        """Return the frames with which a shot begins, increasing, the first shot left out.

        Args:
            seen: frames that were searched for faces, in their order.

        Raises:
            VideoRejected: the frames between two of them cannot be decoded.
        """
        known = {one.frame_index: one.thumbnail for one in seen if one.thumbnail is not None}
        jumps = [
            (before, after)
            for before, after in pairwise(known)
            if difference(known[before], known[after]) >= self._threshold
            and not any(first <= before and after <= last for first, last in self._read)
        ]
        reach = REACH - 1
        last_frame = self._source.num_frames - 1
        spans = [range(max(0, first - reach), min(last_frame, last + reach) + 1) for first, last in jumps]
        known |= self._thumbnails({number for span in spans for number in span} - known.keys())
        for (before, after), span in zip(jumps, spans, strict=True):
            places = first_frames([known[number] for number in span], self._threshold)
            self._cuts.update(span[place] for place in places if before < span[place] <= after)
        self._read += jumps
        return tuple(sorted(self._cuts))

    def _thumbnails(self, frame_indices: Iterable[int]) -> dict[int, Thumbnail]:
        """Return the thumbnails of frames by their number.

        Raises:
            VideoRejected: one cannot be decoded.
        """
        made: dict[int, Thumbnail] = {}
        for frames, _ in self._source.batches(np.array(sorted(frame_indices), dtype=np.int64), with_masks=False):
            made |= zip(frames.frame_indices.tolist(), map(thumbnail, frames.data), strict=True)
        return made
