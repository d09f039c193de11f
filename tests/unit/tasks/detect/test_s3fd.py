"""S3FD against face-alignment's own detector, with random weights that see many faces, and its parts one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from face_alignment.detection.sfd.bbox import nms
from face_alignment.detection.sfd.detect import get_predictions
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.detection.sfd.sfd_detector import SFDDetector
from skimage import data

from manifests.errors import StageMissing
from tasks.detect.s3fd import MIN_FRAME_SIDE_PX, NMS_IOU, S3FDDetector, anchors, suppress
from tasks.media import FrameBatch
from tasks.models.weights import WEIGHTS, WEIGHTS_VARIABLE

FILE_NAME = WEIGHTS["s3fd"].file_name
HEADS = ("conv3_3_norm", "conv4_3_norm", "conv5_3_norm", "fc7", "conv6_2", "conv7_2")

# Of the difference between a place's two logits: a tenth of the places are faces, and none is on the border of it.
LOGIT_MEAN, LOGIT_DEVIATION = -2.5, 2.0


def batch_of(images: npt.NDArray[np.uint8]) -> FrameBatch:
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures() -> npt.NDArray[np.uint8]:
    """Three views (3,128,176,3) of a public-domain portrait."""
    portrait = data.astronaut()  # type: ignore[no-untyped-call]
    return np.stack([portrait[y : y + 128, x : x + 176] for y, x in ((20, 110), (300, 280), (200, 40))])


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory, pictures: npt.NDArray[np.uint8]) -> Path:
    """A folder with random weights, the last layers of which are tuned to the pictures so that faces come out."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    network = s3fd().eval()
    with torch.no_grad():
        maps = network(torch.from_numpy(pictures).permute(0, 3, 1, 2).flip(1) - 113.0)
        for head, logits in zip(HEADS, maps[::2], strict=True):
            difference = logits[:, 1] - logits[:, 0]
            conf, loc = getattr(network, f"{head}_mbox_conf"), getattr(network, f"{head}_mbox_loc")
            factor = LOGIT_DEVIATION / difference.std()
            conf.weight *= factor
            conf.bias *= factor
            conf.bias[-1] += LOGIT_MEAN - factor * difference.mean()
            loc.weight *= 5  # boxes of many shapes
    torch.save(network.state_dict(), folder / FILE_NAME)
    return folder


@pytest.fixture(scope="module")
def detector(weights_dir: Path) -> S3FDDetector:
    return S3FDDetector(weights_dir=weights_dir)


@pytest.fixture(scope="module")
def library(weights_dir: Path) -> SFDDetector:
    return SFDDetector("cpu", path_to_detector=weights_dir / FILE_NAME)


def test_boxes_and_scores_are_the_librarys(
    detector: S3FDDetector, library: SFDDetector, pictures: npt.NDArray[np.uint8]
) -> None:
    for image, faces in zip(pictures, detector.detect(batch_of(pictures)), strict=True):
        theirs = np.array(library.detect_from_image(image))
        assert len(faces) == len(theirs) > 30
        areas = (theirs[:, 2] - theirs[:, 0]) * (theirs[:, 3] - theirs[:, 1])
        theirs = theirs[np.argsort(-areas, kind="stable")]
        np.testing.assert_allclose([face.box_xyxy for face in faces], theirs[:, :4], atol=1e-3)
        np.testing.assert_allclose([face.score for face in faces], theirs[:, 4], atol=1e-5)
        assert all(face.landmarks.shape == (0, 2) and face.landmark_scores is None for face in faces)


def test_several_frames_at_once_give_what_single_ones_give(
    detector: S3FDDetector, pictures: npt.NDArray[np.uint8]
) -> None:
    """As on a GPU, where images without a face lie between others."""
    images = np.concatenate([pictures[:2], np.zeros_like(pictures[:1]), pictures[2:]])
    single = detector.detect(batch_of(images))
    together = detector._detect_batch(images)
    assert [len(faces) for faces in together] == [len(faces) for faces in single]
    for faces, twins in zip(single, together, strict=True):
        for face, twin in zip(faces, twins, strict=True):
            np.testing.assert_allclose(twin.box_xyxy, face.box_xyxy, atol=1e-3)
            assert twin.score == pytest.approx(face.score, abs=1e-5)


def test_half_precision_finds_the_same_faces_to_a_pixel(
    detector: S3FDDetector, weights_dir: Path, pictures: npt.NDArray[np.uint8]
) -> None:
    halved = S3FDDetector(weights_dir=weights_dir)
    halved._in_half = True
    faces, expected = halved.detect(batch_of(pictures[:1]))[0], detector.detect(batch_of(pictures[:1]))[0]
    boxes = np.array([face.box_xyxy for face in faces])
    found = [np.abs(boxes - face.box_xyxy).max(axis=1).min() < 1 for face in expected]
    assert np.mean(found) > 0.9
    assert not np.array_equal(boxes[0], expected[0].box_xyxy)  # it was half precision


