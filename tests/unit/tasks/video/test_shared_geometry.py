"""A fake and its original: the choice and the geometry that it takes over, what is kept for others, and when not."""

from __future__ import annotations

import pickletools
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import tasks.video.video
from manifests.errors import VideoRejected
from manifests.rejected import Reason, Stage
from storage.format.record import FoundBy, Record
from tasks.decode.decord import DecordDecoder
from tasks.decode.sampling import Samples
from tasks.detect.detector import FaceDetector
from tasks.media import FaceDetection, FaceTrack, FrameBatch
from tasks.settings import StageSettings
from tasks.track.main_face import ChosenTrack
from tasks.video.context import VideoContext
from tasks.video.geometry import Geometry
from tasks.video.shared_geometry import TRACK_ARRAYS, geometry_of_original, kept_geometry
from tasks.video.shared_geometry import _read as read_geometry
from tasks.video.shared_geometry import _write as write_geometry
from tasks.video.video import VideoResult
from tests.helpers.scripted import (
    FacesAt,
    Footage,
    MemoryDecoder,
    PlayedDetector,
    ScriptedJob,
    face,
    memory_job,
    processed,
    records_of,
    settings_with,
    stages,
)

VideoMaker = Callable[..., Path]

REAL_BLUE = 255  # the pictures of the original are blue, those of fakes are black: so a detector can tell them apart
REAL_ID = "ffpp/youtube/c23/000"


class Cast(FaceDetector):
    """Plays one scene in the original and another in fakes; remembers which frames of each it looked at."""

    def __init__(self, real: FacesAt, fake: FacesAt) -> None:
        self.real, self.fake = PlayedDetector(real), PlayedDetector(fake)

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        is_real = frames.data[0, 5, 5, 2] > 127
        return (self.real if is_real else self.fake).detect(frames)


def blue(number: int, height: int = 240, width: int = 320) -> npt.NDArray[np.uint8]:
    picture = np.full((height, width, 3), number, dtype=np.uint8)
    picture[..., 2] = REAL_BLUE
    return picture


def black(number: int, height: int = 240, width: int = 320) -> npt.NDArray[np.uint8]:
    picture = blue(number, height, width)
    picture[..., 2] = 0
    return picture


def decoder(real: int = 51, fake: int = 51) -> MemoryDecoder:
    """A fake and its original of so many frames."""
    return MemoryDecoder(real=Footage(real, blue), fake=Footage(fake, black))


def pair(
    settings: StageSettings, real: int = 51, fake: int = 51, folder: Path | None = None, **changes: Any
) -> tuple[ScriptedJob, ScriptedJob]:
    """The jobs of an original and of its fake; `folder` is where geometries are kept."""
    original = memory_job(
        real,
        settings,
        **{"path": "real.mp4", "video_id": REAL_ID, "label": "real", "manipulation": None, "source_id": None} | changes,
    )
    original = replace(original, geometry_dir=folder)
    return original, replace(memory_job(fake, settings), original=original)


REUSE = settings_with(track={"reuse_geometry": True})
PLAIN = settings_with()


def moving(number: int) -> list[FaceDetection]:
    return [face(100 + number, 60, 80)]


def beside(number: int) -> list[FaceDetection]:
    """As the detector sees the forged face: a little off."""
    return [face(103 + number, 62, 77)]


def geometry_of(result: VideoResult) -> dict[int, tuple[list[Any], ...]]:
    """Frame number → box, matrix, landmarks, score, flag and way of a result's records of one frame each."""
    return {int(record.frame_indices[0]): _geometry(record) for record in records_of(result)}


def _geometry(record: Record) -> tuple[list[Any], ...]:
    arrays = (record.boxes_xyxy, record.matrices, record.landmarks, record.scores, record.interpolated, record.found_by)
    return tuple([] if array is None else array.tolist() for array in arrays)


# ---- choice


def two(number: int) -> list[FaceDetection]:
    """Two people all the time: the larger on the left is opened first, and is the longest by that."""
    return [face(20, 60, 90), face(220, 60, 80)]


