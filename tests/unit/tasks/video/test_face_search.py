"""`frames.at_least`: looking where it helps most, no longer than needed, and saying which way led to each face."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.rejected import Reason, Stage
from storage.format.record import FoundBy, Record
from tasks.decode.sampling import farthest_first
from tasks.detect import DETECTORS
from tasks.detect.detector import FaceDetector
from tasks.detect.mtcnn.detector import MTCNNDetector
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.media import FaceDetection, FrameBatch
from tasks.settings import StageSettings
from tasks.video.finder import FaceFinder
from tasks.video.stages import Models, Stages
from tasks.video.video import VideoResult
from tests.helpers.scripted import (
    Footage,
    MemoryDecoder,
    PlayedDetector,
    ScriptedDetector,
    face,
    memory_job,
    processed,
    records_of,
    settings_with,
    stages,
)

NUM_FRAMES = 200
MAIN_LEFT = 100  # where ScriptedDetector's main person stands

visits = st.integers(1, 300).flatmap(
    lambda num_frames: st.tuples(
        st.just(num_frames), st.lists(st.integers(0, num_frames - 1), unique=True, max_size=20), st.integers(0, 30)
    )
)


@given(visits)
def test_new_visits_are_new_and_as_many_as_there_are(case: tuple[int, list[int], int]) -> None:
    num_frames, visited, count = case
    found = farthest_first(num_frames, visited, count)
    assert len(found) == min(count, num_frames - len(visited))
    assert len(set(found)) == len(found)
    assert not set(found) & set(visited)
    assert all(0 <= number < num_frames for number in found)


@given(visits)
def test_each_visit_is_as_far_as_can_be_from_all_before(case: tuple[int, list[int], int]) -> None:
    num_frames, visited, count = case
    before = list(visited)
    for number in farthest_first(num_frames, visited, count):
        if before:
            gaps = [min(abs(number - other) for other in before) for number in range(num_frames)]
            assert gaps[number] == max(gaps)
        before.append(number)


@given(visits, st.integers(0, 10))
def test_asking_twice_is_asking_for_more(case: tuple[int, list[int], int], more: int) -> None:
    num_frames, visited, count = case
    first = farthest_first(num_frames, visited, count)
    if visited or first:
        then = farthest_first(num_frames, [*visited, *first], more)
        assert farthest_first(num_frames, visited, count + more) == first + then


def test_order_of_visits_of_a_small_video() -> None:
    assert farthest_first(9, [], 4) == [4, 0, 8, 2]
    assert farthest_first(9, [0, 8], 3) == [4, 2, 6]
    assert farthest_first(9, [0], 2) == [8, 4]


def quota(at_least: int, **frames: Any) -> StageSettings:
    return settings_with(frames={"at_least": at_least, "max_visits": 40, **frames})


def finder(detector: Any) -> FaceFinder:
    return FaceFinder(detector, DetectorLandmarks())


def looked_for(
    at_least: int, detector: Any, num_frames: int = NUM_FRAMES, detectors: dict[str, Any] | None = None, **frames: Any
) -> VideoResult:
    """Search a video in memory; the steps' detectors are `lenient_finder` and `second_finder`."""
    decoder = MemoryDecoder(fake=Footage(num_frames))
    steps = {name: finder(one) for name, one in (detectors or {}).items()}
    return processed(memory_job(num_frames, quota(at_least, **frames)), stages(detector, decoder, **steps))


def numbers_of(records: Iterable[Record]) -> list[int]:
    return [int(record.frame_indices[0]) for record in records]


def ways_of(records: Iterable[Record]) -> dict[int, FoundBy]:
    """Frame number → which way led to its face."""
    return {
        int(record.frame_indices[0]): FoundBy(int(record.found_by[0]))
        for record in records
        if record.found_by is not None
    }