def test_what_outgrows_half_precision_is_computed_again(
    weights_dir: Path, tmp_path: Path, pictures: npt.NDArray[np.uint8]
) -> None:
    state = torch.load(weights_dir / FILE_NAME, weights_only=True)
    state["conv1_1.weight"] *= 10_000
    torch.save(state, tmp_path / FILE_NAME)
    detector = S3FDDetector(weights_dir=tmp_path)
    expected = detector.detect(batch_of(pictures[:1]))[0]
    detector._in_half = True
    faces = detector.detect(batch_of(pictures[:1]))[0]
    assert len(faces) == len(expected) > 0
    assert all(np.array_equal(face.box_xyxy, twin.box_xyxy) for face, twin in zip(faces, expected, strict=True))


def test_the_largest_box_comes_first(detector: S3FDDetector, pictures: npt.NDArray[np.uint8]) -> None:
    boxes = np.array([face.box_xyxy for face in detector.detect(batch_of(pictures))[0]])
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    assert (np.diff(areas) <= 0).all()


def test_the_threshold_drops_what_does_not_exceed_it(
    detector: S3FDDetector, weights_dir: Path, pictures: npt.NDArray[np.uint8]
) -> None:
    """Suppression decides nothing by worse candidates: a higher threshold only shortens the list."""
    strict = S3FDDetector(weights_dir=weights_dir, threshold=0.9)
    for faces, others in zip(strict.detect(batch_of(pictures)), detector.detect(batch_of(pictures)), strict=True):
        expected = [face.box_xyxy for face in others if face.score > 0.9]
        assert 0 < len(expected) < len(others)
        assert np.array_equal([face.box_xyxy for face in faces], expected)


@pytest.mark.parametrize("shape", [(8, 8), (19, 400), (400, 5), (MIN_FRAME_SIDE_PX - 1, 64)])
def test_frames_smaller_than_the_network_allows(detector: S3FDDetector, shape: tuple[int, int]) -> None:
    assert detector.detect(batch_of(np.zeros((2, *shape, 3), dtype=np.uint8))) == [[], []]


def test_the_smallest_frame(detector: S3FDDetector) -> None:
    side = MIN_FRAME_SIDE_PX
    assert len(detector.detect(batch_of(np.zeros((1, side, side, 3), dtype=np.uint8)))) == 1


def test_no_frames_no_faces(detector: S3FDDetector) -> None:
    assert detector.detect(batch_of(np.zeros((0, 90, 90, 3), dtype=np.uint8))) == []


def test_frames_that_may_not_be_written(detector: S3FDDetector, pictures: npt.NDArray[np.uint8]) -> None:
    locked = pictures[:1, ::-1]
    locked.flags.writeable = False
    assert len(detector.detect(batch_of(locked))[0]) > 0


@pytest.mark.parametrize("quantised", [False, True])
def test_suppression_is_the_librarys(quantised: bool) -> None:
    """Also where many scores are equal, as those that a softmax rounds to 1 are."""
    rng = np.random.default_rng(4)
    num_kept = 0
    for threshold in (0.5, 0.7, 0.95):
        for count in (1, 2, 40, 700):
            corners = rng.uniform(0, 120, (count, 2))
            boxes = np.concatenate([corners, corners + rng.uniform(5, 60, (count, 2))], axis=1)
            scores = rng.uniform(0.05, 1, count).astype(np.float32)
            if quantised:
                scores = np.round(scores, 1)
            scored = np.column_stack([boxes, scores])
            kept = np.array(nms(scored, NMS_IOU))
            expected = kept[scored[kept, 4] > threshold]
            assert np.array_equal(suppress(boxes, scores, threshold), expected)
            num_kept += len(expected)
    assert num_kept > 200


def test_nothing_to_suppress() -> None:
    assert suppress(np.empty((0, 4)), np.empty(0, dtype=np.float32), 0.5).tolist() == []


def test_anchors_are_those_of_the_librarys_loop() -> None:
    """With offsets of 0 the library's decoded boxes are the anchors themselves."""
    sizes = [(9, 13), (4, 6), (2, 3), (5, 5), (3, 1), (1, 2)]
    maps = []
    for height, width in sizes:
        maps += [np.ones((1, 2, height, width), np.float32), np.zeros((1, 4, height, width), np.float32)]
    theirs = get_predictions(maps, 1)[0, :, :4]
    x, y, width, height = anchors(np.arange(len(theirs)), sizes).T
    assert np.array_equal(np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=1), theirs)


def test_a_missing_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(StageMissing, match=FILE_NAME):
        S3FDDetector(weights_dir=tmp_path)


def test_a_missing_package_is_told(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.implementation.find_spec", lambda _: None)
    with pytest.raises(StageMissing, match=r"detector s3fd: got no package face_alignment"):
        S3FDDetector(weights_dir=weights_dir)


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    torch.save({"conv1_1.weight": torch.zeros(3)}, tmp_path / FILE_NAME)
    with pytest.raises(StageMissing, match=r"weights s3fd: .*do not fit .*expected those of the published file"):
        S3FDDetector(weights_dir=tmp_path)