def mostly_right(number: int) -> list[FaceDetection]:
    return [face(20, 60, 90)] * (number < 35) + [face(222, 61, 80)]


def test_a_fake_is_about_the_person_that_its_original_is_about(tmp_path: Path) -> None:
    """Without its original, the fake's main face would be the one on the left."""
    _, fake = pair(PLAIN, folder=tmp_path)
    cast = Cast(real=mostly_right, fake=two)
    result = processed(fake, stages(cast, decoder()))
    records = records_of(result)
    assert {float(record.boxes_xyxy[0, 0]) for record in records} == {220}
    assert {(record.track_choice, record.geometry_from, record.track_id) for record in records} == {
        ("original", None, 1)
    }
    alone = records_of(processed(replace(fake, original=None), stages(cast, decoder())))
    assert {(record.track_choice, float(record.boxes_xyxy[0, 0])) for record in alone} == {("longest", 20)}


def test_with_bystanders_the_main_face_keeps_its_mark(tmp_path: Path) -> None:
    _, fake = pair(settings_with(track={"max_tracks": 2}), folder=tmp_path)
    records = records_of(processed(fake, stages(Cast(real=mostly_right, fake=two), decoder())))
    assert [record.key for record in records] == sorted(record.key for record in records)
    assert {record.track_id: record.track_choice for record in records} == {0: "bystander", 1: "original"}


def test_a_single_person_costs_no_visit_to_the_original(tmp_path: Path) -> None:
    _, fake = pair(PLAIN, folder=tmp_path)
    cast = Cast(real=moving, fake=beside)
    records = records_of(processed(fake, stages(cast, decoder())))
    assert {record.track_choice for record in records} == {"longest"}
    assert (cast.real.visited, list(tmp_path.iterdir())) == ([], [])


def test_the_original_is_looked_at_once_for_all_its_fakes(tmp_path: Path) -> None:
    original, fake = pair(PLAIN, folder=tmp_path)
    cast = Cast(real=mostly_right, fake=two)
    for _ in range(3):
        processed(fake, stages(cast, decoder()))
    own = processed(original, stages(cast, decoder()))
    assert cast.real.visited == [0, 10, 20, 30, 40, 50]
    assert geometry_of(own) == geometry_of(processed(replace(original, geometry_dir=None), stages(cast, decoder())))


def test_an_original_of_another_size_says_nothing_about_the_place(tmp_path: Path) -> None:
    _, fake = pair(PLAIN, folder=tmp_path, width=640, height=480)
    cast = Cast(real=mostly_right, fake=two)
    records = records_of(processed(fake, stages(cast, decoder())))
    assert {(record.track_choice, float(record.boxes_xyxy[0, 0])) for record in records} == {("longest", 20)}
    assert cast.real.visited == []


# ---- geometry


def test_a_fake_takes_over_frames_boxes_and_matrices(tmp_path: Path) -> None:
    original, fake = pair(REUSE, folder=tmp_path)
    cast = Cast(real=lambda number: moving(number) * (number != 20), fake=beside)
    real_result, fake_result = (processed(job, stages(cast, decoder())) for job in (original, fake))
    assert cast.fake.visited == []
    assert geometry_of(fake_result) == geometry_of(real_result)
    assert list(geometry_of(fake_result)) == [0, 10, 20, 30, 40, 50]
    records = records_of(fake_result)
    assert {(record.track_choice, record.geometry_from) for record in records} == {("original", REAL_ID)}
    assert {(record.track_choice, record.geometry_from) for record in records_of(real_result)} == {("longest", None)}
    # Its own pictures, its own identity.
    assert [int(record.crops[0, 32, 32, 0]) for record in records] == [0, 10, 20, 30, 40, 50]
    assert {int(record.crops[0, 32, 32, 2]) for record in records} == {0}
    assert {(record.label, record.video_id) for record in records} == {(1, "ffpp/Deepfakes/c23/000_001")}
    assert [record.interpolated[0] for record in records] == [False, False, True, False, False, False]
    assert fake_result.row.num_interpolated == real_result.row.num_interpolated == 1
    assert fake_result.row.detail is None


