"""2D-FAN against face-alignment's own class, with random weights, and its parts one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from face_alignment.api import FaceAlignment, LandmarksType
from face_alignment.models import FAN
from face_alignment.utils import REFERENCE_SCALE, get_preds_fromhm
from skimage import data

from manifests.errors import StageMissing
from tasks.landmarks.fan import NUM_STACKS, FANLandmarker, crop_geometry, cut, peaks, to_frame
from tasks.media import FaceDetection, FoundBy, FrameBatch
from tasks.models.weights import WEIGHTS, WEIGHTS_VARIABLE

FILE_NAME = WEIGHTS["2dfan4"].file_name

# Left, top, right, bottom in a frame of 512 × 512: one inside, one over a corner, one over the right border whose sides
# are multiples of 39, so that the library's points fall on whole pixels.
BOXES = ((170.3, 60.2, 280.9, 200.7), (-40.5, -30.25, 90.75, 120.5), (300.0, 60.0, 534.0, 294.0))


def batch_of(images: npt.NDArray[np.uint8]) -> FrameBatch:
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


def face_at(box: tuple[float, float, float, float]) -> FaceDetection:
    none = np.empty((0, 2), dtype=np.float32)
    return FaceDetection(box_xyxy=np.array(box, dtype=np.float32), score=0.75, landmarks=none)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def frames() -> FrameBatch:
    """NASA's public-domain portrait of Eileen Collins, and its mirror image."""
    portrait = data.astronaut()  # type: ignore[no-untyped-call]
    return batch_of(np.stack([portrait, portrait[:, ::-1]]))


@pytest.fixture(scope="module")
def network() -> FAN:
    torch.manual_seed(0)
    return FAN(NUM_STACKS).eval()


@pytest.fixture(scope="module")
def weights_dir(tmp_path_factory: pytest.TempPathFactory, network: FAN) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.save(network.state_dict(), folder / FILE_NAME)
    return folder


@pytest.fixture(scope="module")
def landmarker(weights_dir: Path) -> FANLandmarker:
    return FANLandmarker(weights_dir=weights_dir)


@pytest.fixture(scope="module")
def library(network: FAN) -> FaceAlignment:
    """The library's class without its constructor, which downloads."""
    alignment = FaceAlignment.__new__(FaceAlignment)
    alignment.device, alignment.dtype, alignment.max_batch_size = "cpu", torch.float32, 1
    alignment.flip_input, alignment.landmarks_type, alignment.verbose = False, LandmarksType.TWO_D, False
    alignment.face_detector = SimpleNamespace(reference_scale=REFERENCE_SCALE)
    alignment.face_alignment_net = network
    return alignment


def test_landmarks_are_the_librarys(landmarker: FANLandmarker, library: FaceAlignment, frames: FrameBatch) -> None:
    faces = [[face_at(BOXES[0])], [face_at(BOXES[1]), face_at(BOXES[2])]]
    located = landmarker.locate(frames, faces)
    assert [len(found) for found in located] == [1, 2]
    for image, before, after in zip(frames.data, faces, located, strict=True):
        boxes = [face.box_xyxy.astype(np.float64) for face in before]
        points, scores, _ = library.get_landmarks_from_image(image, boxes, return_landmark_score=True)
        for old, new, expected, peak in zip(before, after, points, scores, strict=True):
            assert np.ptp(expected, axis=0).min() > 40  # all over the face
            assert np.abs(new.landmarks - expected).max() < 0.05
            assert new.landmark_scores is not None
            np.testing.assert_allclose(new.landmark_scores, peak, atol=1e-4)
            assert new.landmarks.dtype == new.landmark_scores.dtype == np.float32
            assert new.box_xyxy is old.box_xyxy
            assert (new.score, new.found_by) == (old.score, old.found_by)


def test_faces_of_several_frames_go_through_the_network_together(
    weights_dir: Path, landmarker: FANLandmarker, frames: FrameBatch
) -> None:
    """As on a GPU: one batch holds faces of both frames, another is not full. But for rounding it is the same."""
    faces = [[face_at(BOXES[0])], [face_at(BOXES[1]), face_at(BOXES[2])]]
    batched = FANLandmarker(weights_dir=weights_dir)
    batched._faces_per_batch = 2
    single = [face for found in landmarker.locate(frames, faces) for face in found]
    together = [face for found in batched.locate(frames, faces) for face in found]
    equal = [np.all(face.landmarks == twin.landmarks, axis=1) for face, twin in zip(single, together, strict=True)]
    assert np.mean(equal) > 0.98
    for face, twin in zip(single, together, strict=True):
        assert face.landmark_scores is not None
        assert twin.landmark_scores is not None
        np.testing.assert_allclose(twin.landmark_scores, face.landmark_scores, atol=1e-4)


