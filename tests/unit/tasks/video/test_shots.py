"""Videos with cuts: what is stored, in every mode, and where the frames between are decoded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from manifests.rejected import Reason
from tasks.media import FaceDetection, FrameBatch
from tasks.video.finder import FaceFinder
from tasks.video.video import VideoResult
from tests.helpers.scripted import (
    Footage,
    MemoryDecoder,
    PlayedDetector,
    face,
    memory_job,
    processed,
    records_of,
    settings_with,
    stages,
)
from tests.unit.tasks.video.test_finder import MeasuringLandmarker

NUM_FRAMES = 101
CUT = 57


def scene(seed: int) -> npt.NDArray[np.uint8]:
    patches = np.random.default_rng(seed).uniform(0, 255, (6, 8, 3))
    return cv2.resize(patches, (320, 240), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


FIRST, SECOND, THIRD = scene(1), scene(2), scene(3)


def footage(*cuts: int) -> Footage:
    """A scene, and another from each cut on."""
    return Footage(NUM_FRAMES, lambda number: (FIRST, SECOND, THIRD)[sum(number >= cut for cut in cuts)])


def result_of(
    video: Footage, faces_at: Callable[[int], list[FaceDetection]] | None = None, **sections: Any
) -> VideoResult:
    """What comes of a video with a face at one place in all frames, or with other faces."""
    detector = PlayedDetector(faces_at or (lambda _: [face(100, 60, 80)]))
    work = memory_job(NUM_FRAMES, settings_with(**sections))
    return processed(work, stages(detector, MemoryDecoder(fake=video)))


def frames_of(result: VideoResult) -> list[int]:
    return [number for record in records_of(result) for number in record.frame_indices.tolist()]


def test_the_shot_of_the_main_face_gives_as_many_frames_as_a_whole_video() -> None:
    """Of the six first frames 0, 20 and 40 are in it; those farthest from them are added, up to its last frame."""
    result = result_of(footage(CUT))
    assert frames_of(result) == [0, 10, 20, 30, 40, 56]
    assert result.row.detail == "frames 0 to 56 of 101 used: a cut or a long absence ends the main face's track"
    assert (result.row.num_tracks, result.row.frames_wanted, result.row.frames_got) == (2, 6, 6)


@pytest.mark.parametrize(
    ("cuts", "first", "last"), [((1,), 1, 100), ((43, 50), 0, 40), ((20, 50), 50, 100), ((61, 62), 0, 60)]
)
def test_the_longest_shot_is_used_whatever_the_cuts(cuts: tuple[int, ...], first: int, last: int) -> None:
    frames = frames_of(result_of(footage(*cuts)))
    assert len(frames) == 6
    assert (min(frames), max(frames)) == (first, last)


def test_without_the_search_for_cuts_all_is_one_track() -> None:
    result = result_of(footage(CUT), track={"cut_threshold": 0, "max_gap_s": None})
    assert frames_of(result) == [0, 20, 40, 60, 80, 100]
    assert (result.row.num_tracks, result.row.detail) == (1, None)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ({"mode": "stride", "stride": 10}, list(range(0, CUT, 10))),
        ({"mode": "all"}, list(range(CUT))),
        ({"at_least": 6}, [0, 10, 20, 30, 40, 56]),
        ({"mode": "clips", "clip_seconds": 1, "clip_frames": 3}, [0, 12, 24, 25, 37, 49]),
    ],
)
def test_no_mode_crosses_a_cut(frames: dict[str, Any], expected: list[int]) -> None:
    assert frames_of(result_of(footage(CUT), frames=frames)) == expected


def test_a_flash_is_no_cut() -> None:
    white = np.full_like(FIRST, 255)
    video = Footage(NUM_FRAMES, lambda number: white if number in (40, 41) else FIRST)
    assert frames_of(result_of(video)) == [0, 20, 40, 60, 80, 100]


def test_frames_between_alike_frames_are_not_decoded() -> None:
    got: list[int] = []

    def picture(number: int) -> npt.NDArray[np.uint8]:
        got.append(number)
        return FIRST

    result_of(Footage(NUM_FRAMES, picture))
    assert got == [0, 20, 40, 60, 80, 100]


def test_frames_behind_the_last_face_are_not_stored() -> None:
    """The person leaves after 2.4 of 4 s, without a cut; six frames are chosen from the time before."""
    result = result_of(footage(), lambda number: [face(100, 60, 80)] if number <= 60 else [])
    assert frames_of(result) == [0, 10, 20, 30, 40, 60]
    assert not any(record.interpolated.any() for record in records_of(result))


def test_a_video_without_faces_in_most_frames_is_rejected_for_it() -> None:
    result = result_of(footage(CUT), lambda number: [face(100, 60, 80)] if number <= 20 else [])
    assert result.row.reason is Reason.LOW_COVERAGE
    assert str(result.row.detail).startswith("a face: got it in 33% of 6 sampled frames, expected at least 50%")


def test_a_fake_with_the_geometry_of_its_original_has_its_shot() -> None:
    """Both are cut at the same frame; the fake's own faces are not searched."""
    settings = settings_with(track={"reuse_geometry": True})
    about = {"video_id": "ffpp/youtube/c23/000", "label": "real", "manipulation": None, "path": "real.mp4"}
    real = memory_job(NUM_FRAMES, settings, **about)
    work = replace(memory_job(NUM_FRAMES, settings), original=real)
    loaded = stages(PlayedDetector(lambda _: [face(100, 60, 80)]), MemoryDecoder(fake=footage(CUT), real=footage(CUT)))
    ours, theirs = processed(work, loaded), processed(real, loaded)
    assert frames_of(ours) == frames_of(theirs) == [0, 10, 20, 30, 40, 56]
    for one, other in zip(records_of(ours), records_of(theirs), strict=True):
        np.testing.assert_array_equal(one.matrices, other.matrices)


def test_a_person_elsewhere_in_the_next_shot_gets_no_box_between() -> None:
    """With `detect.every`, boxes are interpolated between detections of one shot only."""
    detector = PlayedDetector(lambda number: [face(100 if number < 7 else 110, 60, 80)])
    numbers = np.arange(16, dtype=np.int64)
    frames = FrameBatch(
        data=np.stack([FIRST if number < 7 else SECOND for number in numbers]),
        frame_indices=numbers,
        pts_seconds=numbers / 25,
    )
    found = FaceFinder(detector, MeasuringLandmarker(), every=5, cut_threshold=0.2).find(frames)
    assert detector.visited == [0, 5, 6, 7, 10, 15]
    assert [faces[0].box_xyxy[0] for faces in found] == [100] * 7 + [110] * 9