def test_the_geometry_is_the_same_whoever_asks_first(tmp_path: Path) -> None:
    original, fake = pair(REUSE, folder=tmp_path)
    cast = Cast(real=moving, fake=beside)
    fake_result, real_result = (processed(job, stages(cast, decoder())) for job in (fake, original))
    assert geometry_of(fake_result) == geometry_of(real_result)
    assert (cast.real.visited, cast.fake.visited) == ([0, 10, 20, 30, 40, 50], [])


def test_encoded_files_of_which_the_fake_is_shorter(tmp_path: Path, make_video: VideoMaker) -> None:
    """The whole way with encoded files: the crops of the two show the same place at the same time."""
    make_video(tmp_path / "real.mp4", 51, pictures=np.stack([blue(4 * number) for number in range(51)]))
    make_video(tmp_path / "fake.mp4", 40, pictures=np.stack([black(4 * number) for number in range(40)]))
    original, fake = (
        replace(job, root=tmp_path) for job in pair(REUSE, real=51, fake=40, folder=tmp_path / "geometry")
    )
    fake = replace(fake, original=original)
    cast = Cast(real=moving, fake=beside)
    real_result, fake_result = (processed(job, stages(cast, DecordDecoder())) for job in (original, fake))
    assert cast.fake.visited == []
    taken = geometry_of(fake_result)
    assert list(taken) == [0, 10, 20, 30]
    assert taken == {number: found for number, found in geometry_of(real_result).items() if number < 40}
    for real_record, fake_record in zip(records_of(real_result), records_of(fake_result), strict=False):
        assert int(fake_record.crops[0, 32, 32, 0]) == pytest.approx(int(real_record.crops[0, 32, 32, 0]), abs=12)
        assert fake_record.pts_seconds.tolist() == real_record.pts_seconds.tolist()


def test_frames_beyond_the_end_of_the_fake_are_left_out(tmp_path: Path) -> None:
    _, fake = pair(REUSE, fake=31, folder=tmp_path)
    result = processed(fake, stages(Cast(real=moving, fake=beside), decoder(fake=31)))
    assert list(geometry_of(result)) == [0, 10, 20, 30]
    assert (result.row.frames_wanted, result.row.frames_got) == (4, 4)


def test_a_fake_that_is_longer_than_its_original(tmp_path: Path) -> None:
    _, fake = pair(REUSE, fake=90, folder=tmp_path)
    result = processed(fake, stages(Cast(real=moving, fake=beside), decoder(fake=90)))
    assert list(geometry_of(result)) == [0, 10, 20, 30, 40, 50]


CLIPS = settings_with(
    frames={"mode": "clips", "clip_seconds": 1.0, "clip_frames": 5}, track={"reuse_geometry": True, "max_tracks": 2}
)


@pytest.mark.parametrize("short_video", ["pad", "reject"])
def test_clips_that_lie_partly_beyond_the_end_of_the_fake(tmp_path: Path, short_video: str) -> None:
    """The last frame of the original's second clip is 49: a fake of 50 frames has it, one of 49 is padded or goes."""
    frames = CLIPS.frames.model_copy(update={"short_video": short_video})
    settings = CLIPS.model_copy(update={"frames": frames})
    at_49 = [0, 25] if short_video == "pad" else [0]
    for num_frames, starts in ((51, [0, 25]), (50, [0, 25]), (49, at_49), (30, [0]), (25, [0])):
        _, fake = pair(settings, fake=num_frames, folder=tmp_path)
        result = processed(fake, stages(Cast(real=moving, fake=beside), decoder(fake=num_frames)))
        records = records_of(result)
        assert [int(record.frame_indices[0]) for record in records] == starts, num_frames
        assert {len(record.frame_indices) for record in records} == {5}


def test_a_fake_without_a_single_common_record(tmp_path: Path) -> None:
    _, fake = pair(CLIPS, fake=10, folder=tmp_path)
    row = processed(fake, stages(Cast(real=moving, fake=beside), decoder(fake=10))).row
    assert (row.stage, row.reason) == (Stage.SAMPLE, Reason.TOO_SHORT)
    assert REAL_ID in str(row.detail)
    assert "track.reuse_geometry" in str(row.detail)


