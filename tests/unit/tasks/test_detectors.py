"""One contract over every detector, and MTCNN against facenet-pytorch's own `detect` on real faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from skimage import data

from tasks.decoders import DECODERS
from tasks.detector import FaceDetector
from tasks.detectors import DETECTORS
from tasks.detectors.mtcnn import MTCNNDetector
from tasks.media import FrameBatch


def batch_of(images: npt.NDArray[np.uint8]) -> FrameBatch:
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


# Those whose weights are installed with them; s3fd's are fetched, and has tests of its own.
@pytest.fixture(params=[name for name, kind in DETECTORS.items() if not kind.weights], scope="module")
def detector(request: pytest.FixtureRequest) -> FaceDetector:
    return DETECTORS[request.param]()


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


def assert_same_as_facenet(images: npt.NDArray[np.uint8], min_face_px: int, scale_factor: float) -> int:
    """Compare bit for bit with the stock class; return how many faces were compared."""
    from facenet_pytorch import MTCNN

    stock = MTCNN(keep_all=True, min_face_size=min_face_px, factor=scale_factor, device="cpu")
    ours = MTCNNDetector(min_face_px=min_face_px, scale_factor=scale_factor).detect(batch_of(images))
    num_compared = 0
    for image, faces in zip(images, ours, strict=True):
        boxes, scores, landmarks = stock.detect(image, landmarks=True)
        assert len(faces) == (0 if boxes is None else len(boxes))
        for number, face in enumerate(faces):
            assert np.array_equal(face.box_xyxy, np.asarray(boxes[number], dtype=np.float32))
            assert np.array_equal(face.landmarks, np.asarray(landmarks[number], dtype=np.float32))
            assert face.score == float(scores[number])
            num_compared += 1
    return num_compared


@pytest.mark.parametrize(("min_face_px", "scale_factor"), [(20, 0.709), (40, 0.709), (60, 0.8)])
def test_mtcnn_is_facenet_pytorchs_on_a_portrait(
    portrait: npt.NDArray[np.uint8], min_face_px: int, scale_factor: float
) -> None:
    assert assert_same_as_facenet(portrait[None], min_face_px, scale_factor) == 1


@pytest.mark.samples
@pytest.mark.parametrize(
    "clip",
    ["original_sequences/youtube/c23/videos/519.mp4", "manipulated_sequences/FaceSwap/c23/videos/634_660.mp4"],
)
def test_mtcnn_is_facenet_pytorchs_on_real_frames(samples_dir: Path, clip: str) -> None:
    with DECODERS["decord"]().open(samples_dir / "ffpp_c23" / clip) as reader:
        frames = reader.read(np.array([0, 120, 300], dtype=np.int64))
    assert assert_same_as_facenet(frames.data, 20, 0.709) >= 3


def test_a_batch_gives_what_single_frames_give(portrait: npt.NDArray[np.uint8]) -> None:
    """On a GPU all frames of a batch go through the networks at once: the same faces, but for rounding."""
    images = np.stack([portrait, portrait[:, ::-1], np.roll(portrait, 40, axis=1)])
    detector = MTCNNDetector()
    single = detector.detect(batch_of(images))
    detector._batch_frames = True
    batched = detector.detect(batch_of(images))
    for one, other in zip(single, batched, strict=True):
        assert len(one) == len(other) >= 1
        for face, twin in zip(one, other, strict=True):
            np.testing.assert_allclose(face.box_xyxy, twin.box_xyxy, atol=0.01)


def test_a_failure_inside_the_networks_becomes_a_rejection(
    portrait: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    from manifests.errors import VideoRejected

    detector = MTCNNDetector()

    def fail(*_: object, **__: object) -> None:
        raise IndexError("shape mismatch")

    monkeypatch.setattr(detector._networks, "detect", fail)
    with pytest.raises(VideoRejected, match="shape mismatch"):
        detector.detect(batch_of(portrait[None]))
