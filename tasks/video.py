"""One video from file to records: the stages in their order, on arrays, without any scheduler.

    frame numbers → decode → detect → track → (decode again, if the frames were too many to keep) → align → encode

Memory is bounded whatever the video's length: frames are read in windows of MAX_WINDOW_BYTES. The usual handful of
frames is one window, which stays between detecting and cropping; for more, each window is decoded again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.entry import VideoEntry
from manifests.errors import VideoRejected
from manifests.row import ManifestRow
from storage.encoding import encode_record
from tasks.aligner import Aligner
from tasks.aligners import ALIGNERS
from tasks.decoder import Decoder
from tasks.decoders import DECODERS
from tasks.detector import FaceDetector
from tasks.detectors import DETECTORS
from tasks.landmarker import Landmarker
from tasks.landmarkers import LANDMARKERS
from tasks.masks import MaskBatch, read_masks
from tasks.media import FaceTrack, FrameBatch, Reason, Stage
from tasks.pack import pack_frames
from tasks.sampling import frame_indices
from tasks.settings import StageSettings
from tasks.tracker import FaceTracker, fill_gaps

FRAMES_PER_BATCH = 16  # frames detected at once
BYTES_PER_PIXEL = 3  # RGB
BYTES_PER_MASKED_PIXEL = 8  # two of RGB, frame and mask as they come, and the mask in grey, twice while it is made
# Frames in memory at once: 32 of 1080p need 190 MiB. More than that are decoded window by window, and twice: once to
# detect, once to crop.
MAX_WINDOW_BYTES = 256 * 2**20

TimeLimit = Callable[[float], AbstractContextManager[None]]  # seconds → a block that must end within them


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """The stages of one worker, with their models loaded."""

    decoder: Decoder
    detector: FaceDetector
    landmarker: Landmarker
    aligner: Aligner

    @classmethod
    def load(cls, settings: StageSettings, device: str) -> Stages:
        """Build the stages that the settings name.

        Args:
            settings: which, and how.
            device: `cpu` or `cuda:N`, for the networks.

        Raises:
            StageMissing: a package or a weight file is not there.
        """
        crop, detect = settings.crop, settings.detect
        extra = {"template": crop.template} if crop.kind == "five_point" else {}
        return cls(
            decoder=DECODERS[settings.decode.backend](),
            detector=DETECTORS[detect.kind](
                min_face_px=detect.min_face_px,
                thresholds=detect.thresholds,
                scale_factor=detect.scale_factor,
                device=device,
            ),
            landmarker=LANDMARKERS[settings.landmark.kind](),
            aligner=ALIGNERS[crop.kind](size_px=crop.size_px, margin=crop.margin, **extra),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoJob:
    """What to do with one video."""

    root: Path
    # the dataset's folder

    entry: VideoEntry
    # probed, with its split

    settings: StageSettings
    # how

    config_digest: str
    # hex digest of the settings that decide the records' bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """What came of one video."""

    row: ManifestRow
    # the outcome: status `stored` is claimed by the shard's writer, here it is `pending` or `rejected`

    records: tuple[tuple[str, bytes], ...] = ()
    # (key, encoded record), keys increasing; empty for a rejected video


@dataclass(slots=True, kw_only=True)
class _Tally:
    """What has been seen and spent on a video so far, whatever becomes of it."""

    frames_wanted: int = 0
    frames_got: int = 0
    num_faces: int = 0
    num_tracks: int = 0
    num_interpolated: int = 0
    num_masks: int = 0
    mask_complaint: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def row(self, job: VideoJob) -> ManifestRow:
        """Return the video's row as far as it is known."""
        return ManifestRow(
            video_id=job.entry.video_id,
            path=job.entry.path,
            entry=job.entry,
            config_digest=job.config_digest,
            detail=self.mask_complaint,
            frames_wanted=self.frames_wanted,
            frames_got=self.frames_got,
            num_interpolated=self.num_interpolated,
            num_faces=self.num_faces,
            num_tracks=self.num_tracks,
            num_masks=self.num_masks,
            seconds={stage: round(spent, 4) for stage, spent in self.seconds.items()},
        )