def test_where_every_frame_shows_the_face_no_frame_more_is_visited() -> None:
    detector = ScriptedDetector(range(NUM_FRAMES))
    result = looked_for(10, detector)
    evenly = np.linspace(0, NUM_FRAMES - 1, 10, dtype=int).tolist()
    assert detector.visited == numbers_of(records_of(result)) == evenly
    assert (result.row.frames_wanted, result.row.frames_got) == (10, 10)


@given(st.sets(st.integers(0, NUM_FRAMES - 1), min_size=1), st.integers(1, 20))
def test_enough_or_a_reason_within_the_bound(with_face: set[int], at_least: int) -> None:
    detector = ScriptedDetector(sorted(with_face))
    result = looked_for(at_least, detector)
    assert len(detector.visited) == len(set(detector.visited)) <= 40
    seen = set(detector.visited) & with_face
    if result.row.status == "rejected":
        # Nothing was left undone: the bound is reached, and there are too few.
        assert (len(detector.visited), result.records) == (40, ())
        assert len(seen) < at_least
        assert result.row.reason == (Reason.TOO_FEW_FACES if seen else Reason.NO_FACE)
    else:
        records = records_of(result)
        assert len(records) == at_least
        assert set(numbers_of(records)) <= seen
        assert set(ways_of(records).values()) == {FoundBy.DETECTOR}
        assert not any(record.interpolated.any() for record in records)
        # It stops as soon as there are enough, give or take the last batch of visits.
        assert len(seen) < at_least + 8


def test_the_chosen_frames_are_spread_over_the_video() -> None:
    """The face is in the first and last quarter; 8 of 16 are lacking after the first visit."""
    with_face = [*range(50), *range(150, 200)]
    result = looked_for(16, ScriptedDetector(with_face), max_visits=64)
    chosen = np.array(numbers_of(records_of(result)))
    assert len(chosen) == 16
    assert 4 <= (chosen < 50).sum() <= 12
    for quarter in (chosen[chosen < 50], chosen[chosen >= 150]):
        assert np.diff(quarter).max() <= 14  # the first visit's own distance


def test_the_frames_of_the_first_visit_are_kept() -> None:
    with_face = set(range(NUM_FRAMES)) - {0, 22}
    chosen = set(numbers_of(records_of(looked_for(10, ScriptedDetector(sorted(with_face))))))
    assert set(np.linspace(0, NUM_FRAMES - 1, 10, dtype=int).tolist()) & with_face <= chosen
    assert len(chosen) == 10


@pytest.mark.parametrize(
    ("with_face", "stage", "reason", "words"),
    [
        ([], Stage.DETECT, Reason.NO_FACE, "got none in 40 sampled frames"),
        ([0, 199], Stage.TRACK, Reason.TOO_FEW_FACES, "got it in 2 of 40 frames looked at, expected 10"),
    ],
)
def test_too_few_faces(with_face: list[int], stage: Stage, reason: Reason, words: str) -> None:
    detector = ScriptedDetector(with_face)
    row = looked_for(10, detector).row
    assert (row.status, row.stage, row.reason) == ("rejected", stage, reason)
    assert words in str(row.detail)
    assert len(detector.visited) == 40


def test_a_video_with_fewer_frames_than_are_wanted() -> None:
    detector = ScriptedDetector(range(8))
    row = looked_for(10, detector, num_frames=8).row
    assert (row.reason, detector.visited) == (Reason.TOO_FEW_FACES, list(range(8)))
    assert "got it in 8 of 8 frames looked at, expected 10" in str(row.detail)


def test_the_wanted_frames_are_visited_whatever_the_bound() -> None:
    detector = ScriptedDetector(range(NUM_FRAMES))
    assert len(looked_for(20, detector, max_visits=5).records) == 20
    assert len(detector.visited) == 20
    nobody = ScriptedDetector([])
    looked_for(20, nobody, max_visits=5)
    assert len(nobody.visited) == 20


FIRST = set(np.linspace(0, NUM_FRAMES - 1, 10, dtype=int).tolist())  # of 10 frames: 0, 22, 44, …


