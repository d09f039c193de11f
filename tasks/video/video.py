"""Processing of one video, from its file to its records: the stages in their order, without any scheduler.

    1 geometry   which frames; decode → detect → landmarks → track → choose        video/geometry
    2 reuse      a fake may take the geometry of its original                      video/shared_geometry
    3 crop       decode (again, if the frames were too many to keep) → align → encode
    4 pack       encoded frames → records of one frame or one clip

Memory is bounded for videos of any length, since frames are read in windows (`tasks/video/frames`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from manifests.row import ManifestRow
from storage.format.encoding import encode_record
from tasks.masks import difference_masks
from tasks.media import FaceTrack, FrameBatch, MaskBatch, Reason, Stage
from tasks.track.main_face import ChosenTrack
from tasks.video.context import VideoContext
from tasks.video.frames import rows_of
from tasks.video.geometry import Geometry, find_geometry
from tasks.video.job import TimeLimit, VideoJob
from tasks.video.records import EncodedFrame, encode_frames, pack_record
from tasks.video.shared_geometry import PASSING, geometry_of_original, kept_geometry
from tasks.video.stages import Stages

# Average rates of a video and of a shorter cut of it may differ a little if frames have varying intervals.
SAME_RATE_SHARE = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoResult:
    """Result of one video."""

    row: ManifestRow
    """The outcome: `pending` or `rejected`; the writer of the shard changes `pending` to `stored`."""

    records: tuple[tuple[str, bytes], ...] = ()
    """(key, encoded record), keys increasing; empty for a rejected video."""


def process_video(job: VideoJob, stages: Stages, time_limit: TimeLimit = nullcontext) -> VideoResult:
    """Run one video through the stages.

    Args:
        job: the video and the settings.
        stages: the worker's loaded stages.
        time_limit: guards each call into the decoder; the default does not limit.

    Returns:
        The records with a `pending` row, or a `rejected` row with the reason.
    """
    video = _Video(job=job, stages=stages, time_limit=time_limit)
    try:
        records = video.records()
    except VideoRejected as rejection:
        return VideoResult(row=video.tally.row(job).as_rejected(rejection.for_video(job.entry.video_id)))
    return VideoResult(row=video.tally.row(job), records=records)


class _Video(VideoContext):
    """Processing of one video into records, with the geometry of its original if that is reused."""

    def records(self) -> tuple[tuple[str, bytes], ...]:
        """Run the stages in their order; return (key, encoded record), keys increasing.

        Raises:
            VideoRejected: a stage cannot use the video.
        """
        geometry, taken_from = self._geometry()
        self.tally.num_faces, self.tally.num_tracks = geometry.num_faces, geometry.num_tracks
        self.tally.frames_wanted = set(geometry.samples.frame_indices.tolist())
        frames = self._encoded_frames(geometry)
        records = self._pack(geometry.tracks[0], frames[0], geometry, taken_from)
        if not records:
            raise VideoRejected(
                Stage.TRACK,
                Reason.LOW_COVERAGE,
                f"main face: got it in too few frames of each of {len(geometry.samples.records)} clips, "
                f"expected at least {self.settings.track.min_coverage:.0%} (track.min_coverage)",
            )
        for bystander, encoded in zip(geometry.tracks[1:], frames[1:], strict=True):
            records += self._pack(bystander, encoded, geometry, taken_from) if encoded else []
        return tuple(sorted(records))

    def _geometry(self) -> tuple[Geometry, str | None]:
        """Return the geometry, and the video_id of the original that it comes from; None if it is the video's own.

        Raises:
            VideoRejected: the video is too short, cannot be decoded, or shows the face too rarely.
        """
        original = self.job.original
        if original is None:
            if self.settings.track.reuse_geometry and self.job.entry.label == "fake":
                self.tally.remarks.append("geometry is its own: the original is missing")
            return kept_geometry(self), None
        if self.settings.track.reuse_geometry and (reused := self._reused(original)):
            return reused, original.entry.video_id
        return find_geometry(self), None

    @cached_property
    def _original_geometry(self) -> Geometry | None:
        """The original's geometry, if its frames are as large as these, and come as fast."""
        original = self.job.original
        usable = original is not None and _same_frames(self.job, original)
        return geometry_of_original(self.of_original(original)) if original and usable else None

    def original_face(self) -> FaceTrack | None:
        """Return the main face of the video's original."""
        geometry = self._original_geometry
        return None if geometry is None else geometry.tracks[0].track

    def _reused(self, original: VideoJob) -> Geometry | None:
        """Return the original's geometry, cut to the frames that both videos have; None if it cannot be used.

        Raises:
            VideoRejected: no record lies in the frames that both have.
        """
        geometry = self._original_geometry
        if geometry is None:
            self.tally.remarks.append(
                f"geometry is its own: {original.entry.video_id} has another size or frame rate, or was rejected"
            )
            return None
        pad = self.settings.frames.short_video == "pad"
        samples = geometry.samples.before(self.source.num_frames, pad=pad)
        if not samples.records:
            detail = (
                f"frames: got {self.source.num_frames}, expected more: no record of its original, "
                f"{original.entry.video_id}, lies within them (track.reuse_geometry)"
            )
            raise VideoRejected(Stage.SAMPLE, Reason.TOO_SHORT, detail)
        tracks = tuple(
            ChosenTrack(track=chosen.track, choice="bystander" if number else "original")
            for number, chosen in enumerate(geometry.tracks)
        )
        return Geometry(tracks=tracks, samples=samples, num_faces=geometry.num_faces, num_tracks=geometry.num_tracks)

    def _encoded_frames(self, geometry: Geometry) -> list[list[EncodedFrame]]:
        """Cut every stored frame of every stored track, in order.

        A bystander who cannot be aligned has no frames, and a remark gives the reason.

        Raises:
            VideoRejected: a frame cannot be decoded, or the main face cannot be aligned.
        """
        encoded: dict[int, list[EncodedFrame]] = {number: [] for number in range(len(geometry.tracks))}
        indices = geometry.samples.frame_indices
        original_batches = self._frames_of_original(indices)
        for frames, masks in self.source.batches(indices, with_masks=self.job.entry.mask_path is not None):
            original = next(original_batches, None)
            for number in list(encoded):
                chosen = geometry.tracks[number]
                if not np.isin(frames.frame_indices, chosen.track.frame_indices).any():
                    continue
                try:
                    encoded[number] += self._cut(frames, masks, chosen, None if number else original)
                except VideoRejected as rejection:
                    if number == 0:
                        raise
                    del encoded[number]
                    self.tally.remarks.append(f"bystander {chosen.track.track_id} not stored: {rejection.reason}")
            del frames, masks, original  # views that would keep this window while the next one is read
        return [encoded.get(number, []) for number in range(len(geometry.tracks))]

    def _cut(
        self, frames: FrameBatch, masks: MaskBatch | None, chosen: ChosenTrack, original: FrameBatch | None
    ) -> list[EncodedFrame]:
        """Align and encode the frames of a batch that a track covers.

        Masks are those given, or the difference from the original's frames.

        Raises:
            VideoRejected: the face cannot be aligned.
        """
        aligner, track = self.stages.aligner, chosen.track
        covered = np.isin(frames.frame_indices, track.frame_indices)
        if not covered.all():
            if original is not None:  # it may end earlier
                original = original.rows(np.flatnonzero(covered[: len(original)]))
            frames, masks = rows_of((frames, masks), np.flatnonzero(covered))
        with self.tally.timed("align"):
            clip = aligner.align(frames, track, None if masks is None else masks.data)
            has_mask = np.zeros(len(frames), dtype=np.bool_) if masks is None else masks.is_present
            if original is not None:  # it may end earlier
                has_mask = np.arange(len(frames)) < len(original)
                derived = np.zeros(clip.crops.shape[:3], dtype=np.uint8)
                derived[has_mask] = difference_masks(clip.crops[has_mask], aligner.align(original, track).crops)
                has_mask = has_mask & derived.any(axis=(1, 2))  # if nothing differs, the altered region is unknown
                clip = replace(clip, masks=derived)
        with self.tally.timed("encode"):
            rows = track.rows_at(frames.frame_indices)
            return list(encode_frames(rows, clip, has_mask, self.settings.encode))

    def _frames_of_original(self, indices: npt.NDArray[np.int64]) -> Iterator[FrameBatch]:
        """Yield the original's frames in the same batches, up to its end, if masks are derived from them."""
        job = self.job
        if self.settings.masks != "difference" or job.entry.label != "fake" or job.entry.mask_path is not None:
            return
        original = job.original
        if original is None or not _same_frames(job, original):
            self.tally.remarks.append("no mask: the original is missing, or has another size or frame rate")
            return
        source = self.of_original(original).source
        try:
            for frames, _ in source.batches(indices[indices < source.num_frames], with_masks=False):
                yield frames
                del frames  # a view that would keep this window while the next one is read
        except VideoRejected as rejection:  # the original's own row says it, too
            if rejection.reason in PASSING:
                raise
            self.tally.remarks.append(f"no mask: the original cannot be used: {rejection.detail}")

    def _pack(
        self, chosen: ChosenTrack, encoded: Sequence[EncodedFrame], geometry: Geometry, taken_from: str | None
    ) -> list[tuple[str, bytes]]:
        """Return the encoded records of a track; a clip that shows the face too rarely is counted instead."""
        records = []
        frames = {frame.frame_index: frame for frame in encoded}
        for indices in geometry.samples.records:
            if not all(int(number) in frames for number in indices):  # a cut, or a long time without the face
                self.tally.num_dropped += chosen.choice != "bystander"
                continue
            members = [frames[int(number)] for number in indices]
            share_seen = float(np.mean([not frames[int(number)].interpolated for number in np.unique(indices)]))
            if len(members) > 1 and share_seen < self.settings.track.min_coverage:
                self.tally.num_dropped += chosen.choice != "bystander"
                continue
            record = pack_record(self.job, chosen, members, taken_from)
            records.append((record.key, encode_record(record)))
            self.tally.num_interpolated += int(record.interpolated.sum())
            self.tally.num_masks += len(record.masks_encoded or ())
        return records


def _same_frames(job: VideoJob, other: VideoJob) -> bool:
    """Return whether frames of the same number in two videos can show the same moment, pixel by pixel."""
    ours, theirs = job.entry, other.entry
    if (ours.width, ours.height) != (theirs.width, theirs.height) or not ours.fps or not theirs.fps:
        return False
    return abs(float(ours.fps / theirs.fps) - 1) <= SAME_RATE_SHARE