def no_limit(_seconds: float) -> AbstractContextManager[None]:
    """Let the decoder take its time: for debugging, and for processes that must not be ended."""
    return nullcontext()


def process_video(job: VideoJob, stages: Stages, time_limit: TimeLimit = no_limit) -> VideoResult:
    """Run one video through the stages.

    Args:
        job: the video and the settings.
        stages: the worker's loaded stages.
        time_limit: guards each call into the decoder; the default does not limit.

    Returns:
        The records with a `pending` row, or a `rejected` row with the reason.
    """
    tally = _Tally()
    try:
        records = _records(job, stages, time_limit, tally)
    except VideoRejected as rejection:
        return VideoResult(row=tally.row(job).as_rejected(rejection.for_video(job.entry.video_id)))
    return VideoResult(row=tally.row(job), records=records)


def _records(job: VideoJob, stages: Stages, time_limit: TimeLimit, tally: _Tally) -> tuple[tuple[str, bytes], ...]:
    """Run the stages in their order.

    Raises:
        VideoRejected: a stage cannot use the video.
    """
    sampled = _sample(job)
    tally.frames_wanted = len(sampled)
    source = _FrameSource(job, stages.decoder, sampled, time_limit, tally)
    track = _main_face(source, stages.detector, sampled, tally)
    share_seen = 1.0 - float(track.interpolated.mean())
    if share_seen < job.settings.track.min_coverage:
        raise VideoRejected(
            Stage.TRACK,
            Reason.LOW_COVERAGE,
            f"main face: got it in {share_seen:.0%} of {len(sampled)} sampled frames, "
            f"expected at least {job.settings.track.min_coverage:.0%} (track.min_coverage)",
        )
    records: list[tuple[str, bytes]] = []
    for frames, masks in source.batches():
        with tally.timed("align"):
            rows = stages.landmarker.place(frames, track)
            clip = stages.aligner.align(frames, rows, None if masks is None else masks.data)
            has_mask = np.zeros(len(frames), dtype=np.bool_) if masks is None else masks.is_present
        with tally.timed("encode"):
            packed = pack_frames(job.entry, rows, clip, has_mask, job.settings.encode, job.config_digest)
            records.extend((record.key, encode_record(record)) for record in packed)
        tally.num_interpolated += int(rows.interpolated.sum())
        tally.num_masks += int(has_mask.sum())
        del frames, masks  # views that would keep this window while the next one is read
    return tuple(records)


def _sample(job: VideoJob) -> npt.NDArray[np.int64]:
    """(T,) int64 frame numbers that the settings ask for.

    Raises:
        VideoRejected: the video has no frames.
    """
    frames = job.settings.frames
    if not job.entry.num_frames:
        raise VideoRejected(Stage.DECODE, Reason.SHORT_READ, f"frames: got {job.entry.num_frames}, expected at least 1")
    return frame_indices(frames.mode, job.entry.num_frames, count=frames.count, stride=frames.stride)


def _main_face(
    source: _FrameSource, detector: FaceDetector, sampled: npt.NDArray[np.int64], tally: _Tally
) -> FaceTrack:
    """Detect and track through all sampled frames; return the main face with a row for each of them.

    Raises:
        VideoRejected: no frame shows a face.
    """
    tracker = FaceTracker()
    for frames, masks in source.batches():
        with tally.timed("detect"):
            found = detector.detect(frames)
        with tally.timed("track"):
            for row, faces in enumerate(found):
                tracker.add(int(frames.frame_indices[row]), faces, None if masks is None else masks.data[row])
        tally.num_faces, tally.num_tracks = tracker.num_faces, tracker.num_tracks
        del frames, masks  # views that would keep this window while the next one is read
    main = tracker.main_track()
    if main is None:
        detail = f"faces: got none in {len(sampled)} sampled frames; a lower detect.min_face_px finds smaller ones"
        raise VideoRejected(Stage.DETECT, Reason.NO_FACE, detail)
    return fill_gaps(main, sampled)


