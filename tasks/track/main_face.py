"""Choice of a video's main face, and of the other people that are stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from manifests.errors import VideoRejected
from storage.format.record import TrackChoice
from tasks.media import FaceTrack, Reason, Stage
from tasks.track.timeline import Timeline
from tasks.track.tracker import SeenTrack, fill_gaps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChosenTrack:
    """Track of one person that is stored."""

    track: FaceTrack
    """Track with one row for each visited frame that it covers."""

    choice: TrackChoice
    """Rule by which it was chosen."""


# Function that returns the main face of a fake's original, gaps filled; it may have to read another file.
OriginalFace = Callable[[], FaceTrack | None]


def choose_main(
    people: Sequence[SeenTrack], original_face: OriginalFace = lambda: None, timeline: Timeline | None = None
) -> tuple[SeenTrack, TrackChoice]:
    """Return the main face of a video, and the first of these rules that applied.

    1. "mask": the face whose boxes the manipulation masks overlap most;
    2. "original": in a fake, the face whose boxes overlap those of the original's main face most;
    3. "longest": the face seen in the most frames; of equal ones, the track that was opened first,
       and of those opened in one frame, the larger face.

    Args:
        people: tracks of all people, at least one.
        original_face: returns the main face of the original; called only for several people whom no mask overlaps.
        timeline: the visited frames; None: the original's main face covers all.
    """
    if any(person.mask_overlap > 0 for person in people):
        return max(people, key=lambda person: (person.mask_overlap, len(person.track))), "mask"
    original = original_face() if len(people) > 1 else None
    if original is not None:
        overlaps = [_overlap(person.track, original, timeline) for person in people]
        if max(overlaps) > 0:
            return people[int(np.argmax(overlaps))], "original"
    return max(people, key=lambda person: (len(person.track), -person.track.track_id)), "longest"


def stored_tracks(
    people: Sequence[SeenTrack],
    main: SeenTrack,
    choice: TrackChoice,
    timeline: Timeline,
    *,
    min_coverage: float,
    max_tracks: int,
) -> tuple[ChosenTrack, ...]:
    """Return the tracks that are stored, short gaps filled: the main face first, then the longest of the others.

    Args:
        people: tracks of all people.
        main: the main face.
        choice: the rule that chose it.
        timeline: the visited frames.
        min_coverage: least share of these frames that must show a face.
        max_tracks: largest number of people to store.

    Raises:
        VideoRejected: the main face is seen too rarely.
    """
    num_visited = len(timeline.frame_indices)
    share_seen = len(main.track) / num_visited
    if share_seen < min_coverage:
        raise VideoRejected(
            Stage.TRACK,
            Reason.LOW_COVERAGE,
            f"main face: got it in {share_seen:.0%} of {num_visited} sampled frames, "
            f"expected at least {min_coverage:.0%} (track.min_coverage)",
        )
    others = [person for person in people if person is not main and len(person.track) / num_visited >= min_coverage]
    others.sort(key=lambda person: (-len(person.track), person.track.track_id))
    return (
        ChosenTrack(track=_filled(main.track, timeline), choice=choice),
        *(
            ChosenTrack(track=_filled(person.track, timeline), choice="bystander")
            for person in others[: max_tracks - 1]
        ),
    )


def _filled(track: FaceTrack, timeline: Timeline) -> FaceTrack:
    """Return the track with a row for each visited frame that it covers."""
    return fill_gaps(track, timeline.frame_indices[timeline.covers(track)])


def _overlap(track: FaceTrack, original: FaceTrack, timeline: Timeline | None) -> float:
    """Return the IoU of the boxes of two tracks, summed over the frames of the first; the second is interpolated."""
    if timeline is not None:
        covered = timeline.frame_indices[timeline.covers(original)]
        track = track.rows_at(np.intersect1d(track.frame_indices, covered))
    ours, theirs = track.boxes_xyxy, fill_gaps(original, track.frame_indices).boxes_xyxy
    sides = np.minimum(ours[:, 2:], theirs[:, 2:]) - np.maximum(ours[:, :2], theirs[:, :2])
    shared = sides.clip(min=0).prod(axis=1)
    areas = (ours[:, 2:] - ours[:, :2]).prod(axis=1) + (theirs[:, 2:] - theirs[:, :2]).prod(axis=1)
    return float((shared / np.maximum(areas - shared, np.finfo(np.float32).tiny)).sum())
