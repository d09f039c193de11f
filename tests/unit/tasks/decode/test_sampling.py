"""Which frames are taken."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import VideoRejected
from tasks.decode.sampling import Samples, clips, farthest_first, frame_indices, single_frames
from tasks.media import Reason, Stage


def test_uniform_is_numpy_linspace() -> None:
    expected = np.linspace(0, 337, 32, dtype=int)
    assert np.array_equal(frame_indices("uniform", 338, count=32, stride=1), expected)


@given(st.integers(1, 2000), st.integers(1, 100))
def test_uniform_spans_the_video_without_repeats(num_frames: int, count: int) -> None:
    indices = frame_indices("uniform", num_frames, count=count, stride=1)
    assert indices.dtype == np.int64
    assert len(indices) == min(count, num_frames)
    assert indices[0] == 0
    assert count == 1 or indices[-1] == num_frames - 1
    assert (np.diff(indices) > 0).all()


def test_stride_and_all() -> None:
    assert frame_indices("stride", 10, count=1, stride=4).tolist() == [0, 4, 8]
    assert frame_indices("all", 5, count=1, stride=4).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("mode", "num_frames", "message"), [("random", 5, "got 'random'"), ("all", 0, "got 0")])
def test_what_cannot_be_sampled(mode: str, num_frames: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame_indices(mode, num_frames, count=1, stride=1)


# --- clips by timestamps ---

FPS = (24, 24000 / 1001, 25, 30000 / 1001, 30, 50, 60)


def take(
    pts_seconds: npt.NDArray[np.float64], clip_seconds: float = 3.0, num_frames: int = 10, short_video: str = "pad"
) -> list[list[int]]:
    found = clips(pts_seconds, clip_seconds=clip_seconds, num_frames=num_frames, short_video=short_video)
    assert all(clip.dtype == np.int64 for clip in found)
    return [clip.tolist() for clip in found]


def test_clips_of_three_seconds_at_25_fps() -> None:
    """7 s are two clips of 75 frames; the last 25 frames are left out."""
    assert take(np.arange(175) / 25) == [
        [0, 8, 16, 24, 32, 41, 49, 57, 65, 74],
        [75, 83, 91, 99, 107, 116, 124, 132, 140, 149],
    ]


@pytest.mark.parametrize("start", [0.0, 0.08, -0.04, 1234.5678])
@pytest.mark.parametrize("fps", FPS)
def test_at_a_constant_rate_clips_are_linspace_of_their_frames(fps: float, start: float) -> None:
    """Wherever the first frame's time lies, and whatever floating point makes of 1/fps."""
    pts_seconds = start + np.arange(400) / fps
    found = take(pts_seconds, clip_seconds=2.5, num_frames=8)
    firsts = [int(np.ceil(number * 2.5 * fps - 1e-3)) for number in range(len(found) + 1)]
    assert len(found) == int(400 / fps / 2.5 + 1e-9)
    assert found == [np.linspace(a, b - 1, 8, dtype=int).tolist() for a, b in pairwise(firsts)]


@pytest.mark.parametrize(("num_frames", "num_clips"), [(74, 1), (75, 1), (76, 1), (149, 1), (150, 2), (225, 3)])
def test_a_last_frame_lasts_as_long_as_the_others(num_frames: int, num_clips: int) -> None:
    """75 frames at 25 fps are 3 s, although the last one's time is 2.96 s. 74 are one padded clip."""
    assert len(take(np.arange(num_frames) / 25)) == num_clips


def test_thousandths_of_a_second_are_whole_clips() -> None:
    """A container that counts milliseconds writes 30 fps as 0, 33, 67, 100 …"""
    pts_seconds = np.round(np.arange(180) / 30, 3)
    found = take(pts_seconds, num_frames=3)
    assert [clip[0] for clip in found] == [0, 90]
    assert [clip[-1] for clip in found] == [89, 179]


def test_a_variable_rate_is_sampled_by_time() -> None:
    """One second at 10 fps, then one at 100 fps: half of the moments lie in each."""
    pts_seconds = np.concatenate([np.arange(10) / 10, 1 + np.arange(100) / 100])
    [clip] = take(pts_seconds, clip_seconds=2.0, num_frames=5)
    # The last frame's time is 1.99 s, moments are its quarters; each shows the latest frame that has begun.
    assert clip == [0, 4, 9, 59, 109]


def test_a_clip_in_which_no_picture_begins_is_left_out() -> None:
    """Frames at 0 … 0.9 s and from 7 s on: from 3 to 6 s there is the picture of 0.9 s alone."""
    pts_seconds = np.concatenate([np.arange(10) / 10, 7 + np.arange(20) / 10])
    assert take(pts_seconds, num_frames=4) == [[0, 3, 6, 9], [10, 16, 22, 29]]