def test_steps_run_in_order_and_are_recorded() -> None:
    """With max_visits 10 only the first visit's frames count: 6 are found as configured, 2 in each of two steps."""
    first = sorted(FIRST)
    detector = ScriptedDetector(first[:6])
    lenient, second = ScriptedDetector(first[:8]), ScriptedDetector([*first[:2], *first[8:]])
    result = looked_for(10, detector, detectors={"lenient_finder": lenient, "second_finder": second}, max_visits=10)
    ways = [FoundBy.DETECTOR] * 6 + [FoundBy.LOWER_THRESHOLDS] * 2 + [FoundBy.SECOND_DETECTOR] * 2
    assert ways_of(records_of(result)) == dict(zip(first, ways, strict=True))
    # Each step searches only frames where the face is still missing.
    assert (detector.visited, lenient.visited, second.visited) == (first, first[6:], first[8:])
    assert (result.row.num_tracks, result.row.num_interpolated) == (1, 0)


def test_no_step_runs_without_need() -> None:
    first = sorted(FIRST)
    lenient, second = ScriptedDetector(first), ScriptedDetector(first)
    detectors = {"lenient_finder": lenient, "second_finder": second}
    looked_for(10, ScriptedDetector(range(NUM_FRAMES)), detectors=detectors)
    assert (lenient.visited, second.visited) == ([], [])
    looked_for(10, ScriptedDetector(first[:9]), detectors=detectors, max_visits=10)
    assert (lenient.visited, second.visited) == (first[9:], [])


def test_steps_find_a_face_where_nobody_was_seen_at_all() -> None:
    first = sorted(FIRST)
    result = looked_for(10, ScriptedDetector([]), detectors={"lenient_finder": ScriptedDetector(first)}, max_visits=10)
    assert set(ways_of(records_of(result)).values()) == {FoundBy.LOWER_THRESHOLDS}
    nobody = ScriptedDetector([])
    row = looked_for(10, ScriptedDetector([]), detectors={"lenient_finder": nobody}, max_visits=10).row
    assert (row.reason, nobody.visited) == (Reason.NO_FACE, first)


def test_a_step_adds_the_main_face_beside_others_that_were_seen() -> None:
    """A passer-by is seen as configured; the lenient look finds it again, and the main face beside it."""
    first = sorted(FIRST)
    detector = PlayedDetector(
        lambda number: [face(10, 150, 60)] * (number in first[8:]) + [face(MAIN_LEFT, 60, 80)] * (number in first[:7])
    )
    lenient = PlayedDetector(lambda _: [face(12, 152, 60), face(MAIN_LEFT, 60, 80)])
    result = looked_for(10, detector, detectors={"lenient_finder": lenient}, max_visits=10)
    records = records_of(result)
    assert {float(record.boxes_xyxy[0, 0]) for record in records} == {MAIN_LEFT}
    assert list(ways_of(records).values()) == [FoundBy.DETECTOR] * 7 + [FoundBy.LOWER_THRESHOLDS] * 3
    assert lenient.visited == first[7:]
    # The passer-by: two as configured, and one more that the lenient look saw in a frame where nobody was.
    assert (result.row.num_faces, result.row.num_tracks) == (10 + 3, 2)


class WhiteSquares(FaceDetector):
    """Finds white squares, the smallest side of which it sees is `min_face_px`."""

    def __init__(self, min_face_px: int) -> None:
        self.sizes: list[tuple[int, int]] = []
        self._min_face_px = min_face_px

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        self.sizes += [(picture.shape[0], picture.shape[1]) for picture in frames.data]
        return [self._found(picture) for picture in frames.data]

    def _found(self, picture: npt.NDArray[np.uint8]) -> list[FaceDetection]:
        rows, columns = np.nonzero(picture[:, :, 0] > 127)
        if len(rows) == 0 or columns.max() + 1 - columns.min() < self._min_face_px:
            return []
        return [face(float(columns.min()), float(rows.min()), float(columns.max() + 1 - columns.min()))]


