"""Geometry of a video: boxes, landmarks and tracks of the stored people. It is the part that needs detectors.

sample → decode → detect, landmarks → track → choose
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from manifests.errors import VideoRejected
from storage.format.record import TrackChoice
from tasks.decode.sampling import FrameIndices, Samples, clips, frame_indices, single_frames
from tasks.media import Reason, Stage
from tasks.track.main_face import ChosenTrack, choose_main, stored_tracks
from tasks.track.tracker import FaceTracker, SeenTrack
from tasks.video.context import VideoContext
from tasks.video.face_search import FaceSearch
from tasks.video.frame_faces import faces_of_frames, no_face_detail
from tasks.video.job import VideoJob


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Geometry:
    """The stored people of a video."""

    tracks: tuple[ChosenTrack, ...]
    """Tracks, the main face first, with one row for each visited frame."""

    samples: Samples
    """Frames of each record."""

    num_faces: int
    """Number of faces detected in all frames together."""

    num_tracks: int
    """People seen."""


def find_geometry(video: VideoContext) -> Geometry:
    """Find the people of a video.

    Raises:
        VideoRejected: the video is too short, cannot be decoded, or shows the face too rarely.
    """
    if video.settings.frames.at_least:
        return _by_search(video)
    tally, samples = video.tally, _samples(video)
    tally.frames_wanted.update(samples.frame_indices.tolist())
    looked_at = np.arange(video.source.num_frames) if video.stages.aligner.smooths else samples.frame_indices
    tracker, num_masked = FaceTracker(), 0
    for batch in video.source.batches(looked_at):
        for seen in faces_of_frames(batch, video.stages.finder, tally):
            with tally.timed("track"):
                tracker.add(seen.frame_index, seen.faces, seen.mask_shares)
            num_masked += seen.is_masked
        tally.num_faces, tally.num_tracks = tracker.num_faces, tracker.num_tracks
        del batch  # its views would keep this window in memory while the next one is read
    people = tracker.tracks()
    if not people:
        raise VideoRejected(Stage.DETECT, Reason.NO_FACE, no_face_detail(len(looked_at)))
    require_face_in_mask(video.job, people, num_masked)
    main, choice = choose_main(people, video.original_face)
    return _geometry(video, people, main, choice, samples, looked_at)


def require_face_in_mask(job: VideoJob, people: Sequence[SeenTrack], num_masked: int) -> None:
    """Reject a fake whose mask marks a face that was not detected, instead of storing another person.

    Raises:
        VideoRejected: no face lies where the fake's mask does.
    """
    is_known = job.entry.label == "fake" and job.entry.mask_path is not None
    if is_known and num_masked and not any(person.mask_overlap for person in people):
        detail = f"main face: got {len(people)} people, none of them where the masks of {num_masked} frames are"
        raise VideoRejected(Stage.TRACK, Reason.LOW_COVERAGE, detail)


def _samples(video: VideoContext) -> Samples:
    """Return the frames that the settings ask for.

    Raises:
        VideoRejected: the video has no frames, or is too short.
    """
    frames, source = video.settings.frames, video.source
    if frames.mode != "clips":
        return single_frames(frame_indices(frames.mode, source.num_frames, count=frames.count, stride=frames.stride))
    records = clips(
        source.pts_seconds(),
        clip_seconds=frames.clip_seconds,
        num_frames=frames.clip_frames,
        short_video=frames.short_video,
    )
    return Samples(records=tuple(records))


def _by_search(video: VideoContext) -> Geometry:
    """Search until `frames.at_least` frames show the main face.

    Raises:
        VideoRejected: too few frames show it after all steps of the search.
    """
    search = FaceSearch(video)
    people, main, choice = search.run()
    require_face_in_mask(video.job, people, search.num_masked)
    chosen = main.track.frame_indices
    return _geometry(video, people, main, choice, single_frames(chosen), chosen)


def _geometry(
    video: VideoContext,
    people: Sequence[SeenTrack],
    main: SeenTrack,
    choice: TrackChoice,
    samples: Samples,
    looked_at: FrameIndices,
) -> Geometry:
    track = video.settings.track
    # The coverage of clips is checked later, for each clip, since a person may leave for a while.
    min_coverage = 0.0 if video.settings.frames.mode == "clips" else track.min_coverage
    return Geometry(
        tracks=stored_tracks(people, main, choice, looked_at, min_coverage=min_coverage, max_tracks=track.max_tracks),
        samples=samples,
        num_faces=video.tally.num_faces,
        num_tracks=video.tally.num_tracks,
    )