def test_a_short_video_is_padded_with_its_last_frame() -> None:
    """1 s of 25 fps in a clip of 3 s whose moments are 0, 0.592, … 2.96 s."""
    assert take(np.arange(25) / 25, num_frames=6) == [[0, 14, 24, 24, 24, 24]]
    assert take(np.array([0.5]), num_frames=4) == [[0, 0, 0, 0]]


@pytest.mark.parametrize("num_frames", [1, 2, 25, 74])
def test_a_short_video_is_rejected_on_request(num_frames: int) -> None:
    with pytest.raises(VideoRejected, match=r"expected at least 3 s.*frames\.short_video=pad") as rejection:
        take(np.arange(num_frames) / 25, short_video="reject")
    assert (rejection.value.stage, rejection.value.reason) == (Stage.SAMPLE, Reason.TOO_SHORT)
    assert len(take(np.arange(75) / 25, short_video="reject")) == 1


@given(
    gaps=st.lists(st.floats(0.001, 2.0), max_size=120),
    start=st.floats(-5, 5),
    clip_seconds=st.floats(0.05, 4),
    num_frames=st.integers(2, 12),
)
def test_clips_are_in_order_and_each_inside_its_seconds(
    gaps: list[float], start: float, clip_seconds: float, num_frames: int
) -> None:
    pts_seconds = start + np.cumsum([0.0, *gaps])
    found = take(pts_seconds, clip_seconds, num_frames)
    assert found
    for clip in found:
        assert len(clip) == num_frames
        assert clip == sorted(clip)
        assert 0 <= clip[0] <= clip[-1] < len(pts_seconds)
    numbers = np.floor((pts_seconds - start + 1e-6) / clip_seconds)
    assert all(numbers[clip[0]] == numbers[clip[-1]] for clip in found), "no frame of the next clip"
    assert all(numbers[before[0]] < numbers[after[0]] for before, after in pairwise(found)), "no frame twice"


def test_samples_count_each_frame_once() -> None:
    samples = Samples(records=(np.array([0, 4, 4]), np.array([4, 9]), np.array([2])))
    assert samples.frame_indices.tolist() == [0, 2, 4, 9]
    assert [record.tolist() for record in samples.before(9).records] == [[0, 4, 4], [2]]
    assert samples.before(0).frame_indices.tolist() == []
    assert samples.before(0).frame_indices.dtype == np.int64
    assert [record.tolist() for record in single_frames(np.array([3, 5])).records] == [[3], [5]]


# --- the farthest first ---


def test_the_first_visit_is_in_the_middle_and_the_next_at_the_ends() -> None:
    assert farthest_first(101, [], 5) == [50, 0, 100, 25, 75]
    assert farthest_first(1, [], 3) == [0]
    assert farthest_first(10, [0, 9], 1) == [4]


def test_what_was_visited_does_not_come_again() -> None:
    assert farthest_first(4, [0, 1, 2, 3], 5) == []
    assert sorted(farthest_first(6, [2, 3], 100)) == [0, 1, 4, 5]
    assert farthest_first(100, [3], 0) == []


@given(
    num_frames=st.integers(1, 120),
    visited=st.lists(st.integers(0, 119), max_size=20),
    count=st.integers(0, 30),
)
def test_each_is_as_far_as_can_be_from_all_before_it(num_frames: int, visited: list[int], count: int) -> None:
    seen = [position for position in visited if position < num_frames]
    chosen = farthest_first(num_frames, seen, count)
    assert len(chosen) == min(count, num_frames - len(set(seen)))
    for position in chosen:
        if seen:
            distances = [min(abs(place - other) for other in seen) for place in range(num_frames)]
            assert distances[position] == max(distances) > 0
        seen.append(position)


def test_clips_that_lie_partly_behind_the_end_are_padded_or_left_out() -> None:
    samples = Samples(records=(np.array([0, 4, 9]), np.array([10, 14, 19]), np.array([20, 24, 29])))
    assert [record.tolist() for record in samples.before(19).records] == [[0, 4, 9]]
    assert [record.tolist() for record in samples.before(19, pad=True).records] == [[0, 4, 9], [10, 14, 14]]
    assert [record.tolist() for record in samples.before(21, pad=True).records] == [[0, 4, 9], [10, 14, 19]]
    assert [record.tolist() for record in single_frames(np.array([3, 8])).before(5, pad=True).records] == [[3]]