def test_several_people_are_taken_over(tmp_path: Path) -> None:
    original, fake = pair(settings_with(track={"reuse_geometry": True, "max_tracks": 2}), folder=tmp_path)
    cast = Cast(real=two, fake=beside)
    real_records, fake_records = (records_of(processed(job, stages(cast, decoder()))) for job in (original, fake))
    assert [record.key.replace("Deepfakes", "youtube").replace("_001", "") for record in fake_records] == [
        record.key for record in real_records
    ]
    assert [_geometry(record) for record in fake_records] == [_geometry(record) for record in real_records]
    assert {record.track_id: record.track_choice for record in real_records} == {0: "longest", 1: "bystander"}
    assert {record.track_id: record.track_choice for record in fake_records} == {0: "original", 1: "bystander"}
    assert {record.geometry_from for record in fake_records} == {REAL_ID}


# ---- when it cannot be used


def test_another_size_of_frame_is_remarked_and_the_fake_looks_for_itself(tmp_path: Path) -> None:
    _, fake = pair(REUSE, folder=tmp_path, width=640, height=480)
    cast = Cast(real=moving, fake=beside)
    result = processed(fake, stages(cast, decoder()))
    assert cast.real.visited == []
    assert cast.fake.visited == [0, 10, 20, 30, 40, 50]
    assert {(record.track_choice, record.geometry_from) for record in records_of(result)} == {("longest", None)}
    assert str(result.row.detail).startswith(f"geometry is its own: {REAL_ID} has another size")


@pytest.mark.parametrize("comes_first", ["original", "fake"])
def test_an_original_that_is_rejected_leaves_the_fake_to_itself(tmp_path: Path, comes_first: str) -> None:
    original, fake = pair(REUSE, folder=tmp_path)
    cast = Cast(real=lambda _: [], fake=beside)
    jobs = {"original": original, "fake": fake}
    order = [comes_first, *(name for name in jobs if name != comes_first)]
    results = {name: processed(jobs[name], stages(cast, decoder())) for name in order}
    # The original's own row has the true reason, in either order of processing.
    assert results["original"].row.reason == Reason.NO_FACE
    assert geometry_of(results["fake"])[10][0] == [[113, 62, 190, 139]]
    assert {record.geometry_from for record in records_of(results["fake"])} == {None}
    assert "geometry is its own" in str(results["fake"].row.detail)
    assert (results["fake"].row.status, len(results["fake"].records)) == ("pending", 6)


def test_a_fake_waits_for_an_original_that_is_gone(tmp_path: Path) -> None:
    """A disk may come back: what the fake would be by itself is another thing than what it is beside its original."""
    _, fake = pair(REUSE, folder=tmp_path)
    result = processed(fake, stages(Cast(real=moving, fake=beside), MemoryDecoder(fake=Footage(51, black))))
    assert (result.records, result.row.reason) == ((), Reason.UNREADABLE)


def test_another_frame_rate_is_remarked_and_the_fake_looks_for_itself(tmp_path: Path) -> None:
    _, fake = pair(REUSE, folder=tmp_path)
    result = processed(
        replace(fake, entry=replace(fake.entry, fps=Fraction(30))), stages(Cast(real=moving, fake=beside), decoder())
    )
    assert {record.geometry_from for record in records_of(result)} == {None}
    assert "frame rate" in str(result.row.detail)


def test_a_fake_whose_original_is_not_at_hand_says_so(tmp_path: Path) -> None:
    _, fake = pair(REUSE, folder=tmp_path)
    result = processed(replace(fake, original=None), stages(Cast(real=moving, fake=beside), decoder()))
    assert result.row.detail == "geometry is its own: the original is missing"


