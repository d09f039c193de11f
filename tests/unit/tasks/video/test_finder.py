"""Sparse detection: the frames that the detector visits, the interpolation between them, and the frame of reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from tasks.align.square import SquareAligner
from tasks.detect.detector import FaceDetector
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.landmarks.landmarker import Landmarker
from tasks.media import FaceDetection, FoundBy, FrameBatch
from tasks.video.finder import FaceFinder, shrunk
from tests.helpers.scripted import FacesAt, PlayedDetector, face

UNIT = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
FIRST_FRAME = 100  # rows of a batch and frames of the video are not the same numbers


class MeasuringLandmarker(Landmarker):
    """Places five landmarks in each box, moved by as many of its sides as `shift` says of the frame."""

    def __init__(self, shift: Callable[[int], float] = lambda _: 0.0) -> None:
        self.sizes: set[tuple[int, ...]] = set()
        self._shift = shift

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        self.sizes.add(frames.data.shape[1:3])
        return [
            [self._measured(one, number) for one in found]
            for number, found in zip(frames.frame_indices.tolist(), faces, strict=True)
        ]

    def _measured(self, one: FaceDetection, number: int) -> FaceDetection:
        place, side = one.box_xyxy[:2], one.box_xyxy[2] - one.box_xyxy[0]
        points = (UNIT + np.array([self._shift(number), 0])) * side + place
        scores = np.full(5, number / 1000, dtype=np.float32)
        return replace(one, landmarks=points.astype(np.float32), landmark_scores=scores)


class BrightDetector(FaceDetector):
    """Finds the white square in the picture."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        self.sizes.append(frames.data.shape)
        return [[bright_face(picture)] for picture in frames.data]


def bright_face(picture: npt.NDArray[np.uint8]) -> FaceDetection:
    """Return the bounding box of what is white, as a face."""
    rows, columns = np.nonzero(picture[:, :, 0] > 127)
    return face(float(columns.min()), float(rows.min()), float(columns.max() + 1 - columns.min()))


def batch(num_frames: int, width: int = 64, height: int = 48) -> FrameBatch:
    numbers = np.arange(num_frames, dtype=np.int64) + FIRST_FRAME
    data = np.zeros((num_frames, height, width, 3), dtype=np.uint8)
    return FrameBatch(data=data, frame_indices=numbers, pts_seconds=numbers / 25)


def accelerating(number: int) -> list[FaceDetection]:
    """A face whose way no line describes: 100 px + n² px."""
    row = number - FIRST_FRAME
    return [replace(face(100 + row**2, 50, 100), score=0.9 - row / 100)]


def lefts(found: Sequence[Sequence[FaceDetection]]) -> list[float]:
    return [float(one.box_xyxy[0]) for faces in found for one in faces]


@pytest.mark.parametrize(
    ("num_frames", "every", "visited"),
    [
        (16, 1, list(range(16))),
        (16, 2, [0, 2, 4, 6, 8, 10, 12, 14, 15]),
        (16, 5, [0, 5, 10, 15]),
        (16, 15, [0, 15]),
        (11, 5, [0, 5, 10]),
        (3, 15, [0, 2]),
        (2, 5, [0, 1]),
        (1, 5, [0]),
    ],
)
def test_the_detector_visits_every_nth_frame_and_the_last(num_frames: int, every: int, visited: list[int]) -> None:
    detector = PlayedDetector(lambda _: [face(10, 10, 20)])
    found = FaceFinder(detector, MeasuringLandmarker(), every).find(batch(num_frames))
    assert [number - FIRST_FRAME for number in detector.visited] == visited
    assert [len(faces) for faces in found] == [1] * num_frames
    ways = [FoundBy.DETECTOR if row in visited else FoundBy.BETWEEN for row in range(num_frames)]
    assert [faces[0].found_by for faces in found] == ways