def small_in(numbers: Collection[int], left: int = 130, top: int = 90) -> Callable[[int], npt.NDArray[np.uint8]]:
    """A square of 60 px at (120, 80); in some frames one of 40 px, by default with the same centre."""

    def paint(number: int) -> npt.NDArray[np.uint8]:
        picture = np.zeros((240, 320, 3), dtype=np.uint8)
        if number in numbers:
            picture[top : top + 40, left : left + 40] = 255
        else:
            picture[80:140, 120:180] = 255
        return picture

    return paint


def test_a_closer_look_at_the_place_where_the_neighbours_have_it() -> None:
    """120 px around the place are shown as 320 px: the square of 40 px is 107 px there."""
    first = sorted(FIRST)
    decoder = MemoryDecoder(fake=Footage(NUM_FRAMES, small_in(first[4:6])))
    detector, lenient = WhiteSquares(50), WhiteSquares(50)
    work = memory_job(NUM_FRAMES, quota(10, max_visits=10))
    records = records_of(processed(work, stages(detector, decoder, lenient_finder=finder(lenient))))
    ways = ways_of(records)
    assert [ways[number] for number in first] == [
        FoundBy.NEIGHBOURS if number in first[4:6] else FoundBy.DETECTOR for number in first
    ]
    assert lenient.sizes == [(240, 320)] * 2 + [(320, 320)] * 2
    for record in records:
        expected = [130, 90, 170, 130] if record.frame_indices[0] in first[4:6] else [120, 80, 180, 140]
        assert record.boxes_xyxy[0] == pytest.approx(expected, abs=0.5)
        # Its landmarks moved along: the crop is cut around the box, margin 1.
        assert record.landmarks[0, 2] == pytest.approx([32, 38], abs=1)


def test_a_closer_look_is_content_with_nothing_else() -> None:
    """The small square stands beside the place, and its centre outside of the box."""
    first = sorted(FIRST)
    decoder = MemoryDecoder(fake=Footage(NUM_FRAMES, small_in(first[4:6], left=170, top=130)))
    work = memory_job(NUM_FRAMES, quota(10, max_visits=10))
    lenient = finder(WhiteSquares(50))
    row = processed(work, stages(WhiteSquares(50), decoder, lenient_finder=lenient)).row
    assert row.reason == Reason.TOO_FEW_FACES


@pytest.mark.parametrize("corner", [(0, 0), (260, 0), (0, 180), (260, 180)])
def test_a_closer_look_at_the_border_of_the_frame(corner: tuple[int, int]) -> None:
    left, top = corner

    def paint(number: int) -> npt.NDArray[np.uint8]:
        picture = np.zeros((240, 320, 3), dtype=np.uint8)
        inset = 10 if number == 22 else 0
        picture[top + inset : top + 60 - inset, left + inset : left + 60 - inset] = 255
        return picture

    work = memory_job(NUM_FRAMES, quota(10, max_visits=10))
    lenient = finder(WhiteSquares(50))
    decoder = MemoryDecoder(fake=Footage(NUM_FRAMES, paint))
    records = records_of(processed(work, stages(WhiteSquares(50), decoder, lenient_finder=lenient)))
    (found,) = (record for record in records if record.frame_indices[0] == 22)
    assert ways_of([found]) == {22: FoundBy.NEIGHBOURS}
    assert found.boxes_xyxy[0] == pytest.approx([left + 10, top + 10, left + 50, top + 50], abs=0.5)