def begin(original: ScriptedJob, folder: Path) -> None:
    """Leave behind what a worker leaves that died while it looked for an original's people."""

    def die(_: int) -> list[FaceDetection]:
        raise SystemExit

    with pytest.raises(SystemExit):
        processed(original, stages(Cast(real=die, fake=die), decoder()))
    assert sorted(path.suffix for path in folder.iterdir()) == [".begun", ".lock"]


def test_a_fake_waits_for_an_original_of_which_a_worker_died(tmp_path: Path) -> None:
    original, fake = pair(REUSE, folder=tmp_path)
    cast = Cast(real=moving, fake=beside)
    begin(original, tmp_path)
    result = processed(fake, stages(cast, decoder()))
    assert cast.real.visited == cast.fake.visited == []
    assert (result.records, result.row.reason) == ((), Reason.CRASHED)


def test_the_original_itself_does_not_give_up(tmp_path: Path) -> None:
    """A worker that dies is tried again: on its own turn the video has another chance, and then its fakes have one."""
    original, fake = pair(REUSE, folder=tmp_path)
    cast = Cast(real=moving, fake=beside)
    begin(original, tmp_path)
    assert len(processed(original, stages(cast, decoder())).records) == 6
    assert {record.geometry_from for record in records_of(processed(fake, stages(cast, decoder())))} == {REAL_ID}


def test_geometries_of_other_settings_and_other_contents_are_others(tmp_path: Path) -> None:
    original, _ = pair(PLAIN, folder=tmp_path)
    cast = Cast(real=moving, fake=beside)
    changed = [
        original,
        replace(original, config_digest="cd" * 32),
        replace(original, entry=replace(original.entry, sha256="e" * 64)),
    ]
    for job in changed:
        processed(job, stages(cast, decoder()))
    assert len(list(tmp_path.glob("*.npz"))) == 3
    assert len(cast.real.visited) == 18


def test_the_fake_pays_for_the_time_and_not_for_the_frames(tmp_path: Path) -> None:
    _, fake = pair(REUSE, folder=tmp_path)
    row = processed(fake, stages(Cast(real=moving, fake=beside), decoder())).row
    assert row.seconds.keys() == {"decode", "detect", "track", "align", "encode"}
    assert (row.frames_wanted, row.frames_got, row.num_faces) == (6, 6, 6)


def test_each_call_of_the_original_s_decoder_is_limited(tmp_path: Path) -> None:
    _, fake = pair(REUSE, folder=tmp_path)
    guarded: list[float] = []

    @contextmanager
    def limit(seconds: float) -> Iterator[None]:
        guarded.append(seconds)
        yield

    processed(fake, stages(Cast(real=moving, fake=beside), decoder()), limit)
    assert guarded == [fake.settings.decode.timeout_s] * 2  # the original's frames, and the fake's


def test_workers_that_ask_together_wait_for_one(tmp_path: Path) -> None:
    """Locks of open files hold between threads as they do between processes."""
    original, _ = pair(PLAIN, folder=tmp_path)
    cast = Cast(real=moving, fake=beside)
    found: list[Geometry | None] = []

    def ask() -> None:
        found.append(geometry_of_original(VideoContext(job=original, stages=stages(cast, decoder()))))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cast.real.visited) == 6
    assert [geometry is not None for geometry in found] == [True] * 4


# ---- masks from the difference