def test_boxes_lie_on_the_line_between_two_visits() -> None:
    found = FaceFinder(PlayedDetector(accelerating), MeasuringLandmarker(), every=5).find(batch(8))
    assert lefts(found) == pytest.approx([100, 105, 110, 115, 120, 125, 137, 149])  # 100 + 25·k/5, then to 149 in two
    # The score of a place where nobody looked is that of the less certain neighbour.
    assert [faces[0].score for faces in found] == pytest.approx([0.9, *[0.85] * 5, 0.83, 0.83])


def test_landmarks_are_measured_in_every_frame() -> None:
    """They move with the frame's number, which no interpolation of boxes knows."""
    found = FaceFinder(
        PlayedDetector(accelerating), MeasuringLandmarker(lambda number: (number % 3) / 10), every=5
    ).find(batch(8))
    for row, (one,) in enumerate(found):
        shift = (row + FIRST_FRAME) % 3 / 10
        expected = (UNIT + np.array([shift, 0])) * 100 + one.box_xyxy[:2]
        assert one.landmarks == pytest.approx(expected, abs=1e-3), row
        assert one.landmark_scores == pytest.approx([(row + FIRST_FRAME) / 1000] * 5)


@pytest.mark.parametrize(("shift", "is_visited"), [(0.5, False), (0.9, False), (0.93, True), (3.0, True)])
def test_a_face_whose_landmarks_stray_is_detected_again(shift: float, is_visited: bool) -> None:
    """The tracker's limit is 0.65 diagonals, 0.92 sides of a square: beyond, it may be somebody else."""
    detector = PlayedDetector(accelerating)
    landmarker = MeasuringLandmarker(lambda number: shift if number == FIRST_FRAME + 3 else 0.0)
    found = FaceFinder(detector, landmarker, every=5).find(batch(6))
    assert [number - FIRST_FRAME for number in detector.visited] == [0, 5] + [3] * is_visited
    assert lefts(found) == pytest.approx([100, 105, 110, 109 if is_visited else 115, 120, 125])
    assert found[3][0].found_by == (FoundBy.DETECTOR if is_visited else FoundBy.BETWEEN)
    assert found[2][0].found_by == FoundBy.BETWEEN


def test_looking_again_may_find_nobody() -> None:
    detector = PlayedDetector(lambda number: accelerating(number) if number != FIRST_FRAME + 3 else [])
    landmarker = MeasuringLandmarker(lambda number: 3.0 if number == FIRST_FRAME + 3 else 0.0)
    found = FaceFinder(detector, landmarker, every=5).find(batch(6))
    assert [len(faces) for faces in found] == [1, 1, 1, 0, 1, 1]


def test_between_visits_that_do_not_show_the_same_people_every_frame_is_looked_at() -> None:
    """Found at frames 0, 3 and 9, not at 6: only detection in every frame shows where the face left and came back."""
    detector = PlayedDetector(lambda number: [] if 5 <= number - FIRST_FRAME <= 7 else [face(10, 10, 20)])
    found = FaceFinder(detector, MeasuringLandmarker(), every=3).find(batch(10))
    assert [len(faces) for faces in found] == [1, 1, 1, 1, 1, 0, 0, 0, 1, 1]
    assert sorted(number - FIRST_FRAME for number in detector.visited) == [0, 3, 4, 5, 6, 7, 8, 9]


def test_a_landmarker_that_is_much_less_certain_has_the_frame_looked_at_again() -> None:
    """It answers for any box: the face is gone in frames 2 and 3, and the visits at 0 and 5 both show it."""

    class Doubting(MeasuringLandmarker):
        def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
            scores = {2: 0.1, 3: 0.1}
            return [
                [
                    replace(one, landmark_scores=np.full(5, scores.get(int(number) - FIRST_FRAME, 0.8), np.float32))
                    for one in found
                ]
                for number, found in zip(frames.frame_indices, super().locate(frames, faces), strict=True)
            ]

    detector = PlayedDetector(lambda number: [] if 2 <= number - FIRST_FRAME <= 3 else [face(10, 10, 20)])
    found = FaceFinder(detector, Doubting(), every=5).find(batch(6))
    assert [len(faces) for faces in found] == [1, 1, 0, 0, 1, 1]
    assert sorted(number - FIRST_FRAME for number in detector.visited) == [0, 2, 3, 5]


