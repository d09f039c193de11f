"""One video through all stages, with stages whose answers are known, and rejections that say what was seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import tasks.video.frames
from manifests.rejected import Reason, Stage
from tasks.media import FaceDetection, FoundBy
from tasks.video.video import VideoResult
from tests.helpers.scripted import (
    Footage,
    MemoryDecoder,
    PlayedDetector,
    ScriptedDetector,
    face,
    job,
    memory_job,
    processed,
    records_of,
    settings_with,
    stages,
)

VideoMaker = Callable[..., Path]


@pytest.fixture
def root(tmp_path: Path, make_video: VideoMaker) -> Path:
    make_video(tmp_path / "fake.mp4", 51)
    return tmp_path


def test_every_sampled_frame_becomes_a_record(
    root: Path, frame_number: Callable[[npt.NDArray[np.uint8]], int], make_video: VideoMaker
) -> None:
    work = job(root)
    result = processed(work, stages(ScriptedDetector(range(51))))
    records = records_of(result)
    assert result.row.status == "pending"
    assert [record.key for record in records] == [
        f"ffpp/Deepfakes/c23/000_001/00/{number:06d}" for number in (0, 10, 20, 30, 40, 50)
    ]
    assert [key for key, _ in result.records] == [record.key for record in records]
    for record, number in zip(records, (0, 10, 20, 30, 40, 50), strict=True):
        assert (record.label, record.split, record.group_id) == (1, "val", "ffpp/youtube/000")
        assert (record.target_id, record.source_id, record.manipulation) == ("000", "001", "Deepfakes")
        assert record.content_digest == work.entry.content_digest
        assert record.boxes_xyxy.tolist() == [[100, 60, 180, 140]]
        assert record.frame_indices.tolist() == [number]
        assert record.pts_seconds.tolist() == [number / 25]
        assert record.crops.shape == (1, 64, 64, 3)
        assert not record.interpolated.any()
        assert record.masks is None
    # Bars 3 and 4 of the frame's eight (40 px each) lie under the box from x = 100 to 180, bar 2 at its left edge.
    left_bit_2, bit_3, bit_4 = (records[2].crops[0][32, column].mean() > 127 for column in (5, 30, 50))
    assert (left_bit_2, bit_3, bit_4) == (20 >> 2 & 1, 20 >> 3 & 1, 20 >> 4 & 1)


def test_what_was_seen_and_spent_is_accounted_for(root: Path) -> None:
    row = processed(job(root), stages(ScriptedDetector(range(51), frames_with_passer_by=[20, 30]))).row
    assert (row.frames_wanted, row.frames_got, row.num_faces, row.num_tracks) == (6, 6, 8, 2)
    assert row.seconds.keys() == {"decode", "detect", "track", "align", "encode"}


def test_gaps_are_interpolated_and_flagged(root: Path) -> None:
    result = processed(job(root), stages(ScriptedDetector([0, 10, 40, 50])))
    flags = [bool(record.interpolated[0]) for record in records_of(result)]
    assert flags == [False, False, True, True, False, False]
    assert result.row.num_interpolated == 2


@pytest.mark.parametrize(
    ("frames_with_face", "stage", "reason", "words"),
    [
        ([], Stage.DETECT, Reason.NO_FACE, "got none in 6 sampled frames"),
        ([0, 10], Stage.TRACK, Reason.LOW_COVERAGE, "got it in 33% of 6 sampled frames, expected at least 50%"),
    ],
)
def test_videos_without_enough_face(
    root: Path, frames_with_face: list[int], stage: Stage, reason: Reason, words: str
) -> None:
    result = processed(job(root), stages(ScriptedDetector(frames_with_face)))
    assert (result.row.status, result.row.stage, result.row.reason) == ("rejected", stage, reason)
    assert words in str(result.row.detail)
    assert (result.records, result.row.frames_got) == ((), 6)


def test_a_file_that_changed_since_it_was_probed(root: Path, make_video: VideoMaker) -> None:
    work = job(root)
    make_video(root / "fake.mp4", 40)
    row = processed(work, stages(ScriptedDetector(range(51)))).row
    assert (row.stage, row.reason) == (Stage.DECODE, Reason.FRAME_COUNT_MISMATCH)
    assert "got 40 frames, expected 51 as in the manifest" in str(row.detail)


@pytest.mark.parametrize(("gone", "num_records", "num_masks"), [("fake.mp4", 0, 0), ("mask.mp4", 6, 0)])
def test_files_that_vanish_after_they_were_probed(
    root: Path, make_video: VideoMaker, gone: str, num_records: int, num_masks: int
) -> None:
    make_video(root / "mask.mp4", 51, pictures=mask_pictures(51))
    work = job(root, mask=True)
    (root / gone).unlink()
    result = processed(work, stages(ScriptedDetector(range(51))))
    assert (len(result.records), result.row.num_masks) == (num_records, num_masks)
    assert gone in str(result.row.detail)
    assert result.row.reason is (None if num_records else Reason.UNREADABLE)


def mask_pictures(count: int, height: int = 240, width: int = 320) -> npt.NDArray[np.uint8]:
    pictures = np.zeros((count, height, width, 3), dtype=np.uint8)
    pictures[:, 60:140, 100:140] = 255  # the left half of the scripted face
    return pictures


def test_masks_are_cut_with_the_face(root: Path, make_video: VideoMaker) -> None:
    make_video(root / "mask.mp4", 51, pictures=mask_pictures(51))
    result = processed(job(root, mask=True), stages(ScriptedDetector(range(51))))
    assert result.row.num_masks == 6
    for record in records_of(result):
        assert record.masks is not None
        assert record.masks.shape == (1, 64, 64)
        assert record.masks[0, 5:-5, 5:28].mean() > 240
        assert record.masks[0, 5:-5, 36:-5].mean() < 15


def test_masks_that_end_early_are_missing_not_black(root: Path, make_video: VideoMaker) -> None:
    make_video(root / "mask.mp4", 25, pictures=mask_pictures(25))
    result = processed(job(root, mask=True), stages(ScriptedDetector(range(51))))
    assert [record.masks is not None for record in records_of(result)] == [True, True, True, False, False, False]
    assert (result.row.num_masks, result.row.detail) == (3, None)


@pytest.mark.parametrize("fault", ["size", "garbage"])
def test_a_broken_mask_costs_the_masks_and_says_so(root: Path, make_video: VideoMaker, fault: str) -> None:
    if fault == "size":
        make_video(root / "mask.mp4", 51, pictures=mask_pictures(51, 200, 300), width=300, height=200)
    else:
        (root / "mask.mp4").write_text("garbage")
    result = processed(job(root, mask=True), stages(ScriptedDetector(range(51))))
    assert len(result.records) == 6
    assert result.row.num_masks == 0
    assert str(result.row.detail).startswith("mask not used: ")


def test_the_masked_person_is_chosen(root: Path, make_video: VideoMaker) -> None:
    """The passer-by is larger and seen as often; the mask lies on the other."""
    pictures = np.zeros((51, 240, 320, 3), dtype=np.uint8)
    pictures[:, 110:190, 230:310] = 255
    make_video(root / "mask.mp4", 51, pictures=pictures)

    two_people = PlayedDetector(lambda _: [face(10, 20, 150), face(230, 110, 80)])
    records = records_of(processed(job(root, mask=True), stages(two_people)))
    assert {record.track_choice for record in records} == {"mask"}
    assert {tuple(record.boxes_xyxy[0].tolist()) for record in records} == {(230, 110, 310, 190)}


def test_windows_of_frames_give_the_same_records(
    root: Path, make_video: VideoMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(root / "mask.mp4", 51, pictures=mask_pictures(51))
    work = job(root, mask=True, settings=settings_with(frames={"mode": "all"}))
    kept = processed(work, stages(ScriptedDetector(range(51))))
    one_frame = 320 * 240 * tasks.video.frames.BYTES_PER_MASKED_PIXEL
    monkeypatch.setattr(tasks.video.frames, "MAX_WINDOW_BYTES", 7 * one_frame)
    twice = processed(work, stages(ScriptedDetector(range(51))))
    assert len(kept.records) == 51
    assert kept.records == twice.records
    assert (kept.row.frames_got, twice.row.frames_got) == (51, 51)


def test_an_entry_without_a_split_is_a_programming_error(root: Path) -> None:
    work = job(root)
    unsplit = replace(work, entry=replace(work.entry, split=None))
    with pytest.raises(ValueError, match="without a split"):
        processed(unsplit, stages(ScriptedDetector(range(51))))


def kept(result: VideoResult) -> dict[str, list[int]]:
    """Key and frame numbers of each record, as they come."""
    return {record.key: record.frame_indices.tolist() for record in records_of(result)}


def test_a_frame_says_where_its_face_comes_from(root: Path) -> None:
    records = records_of(processed(job(root), stages(ScriptedDetector([0, 20, 30, 40]))))
    found = [int(record.found_by[0]) for record in records if record.found_by is not None]
    seen, lost = FoundBy.DETECTOR, FoundBy.NOT_FOUND
    assert found == [seen, lost, seen, seen, seen, lost]


CLIPS = {"mode": "clips", "clip_seconds": 1.0, "clip_frames": 5}


def test_a_clip_is_one_record_of_several_frames(
    root: Path, frame_number: Callable[[npt.NDArray[np.uint8]], int]
) -> None:
    """51 frames at 25/s: two clips of one second, and a frame that is left over."""
    whole_frame = PlayedDetector(lambda _: [face(0, -40, 320)])
    result = processed(job(root, settings=settings_with(frames=CLIPS)), stages(whole_frame))
    first, second = records_of(result)
    assert kept(result) == {
        "ffpp/Deepfakes/c23/000_001/00/000000": [0, 6, 12, 18, 24],
        "ffpp/Deepfakes/c23/000_001/00/000025": [25, 31, 37, 43, 49],
    }
    assert first.pts_seconds.tolist() == [0, 0.24, 0.48, 0.72, 0.96]
    assert second.pts_seconds.tolist() == [1, 1.24, 1.48, 1.72, 1.96]
    assert first.crops.shape == (5, 64, 64, 3)
    assert [frame_number(crop[10:-10]) for crop in second.crops] == [25, 31, 37, 43, 49]
    assert (first.boxes_xyxy.shape, first.landmarks.shape, first.matrices.shape) == ((5, 4), (5, 5, 2), (5, 2, 3))
    assert (result.row.frames_wanted, result.row.frames_got, result.row.num_dropped) == (10, 10, 0)


def test_a_video_shorter_than_a_clip_is_padded_with_its_last_frame() -> None:
    """Ten frames are 0.4 s of a clip of 1 s: moments at 0, 0.24, 0.48, … s."""
    detector, decoder = PlayedDetector(lambda _: [face(100, 60, 80)]), MemoryDecoder(fake=Footage(10))
    result = processed(memory_job(10, settings_with(frames=CLIPS)), stages(detector, decoder))
    (record,) = records_of(result)
    assert record.frame_indices.tolist() == [0, 6, 9, 9, 9]
    assert record.pts_seconds.tolist() == [0, 0.24, 0.36, 0.36, 0.36]
    assert [int(crop[32, 32, 0]) for crop in record.crops] == [0, 6, 9, 9, 9]
    assert (result.row.frames_wanted, result.row.frames_got) == (3, 3)


def test_a_video_shorter_than_a_clip_is_rejected_on_request() -> None:
    detector, decoder = PlayedDetector(lambda _: [face(100, 60, 80)]), MemoryDecoder(fake=Footage(10))
    settings = settings_with(frames={**CLIPS, "short_video": "reject"})
    row = processed(memory_job(10, settings), stages(detector, decoder)).row
    assert (row.stage, row.reason) == (Stage.SAMPLE, Reason.TOO_SHORT)
    assert "got 0.40 s, expected at least 1 s" in str(row.detail)
    assert detector.visited == []


def test_clips_that_show_the_face_too_rarely_are_counted_not_stored() -> None:
    """Of three clips the second shows the face in two of five frames, the third in three."""
    with_face = [*range(25), 25, 31, 50, 56, 62]
    detector, decoder = ScriptedDetector(with_face), MemoryDecoder(fake=Footage(75))
    result = processed(memory_job(75, settings_with(frames=CLIPS)), stages(detector, decoder))
    first, last = records_of(result)
    assert [record.frame_indices[0] for record in (first, last)] == [0, 50]
    assert last.interpolated.tolist() == [False, False, False, True, True]
    assert (result.row.num_dropped, result.row.num_interpolated) == (1, 2)
    assert result.row.frames_got == 15


def test_clips_have_masks_where_each_of_their_frames_has_one() -> None:
    """The mask video ends within the second clip."""
    white = Footage(40, lambda _: np.full((240, 320, 3), 255, np.uint8))
    decoder = MemoryDecoder(fake=Footage(50), mask=white)
    work = memory_job(50, settings_with(frames=CLIPS), mask_path="mask.mp4", mask_sha256="b" * 64)
    result = processed(work, stages(ScriptedDetector(range(50)), decoder))
    first, second = records_of(result)
    assert first.masks is not None
    assert (first.masks.shape, int(first.masks.min()), first.mask_source) == ((5, 64, 64), 255, "dataset")
    assert (second.masks, second.mask_source) == (None, None)
    assert result.row.num_masks == 5


def test_a_picture_that_stands_for_several_clips_gives_records_of_their_own() -> None:
    """A slide stands for 10 s, then the video goes on: clips of 1 s begin while it is shown.

    Were they all clips of that one frame, they would have one key, which the shard's writer refuses.
    """
    pts_seconds = [*(number / 25 for number in range(25)), *(11 + number / 25 for number in range(25))]
    decoder = MemoryDecoder(fake=Footage(50, pts_seconds=pts_seconds))
    result = processed(memory_job(50, settings_with(frames=CLIPS)), stages(ScriptedDetector(range(50)), decoder))
    keys = [key for key, _ in result.records]
    assert len(keys) == len(set(keys))
    assert result.row.status == "pending"


def two_people(number: int) -> list[FaceDetection]:
    """The main person, somebody beside it most of the time, and a passer-by."""
    return [face(200, 60, 90)] * (number % 50 != 0) + [face(20, 60, 80)] + [face(140, 180, 40)] * (number in (10, 20))


def test_several_people_are_stored_where_asked_for() -> None:
    settings = settings_with(track={"max_tracks": 3})
    decoder = MemoryDecoder(fake=Footage(51))
    result = processed(memory_job(51, settings), stages(PlayedDetector(two_people), decoder))
    records = records_of(result)
    assert [record.key for record in records] == sorted(record.key for record in records)
    assert [key for key, _ in result.records] == [record.key for record in records]
    about = {record.track_id: (record.track_choice, record.boxes_xyxy[0, 0]) for record in records}
    assert about == {0: ("longest", 20), 1: ("bystander", 200)}  # the passer-by covers a third
    assert len(records) == 12
    assert [bool(record.interpolated[0]) for record in records if record.track_id == 1] == [True, *[False] * 4, True]
    assert (result.row.num_tracks, result.row.num_faces, result.row.num_interpolated) == (3, 12, 2)
    assert {record.geometry_from for record in records} == {None}


def test_clips_of_several_people() -> None:
    settings = settings_with(track={"max_tracks": 2}, frames=CLIPS)
    decoder = MemoryDecoder(fake=Footage(50))
    result = processed(memory_job(50, settings), stages(PlayedDetector(two_people), decoder))
    assert [key.removeprefix("ffpp/Deepfakes/c23/000_001/") for key, _ in result.records] == [
        "00/000000",
        "00/000025",
        "01/000000",
        "01/000025",
    ]


def test_one_person_is_stored_by_default() -> None:
    decoder = MemoryDecoder(fake=Footage(51))
    result = processed(memory_job(51), stages(PlayedDetector(two_people), decoder))
    assert {record.track_choice for record in records_of(result)} == {"longest"}
    assert len(result.records) == 6


def test_a_borrowed_mask_chooses_the_person_and_is_not_stored() -> None:
    """A real video has no mask; that of one of its fakes says who is manipulated there."""
    white = np.zeros((240, 320, 3), dtype=np.uint8)
    white[60:150, 200:290] = 255
    decoder = MemoryDecoder(fake=Footage(51), mask=Footage(51, lambda _: white))
    real = memory_job(51, label="real", manipulation=None, source_id=None, video_id="ffpp/youtube/c23/000")
    work = replace(real, choice_mask="mask.mp4")
    result = processed(work, stages(PlayedDetector(two_people), decoder))
    records = records_of(result)
    assert {(record.track_choice, record.track_id) for record in records} == {("mask", 1)}
    assert {(record.masks_encoded, record.mask_source) for record in records} == {(None, None)}
    assert result.row.num_masks == 0


def test_nobody_else_is_taken_where_the_mask_says_who_it_is(root: Path, make_video: VideoMaker) -> None:
    """White is the lower right corner; the only face that is seen is elsewhere."""
    pictures = np.zeros((51, 240, 320, 3), dtype=np.uint8)
    pictures[:, 200:, 280:] = 255
    make_video(root / "mask.mp4", 51, pictures=pictures)
    row = processed(job(root, mask=True), stages(ScriptedDetector(range(51)))).row
    assert (row.stage, row.reason) == (Stage.TRACK, Reason.LOW_COVERAGE)
    assert "none of them where the masks of" in str(row.detail)