Compared = list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Compared:
    """What was compared, the fake's crops and the original's; the mask is white all over."""
    pairs: Compared = []

    def difference_masks(fakes: npt.NDArray[np.uint8], reals: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        pairs.append((fakes, reals))
        return np.full(fakes.shape[:3], 255, dtype=np.uint8)

    monkeypatch.setattr(tasks.video.video, "difference_masks", difference_masks)
    return pairs


@pytest.mark.parametrize("reuse", [False, True])
def test_masks_compare_the_same_place_of_the_same_frames(tmp_path: Path, compared: Compared, reuse: bool) -> None:
    """Its own geometry or the original's: the original is cut with the matrices of the fake."""
    settings = settings_with(masks="difference", track={"reuse_geometry": reuse})
    _, fake = pair(settings, real=36, folder=tmp_path)
    result = processed(fake, stages(Cast(real=moving, fake=beside), decoder(real=36)))
    records = {int(record.frame_indices[0]): record for record in records_of(result)}
    ((fakes, reals),) = compared
    common = [0, 10, 20, 30] if not reuse else list(np.linspace(0, 35, 6, dtype=int))
    assert [int(crop[32, 32, 0]) for crop in fakes] == [int(crop[32, 32, 0]) for crop in reals] == common
    assert {int(crop[32, 32, 2]) for crop in reals} == {REAL_BLUE}
    # Behind the original's end there is nothing to compare with.
    for number, record in records.items():
        assert record.mask_source == ("difference" if number in common else None)
        assert (record.masks is not None) == (number in common)
    assert result.row.num_masks == len(common)


def test_a_real_video_and_a_fake_with_a_mask_derive_none(tmp_path: Path, compared: Compared) -> None:
    settings = settings_with(masks="difference")
    original, fake = pair(settings, folder=tmp_path)
    masked = replace(fake, entry=replace(fake.entry, mask_path="fake.mp4", mask_sha256="b" * 64))
    work = stages(Cast(real=moving, fake=beside), decoder())
    assert {record.mask_source for record in records_of(processed(original, work))} == {None}
    assert {record.mask_source for record in records_of(processed(masked, work))} == {"dataset"}
    assert compared == []


def test_bystanders_were_not_altered_and_have_no_mask(tmp_path: Path, compared: Compared) -> None:
    _, fake = pair(settings_with(masks="difference", track={"max_tracks": 2}), folder=tmp_path)
    records = records_of(processed(fake, stages(Cast(real=mostly_right, fake=two), decoder())))
    sources = {(record.track_choice, record.mask_source) for record in records}
    assert sources == {("original", "difference"), ("bystander", None)}
    assert len(compared) == 1


@pytest.mark.parametrize("original_is", ["not there", "has another size or frame rate"])
def test_without_a_comparable_original_there_is_no_mask_and_a_remark(
    tmp_path: Path, compared: Compared, original_is: str
) -> None:
    _, fake = pair(settings_with(masks="difference"), folder=tmp_path, width=640, height=480)
    fake = replace(fake, original=None) if original_is == "not there" else fake
    result = processed(fake, stages(Cast(real=moving, fake=beside), decoder()))
    assert {record.masks_encoded for record in records_of(result)} == {None}
    assert result.row.detail == "no mask: the original is missing, or has another size or frame rate"
    assert compared == []


class BrokenFootage(Footage):
    """A video whose frames cannot be decoded."""

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        raise VideoRejected(Stage.DECODE, Reason.DECODE_ERROR, "real.mp4: broken")


def test_an_original_that_breaks_while_it_is_compared(tmp_path: Path, compared: Compared) -> None:
    """A fake is worth storing without its mask, too, as where a mask video is broken."""
    _, fake = pair(settings_with(masks="difference"), folder=tmp_path)
    work = stages(Cast(real=moving, fake=beside), MemoryDecoder(fake=Footage(51, black), real=BrokenFootage(51)))
    result = processed(fake, work)
    assert (result.row.status, len(result.records)) == ("pending", 6)
    assert str(result.row.detail).startswith("no mask: the original cannot be used: real.mp4")


def test_a_mask_waits_for_an_original_that_is_gone(tmp_path: Path, compared: Compared) -> None:
    _, fake = pair(settings_with(masks="difference"), folder=tmp_path)
    work = stages(Cast(real=moving, fake=beside), MemoryDecoder(fake=Footage(51, black)))
    assert processed(fake, work).row.reason is Reason.UNREADABLE


# ---- the kept file


def some_geometry(num_landmarks: int = 68, *, with_scores: bool = True) -> Geometry:
    """Two people in three frames, of numbers that no rounding would survive."""
    random = np.random.default_rng(0)

    def track(track_id: int) -> FaceTrack:
        return FaceTrack(
            track_id=track_id,
            frame_indices=np.array([0, 10, 2**40], dtype=np.int64),
            boxes_xyxy=random.normal(size=(3, 4)).astype(np.float32) * 1e3,
            landmarks=random.normal(size=(3, num_landmarks, 2)).astype(np.float32),
            scores=random.random(3).astype(np.float32),
            interpolated=np.array([False, True, False]),
            landmark_scores=random.random((3, num_landmarks)).astype(np.float32) if with_scores else None,
            found_by=np.array([FoundBy.DETECTOR, FoundBy.NOT_FOUND, FoundBy.NEIGHBOURS], dtype=np.uint8)
            if with_scores
            else None,
        )

    return Geometry(
        tracks=(ChosenTrack(track=track(7), choice="mask"), ChosenTrack(track=track(0), choice="bystander")),
        samples=Samples(records=(np.array([0, 10, 10], dtype=np.int64), np.array([2**40], dtype=np.int64))),
        num_faces=5,
        num_tracks=9,
    )


def exactly(array: npt.NDArray[Any] | None) -> tuple[Any, ...]:
    return () if array is None else (array.dtype, array.shape, array.tobytes())


@pytest.mark.parametrize(("num_landmarks", "with_scores"), [(68, True), (5, False), (0, False)])
def test_a_kept_geometry_comes_back_exactly(tmp_path: Path, num_landmarks: int, with_scores: bool) -> None:
    before = some_geometry(num_landmarks, with_scores=with_scores)
    write_geometry(tmp_path / "kept.npz", before)
    after = read_geometry(tmp_path / "kept.npz")
    assert (after.num_faces, after.num_tracks) == (5, 9)
    assert len(after.tracks) == 2
    for was, now in zip(before.tracks, after.tracks, strict=True):
        assert (now.choice, now.track.track_id) == (was.choice, was.track.track_id)
        for name in TRACK_ARRAYS:
            assert exactly(getattr(now.track, name)) == exactly(getattr(was.track, name)), name
    for expected, found in zip(before.samples.records, after.samples.records, strict=True):
        assert (found.dtype, found.tolist()) == (expected.dtype, expected.tolist())


def test_every_array_of_a_track_is_kept() -> None:
    assert {field.name for field in fields(FaceTrack)} == {"track_id", *TRACK_ARRAYS}


def test_a_kept_file_holds_numbers_and_json_and_nothing_that_runs(tmp_path: Path) -> None:
    """Each member is an array of plain numbers: no pickle, which would run what a stranger wrote."""
    path = tmp_path / "kept.npz"
    write_geometry(path, some_geometry())
    with zipfile.ZipFile(path) as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    for content in contents:
        assert content.startswith(b"\x93NUMPY")
        assert b"'descr': '|O'" not in content
        with pytest.raises(ValueError, match=r"."):
            list(pickletools.genops(content))
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_with_a_pickle_in_it_is_refused(tmp_path: Path) -> None:
    objects = np.array([{"some": "object"}], dtype=object)
    np.savez(tmp_path / "kept.npz", about=objects)
    with pytest.raises(ValueError, match="allow_pickle"):
        read_geometry(tmp_path / "kept.npz")


def test_a_half_written_file_never_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that dies while it writes leaves no file that another one reads."""
    original, _ = pair(PLAIN, folder=tmp_path)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", die)
    with pytest.raises(KeyboardInterrupt):
        processed(original, stages(Cast(real=moving, fake=beside), decoder()))
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".begun", ".lock"]


def test_without_a_folder_nothing_is_kept() -> None:
    original, _ = pair(PLAIN)
    work = stages(Cast(real=moving, fake=beside), decoder())
    geometry = kept_geometry(VideoContext(job=original, stages=work))
    assert [chosen.choice for chosen in geometry.tracks] == ["longest"]


def test_what_is_wrong_with_the_original_is_its_own_affair(tmp_path: Path) -> None:
    original, _ = pair(PLAIN, folder=tmp_path)
    work = stages(Cast(real=lambda _: [], fake=beside), decoder())
    assert geometry_of_original(VideoContext(job=original, stages=work)) is None
    with pytest.raises(VideoRejected):
        kept_geometry(VideoContext(job=original, stages=work))