def test_a_face_that_cannot_be_aligned_is_not_seen() -> None:
    detector = PlayedDetector(lambda number: [face(10, 10, 20), face(50, 50, 0 if number % 2 else 30)])
    finder = FaceFinder(detector, MeasuringLandmarker(), accepts=SquareAligner().accepts)
    assert [len(faces) for faces in finder.find(batch(4))] == [2, 1, 2, 1]


def test_each_of_two_people_has_a_line_of_its_own() -> None:
    def crossing(number: int) -> list[FaceDetection]:
        row = number - FIRST_FRAME
        return [face(0 + 2 * row, 10, 30), face(200 - 2 * row, 10, 30)][:: -1 if row == 5 else 1]

    found = FaceFinder(PlayedDetector(crossing), MeasuringLandmarker(), every=5).find(batch(11))
    for row, faces in enumerate(found):
        assert sorted(lefts([faces])) == pytest.approx([2 * row, 200 - 2 * row]), row


def test_each_batch_is_visited_on_its_own() -> None:
    detector = PlayedDetector(lambda _: [face(10, 10, 20)])
    finder = FaceFinder(detector, MeasuringLandmarker(), every=4)
    for _ in range(2):
        finder.find(batch(6))
    assert [number - FIRST_FRAME for number in detector.visited] == [0, 4, 5] * 2


def with_square(width: int, height: int, left: int, top: int, side: int) -> FrameBatch:
    frames = batch(3, width, height)
    frames.data[:, top : top + side, left : left + side] = 255
    return frames


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize(("width", "height", "shape"), [(640, 480, (240, 320)), (480, 640, (320, 240))])
def test_frames_are_shrunk_and_faces_told_in_full_pixels(
    width: int, height: int, shape: tuple[int, int], every: int
) -> None:
    detector, landmarker = BrightDetector(), MeasuringLandmarker()
    frames = with_square(width, height, 200, 100, 160)
    found = FaceFinder(detector, landmarker, every, max_side_px=320).find(frames)
    assert {size[1:3] for size in detector.sizes} == landmarker.sizes == {shape}
    for (one,) in found:
        assert one.box_xyxy == pytest.approx([200, 100, 360, 260], abs=1)
        assert one.landmarks == pytest.approx(UNIT * 160 + [200, 100], abs=1)
        assert one.box_xyxy.dtype == one.landmarks.dtype == np.float32
    assert frames.data.shape[1:3] == (height, width)


def test_a_size_that_does_not_divide_evenly() -> None:
    """854×480 shrinks to 320×180, not 179.86: each axis has a factor of its own."""
    found = FaceFinder(BrightDetector(), DetectorLandmarks(), max_side_px=320).find(
        with_square(854, 480, 400, 300, 150)
    )
    assert found[0][0].box_xyxy == pytest.approx([400, 300, 550, 450], abs=2.7)


@pytest.mark.parametrize("max_side_px", [0, 640, 2000])
def test_small_frames_stay_as_they_are(max_side_px: int) -> None:
    frames = with_square(640, 480, 200, 100, 160)
    same, factors = shrunk(frames, max_side_px)
    assert same is frames
    assert factors.tolist() == [1, 1]
    found = FaceFinder(BrightDetector(), DetectorLandmarks(), max_side_px=max_side_px).find(frames)
    assert found[0][0].box_xyxy.tolist() == [200, 100, 360, 260]


@pytest.mark.parametrize("faces_at", [lambda _: [], lambda number: [face(1, 1, 9)] if number == FIRST_FRAME else []])
def test_frames_without_a_face(faces_at: FacesAt) -> None:
    found = FaceFinder(PlayedDetector(faces_at), MeasuringLandmarker(), every=3, max_side_px=32).find(batch(7))
    assert [len(faces) for faces in found][1:] == [0] * 6
