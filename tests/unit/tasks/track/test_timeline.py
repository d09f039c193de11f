"""Which frames a track may cover: those of its shot, between detections that are close enough in time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tasks.media import FaceTrack
from tasks.track.timeline import Timeline


def seen_in(frames: Sequence[int]) -> FaceTrack:
    """A track with the face in these frames."""
    return FaceTrack(
        track_id=0,
        frame_indices=np.array(frames, dtype=np.int64),
        boxes_xyxy=np.zeros((len(frames), 4), dtype=np.float32),
        landmarks=np.zeros((len(frames), 5, 2), dtype=np.float32),
        scores=np.ones(len(frames), dtype=np.float32),
        interpolated=np.zeros(len(frames), dtype=np.bool_),
    )


@pytest.mark.parametrize(
    ("seen", "cuts", "max_gap_s", "covered", "span"),
    [
        (range(0, 100, 10), (), 2.0, range(0, 100, 10), (0, 100)),
        ([0, 20, 90], (), None, range(0, 100, 10), (0, 100)),
        ([0, 20, 40, 90], (), 2.0, [0, 10, 20, 30, 40, 90], (0, 100)),  # 5 s without the face
        ([10, 20, 80], (), 6.0, range(0, 100, 10), (0, 100)),
        ([30, 40, 50], (), 2.0, [30, 40, 50], (30, 51)),  # away for 3 s, and for 4 s
        ([10, 20, 80], (), 1.9, [10, 20, 80], (10, 81)),
        ([0, 10, 20], (25,), None, [0, 10, 20], (0, 25)),
        ([0, 10], (25,), 2.0, [0, 10, 20], (0, 25)),  # the shot ends within a second
        ([30, 40], (25, 50), 2.0, [30, 40], (25, 50)),
        ([40], (25, 70), 2.0, [30, 40], (25, 41)),
        ([60], (25, 70), None, [30, 40, 50, 60], (25, 70)),
    ],
)
def test_what_a_track_covers(
    seen: Sequence[int], cuts: tuple[int, ...], max_gap_s: float | None, covered: Sequence[int], span: tuple[int, int]
) -> None:
    """Every tenth of 100 frames at 10 a second was searched."""
    frames = np.arange(0, 100, 10, dtype=np.int64)
    timeline = Timeline(frame_indices=frames, pts_seconds=frames / 10, cuts=cuts, max_gap_s=max_gap_s)
    assert frames[timeline.covers(seen_in(seen))].tolist() == list(covered)
    assert timeline.span_of(seen_in(seen), 100) == span


def test_times_decide_where_frames_come_irregularly() -> None:
    """The same three frames, 0.5 s apart and 5 s apart."""
    frames = np.array([0, 1, 2], dtype=np.int64)
    for seconds, covered in (([0.0, 0.5, 1.0], [0, 1, 2]), ([0.0, 5.0, 10.0], [0, 2])):
        timeline = Timeline(frame_indices=frames, pts_seconds=np.array(seconds), max_gap_s=2.0)
        assert frames[timeline.covers(seen_in([0, 2]))].tolist() == covered
