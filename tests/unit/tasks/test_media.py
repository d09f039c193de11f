"""The types between the stages refuse what is not as their fields say, where it is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tasks.media import AlignedClip, FaceDetection, FaceTrack, FrameBatch

NUM_FRAMES = 3


def frame_batch(**changes: Any) -> FrameBatch:
    fields: dict[str, Any] = {
        "data": np.zeros((NUM_FRAMES, 4, 6, 3), dtype=np.uint8),
        "frame_indices": np.array([0, 5, 9], dtype=np.int64),
        "pts_seconds": np.array([0.0, 0.2, 0.36]),
    }
    return FrameBatch(**fields | changes)


def detection(**changes: Any) -> FaceDetection:
    fields: dict[str, Any] = {
        "box_xyxy": np.array([-3, 2, 50, 60], dtype=np.float32),
        "score": 0.9,
        "landmarks": np.zeros((5, 2), dtype=np.float32),
    }
    return FaceDetection(**fields | changes)


def track(num_landmarks: int = 5, **changes: Any) -> FaceTrack:
    """Row number n holds n everywhere."""
    rows = np.arange(NUM_FRAMES, dtype=np.float32)
    fields: dict[str, Any] = {
        "track_id": 4,
        "frame_indices": np.array([0, 5, 9], dtype=np.int64),
        "boxes_xyxy": np.repeat(rows[:, None], 4, axis=1),
        "landmarks": np.broadcast_to(rows[:, None, None], (NUM_FRAMES, num_landmarks, 2)).copy(),
        "scores": rows / 10,
        "interpolated": np.array([False, True, False]),
    }
    return FaceTrack(**fields | changes)


def clip(**changes: Any) -> AlignedClip:
    fields: dict[str, Any] = {
        "crops": np.zeros((NUM_FRAMES, 8, 8, 3), dtype=np.uint8),
        "matrices": np.zeros((NUM_FRAMES, 2, 3)),
        "landmarks": np.zeros((NUM_FRAMES, 5, 2), dtype=np.float32),
        "masks": np.zeros((NUM_FRAMES, 8, 8), dtype=np.uint8),
        "frame_indices": np.array([0, 5, 9], dtype=np.int64),
        "pts_seconds": np.array([0.0, 0.2, 0.36]),
    }
    return AlignedClip(**fields | changes)


MAKERS: dict[str, Callable[..., Any]] = {
    "FrameBatch": frame_batch,
    "FaceDetection": detection,
    "FaceTrack": track,
    "AlignedClip": clip,
}
ARRAYS = [
    ("FrameBatch", "data", "uint8"),
    ("FrameBatch", "frame_indices", "int64"),
    ("FrameBatch", "pts_seconds", "float64"),
    ("FaceDetection", "box_xyxy", "float32"),
    ("FaceDetection", "landmarks", "float32"),
    ("FaceTrack", "frame_indices", "int64"),
    ("FaceTrack", "boxes_xyxy", "float32"),
    ("FaceTrack", "landmarks", "float32"),
    ("FaceTrack", "scores", "float32"),
    ("FaceTrack", "interpolated", "bool"),
    ("AlignedClip", "crops", "uint8"),
    ("AlignedClip", "matrices", "float64"),
    ("AlignedClip", "landmarks", "float32"),
    ("AlignedClip", "masks", "uint8"),
    ("AlignedClip", "frame_indices", "int64"),
    ("AlignedClip", "pts_seconds", "float64"),
]


def test_what_fits_is_taken() -> None:
    assert len(frame_batch()) == len(track()) == NUM_FRAMES
    assert track(num_landmarks=68).landmarks.shape == (NUM_FRAMES, 68, 2)
    assert clip(masks=None).masks is None
    for score in (0.0, 1.0, 1):
        assert detection(score=score).score == score
    # A video without a sampled frame of it is nothing, but it is consistent.
    nothing = frame_batch(
        data=np.zeros((0, 4, 6, 3), np.uint8), frame_indices=np.zeros(0, np.int64), pts_seconds=np.zeros(0)
    )
    assert len(nothing) == 0


@pytest.mark.parametrize(("owner", "name", "dtype"), ARRAYS)
def test_arrays_have_their_type(owner: str, name: str, dtype: str) -> None:
    good = getattr(MAKERS[owner](), name)
    assert good.dtype == np.dtype(dtype)
    with pytest.raises(TypeError) as refusal:
        MAKERS[owner](**{name: good.astype("float16")})
    assert str(refusal.value) == f"{owner}.{name}: got dtype float16, expected {dtype}"
    if name != "frame_indices":  # whose length is asked for first
        with pytest.raises(TypeError, match=rf"^{owner}\.{name}: got list, expected a numpy array$"):
            MAKERS[owner](**{name: good.tolist()})


@pytest.mark.parametrize(("owner", "name"), [array[:2] for array in ARRAYS])
def test_arrays_have_their_shape(owner: str, name: str) -> None:
    good = getattr(MAKERS[owner](), name)
    for wrong in (np.concatenate([good, good[:1]]), good[..., None]):
        with pytest.raises(ValueError, match=rf"^{owner}\.\w+: got shape "):
            MAKERS[owner](**{name: wrong})


@pytest.mark.parametrize(
    ("owner", "changes", "message"),
    [
        ("FrameBatch", {"data": np.zeros((3, 4, 6, 4), np.uint8)}, "(3, 4, 6, 4), expected (3, 'any', 'any', 3)"),
        ("FaceDetection", {"landmarks": np.zeros((6, 2), np.float32)}, "(6, 2), expected (5, 2), (68, 2) or (0, 2)"),
        ("FaceTrack", {"landmarks": np.zeros((3, 5, 3), np.float32)}, "(3, 5, 3), expected (3, 'any', 2)"),
        ("AlignedClip", {"matrices": np.zeros((3, 3, 3))}, "(3, 3, 3), expected (3, 2, 3)"),
        ("AlignedClip", {"masks": np.zeros((3, 8, 9), np.uint8)}, "(3, 8, 9), expected (3, 8, 8)"),
    ],
)
def test_the_message_shows_both_shapes(owner: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=r"^\w+\.\w+: got shape ") as refusal:
        MAKERS[owner](**changes)
    assert str(refusal.value) == f"{owner}.{next(iter(changes))}: got shape {message}"


@pytest.mark.parametrize("score", [-0.01, 1.01, float("nan"), float("inf")])
def test_scores_are_shares(score: float) -> None:
    with pytest.raises(ValueError, match=r"^FaceDetection\.score: got .*, expected 0\.\.1$"):
        detection(score=score)


def test_fields_do_not_change() -> None:
    with pytest.raises(AttributeError):
        frame_batch().num_decode_failures = 1  # type: ignore[misc]


def test_rows_at_gives_just_these_frames_in_their_order() -> None:
    whole = track()
    for frames in ([0, 5, 9], [9], [0, 9], [5, 5, 0]):
        part = whole.rows_at(np.array(frames, dtype=np.int64))
        rows = [[0, 5, 9].index(frame) for frame in frames]
        assert part.track_id == 4
        assert part.frame_indices.tolist() == frames
        assert part.boxes_xyxy[:, 3].tolist() == rows
        assert part.landmarks[:, 2, 1].tolist() == rows
        assert part.scores.tolist() == pytest.approx([row / 10 for row in rows])
        assert part.interpolated.tolist() == [row == 1 for row in rows]


def test_rows_at_no_frame() -> None:
    assert len(track().rows_at(np.zeros(0, dtype=np.int64))) == 0


@pytest.mark.parametrize(
    ("frames", "missing"), [([4], "[4]"), ([0, 10], "[10]"), ([-1, 0], "[-1]"), (list(range(9)), "[1, 2, 3, 4, 6]")]
)
def test_rows_at_frames_that_the_track_has_not(frames: list[int], missing: str) -> None:
    with pytest.raises(ValueError, match=r"^FaceTrack\.rows_at: ") as refusal:
        track().rows_at(np.array(frames, dtype=np.int64))
    assert f"got frames {missing} without a row, expected sampled frames only" in str(refusal.value)
