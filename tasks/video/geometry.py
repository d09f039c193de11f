"""Geometry of a video: boxes, landmarks and tracks of the stored people. It is the part that needs detectors.

sample → decode → detect, landmarks → track → choose
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from manifests.errors import VideoRejected
from storage.format.record import TrackChoice
from tasks.decode.sampling import FrameIndices, Samples, clips, farthest_first, frame_indices, single_frames
from tasks.media import FaceTrack, Reason, Stage
from tasks.track.main_face import ChosenTrack, choose_main, stored_tracks
from tasks.track.timeline import Timeline
from tasks.track.tracker import SeenTrack
from tasks.video.context import VideoContext
from tasks.video.face_search import FaceSearch
from tasks.video.frame_faces import FrameFaces, faces_of_frames, no_face_detail, timeline_of, tracked
from tasks.video.job import VideoJob
from tasks.video.shots import Shots
from tasks.video.turned import require_upright


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Geometry:
    """The stored people of a video."""

    tracks: tuple[ChosenTrack, ...]
    """Tracks, the main face first, with one row for each visited frame that they cover."""

    samples: Samples
    """Frames of each record."""

    num_faces: int
    """Number of faces detected in all frames together."""

    num_tracks: int
    """People seen."""


def find_geometry(video: VideoContext) -> Geometry:
    """Find the people of a video.

    If a cut or a long absence leaves the main face only a part of the video, frames are chosen from that part alone.

    Raises:
        VideoRejected: the video is too short, cannot be decoded, or shows the face too rarely.
    """
    if video.settings.frames.at_least:
        return _by_search(video)
    search, num_frames = _SampleSearch(video), video.source.num_frames
    samples = _samples(video, 0, num_frames)
    people = search.people_in(samples)
    if not people:
        search.require_upright(None)
        raise VideoRejected(Stage.DETECT, Reason.NO_FACE, no_face_detail(len(search.timeline.frame_indices)))
    require_face_in_mask(video.job, people, search.num_masked)
    main, choice = choose_main(people, video.original_face, search.timeline)
    search.require_upright(main.track)
    first, end = search.timeline.span_of(main.track, num_frames)
    if (first, end) != (0, num_frames):
        search.require_faces()
        kept = np.intersect1d(samples.frame_indices, search.timeline.frame_indices[search.timeline.covers(main.track)])
        samples = _samples(video, first, end, kept)
        people = search.people_in(samples, first, end)
        main, choice = choose_main(people, video.original_face, search.timeline)
        video.tally.remarks.append(
            f"frames {first} to {end - 1} of {num_frames} used: a cut or a long absence ends the main face's track"
        )
    return _geometry(video, people, main, choice, samples, search.timeline)


class _SampleSearch:
    """Search for faces in the frames that the settings ask for, and in those of the main face's part of the video.

    Args:
        video: the video.
    """

    def __init__(self, video: VideoContext) -> None:
        self._video = video
        self._shots = Shots(video)
        self._seen: dict[int, FrameFaces] = {}
        self.timeline: Timeline
        """The frames of the last call of `people_in`."""

    @property
    def num_masked(self) -> int:
        """Number of searched frames whose mask is not empty."""
        return sum(one.is_masked for one in self._seen.values())

    def people_in(self, samples: Samples, first: int = 0, end: int | None = None) -> list[SeenTrack]:
        """Return the people in some frames, or in a whole part of the video if the aligner needs all its frames.

        Raises:
            VideoRejected: a frame cannot be decoded.
        """
        video, tally = self._video, self._video.tally
        tally.frames_wanted = set(samples.frame_indices.tolist())
        looked_at = samples.frame_indices
        if video.stages.aligner.smooths:
            looked_at = np.arange(first, end or video.source.num_frames)
        self._search(looked_at)
        seen = [self._seen[number] for number in looked_at.tolist()]
        track = video.settings.track
        self.timeline = timeline_of(seen, self._shots.cuts(seen), track.max_gap_s)
        with tally.timed("track"):
            tracker = tracked(seen, self.timeline.cuts, track.max_gap_s)
        tally.num_tracks = max(tally.num_tracks, tracker.num_tracks)
        return tracker.tracks()

    def _search(self, looked_at: FrameIndices) -> None:
        """Detect faces in those of the frames in which they are not yet known."""
        video = self._video
        new = np.array([number for number in looked_at.tolist() if number not in self._seen], dtype=np.int64)
        finds_cuts = bool(video.settings.track.cut_threshold)
        for batch in video.source.batches(new):
            found = faces_of_frames(batch, video.stages.finder, video.tally, with_thumbnails=finds_cuts)
            self._seen |= {one.frame_index: one for one in found}
            video.tally.num_faces = sum(len(one.faces) for one in self._seen.values())
            del batch  # its views would keep this window in memory while the next one is read

    def require_upright(self, main: FaceTrack | None) -> None:
        """Reject a video whose picture is turned, by the frames of the main face's shot.

        Raises:
            VideoRejected: the picture is turned.
        """
        frames = self.timeline.frame_indices
        numbers = frames if main is None else frames[self.timeline.in_shot_of(main)]
        require_upright(self._video, [self._seen[number] for number in numbers.tolist()])

    def require_faces(self) -> None:
        """Reject a video that shows faces too rarely, before frames are chosen from a part of it.

        Raises:
            VideoRejected: too few frames show anybody.
        """
        share = float(np.mean([bool(one.faces) for one in self._seen.values()]))
        least = _min_coverage(self._video)
        if share < least:
            detail = f"a face: got it in {share:.0%} of {len(self._seen)} sampled frames, expected at least {least:.0%}"
            raise VideoRejected(Stage.TRACK, Reason.LOW_COVERAGE, f"{detail} (track.min_coverage)")


def require_face_in_mask(job: VideoJob, people: Sequence[SeenTrack], num_masked: int) -> None:
    """Reject a fake whose mask marks a face that was not detected, instead of storing another person.

    Raises:
        VideoRejected: no face lies where the fake's mask does.
    """
    is_known = job.entry.label == "fake" and job.entry.mask_path is not None
    if is_known and num_masked and not any(person.mask_overlap for person in people):
        detail = f"main face: got {len(people)} people, none of them where the masks of {num_masked} frames are"
        raise VideoRejected(Stage.TRACK, Reason.LOW_COVERAGE, detail)


def _samples(video: VideoContext, first: int, end: int, kept: FrameIndices | None = None) -> Samples:
    """Return the frames that the settings ask for.

    Args:
        video: the video.
        first: first frame of the part that shows the main face.
        end: end of that part.
        kept: chosen frames in that part; others are added only in mode uniform, up to `frames.count`. None: the part
            is the whole video, and none are chosen yet.

    Raises:
        VideoRejected: the video has no frames, or is too short.
    """
    frames = video.settings.frames
    if frames.mode == "clips":
        records = clips(
            video.source.pts_seconds()[first:end],
            clip_seconds=frames.clip_seconds,
            num_frames=frames.clip_frames,
            short_video=frames.short_video,
        )
        return Samples(records=tuple(first + record for record in records))
    if kept is None:
        return single_frames(frame_indices(frames.mode, end, count=frames.count, stride=frames.stride))
    lacking = frames.count - len(kept) if frames.mode == "uniform" else 0
    inside: list[int] = (kept - first).tolist()
    return single_frames(first + np.array(sorted(inside + farthest_first(end - first, inside, lacking))))


def _by_search(video: VideoContext) -> Geometry:
    """Search until `frames.at_least` frames show the main face.

    Raises:
        VideoRejected: too few frames show it after all steps of the search.
    """
    search = FaceSearch(video)
    people, main, choice = search.run()
    require_face_in_mask(video.job, people, search.num_masked)
    chosen = main.track.frame_indices
    timeline = search.timeline.only(chosen, video.settings.track.max_gap_s)
    return _geometry(video, people, main, choice, single_frames(chosen), timeline)


def _min_coverage(video: VideoContext) -> float:
    """Return the least share of frames with the face; that of clips is checked later, since a person may leave."""
    return 0.0 if video.settings.frames.mode == "clips" else video.settings.track.min_coverage


def _geometry(
    video: VideoContext,
    people: Sequence[SeenTrack],
    main: SeenTrack,
    choice: TrackChoice,
    samples: Samples,
    timeline: Timeline,
) -> Geometry:
    tracks = stored_tracks(
        people,
        main,
        choice,
        timeline,
        min_coverage=_min_coverage(video),
        max_tracks=video.settings.track.max_tracks,
    )
    if video.settings.frames.mode != "clips":
        samples = single_frames(np.intersect1d(samples.frame_indices, tracks[0].track.frame_indices))
    return Geometry(tracks=tracks, samples=samples, num_faces=video.tally.num_faces, num_tracks=video.tally.num_tracks)
