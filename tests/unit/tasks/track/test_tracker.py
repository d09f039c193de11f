"""Tracking by motion: the same person stays the same track, and the video's subject is chosen, not the biggest box."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tasks.media import FaceDetection, FaceTrack
from tasks.track.main_face import choose_main
from tasks.track.tracker import FaceTracker, fill_gaps, mask_share

LANDMARKS_IN_UNIT_BOX = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])


def face(left: float, top: float, side: float, score: float = 0.9) -> FaceDetection:
    return FaceDetection(
        box_xyxy=np.array([left, top, left + side, top + side], dtype=np.float32),
        score=score,
        landmarks=(LANDMARKS_IN_UNIT_BOX * side + [left, top]).astype(np.float32),
    )


def main_track(tracker: FaceTracker) -> FaceTrack:
    """Whom the video is about, by mask or length."""
    main, _ = choose_main(tracker.tracks())
    return main.track


def test_two_people_keep_their_tracks_while_they_move() -> None:
    tracker = FaceTracker()
    for step in range(10):
        tracker.add(10 * step, [face(400 - 5 * step, 100, 120), face(50 + 5 * step, 90, 100)])
    assert (tracker.num_tracks, tracker.num_faces) == (2, 20)
    main = main_track(tracker)
    assert main.boxes_xyxy[:, 0].tolist() == [400 - 5 * step for step in range(10)]


def test_order_of_detections_does_not_switch_people() -> None:
    tracker = FaceTracker()
    for step in range(6):
        pair = [face(400, 100, 120), face(50, 90, 119)]
        tracker.add(step, pair if step % 2 == 0 else pair[::-1])
    main = main_track(tracker)
    assert set(main.boxes_xyxy[:, 0].tolist()) == {400.0}


def test_the_longest_track_is_the_subject_not_the_biggest_box() -> None:
    """A large picture inset on the screen for some frames, and a smaller presenter in all of them."""
    tracker = FaceTracker()
    for step in range(30):
        inset = [face(600, 50, 300)] if 10 <= step < 16 else []
        tracker.add(step, [*inset, face(100, 100, 150)])
    main = main_track(tracker)
    assert len(main) == 30
    assert set(main.boxes_xyxy[:, 0].tolist()) == {100.0}
    assert tracker.num_tracks == 2


def test_the_mask_decides_where_there_is_one() -> None:
    """The manipulated person is seen in fewer frames than the other."""
    mask = np.zeros((480, 640), dtype=np.uint8)
    mask[110:190, 410:490] = 255
    tracker = FaceTracker()
    for step in range(10):
        manipulated = [face(400, 100, 100)] if step < 4 else []
        seen = [face(50, 90, 150), *manipulated]
        tracker.add(step, seen, [mask_share(mask, one.box_xyxy) for one in seen])
    main = main_track(tracker)
    assert main.boxes_xyxy[:, 0].tolist() == [400.0] * 4


def test_an_empty_mask_decides_nothing() -> None:
    tracker = FaceTracker()
    for step in range(3):
        tracker.add(step, [face(400, 100, 100)] if step == 0 else [face(50, 90, 100)], [0.0])
    main = main_track(tracker)
    assert len(main) == 2


def test_a_face_too_far_away_is_another_person() -> None:
    """The farthest match is 0.65·2 diagonals of the averaged box, for corners and landmarks together."""
    diagonal = 100 * np.sqrt(2)
    for shift, num_tracks in ((0.64 * diagonal, 1), (0.66 * diagonal, 2)):
        tracker = FaceTracker()
        tracker.add(0, [face(100, 100, 100)])
        tracker.add(1, [face(100 + shift, 100, 100)])
        assert tracker.num_tracks == num_tracks, shift


def test_distances_are_measured_from_the_running_average() -> None:
    tracker = FaceTracker()
    for frame_index, left in enumerate((100, 160, 220)):
        tracker.add(frame_index, [face(left, 100, 100)])
    # Average after three frames: 100 → 130 → 175. A face 0.65 diagonals (91.9 px) from there still belongs to it.
    tracker.add(3, [face(175 + 91, 100, 100)])
    assert tracker.num_tracks == 1
    tracker.add(4, [face((175 + 266) / 2 + 93, 100, 100)])
    assert tracker.num_tracks == 2


def test_of_two_tracks_that_claim_one_face_the_nearer_wins() -> None:
    tracker = FaceTracker()
    tracker.add(0, [face(100, 100, 100), face(190, 100, 100)])
    tracker.add(1, [face(180, 100, 100)])
    assert tracker.num_tracks == 2
    main = main_track(tracker)
    assert main.boxes_xyxy[:, 0].tolist() == [190.0, 180.0]


def test_ties_go_to_the_track_that_was_opened_first() -> None:
    tracker = FaceTracker()
    for frame_index in range(3):
        tracker.add(frame_index, [face(300, 100, 120), face(50, 90, 100)])
    main = main_track(tracker)
    assert main.track_id == 0


def test_no_face_no_track() -> None:
    tracker = FaceTracker()
    tracker.add(0, [])
    assert (tracker.tracks(), tracker.num_tracks, tracker.num_faces) == ([], 0, 0)


def test_gaps_are_interpolated_in_time_and_flagged() -> None:
    tracker = FaceTracker()
    tracker.add(10, [face(100, 100, 100, score=0.8)])
    tracker.add(20, [])
    tracker.add(40, [face(130, 100, 100, score=0.9)])
    main = main_track(tracker)
    filled = fill_gaps(main, np.array([0, 10, 20, 40, 50], dtype=np.int64))
    assert filled.boxes_xyxy[:, 0].tolist() == [100, 100, 110, 130, 130]
    assert filled.landmarks[2].tolist() == pytest.approx((LANDMARKS_IN_UNIT_BOX * 100 + [110, 100]).astype(np.float32))
    assert filled.interpolated.tolist() == [True, False, True, False, True]
    assert filled.scores.tolist() == pytest.approx([0, 0.8, 0, 0.9, 0])


def test_seen_rows_are_not_touched_by_filling() -> None:
    tracker = FaceTracker()
    boxes: list[npt.NDArray[np.float32]] = []
    for frame_index in range(5):
        detection = face(100.1 + frame_index / 3, 99.7, 100.3)
        boxes.append(detection.box_xyxy)
        tracker.add(frame_index, [detection])
    main = main_track(tracker)
    filled = fill_gaps(main, np.arange(5, dtype=np.int64))
    assert np.array_equal(filled.boxes_xyxy, np.stack(boxes))
    assert not filled.interpolated.any()


@pytest.mark.parametrize(
    ("box", "share"),
    [((0, 0, 10, 10), 0.0), ((20, 20, 40, 40), 1.0), ((20, 20, 30, 40), 0.5), ((-50, -50, 500, 500), 1.0)],
)
def test_mask_share(box: tuple[float, ...], share: float) -> None:
    mask = np.zeros((60, 60), dtype=np.uint8)
    mask[20:40, 20:40] = 255
    assert mask_share(mask, np.array(box, dtype=np.float32)) == share


def test_a_cut_ends_all_tracks() -> None:
    tracker = FaceTracker()
    for number in range(6):
        if number == 4:
            tracker.end_shot()
        tracker.add(number, [face(100, 100, 120)])
    assert [person.track.frame_indices.tolist() for person in tracker.tracks()] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("max_gap_s", "seen", "tracks"),
    [
        (2.0, [0, 1, 5, 6], [[0, 1], [5, 6]]),  # away for 4 s
        (4.0, [0, 1, 5, 6], [[0, 1, 5, 6]]),
        (None, [0, 1, 8], [[0, 1, 8]]),
        (0.5, [0, 2, 4], [[0, 2, 4]]),  # missing in one searched frame only
    ],
)
def test_who_returns_after_a_long_absence_has_a_new_track(
    max_gap_s: float | None, seen: list[int], tracks: list[list[int]]
) -> None:
    """One frame a second is searched; the face is always at the same place."""
    tracker = FaceTracker(max_gap_s)
    for number in range(9):
        tracker.add(number, [face(100, 100, 120)] if number in seen else [], pts_seconds=float(number))
    assert [person.track.frame_indices.tolist() for person in tracker.tracks()] == tracks
