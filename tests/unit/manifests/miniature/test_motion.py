"""Motion: poses keep to their limits and are smooth, and positions follow from the pose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from manifests.miniature import motion
from manifests.miniature.motion import Pose, plan_motion, portrait_positions
from manifests.miniature.photograph import LANDMARKS, NECK_XY

FRAME_SIZE = (320, 240)
STILL = Pose(
    neck_xy=(160.0, 170.0),
    scale=0.8,
    roll_degrees=0.0,
    tilt_degrees=0.0,
    turn_xy=(0.0, 0.0),
    jaw=0.0,
    smile=0.0,
    blink=0.0,
    brightness=1.0,
    light_slope=0.0,
)


def seen_at(points_xy: np.ndarray, pose: Pose) -> np.ndarray:
    return portrait_positions(points_xy.astype(np.float32), pose, LANDMARKS)


def on_frame(points_xy: np.ndarray) -> np.ndarray:
    """Where portrait points are in a frame of the still pose."""
    return (points_xy - NECK_XY) * STILL.scale + STILL.neck_xy


@pytest.fixture(scope="module")
def poses() -> list[Pose]:
    return plan_motion(np.random.default_rng(5), 200, FRAME_SIZE, 0.8, 0.05)


def test_every_movement_stays_within_its_limit_and_moves(poses: list[Pose]) -> None:
    assert len(poses) == 200
    necks = np.array([pose.neck_xy for pose in poses])
    assert (np.abs(necks[:, 0] - 160) <= motion.SWAY * 320).all()
    for values, middle, limit in (
        ([pose.scale for pose in poses], 0.8, 0.8 * motion.ZOOM),
        ([pose.roll_degrees for pose in poses], 0, motion.ROLL_DEGREES),
        ([pose.tilt_degrees for pose in poses], 0, motion.TILT_DEGREES),
        ([pose.jaw for pose in poses], 0, 1),
        ([pose.smile for pose in poses], 0, 1),
        ([pose.brightness for pose in poses], 1, motion.BRIGHTNESS),
    ):
        assert (np.abs(np.array(values) - middle) <= limit * 1.0001).all()
        assert np.ptp(values) > 0.3 * limit
    blinks = [pose.blink for pose in poses]
    assert min(blinks) == 0
    assert 0.5 < max(blinks) <= 1


def test_the_head_never_jumps(poses: list[Pose]) -> None:
    steps = np.abs(np.diff([pose.neck_xy for pose in poses], axis=0))
    assert steps.max() < 3  # pixels a frame


def test_a_still_pose_is_a_shift_and_a_scale() -> None:
    corners = np.array([[0, 0], [319, 0], [160, 170], [10, 239]])
    expected = (corners - STILL.neck_xy) / 0.8 + NECK_XY
    np.testing.assert_allclose(seen_at(corners, STILL), expected, atol=1e-3)


def test_rolling_by_a_quarter_turn_carries_what_was_above_to_the_right() -> None:
    # Below the head's end nothing tilts, so the roll is all there is: a point 100 px right of the neck shows the top.
    beside = np.array([[160 + 80, 170]])
    np.testing.assert_allclose(
        seen_at(beside, replace(STILL, roll_degrees=90)), [[NECK_XY[0], NECK_XY[1] - 100]], atol=0.01
    )


def test_tilting_moves_the_head_and_leaves_the_shoulders() -> None:
    nose, shoulder = on_frame(LANDMARKS[2:3]), on_frame(np.array([[300, 260]]))
    tilted = replace(STILL, tilt_degrees=5)
    assert seen_at(nose, tilted)[0, 0] < LANDMARKS[2, 0] - 3  # the head has gone to the right
    np.testing.assert_allclose(seen_at(shoulder, tilted), [[300, 260]], atol=1e-3)


def test_turning_the_nose_moves_it_and_hardly_the_outline() -> None:
    nose, outline = on_frame(LANDMARKS[2:3]), on_frame(np.array([[300.0, 90.0]]))
    turned = replace(STILL, turn_xy=(6, 0))
    np.testing.assert_allclose(seen_at(nose, turned), LANDMARKS[2:3] - (6, 0), atol=0.5)
    assert np.abs(seen_at(outline, turned) - (300, 90)).max() < 1


def test_a_dropped_jaw_shows_the_lower_lip_further_down_and_leaves_the_eyes() -> None:
    below_lip = LANDMARKS[3:].mean(axis=0) + np.array((0, 16))
    dropped = replace(STILL, jaw=1)
    seen = seen_at(on_frame(np.vstack([below_lip, LANDMARKS[:2]])), dropped)
    assert seen[0, 1] == pytest.approx(below_lip[1] - motion.JAW_DROP_PX, abs=0.5)
    np.testing.assert_allclose(seen[1:], LANDMARKS[:2], atol=0.1)


def test_closing_an_eye_flattens_it_about_its_middle() -> None:
    closed = replace(STILL, blink=1)
    eye, two_down = LANDMARKS[0], np.array((0, 2))
    seen = seen_at(on_frame(np.vstack([eye, eye + two_down, eye - two_down])), closed)
    np.testing.assert_allclose(seen[0], eye, atol=0.01)
    # Two pixels beside the middle show what was more than twice as far from it.
    assert seen[1, 1] - eye[1] > 4.5
    assert eye[1] - seen[2, 1] > 4.5
