"""One contract over every detector; those of one detector alone are in `test_mtcnn.py` and `test_s3fd.py`."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from skimage import data

from tasks.detect import DETECTORS
from tasks.detect.detector import FaceDetector
from tasks.media import FrameBatch
from tasks.settings import DetectSettings


def batch_of(images: npt.NDArray[np.uint8]) -> FrameBatch:
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


# Those whose weights are installed with them; s3fd's are fetched, and has tests of its own.
@pytest.fixture(params=[name for name, kind in DETECTORS.items() if not kind.weights], scope="module")
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    settings = DetectSettings(kind=request.param, search="full")
    return DETECTORS[request.param].from_settings(settings, device="cpu", weights_dir=None)


@pytest.fixture(scope="module")
def portrait() -> npt.NDArray[np.uint8]:
    """NASA's public-domain portrait of Eileen Collins, (512,512,3): one face, eyes near (196,108) and (254,108)."""
    return np.ascontiguousarray(data.astronaut())  # type: ignore[no-untyped-call]


def test_the_portrait_has_one_face_in_its_place(detector: FaceDetector, portrait: npt.NDArray[np.uint8]) -> None:
    ((face,),) = detector.detect(batch_of(portrait[None]))
    left, top, right, bottom = face.box_xyxy
    assert 160 < left < 200
    assert 40 < top < 90
    assert 250 < right < 290
    assert 160 < bottom < 220
    assert face.score > 0.99
    left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_mouth[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_each_frame_has_its_own_faces(detector: FaceDetector, portrait: npt.NDArray[np.uint8]) -> None:
    blank = np.full_like(portrait, 127)
    found = detector.detect(batch_of(np.stack([blank, portrait, blank])))
    assert [len(faces) for faces in found] == [0, 1, 0]


def test_the_largest_face_comes_first(detector: FaceDetector, portrait: npt.NDArray[np.uint8]) -> None:
    both = np.zeros((512, 1024, 3), dtype=np.uint8)
    both[128:384, 128:384] = portrait[::2, ::2]
    both[:, 512:] = portrait
    ((first, second),) = detector.detect(batch_of(both[None]))
    assert first.box_xyxy[0] > 512 > second.box_xyxy[2]


@pytest.mark.parametrize("shape", [(8, 8), (19, 400), (400, 5)])
def test_frames_smaller_than_any_face(detector: FaceDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(batch_of(np.zeros((2, *shape, 3), dtype=np.uint8))) == [[], []]


def test_no_frames_no_faces(detector: FaceDetector) -> None:
    assert detector.detect(batch_of(np.zeros((0, 90, 90, 3), dtype=np.uint8))) == []