class _FrameSource:
    """The sampled frames of a video with their masks, as often as they are asked for.

    Args:
        job: the video.
        decoder: for frames and masks.
        sampled: (T,) int64 frame numbers.
        time_limit: guards each call into the decoder.
        tally: counts frames and decoding time.
    """

    def __init__(
        self, job: VideoJob, decoder: Decoder, sampled: npt.NDArray[np.int64], time_limit: TimeLimit, tally: _Tally
    ) -> None:
        self._job = job
        self._decoder = decoder
        self._sampled = sampled
        self._time_limit = time_limit
        self._tally = tally
        bytes_per_pixel = BYTES_PER_PIXEL if job.entry.mask_path is None else BYTES_PER_MASKED_PIXEL
        bytes_per_frame = (job.entry.width or 0) * (job.entry.height or 0) * bytes_per_pixel
        self._frames_per_window = max(1, MAX_WINDOW_BYTES // max(1, bytes_per_frame))
        self._kept: tuple[FrameBatch, MaskBatch | None] | None = None
        self._frames_got: set[int] = set()

    def batches(self) -> Iterator[tuple[FrameBatch, MaskBatch | None]]:
        """Yield all sampled frames in batches, in display order.

        Raises:
            VideoRejected: the video cannot be decoded.
        """
        for start in range(0, len(self._sampled), self._frames_per_window):
            if self._kept is None or len(self._sampled) > self._frames_per_window:
                self._kept = self._decode(self._sampled[start : start + self._frames_per_window])
            yield from _in_batches(*self._kept)

    def _decode(self, window: npt.NDArray[np.int64]) -> tuple[FrameBatch, MaskBatch | None]:
        """Read some frames and their masks in one visit to the files; nothing is left open.

        Raises:
            VideoRejected: the video cannot be decoded.
        """
        entry, path = self._job.entry, self._job.root / self._job.entry.path
        self._kept = None  # before the next window takes its memory
        with self._tally.timed("decode"), self._time_limit(self._job.settings.decode.timeout_s), _readable(entry.path):
            with self._decoder.open(path) as reader:
                if reader.num_frames != entry.num_frames:
                    raise VideoRejected(
                        Stage.DECODE,
                        Reason.FRAME_COUNT_MISMATCH,
                        f"{entry.path}: got {reader.num_frames} frames, expected {entry.num_frames} as in the manifest",
                    )
                frames = reader.read(window)
            masks = self._read_masks(frames)
        self._frames_got.update(window.tolist())
        self._tally.frames_got = len(self._frames_got)
        return frames, masks

    def _read_masks(self, frames: FrameBatch) -> MaskBatch | None:
        """Read the frames' masks; a mask video that is broken costs the masks, not the video, and the row says so."""
        mask_path = self._job.entry.mask_path
        if mask_path is None or self._tally.mask_complaint:
            return None
        try:
            with _readable(mask_path):
                return read_masks(self._decoder, self._job.root / mask_path, frames)
        except VideoRejected as rejection:
            self._tally.mask_complaint = f"mask not used: {rejection.detail}"
            return None


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Turn the file system's refusal into a rejection: a file that is gone since it was probed, or cannot be read."""
    try:
        yield
    except OSError as error:
        raise VideoRejected(Stage.DECODE, Reason.UNREADABLE, f"{path}: {error.strerror or error}") from error


def _in_batches(frames: FrameBatch, masks: MaskBatch | None) -> Iterator[tuple[FrameBatch, MaskBatch | None]]:
    """Yield views of FRAMES_PER_BATCH frames each."""
    for start in range(0, len(frames), FRAMES_PER_BATCH):
        rows = slice(start, start + FRAMES_PER_BATCH)
        part = FrameBatch(
            data=frames.data[rows], frame_indices=frames.frame_indices[rows], pts_seconds=frames.pts_seconds[rows]
        )
        yield part, MaskBatch(data=masks.data[rows], is_present=masks.is_present[rows]) if masks else None
