"""Tracker: links faces of single frames into tracks of people. `tasks/track/main_face.py` chooses the main one.

The motion rule is that of DFD-FCG's `crop_main_face.py` (CVPR 2025): each track keeps an exponential average of its box
corners and landmarks, and takes the nearest face of the next frame unless it is too far. If two tracks claim one face,
the nearer track gets it. (The largest box of each frame could be a picture on the wall or a passer-by.)

A track ends at a hard cut, and when the person is away for long, since somebody else may stand there afterwards.
Who replaces somebody at the same place within that time, or in a dissolve, is not known: the two have one track.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.media import FaceDetection, FaceTrack, FoundBy

EMA_WEIGHT = 0.5  # share of the newest face in a track's average
MAX_SHIFT_DIAGONALS = 0.65  # greatest shift of the corners, or of the landmarks, of a person, in diagonals of the box
MAX_JUMP_DIAGONALS = 2 * MAX_SHIFT_DIAGONALS  # greatest sum of both shifts
# A person who is missing in one searched frame is not away: if few frames are searched, the next one is long after it.
LEAST_MISSED = 2


@dataclass(slots=True, kw_only=True)
class _OpenTrack:
    """A track while faces are added."""

    track_id: int
    """Number of the person in the video, from 0."""

    points: npt.NDArray[np.float64]
    """(2+K,2) averaged box corners, then landmarks, full-frame pixels."""

    frame_indices: list[int] = field(default_factory=list)
    """Frames in which the person was seen, increasing."""

    faces: list[FaceDetection] = field(default_factory=list)
    """The face in each of these frames, full-frame pixels."""

    mask_overlap: float = 0.0
    """Sum over frames of the share of the manipulation mask inside the box."""

    seen_s: float = 0.0
    """Time of the last frame in which the person was seen, seconds."""

    num_missed: int = 0
    """Searched frames since then."""

    def distance_to(self, face: FaceDetection) -> float:
        """Return the mean distance of corners plus that of landmarks, pixels; without landmarks, twice the former."""
        distances = np.linalg.norm(_points_of(face) - self.points, axis=1)
        corners, landmarks = distances[:2], distances[2:]
        return float(corners.mean() + (landmarks.mean() if len(landmarks) else corners.mean()))

    @property
    def max_distance(self) -> float:
        """Return the largest distance at which a face is still the same person, pixels."""
        return MAX_JUMP_DIAGONALS * float(np.linalg.norm(self.points[1] - self.points[0]))

    def take(self, frame_index: int, face: FaceDetection, overlap: float, pts_seconds: float) -> None:
        """Add the face of one more frame."""
        self.seen_s, self.num_missed = pts_seconds, 0
        self.points = (1 - EMA_WEIGHT) * self.points + EMA_WEIGHT * _points_of(face)
        self.frame_indices.append(frame_index)
        self.faces.append(face)
        self.mask_overlap += overlap


class FaceTracker:
    """Tracker: links the faces of successive frames, which are added in order, into tracks of people.

    Args:
        max_gap_s: a person who is away for longer, seconds, gets a new track; None: no limit.
    """

    def __init__(self, max_gap_s: float | None = None) -> None:
        self._max_gap_s = max_gap_s
        self._tracks: list[_OpenTrack] = []
        self._open: list[_OpenTrack] = []

    def end_shot(self) -> None:
        """End all tracks: the next frame belongs to another shot."""
        self._open = []

    def add(
        self,
        frame_index: int,
        faces: Sequence[FaceDetection],
        mask_shares: Sequence[float] = (),
        pts_seconds: float = 0.0,
    ) -> None:
        """Add each face of a frame to the track that it continues, or open a new track.

        Args:
            frame_index: position in the whole video.
            faces: the frame's faces in full-frame pixels, in the first frame the largest first.
            mask_shares: share (0..1) of the frame's manipulation mask inside the box of each face; or empty.
            pts_seconds: presentation time of the frame, seconds.
        """
        self._open = [track for track in self._open if not self._is_away(track, pts_seconds)]
        claims: dict[int, tuple[float, _OpenTrack]] = {}
        for track in self._open:
            track.num_missed += 1
            distances = [track.distance_to(face) for face in faces]
            if not distances or min(distances) > track.max_distance:
                continue
            nearest = int(np.argmin(distances))
            if nearest not in claims or distances[nearest] < claims[nearest][0]:
                claims[nearest] = distances[nearest], track
        for number, face in enumerate(faces):
            overlap = mask_shares[number] if mask_shares else 0.0
            if number in claims:
                claims[number][1].take(frame_index, face, overlap, pts_seconds)
            else:
                opened = _OpenTrack(track_id=len(self._tracks), points=_points_of(face))
                opened.take(frame_index, face, overlap, pts_seconds)
                self._tracks.append(opened)
                self._open.append(opened)

    def _is_away(self, track: _OpenTrack, now_s: float) -> bool:
        """Return whether a person was missing in so many frames, and for so long, that the track ends."""
        limit = self._max_gap_s
        return limit is not None and track.num_missed >= LEAST_MISSED and now_s - track.seen_s > limit

    @property
    def num_tracks(self) -> int:
        """Number of people seen so far."""
        return len(self._tracks)

    @property
    def num_faces(self) -> int:
        """Number of faces seen so far, in all frames together."""
        return sum(len(track.faces) for track in self._tracks)

    def tracks(self) -> list[SeenTrack]:
        """Return all tracks in the order in which they were opened; of those from one frame, larger faces first."""
        return [SeenTrack(track=_as_track(opened), mask_overlap=opened.mask_overlap) for opened in self._tracks]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeenTrack:
    """The track of one person, without interpolated frames."""

    track: FaceTrack
    """Track with only the frames that show the face."""

    mask_overlap: float
    """Sum over frames of the share of the manipulation mask inside its box; 0 without masks."""


def _as_track(opened: _OpenTrack) -> FaceTrack:
    faces = opened.faces
    scores = [face.landmark_scores for face in faces if face.landmark_scores is not None]
    return FaceTrack(
        track_id=opened.track_id,
        frame_indices=np.array(opened.frame_indices, dtype=np.int64),
        boxes_xyxy=np.stack([face.box_xyxy for face in faces]),
        landmarks=np.stack([face.landmarks for face in faces]),
        scores=np.array([face.score for face in faces], dtype=np.float32),
        interpolated=np.zeros(len(faces), dtype=np.bool_),
        landmark_scores=np.stack(scores) if len(scores) == len(faces) else None,
        found_by=np.array([face.found_by for face in faces], dtype=np.uint8),
    )


def fill_gaps(track: FaceTrack, frame_indices: npt.NDArray[np.int64]) -> FaceTrack:
    """Return the track with one row for each of the (T,) frame_indices.

    Boxes and landmarks of frames without the face are interpolated linearly in frame number between its neighbours and
    held at the ends; those rows are flagged, with scores 0.
    """
    rows = np.searchsorted(track.frame_indices, frame_indices).clip(max=len(track) - 1)
    seen = track.frame_indices[rows] == frame_indices
    landmark_scores, found_by = track.landmark_scores, track.found_by
    return FaceTrack(
        track_id=track.track_id,
        frame_indices=frame_indices,
        boxes_xyxy=interpolated(track.boxes_xyxy, track.frame_indices, frame_indices).astype(np.float32),
        landmarks=interpolated(track.landmarks, track.frame_indices, frame_indices).astype(np.float32),
        scores=np.where(seen, track.scores[rows], np.float32(0)),
        interpolated=~seen | track.interpolated[rows],
        landmark_scores=None
        if landmark_scores is None
        else np.where(seen[:, None], landmark_scores[rows], np.float32(0)),
        found_by=None if found_by is None else np.where(seen, found_by[rows], np.uint8(FoundBy.NOT_FOUND)),
    )


def interpolated(
    values: npt.NDArray[np.float32], known_indices: npt.NDArray[np.int64], frame_indices: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return (N,…) values of N known frames at T frames, (T,…): linear in between, those of the ends beyond them."""
    columns = values.reshape(len(values), -1).T
    filled = np.empty((len(frame_indices), len(columns)), dtype=np.float64)
    for number, column in enumerate(columns):
        filled[:, number] = np.interp(frame_indices, known_indices, column)
    return filled.reshape(len(frame_indices), *values.shape[1:])


def mask_share(mask: npt.NDArray[np.uint8], box_xyxy: npt.NDArray[np.float32]) -> float:
    """Return the share (0..1) of an (H,W) uint8 mask's weight that lies inside a box; 0 for an empty mask."""
    total = int(mask.sum(dtype=np.int64))
    left, top, right, bottom = np.clip(np.rint(box_xyxy), 0, None).astype(int)
    return float(mask[top:bottom, left:right].sum(dtype=np.int64)) / total if total else 0.0


def _points_of(face: FaceDetection) -> npt.NDArray[np.float64]:
    """Box corners and landmarks of a face, (2+K,2) float64."""
    return np.concatenate([face.box_xyxy.reshape(2, 2), face.landmarks]).astype(np.float64)
