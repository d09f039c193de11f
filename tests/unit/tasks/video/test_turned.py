"""Pictures that are sideways or upside down are named in the rejection, with the way out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from manifests.rejected import Reason
from tasks.detect.detector import FaceDetector
from tasks.media import FaceDetection, FrameBatch
from tests.helpers.scripted import (
    Footage,
    MemoryDecoder,
    face,
    memory_job,
    processed,
    records_of,
    settings_with,
    stages,
)

BRIGHT = 255


class UprightDetector(FaceDetector):
    """A detector that is sure where the top of the picture is bright, and doubtful, or blind, elsewhere."""

    sure_score = 0.99

    def __init__(self, doubtful: bool) -> None:
        self.num_frames = 0
        self._doubtful = doubtful

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        self.num_frames += len(frames)
        return [self._faces(image) for image in frames.data]

    def _faces(self, image: npt.NDArray[np.uint8]) -> list[FaceDetection]:
        if image[0].mean() == BRIGHT and image[-1].mean() < BRIGHT:
            return [replace(face(60, 60, 80), score=0.999)]
        return [replace(face(60, 60, 80), score=0.95)] if self._doubtful else []


def picture(quarters: int) -> npt.NDArray[np.uint8]:
    """A picture with a bright top, turned counterclockwise."""
    upright = np.zeros((240, 240, 3), dtype=np.uint8)
    upright[:80] = BRIGHT
    return np.ascontiguousarray(np.rot90(upright, quarters))


@pytest.mark.parametrize("doubtful", [False, True])
@pytest.mark.parametrize(
    ("quarters", "words"),
    [
        (1, "90 degrees clockwise, expected it upright"),
        (2, "180 degrees, expected it upright"),
        (3, "90 degrees counterclockwise, expected it upright"),
    ],
)
def test_a_turned_video_is_rejected_with_the_way_out(quarters: int, words: str, doubtful: bool) -> None:
    detector = UprightDetector(doubtful)
    loaded = stages(detector, MemoryDecoder(fake=Footage(51, lambda _: picture(quarters))))
    row = processed(memory_job(51), loaded).row
    assert row.reason is Reason.FACE_TURNED
    assert f"got it in 4 of 4 checked frames with the picture turned by {words}" in str(row.detail)
    assert detector.num_frames == 6 + 3 * 4
    stored = processed(memory_job(51, settings_with(track={"turned": "store"})), loaded)
    assert (stored.row.reason, len(records_of(stored))) == ((None, 6) if doubtful else (Reason.NO_FACE, 0))


def test_an_upright_video_is_not_searched_again() -> None:
    detector = UprightDetector(doubtful=True)
    result = processed(memory_job(51), stages(detector, MemoryDecoder(fake=Footage(51, lambda _: picture(0)))))
    assert (len(records_of(result)), detector.num_frames, result.row.detail) == (6, 6, None)


def test_a_doubtful_face_that_no_turn_improves_is_stored() -> None:
    """Its picture has no bright side."""
    even = np.zeros((240, 240, 3), dtype=np.uint8)
    detector = UprightDetector(doubtful=True)
    result = processed(memory_job(51), stages(detector, MemoryDecoder(fake=Footage(51, lambda _: even))))
    assert (len(records_of(result)), result.row.detail) == (6, None)


def test_frames_that_are_turned_in_a_part_of_the_video_are_noted() -> None:
    """Half of the frames, without a cut to be found."""
    video = Footage(51, lambda number: picture(0 if number < 25 else 1))
    settings = settings_with(track={"cut_threshold": 0})
    row = processed(memory_job(51, settings), stages(UprightDetector(doubtful=True), MemoryDecoder(fake=video))).row
    assert row.detail == (
        "the face is turned in some frames: got it in 2 of 4 checked frames with the picture turned by 90 degrees "
        "clockwise"
    )
