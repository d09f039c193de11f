"""Videos, detectors and stages with known answers, shared by the tests of single videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from manifests.entry import VideoEntry
from manifests.probe.probe import probe
from storage.format.encoding import decode_record
from storage.format.record import Record
from tasks.align.square import SquareAligner
from tasks.decode.decoder import Decoder
from tasks.decode.decord import DecordDecoder
from tasks.detect.detector import FaceDetector
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.media import FaceDetection, FrameBatch
from tasks.settings import StageSettings
from tasks.video.finder import FaceFinder
from tasks.video.job import TimeLimit, VideoJob
from tasks.video.stages import Stages
from tasks.video.video import VideoResult, process_video

SETTINGS = StageSettings.model_validate(
    {"frames": {"count": 6}, "crop": {"size_px": 64}, "encode": {"image_format": "png"}}
)
FacesAt = Callable[[int], list[FaceDetection]]


class PlayedDetector(FaceDetector):
    """A detector that returns the faces written for each frame number, ignores pixels, and records its frames."""

    def __init__(self, faces_at: FacesAt) -> None:
        self.visited: list[int] = []
        self._faces_at = faces_at

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        self.visited += frames.frame_indices.tolist()
        return [self._faces_at(number) for number in frames.frame_indices.tolist()]


class ScriptedDetector(PlayedDetector):
    """A detector of one face of 80×80 pixels at (100, 60) in some frames, and of a larger passer-by in others."""

    def __init__(self, frames_with_face: Sequence[int], frames_with_passer_by: Sequence[int] = ()) -> None:
        super().__init__(
            lambda number: (
                [face(20, 20, 170)] * (number in frames_with_passer_by)
                + [face(100, 60, 80)] * (number in frames_with_face)
            )
        )


class Footage:
    """A video in memory whose frame n is `picture(n)`."""

    def __init__(
        self,
        num_frames: int,
        picture: Callable[[int], npt.NDArray[np.uint8]] = lambda number: np.full((240, 320, 3), number, np.uint8),
        pts_seconds: Sequence[float] = (),
    ) -> None:
        self.num_frames = num_frames
        self.pts_seconds = np.array(pts_seconds) if pts_seconds else np.arange(num_frames) / 25
        self.picture = picture

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        return FrameBatch(
            data=np.stack([self.picture(number) for number in frame_indices.tolist()]),
            frame_indices=frame_indices,
            pts_seconds=self.pts_seconds[frame_indices],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...


class MemoryDecoder(Decoder):
    """A decoder that opens videos in memory by file name; an unknown name is a missing file."""

    def __init__(self, **videos: Footage) -> None:
        self._videos = videos

    def open(self, path: Path) -> Footage:
        if path.stem not in self._videos:
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return self._videos[path.stem]


def face(left: float, top: float, side: float) -> FaceDetection:
    unit = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    return FaceDetection(
        box_xyxy=np.array([left, top, left + side, top + side], dtype=np.float32),
        score=0.9,
        landmarks=(unit * side + [left, top]).astype(np.float32),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedJob(VideoJob):
    """A job with the settings that its stages are to have."""

    settings: StageSettings = SETTINGS


def processed(job: ScriptedJob, stages: Stages, time_limit: TimeLimit = nullcontext) -> VideoResult:
    """What comes of a video under its own settings."""
    return process_video(job, replace(stages, settings=job.settings), time_limit)


def stages(detector: FaceDetector, decoder: Decoder | None = None, **more: Any) -> Stages:
    return Stages(
        settings=SETTINGS,
        decoder=decoder or DecordDecoder(),
        finder=FaceFinder(detector, DetectorLandmarks()),
        aligner=SquareAligner(size_px=64, margin=1.0),
        **more,
    )


def settings_with(**sections: Any) -> StageSettings:
    """Return the settings of these tests, with some values replaced."""
    plain = {"frames": {"count": 6}, "crop": {"size_px": 64}, "encode": {"image_format": "png"}}
    return StageSettings.model_validate({**plain, **sections})


def fake_entry(**changes: Any) -> VideoEntry:
    known: dict[str, Any] = {
        "video_id": "ffpp/Deepfakes/c23/000_001",
        "path": "fake.mp4",
        "dataset": "ffpp",
        "label": "fake",
        "manipulation": "Deepfakes",
        "compression": "c23",
        "target_id": "000",
        "source_id": "001",
        "group_id": "ffpp/youtube/000",
        "split": "val",
    }
    return VideoEntry(**known | changes)


def memory_job(num_frames: int, settings: StageSettings = SETTINGS, **changes: Any) -> ScriptedJob:
    """Return the job of a fake whose `Footage` is 320×240 pixels."""
    measured = {"num_frames": num_frames, "fps": Fraction(25), "width": 320, "height": 240, "sha256": "a" * 64}
    entry = fake_entry(**measured | changes)
    return ScriptedJob(root=Path("/nowhere"), entry=entry, settings=settings, config_digest="ab" * 32)


def job(root: Path, mask: bool = False, settings: StageSettings = SETTINGS) -> ScriptedJob:
    entry = fake_entry(mask_path="mask.mp4" if mask else None)
    return ScriptedJob(root=root, entry=probe(root, entry), settings=settings, config_digest="ab" * 32)


def records_of(result: VideoResult) -> list[Record]:
    return [decode_record(value) for _, value in result.records]