def test_several_people_of_the_chosen_frames() -> None:
    """The other person shows in most of the frames in which the main face does."""
    decoder = MemoryDecoder(fake=Footage(NUM_FRAMES))
    both = PlayedDetector(lambda number: [face(20, 60, 80)] + [face(220, 60, 80)] * (number % 44 != 0))
    settings = settings_with(frames={"at_least": 10}, track={"max_tracks": 2})
    records = records_of(processed(memory_job(NUM_FRAMES, settings), stages(both, decoder)))
    main = [record for record in records if record.track_choice == "longest"]
    others = [record for record in records if record.track_choice == "bystander"]
    assert numbers_of(main) == numbers_of(others) == sorted(FIRST)
    assert {float(record.boxes_xyxy[0, 0]) for record in main} == {20}
    lost = [int(record.frame_indices[0]) for record in others if record.interpolated[0]]
    assert lost == [number for number in sorted(FIRST) if number % 44 == 0]


def test_the_original_is_found_once_however_often_is_asked() -> None:
    """Two people, no mask: every round of visits chooses the main face again.

    DEFECT in tasks.video.face_search.FaceSearch._track: without a folder for geometries each round searches the whole
    original again.
    """
    white = np.full((240, 320, 3), 255, dtype=np.uint8)
    decoder = MemoryDecoder(fake=Footage(NUM_FRAMES), real=Footage(NUM_FRAMES, lambda _: white))

    class TwoVideos(PlayedDetector):
        def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
            if frames.data.min() == 255:
                self.visited += frames.frame_indices.tolist()
                return [[face(220, 60, 80)] for _ in range(len(frames))]
            return [self._faces_at(number) for number in frames.frame_indices.tolist()]

    detector = TwoVideos(lambda number: [face(20, 60, 80), face(220, 60, 80)] * (number % 2))
    fake = memory_job(NUM_FRAMES, quota(10))
    real = memory_job(
        NUM_FRAMES, fake.settings, path="real.mp4", video_id="ffpp/youtube/c23/000", label="real", manipulation=None
    )
    result = processed(replace(fake, original=real), stages(detector, decoder))
    assert {record.track_choice for record in records_of(result)} == {"original"}
    assert detector.visited == sorted(FIRST)


class RecordedDetector(MTCNNDetector):
    """Keeps what it was made with."""

    made: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, **settings: Any) -> None:
        self.made.append(settings)


@pytest.mark.parametrize(
    ("settings", "thresholds", "has_lenient", "has_second"),
    [
        ({}, [(0.6, 0.7, 0.7)], False, False),
        ({"detect": {"second": "mtcnn"}}, [(0.6, 0.7, 0.7)], False, False),
        ({"frames": {"at_least": 4}}, [(0.6, 0.7, 0.7), (0.42, 0.49, 0.49)], True, False),
        (
            {"frames": {"at_least": 4}, "detect": {"second": "mtcnn"}},
            [(0.6, 0.7, 0.7), (0.42, 0.49, 0.49), (0.6, 0.7, 0.7)],
            True,
            True,
        ),
    ],
)
def test_what_a_worker_loads(
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    thresholds: list[tuple[float, ...]],
    has_lenient: bool,
    has_second: bool,
) -> None:
    """The models of the steps cost memory: they are loaded only if the setting asks for them."""
    monkeypatch.setattr(RecordedDetector, "made", [])
    monkeypatch.setitem(DETECTORS, "mtcnn", RecordedDetector)
    wanted = StageSettings.model_validate(settings)
    loaded = Stages.load(wanted, Models.load(wanted, "cpu"))
    assert [one["thresholds"] for one in RecordedDetector.made] == [pytest.approx(one) for one in thresholds]
    assert (loaded.lenient_finder is not None, loaded.second_finder is not None) == (has_lenient, has_second)


def test_a_step_does_not_change_the_person() -> None:
    """The face is in every fourth frame; with lower thresholds a logo elsewhere is seen in all others."""
    detector = PlayedDetector(lambda number: [face(100, 60, 80)] if number % 4 == 0 else [])
    logo = PlayedDetector(lambda number: [face(10, 150, 60)])
    result = looked_for(20, detector, detectors={"lenient_finder": logo}, max_visits=32)
    assert (result.row.status, result.row.reason) == ("rejected", Reason.TOO_FEW_FACES)
