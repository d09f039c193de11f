"""One contract over every landmarker; those of one landmarker alone are in `test_fan.py` and `test_dlib.py`."""

from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt
import pytest
from skimage import data

from manifests.errors import StageMissing
from tasks.landmarks import LANDMARKERS
from tasks.landmarks.landmarker import Landmarker
from tasks.media import FaceDetection, FrameBatch
from tasks.settings import LandmarkSettings

BOX_XYXY = (177.0, 65.0, 270.0, 193.0)  # MTCNN's of the portrait
FIVE = ((196, 108), (254, 108), (227, 140), (201, 161), (251, 161))


# Those whose weights are installed with them; fan, whose weights are fetched, has tests of its own.
@pytest.fixture(params=[name for name, kind in LANDMARKERS.items() if not kind.weights], scope="module")
def landmarker(request: pytest.FixtureRequest) -> Landmarker:
    chosen = LANDMARKERS[request.param]
    try:
        chosen.require_models(None)
    except StageMissing as missing:
        pytest.skip(str(missing))
    return chosen.from_settings(LandmarkSettings(kind=request.param), device="cpu", weights_dir=None)


@pytest.fixture(scope="module")
def frames() -> FrameBatch:
    """Three frames of 512×512 pixels with NASA's public-domain portrait of Eileen Collins."""
    portrait: npt.NDArray[np.uint8] = np.ascontiguousarray(data.astronaut())  # type: ignore[no-untyped-call]  # no stubs
    numbers = np.arange(3, dtype=np.int64)
    return FrameBatch(data=np.stack([portrait] * 3), frame_indices=numbers, pts_seconds=numbers / 25)


def portrait_face(shift_px: float = 0.0) -> FaceDetection:
    return FaceDetection(
        box_xyxy=np.array(BOX_XYXY, dtype=np.float32) + np.float32(shift_px),
        score=0.9,
        landmarks=np.array(FIVE, dtype=np.float32) + np.float32(shift_px),
    )


def test_each_face_has_the_promised_number_of_landmarks(landmarker: Landmarker, frames: FrameBatch) -> None:
    ((found,), *_) = landmarker.locate(frames, [[portrait_face()], [], []])
    assert found.landmarks.shape == (landmarker.num_landmarks, 2)
    assert found.landmarks.dtype == np.float32
    left, top, right, bottom = BOX_XYXY
    assert (found.landmarks.min(axis=0) > [left - 20, top - 20]).all()
    assert (found.landmarks.max(axis=0) < [right + 20, bottom + 20]).all()


def test_faces_keep_their_frames_their_order_and_all_else(landmarker: Landmarker, frames: FrameBatch) -> None:
    given = [[portrait_face(), portrait_face(2)], [], [portrait_face(1)]]
    found = landmarker.locate(frames, given)
    assert [len(faces) for faces in found] == [2, 0, 1]
    for before, after in zip(chain(*given), chain(*found), strict=True):
        assert np.array_equal(before.box_xyxy, after.box_xyxy)
        assert (before.score, before.found_by) == (after.score, after.found_by)


def test_one_that_does_not_measure_keeps_the_landmarks(landmarker: Landmarker, frames: FrameBatch) -> None:
    ((found,), *_) = landmarker.locate(frames, [[portrait_face()], [], []])
    assert landmarker.measures != np.array_equal(found.landmarks, portrait_face().landmarks)


def test_no_faces(landmarker: Landmarker, frames: FrameBatch) -> None:
    assert landmarker.locate(frames, [[], [], []]) == [[], [], []]
