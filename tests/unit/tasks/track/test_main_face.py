"""Who a video is about: a mask decides, then the original's place, then the length; and who else is stored."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import VideoRejected
from manifests.rejected import Reason, Stage
from storage.format.record import TrackChoice
from tasks.media import FaceTrack
from tasks.track.main_face import ChosenTrack, choose_main, stored_tracks
from tasks.track.timeline import Timeline
from tasks.track.tracker import SeenTrack

SIDE_PX = 80


def person(track_id: int, frames: Iterable[int], left: float = 0, mask_overlap: float = 0.0) -> SeenTrack:
    """Somebody who stands still, with a box of 80×80 pixels."""
    numbers = np.array(list(frames), dtype=np.int64)
    box = np.array([left, 50, left + SIDE_PX, 50 + SIDE_PX], dtype=np.float32)
    track = FaceTrack(
        track_id=track_id,
        frame_indices=numbers,
        boxes_xyxy=np.tile(box, (len(numbers), 1)),
        landmarks=np.tile((box[:2] + box[2:]) / 2, (len(numbers), 5, 1)).astype(np.float32),
        scores=np.full(len(numbers), 0.9, dtype=np.float32),
        interpolated=np.zeros(len(numbers), dtype=np.bool_),
    )
    return SeenTrack(track=track, mask_overlap=mask_overlap)


def never() -> FaceTrack | None:
    raise AssertionError("the original was asked")


def test_the_mask_beats_the_longest_and_nobody_asks_the_original() -> None:
    longest, masked = person(0, range(30)), person(1, range(4), left=200, mask_overlap=0.3)
    assert choose_main([longest, masked], never) == (masked, "mask")


def test_of_two_masked_people_the_one_that_the_masks_overlap_most() -> None:
    """The sum over frames counts: half of ten masks is more than all of two."""
    passing, staying = person(0, range(2), mask_overlap=2.0), person(1, range(10), mask_overlap=5.0)
    assert choose_main([passing, staying], never) == (staying, "mask")


@pytest.mark.parametrize(("frames", "chosen"), [((5, 8), 1), ((8, 5), 0), ((8, 8), 0)])
def test_masks_that_overlap_equally_leave_it_to_the_length(frames: tuple[int, int], chosen: int) -> None:
    people = [person(number, range(length), mask_overlap=2.0) for number, length in enumerate(frames)]
    assert choose_main(people, never) == (people[chosen], "mask")


def test_without_a_mask_the_originals_place_decides() -> None:
    longest, other = person(0, range(30), left=0), person(1, range(10), left=300)
    original = person(0, range(0, 60, 2), left=310).track
    assert choose_main([longest, other], lambda: original) == (other, "original")


def test_the_original_may_have_been_seen_in_other_frames() -> None:
    """It moves from 0 to 290 px; the frames of the fake lie between those in which it was seen."""
    seen = person(0, [0, 58])
    track = seen.track
    track.boxes_xyxy[1, [0, 2]] += 290
    early, late = person(0, [1, 3, 5, 7, 9], left=20), person(1, [51, 53, 55], left=265)
    halfway = person(2, [29], left=-200)
    assert choose_main([halfway, early], lambda: track) == (early, "original")
    assert choose_main([halfway, late], lambda: track) == (late, "original")


def test_a_single_person_never_asks_the_original() -> None:
    alone = person(0, range(3))
    assert choose_main([alone], never) == (alone, "longest")


def test_the_original_is_asked_once() -> None:
    asked: list[None] = []
    choose_main([person(0, [0]), person(1, [0], left=300)], lambda: asked.append(None))
    assert len(asked) == 1


def test_without_an_original_the_longest() -> None:
    longest, other = person(1, range(30)), person(0, range(10), left=300)
    assert choose_main([other, longest], lambda: None) == (longest, "longest")
    assert choose_main([other, longest]) == (longest, "longest")


def test_an_original_that_stands_elsewhere_decides_nothing() -> None:
    longest, other = person(0, range(30)), person(1, range(10), left=300)
    original = person(0, range(30), left=600).track
    assert choose_main([longest, other], lambda: original) == (longest, "longest")


def test_a_moment_at_the_originals_place_is_not_the_person() -> None:
    """One false detection hits the original's box to the pixel; the face itself lies 2 px beside it in every frame.

    By the mean over each track's own frames it would win, and the video be dropped for low coverage.
    """
    main, glimpse = person(0, range(30), left=102), person(1, [7], left=100)
    original = person(0, range(30), left=100).track
    chosen, choice = choose_main([main, glimpse], lambda: original)
    assert (chosen.track.track_id, choice) == (0, "original")


@given(st.lists(st.integers(1, 4), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_ties_go_to_the_track_that_was_opened_first(lengths: list[int], chance: Random) -> None:
    people = [person(number, range(length), left=100.0 * number) for number, length in enumerate(lengths)]
    shuffled = chance.sample(people, len(people))
    main, choice = choose_main(shuffled)
    assert (main.track.track_id, choice) == (lengths.index(max(lengths)), "longest")


FRAMES = np.arange(10, dtype=np.int64)


def stored(
    people: list[SeenTrack],
    main: int,
    *,
    max_tracks: int = 1,
    min_coverage: float = 0.5,
    choice: TrackChoice = "mask",
    max_gap_s: float | None = None,
) -> tuple[ChosenTrack, ...]:
    timeline = Timeline(frame_indices=FRAMES, pts_seconds=FRAMES / 10, max_gap_s=max_gap_s)
    return stored_tracks(people, people[main], choice, timeline, min_coverage=min_coverage, max_tracks=max_tracks)


@pytest.mark.parametrize(
    ("max_tracks", "expected"),
    [
        (1, [(3, "mask")]),
        (2, [(3, "mask"), (1, "bystander")]),
        (3, [(3, "mask"), (1, "bystander"), (0, "bystander")]),
        (99, [(3, "mask"), (1, "bystander"), (0, "bystander"), (4, "bystander")]),
    ],
)
def test_the_main_face_first_then_the_longest_others(max_tracks: int, expected: list[tuple[int, str]]) -> None:
    """Number 2 covers 40% only; 0 and 4 are equally long."""
    people = [person(number, range(length)) for number, length in enumerate((6, 9, 4, 5, 6))]
    chosen = stored(people, 3, max_tracks=max_tracks)
    assert [(one.track.track_id, one.choice) for one in chosen] == expected


def test_stored_tracks_have_a_row_for_every_frame_that_was_looked_at() -> None:
    for one in stored([person(0, range(5)), person(1, range(3, 10))], 0, max_tracks=2):
        assert one.track.frame_indices.tolist() == FRAMES.tolist()
    main, bystander = stored([person(0, range(5)), person(1, range(3, 10))], 0, max_tracks=2)
    assert main.track.interpolated.tolist() == [False] * 5 + [True] * 5
    assert bystander.track.interpolated.tolist() == [True] * 3 + [False] * 7


def test_a_main_face_that_is_seen_too_rarely() -> None:
    """However long the others are: it is the wrong person that they show."""
    people = [person(0, range(10)), person(1, range(4))]
    with pytest.raises(VideoRejected) as rejection:
        stored(people, 1, max_tracks=2)
    assert (rejection.value.stage, rejection.value.reason) == (Stage.TRACK, Reason.LOW_COVERAGE)
    assert rejection.value.detail == (
        "main face: got it in 40% of 10 sampled frames, expected at least 50% (track.min_coverage)"
    )
    assert len(stored(people, 1, min_coverage=0.4)) == 1
