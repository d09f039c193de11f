"""One contract over every aligner, and the geometry of each against numbers worked out by hand."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.errors import ConfigError, VideoRejected
from tasks.align import ALIGNERS
from tasks.align.aligner import Aligner
from tasks.align.five_point import TEMPLATES, FivePointAligner
from tasks.align.lrw import STABLE_POINTS
from tasks.align.square import SquareAligner
from tasks.align.warp import warp
from tasks.media import NUM_IBUG_LANDMARKS, FaceTrack, FrameBatch, Reason
from tasks.settings import CropSettings

SIZE_PX = 112


def make_aligner(name: str) -> Aligner:
    sizes = ALIGNERS[name].sizes_px
    settings = CropSettings(kind=name, size_px=sizes[0] if sizes else SIZE_PX)
    return ALIGNERS[name].from_settings(settings)


def track_for(name: str, boxes: list[list[float]]) -> FaceTrack:
    """A track with as many landmarks as the aligner needs; the first, or 36th, is the left eye."""
    if name != "lrw":
        return track_of(boxes)
    unit = np.full((NUM_IBUG_LANDMARKS, 2), 0.5)
    unit[list(STABLE_POINTS)] = (np.array(list(STABLE_POINTS.values())) - 60) / 140  # nearly fills the box
    return track_of(boxes, np.stack([unit * (np.array(box[2:]) - box[:2]) + box[:2] for box in boxes]))


def left_eye(name: str) -> int:
    return 36 if name == "lrw" else 0


def frames_with_dot(places: list[tuple[int, int]], height: int = 240, width: int = 320) -> FrameBatch:
    """Grey frames with one bright 5×5 dot each, centred on (x, y)."""
    data = np.full((len(places), height, width, 3), 40, dtype=np.uint8)
    for image, (x, y) in zip(data, places, strict=True):
        image[y - 2 : y + 3, x - 2 : x + 3] = 250
    numbers = np.arange(len(places), dtype=np.int64) * 7
    return FrameBatch(data=data, frame_indices=numbers, pts_seconds=numbers / 25)


def track_of(boxes: list[list[float]], landmarks: npt.NDArray[np.float64] | None = None) -> FaceTrack:
    count = len(boxes)
    if landmarks is None:
        unit = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
        landmarks = np.stack([unit * (np.array(box[2:]) - box[:2]) + box[:2] for box in boxes])
    return FaceTrack(
        track_id=0,
        frame_indices=np.arange(count, dtype=np.int64) * 7,
        boxes_xyxy=np.array(boxes, dtype=np.float32),
        landmarks=landmarks.astype(np.float32),
        scores=np.ones(count, dtype=np.float32),
        interpolated=np.zeros(count, dtype=np.bool_),
    )


def centroid(image: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """(x, y) of the bright dot, to a fraction of a pixel."""
    grey = image.astype(np.float64) if image.ndim == 2 else image[..., 0].astype(np.float64)
    weight = np.clip(grey - 60, 0, None)
    rows, columns = np.indices(weight.shape)
    return float((columns * weight).sum() / weight.sum()), float((rows * weight).sum() / weight.sum())


@pytest.mark.parametrize("name", ALIGNERS)
def test_landmarks_matrices_and_pixels_agree(name: str) -> None:
    """A dot drawn at the left eye appears in the crop where the crop's landmarks say that the left eye is."""
    track = track_for(name, [[100, 60, 180, 160], [90, 70, 190, 150]])
    eyes = [(round(float(x)), round(float(y))) for x, y in track.landmarks[:, left_eye(name)]]
    frames = frames_with_dot(eyes)
    clip = make_aligner(name).align(frames, track)
    size_px = 150 if name == "lrw" else SIZE_PX
    assert clip.crops.shape == (2, size_px, size_px, 3)
    for row in range(2):
        expected = clip.matrices[row] @ [*eyes[row], 1.0]
        assert centroid(clip.crops[row]) == pytest.approx(tuple(expected), abs=0.15)
        assert clip.landmarks[row] == pytest.approx(
            track.landmarks[row] @ clip.matrices[row][:, :2].T + clip.matrices[row][:, 2], abs=1e-3
        )
    assert clip.frame_indices.tolist() == [0, 7]


@pytest.mark.parametrize("name", ALIGNERS)
def test_masks_are_warped_with_the_same_matrix(name: str) -> None:
    track = track_for(name, [[100, 60, 180, 160]])
    frames = frames_with_dot([(140, 110)])
    masks = np.where(frames.data[..., 0] == 250, 255, 0).astype(np.uint8)
    clip = make_aligner(name).align(frames, track, masks)
    assert clip.masks is not None
    assert clip.masks.shape == clip.crops.shape[:3]
    assert centroid(clip.masks[0]) == pytest.approx(centroid(clip.crops[0]), abs=0.1)


@pytest.mark.parametrize("name", ALIGNERS)
def test_each_matrix_is_a_similarity(name: str) -> None:
    clip = make_aligner(name).align(frames_with_dot([(140, 110)]), track_for(name, [[100, 60, 180, 160]]))
    linear = clip.matrices[0][:, :2]
    assert linear @ linear.T == pytest.approx(np.eye(2) * np.linalg.det(linear), abs=1e-6)
    assert np.linalg.det(linear) > 0


@pytest.mark.parametrize("name", ALIGNERS)
def test_only_the_rows_of_the_batch_are_cut(name: str) -> None:
    track = track_for(name, [[100, 60, 180, 160], [90, 70, 190, 150], [80, 70, 180, 150]])
    whole = make_aligner(name).align(frames_with_dot([(140, 110)] * 3), track)
    last = FrameBatch(
        data=frames_with_dot([(140, 110)]).data, frame_indices=np.array([14]), pts_seconds=np.array([0.56])
    )
    part = make_aligner(name).align(last, track)
    assert np.array_equal(part.crops[0], whole.crops[2])
    assert part.frame_indices.tolist() == [14]


