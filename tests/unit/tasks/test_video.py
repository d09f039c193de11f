"""One video through all stages, with stages whose answers are known, and rejections that say what was seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import tasks.video
from manifests.entry import VideoEntry
from manifests.probe import probe
from manifests.rejected import Reason, Stage
from storage.encoding import decode_record
from storage.record import Record
from tasks.aligners.square import SquareAligner
from tasks.decoders.decord import DecordDecoder
from tasks.landmarkers.detector import DetectorLandmarks
from tasks.media import FaceDetection, FrameBatch
from tasks.settings import StageSettings
from tasks.video import Stages, VideoJob, process_video

VideoMaker = Callable[..., Path]

SETTINGS = StageSettings.model_validate(
    {"frames": {"count": 6}, "crop": {"size_px": 64}, "encode": {"image_format": "png"}}
)


class ScriptedDetector:
    """Finds a face of 80×80 pixels at (100, 60) in the frames that the script names, and a larger one in some."""

    def __init__(self, frames_with_face: Sequence[int], frames_with_passer_by: Sequence[int] = ()) -> None:
        self._main = set(frames_with_face)
        self._passer_by = set(frames_with_passer_by)

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        return [
            [face(20, 20, 170)] * (number in self._passer_by) + [face(100, 60, 80)] * (number in self._main)
            for number in frames.frame_indices.tolist()
        ]


def face(left: float, top: float, side: float) -> FaceDetection:
    unit = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    return FaceDetection(
        box_xyxy=np.array([left, top, left + side, top + side], dtype=np.float32),
        score=0.9,
        landmarks=(unit * side + [left, top]).astype(np.float32),
    )


def stages(detector: ScriptedDetector) -> Stages:
    return Stages(
        decoder=DecordDecoder(),
        detector=detector,
        landmarker=DetectorLandmarks(),
        aligner=SquareAligner(size_px=64, margin=1.0),
    )


def job(root: Path, mask: bool = False, settings: StageSettings = SETTINGS) -> VideoJob:
    entry = VideoEntry(
        video_id="ffpp/Deepfakes/c23/000_001",
        path="fake.mp4",
        mask_path="mask.mp4" if mask else None,
        dataset="ffpp",
        label="fake",
        manipulation="Deepfakes",
        compression="c23",
        target_id="000",
        source_id="001",
        group_id="ffpp/youtube/000",
        split="val",
    )
    return VideoJob(root=root, entry=probe(root, entry), settings=settings, config_digest="ab" * 32)


def records_of(result: tasks.video.VideoResult) -> list[Record]:
    return [decode_record(value) for _, value in result.records]


@pytest.fixture
def root(tmp_path: Path, make_video: VideoMaker) -> Path:
    make_video(tmp_path / "fake.mp4", 51)
    return tmp_path


def test_every_sampled_frame_becomes_a_record(
    root: Path, frame_number: Callable[[npt.NDArray[np.uint8]], int], make_video: VideoMaker
) -> None:
    work = job(root)
    result = process_video(work, stages(ScriptedDetector(range(51))))
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
    row = process_video(job(root), stages(ScriptedDetector(range(51), frames_with_passer_by=[20, 30]))).row
    assert (row.frames_wanted, row.frames_got, row.num_faces, row.num_tracks) == (6, 6, 8, 2)
    assert row.seconds.keys() == {"decode", "detect", "track", "align", "encode"}


def test_gaps_are_interpolated_and_flagged(root: Path) -> None:
    result = process_video(job(root), stages(ScriptedDetector([0, 10, 40, 50])))
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
    result = process_video(job(root), stages(ScriptedDetector(frames_with_face)))
    assert (result.row.status, result.row.stage, result.row.reason) == ("rejected", stage, reason)
    assert words in str(result.row.detail)
    assert (result.records, result.row.frames_got) == ((), 6)


def test_a_file_that_changed_since_it_was_probed(root: Path, make_video: VideoMaker) -> None:
    work = job(root)
    make_video(root / "fake.mp4", 40)
    row = process_video(work, stages(ScriptedDetector(range(51)))).row
    assert (row.stage, row.reason) == (Stage.DECODE, Reason.FRAME_COUNT_MISMATCH)
    assert "got 40 frames, expected 51 as in the manifest" in str(row.detail)


@pytest.mark.parametrize(("gone", "num_records", "num_masks"), [("fake.mp4", 0, 0), ("mask.mp4", 6, 0)])
def test_files_that_vanish_after_they_were_probed(
    root: Path, make_video: VideoMaker, gone: str, num_records: int, num_masks: int
) -> None:
    make_video(root / "mask.mp4", 51, pictures=mask_pictures(51))
    work = job(root, mask=True)
    (root / gone).unlink()
    result = process_video(work, stages(ScriptedDetector(range(51))))
    assert (len(result.records), result.row.num_masks) == (num_records, num_masks)
    assert gone in str(result.row.detail)
    assert result.row.reason is (None if num_records else Reason.UNREADABLE)


def mask_pictures(count: int, height: int = 240, width: int = 320) -> npt.NDArray[np.uint8]:
    pictures = np.zeros((count, height, width, 3), dtype=np.uint8)
    pictures[:, 60:140, 100:140] = 255  # the left half of the scripted face
    return pictures


def test_masks_are_cut_with_the_face(root: Path, make_video: VideoMaker) -> None:
    make_video(root / "mask.mp4", 51, pictures=mask_pictures(51))
    result = process_video(job(root, mask=True), stages(ScriptedDetector(range(51))))
    assert result.row.num_masks == 6
    for record in records_of(result):
        assert record.masks is not None
        assert record.masks.shape == (1, 64, 64)
        assert record.masks[0, 5:-5, 5:28].mean() > 240
        assert record.masks[0, 5:-5, 36:-5].mean() < 15


def test_masks_that_end_early_are_missing_not_black(root: Path, make_video: VideoMaker) -> None:
    make_video(root / "mask.mp4", 25, pictures=mask_pictures(25))
    result = process_video(job(root, mask=True), stages(ScriptedDetector(range(51))))
    assert [record.masks is not None for record in records_of(result)] == [True, True, True, False, False, False]
    assert (result.row.num_masks, result.row.detail) == (3, None)


@pytest.mark.parametrize("fault", ["size", "garbage"])
def test_a_broken_mask_costs_the_masks_and_says_so(root: Path, make_video: VideoMaker, fault: str) -> None:
    if fault == "size":
        make_video(root / "mask.mp4", 51, pictures=mask_pictures(51, 200, 300), width=300, height=200)
    else:
        (root / "mask.mp4").write_text("garbage")
    result = process_video(job(root, mask=True), stages(ScriptedDetector(range(51))))
    assert len(result.records) == 6
    assert result.row.num_masks == 0
    assert str(result.row.detail).startswith("mask not used: ")


def test_the_masked_person_is_chosen(root: Path, make_video: VideoMaker) -> None:
    """The passer-by is larger and seen as often; the mask lies on the other."""
    pictures = np.zeros((51, 240, 320, 3), dtype=np.uint8)
    pictures[:, 110:190, 230:310] = 255
    make_video(root / "mask.mp4", 51, pictures=pictures)

    class TwoPeople(ScriptedDetector):
        def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
            return [[face(10, 20, 150), face(230, 110, 80)] for _ in range(len(frames))]

    records = records_of(process_video(job(root, mask=True), stages(TwoPeople([]))))
    assert {tuple(record.boxes_xyxy[0].tolist()) for record in records} == {(230, 110, 310, 190)}


def test_windows_of_frames_give_the_same_records(
    root: Path, make_video: VideoMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(root / "mask.mp4", 51, pictures=mask_pictures(51))
    settings = SETTINGS.model_copy(update={"frames": SETTINGS.frames.model_copy(update={"mode": "all"})})
    work = job(root, mask=True, settings=settings)
    kept = process_video(work, stages(ScriptedDetector(range(51))))
    monkeypatch.setattr(tasks.video, "MAX_WINDOW_BYTES", 7 * 320 * 240 * tasks.video.BYTES_PER_PIXEL)
    twice = process_video(work, stages(ScriptedDetector(range(51))))
    assert len(kept.records) == 51
    assert kept.records == twice.records
    assert (kept.row.frames_got, twice.row.frames_got) == (51, 51)


def test_an_entry_without_a_split_is_a_programming_error(root: Path) -> None:
    work = job(root)
    unsplit = VideoJob(
        root=root, entry=replace(work.entry, split=None), settings=work.settings, config_digest=work.config_digest
    )
    with pytest.raises(ValueError, match="without a split"):
        process_video(unsplit, stages(ScriptedDetector(range(51))))