def test_a_face_without_a_crop_does_not_take_the_others_along(landmarker: FANLandmarker, frames: FrameBatch) -> None:
    crash = (760.0, 100.0, 960.0, 300.0), (50.0, 50.0, 50.0, 50.0), (90.0, 90.0, 80.0, 70.0), (7.3, 8.3, 7.31, 8.31)
    sound = replace(face_at(BOXES[0]), found_by=FoundBy.BETWEEN)
    located = landmarker.locate(frames, [[*map(face_at, crash)], [sound]])
    for box, face in zip(crash, located[0], strict=True):
        middle = ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2)
        np.testing.assert_allclose(face.landmarks, np.tile(middle, (68, 1)), rtol=1e-6)
        assert face.landmark_scores is not None
        assert face.landmark_scores.tolist() == [0] * 68
    assert np.ptp(located[1][0].landmarks, axis=0).min() > 40
    assert located[1][0].found_by == FoundBy.BETWEEN


def test_no_faces_no_landmarks(landmarker: FANLandmarker, frames: FrameBatch) -> None:
    assert landmarker.locate(frames, [[], []]) == [[], []]


def test_faces_of_other_frames_are_refused(landmarker: FANLandmarker, frames: FrameBatch) -> None:
    with pytest.raises(ValueError, match="zip"):
        landmarker.locate(frames, [[]])


@pytest.mark.parametrize("box", [(float("nan"), 0.0, 9.0, 9.0), (0.0, 0.0, float("inf"), 9.0), (0.0, 0.0, 1e-30, 0.0)])
def test_boxes_that_are_no_boxes_have_no_crop(box: tuple[float, ...]) -> None:
    ((centre,), (scale,)) = crop_geometry(np.array([box]))
    assert cut(np.zeros((64, 64, 3), dtype=np.uint8), centre, float(scale)) is None


def test_a_flat_box_has_the_crop_that_the_library_gives_it() -> None:
    """A width of 0 with some height is a square crop in the library."""
    ((centre,), (scale,)) = crop_geometry(np.array([(30.0, 10.0, 30.0, 50.0)]))
    crop = cut(np.full((64, 64, 3), 200, dtype=np.uint8), centre, float(scale))
    assert crop is not None
    assert crop.shape == (256, 256, 3)
    assert crop[128, 128].tolist() == [200] * 3


def random_boxes(kind: str, count: int) -> npt.NDArray[np.float64]:
    """Boxes (count,4) of videos up to 1080p. `odd` ones have whole corners, and points on the borders of pixels."""
    rng = np.random.default_rng(11)
    corners, sizes = rng.uniform(-60, 1400, (count, 2)), rng.uniform(15, 800, (count, 2))
    if kind == "odd":
        corners, sizes = corners.round(), sizes.round()
        sizes[:, 1] = 39 * np.ceil(sizes.sum(axis=1) / 39) + 39 - sizes[:, 0]
    return np.concatenate([corners, corners + sizes], axis=1).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("kind", ["any", "odd"])
def test_heatmaps_become_the_librarys_points(kind: str) -> None:
    """Not one of 2,000 boxes' points on the other side of a pixel's border."""
    rng = np.random.default_rng(5)
    heatmaps = rng.integers(0, 40, (20, 7, 64, 64)).astype(np.float32)  # with equal values, also beside the maximum
    heatmaps[:, 0, 0, 9], heatmaps[:, 1, 63, 63], heatmaps[:, 2, 30, 0], heatmaps[:, 3, 1, 62] = 50, 50, 50, 50
    points, values = peaks(torch.from_numpy(heatmaps))
    centres, scales = crop_geometry(random_boxes(kind, 2000))
    ours = to_frame(points.numpy()[np.arange(2000) % 20], centres, scales)
    num_odd = 0
    for row, (centre, scale) in enumerate(zip(centres, scales, strict=True)):
        one = row % 20
        in_heatmap, in_frame, scores = get_preds_fromhm(heatmaps[one : one + 1], centre, scale)
        assert np.array_equal(points[one].numpy(), in_heatmap[0])
        assert np.array_equal(values[one].numpy(), scores[0])
        assert np.array_equal(ours[row], in_frame[0])
        exact = (in_heatmap[0] / 64 - 0.5) * 200 * scale + centre
        num_odd += int((np.abs(exact - np.round(exact)) < 1e-9).sum())
    assert num_odd > 100 if kind == "odd" else num_odd < 100


def test_a_missing_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    with pytest.raises(StageMissing, match=FILE_NAME):
        FANLandmarker(weights_dir=tmp_path)


def test_a_missing_package_is_told(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.implementation.find_spec", lambda _: None)
    with pytest.raises(StageMissing, match=r"landmarker fan: got no package face_alignment"):
        FANLandmarker(weights_dir=weights_dir)


def test_weights_that_do_not_fit_are_told(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3)}, tmp_path / FILE_NAME)
    with pytest.raises(StageMissing, match=r"weights 2dfan4: .*do not fit .*expected those of the published file"):
        FANLandmarker(weights_dir=tmp_path)