@pytest.mark.parametrize("name", ALIGNERS)
def test_an_aligner_that_smooths_says_so(name: str) -> None:
    """Whether the middle frame's transform stays when the last frame's face is somewhere else."""
    boxes: list[list[float]] = [[100, 60, 180, 160]] * 3
    moved: list[list[float]] = [*boxes[:2], [60, 70, 190, 150]]
    middle = FrameBatch(
        data=frames_with_dot([(140, 110)]).data, frame_indices=np.array([7]), pts_seconds=np.array([0.28])
    )
    one, other = (make_aligner(name).align(middle, track_for(name, places)).matrices for places in (boxes, moved))
    assert np.allclose(one, other) == (not make_aligner(name).smooths)


def test_square_by_hand() -> None:
    """Box 80×100 at margin 1.3: a square of side 130 around (140, 110) becomes 130 crop pixels, one to one."""
    clip = SquareAligner(size_px=130, margin=1.3).align(frames_with_dot([(140, 110)]), track_of([[100, 60, 180, 160]]))
    assert clip.matrices[0] == pytest.approx(np.array([[1, 0, 64.5 - 140], [0, 1, 64.5 - 110]]))


def test_a_square_over_the_border_is_black_outside() -> None:
    frames = frames_with_dot([(10, 10)])
    clip = SquareAligner(size_px=100, margin=1.0).align(frames, track_of([[-50, -50, 50, 50]]))
    assert (clip.crops[0][:49, :49] == 0).all()
    assert clip.crops[0][75, 75, 0] == 40


def test_a_box_without_area_is_a_rejection() -> None:
    with pytest.raises(VideoRejected, match="expected one with an area") as rejection:
        SquareAligner().align(frames_with_dot([(10, 10)]), track_of([[50, 50, 50, 50]]))
    assert rejection.value.reason is Reason.DEGENERATE_GEOMETRY


def test_five_points_on_the_template_stay_there() -> None:
    """ArcFace's own points in a 112×112 crop, margin 1: the transform is the identity up to the pixel-centre shift."""
    template = TEMPLATES["arcface"] * 112
    track = track_of([[0, 0, 112, 112]], template[None])
    matrix = FivePointAligner(size_px=112, margin=1.0).align(frames_with_dot([(50, 50)]), track).matrices[0]
    assert matrix == pytest.approx(np.array([[1, 0, -0.5], [0, 1, -0.5]]), abs=1e-4)


@given(st.floats(-60, 60), st.floats(0.3, 3), st.floats(-50, 50), st.floats(-50, 50))
def test_five_points_undo_any_similarity(degrees: float, scale: float, shift_x: float, shift_y: float) -> None:
    angle = np.deg2rad(degrees)
    rotation = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = TEMPLATES["arcface"] * 112 @ rotation.T + [shift_x, shift_y]
    aligner = FivePointAligner(size_px=224, margin=1.3)
    clip = aligner.align(frames_with_dot([(50, 50)]), track_of([[0, 0, 112, 112]], moved[None]))
    assert clip.landmarks[0] == pytest.approx(((TEMPLATES["arcface"] - 0.5) / 1.3 + 0.5) * 224 - 0.5, abs=0.05)


def test_five_points_in_one_place_are_a_rejection() -> None:
    track = track_of([[0, 0, 50, 50]], np.full((1, 5, 2), 33.0))
    with pytest.raises(VideoRejected, match="no similarity"):
        FivePointAligner().align(frames_with_dot([(10, 10)]), track)


def test_an_unknown_template_lists_the_allowed() -> None:
    with pytest.raises(ConfigError, match=r"got 'ffhq', expected one of \['arcface'\]"):
        FivePointAligner(template="ffhq")


@pytest.mark.parametrize("scale", [0.2, 0.5, 0.9, 1.0, 2.5])
def test_the_region_is_enough(scale: float) -> None:
    """Warping only the part that the crop shows gives what smoothing and warping the whole frame gives."""
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    matrix = np.array([[scale, 0.1 * scale, -40 * scale], [-0.1 * scale, scale, -30 * scale]])
    sigma = max(0.0, (1 / np.hypot(scale, 0.1 * scale) - 1) / 2)
    whole = cv2.GaussianBlur(image, (0, 0), sigma) if sigma > 0 else image
    expected = cv2.warpAffine(whole, matrix, (64, 64), flags=cv2.INTER_LINEAR)
    difference = np.abs(warp(image, matrix, 64).astype(int) - expected.astype(int))
    # warpAffine rounds its coordinates to 1/32 pixel, from another origin in the two cases.
    assert difference.mean() < 1.5
    assert np.quantile(difference, 0.99) <= 8


def test_shrinking_does_not_fold_fine_texture() -> None:
    """A checkerboard of single pixels is plain grey at a quarter of the size; without smoothing it would alias."""
    board = np.indices((400, 400)).sum(axis=0) % 2 * 255
    image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    crop = warp(image, np.array([[0.25, 0, 0.3], [0, 0.25, 0.3]]), 90)
    assert crop[5:-5, 5:-5].std() < 3


def test_a_crop_beside_the_frame_is_black() -> None:
    image = np.full((50, 50, 3), 200, dtype=np.uint8)
    assert (warp(image, np.array([[1.0, 0, 500], [0, 1.0, 500]]), 32) == 0).all()
