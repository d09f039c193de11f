"""Faces in single frames → people through time, and which of them the video is about.

The motion rule is that of DFD-FCG's `crop_main_face.py` (CVPR 2025): each track keeps an exponential average of its box
corners and landmarks, takes the nearest face of the next frame unless that is too far, and of two tracks that claim one
face the nearer wins. The biggest box per frame would follow a picture on the wall or a passer-by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tasks.media import FaceDetection, FaceTrack

EMA_WEIGHT = 0.5  # share of the newest face in a track's average
MAX_JUMP_DIAGONALS = (
    0.65 * 2
)  # farthest match: this many diagonals of the averaged box (0.65 for corners and landmarks each)


@dataclass(slots=True, kw_only=True)
class _OpenTrack:
    """A track while it grows."""

    track_id: int
    points: npt.NDArray[np.float64]  # (2+K,2) averaged box corners, then landmarks, full-frame pixels
    frame_indices: list[int] = field(default_factory=list)
    faces: list[FaceDetection] = field(default_factory=list)
    mask_overlap: float = 0.0  # sum over frames of the share of the manipulation mask inside the box

    def distance_to(self, face: FaceDetection) -> float:
        """Mean distance of the corners plus mean distance of the landmarks, pixels."""
        distances = np.linalg.norm(_points_of(face) - self.points, axis=1)
        return float(distances[:2].mean() + distances[2:].mean())

    @property
    def max_distance(self) -> float:
        """Farthest match that is still the same person, pixels."""
        return MAX_JUMP_DIAGONALS * float(np.linalg.norm(self.points[1] - self.points[0]))

    def take(self, frame_index: int, face: FaceDetection, overlap: float) -> None:
        """Add the face of one more frame."""
        self.points = (1 - EMA_WEIGHT) * self.points + EMA_WEIGHT * _points_of(face)
        self.frame_indices.append(frame_index)
        self.faces.append(face)
        self.mask_overlap += overlap


class FaceTracker:
    """Ties the faces of successive frames together. Feed it frames in order, then ask for the main face."""

    def __init__(self) -> None:
        self._tracks: list[_OpenTrack] = []

    def add(self, frame_index: int, faces: Sequence[FaceDetection], mask: npt.NDArray[np.uint8] | None = None) -> None:
        """Give each face of a frame to the track it continues, or open a track for it.

        Args:
            frame_index: position in the whole video.
            faces: the frame's faces in full-frame pixels, the largest first.
            mask: (H,W) uint8 manipulation mask of the frame, or None.
        """
        claims: dict[int, tuple[float, _OpenTrack]] = {}
        for track in self._tracks:
            distances = [track.distance_to(face) for face in faces]
            if not distances or min(distances) > track.max_distance:
                continue
            nearest = int(np.argmin(distances))
            if nearest not in claims or distances[nearest] < claims[nearest][0]:
                claims[nearest] = distances[nearest], track
        for number, face in enumerate(faces):
            overlap = mask_share(mask, face.box_xyxy) if mask is not None else 0.0
            if number in claims:
                claims[number][1].take(frame_index, face, overlap)
            else:
                opened = _OpenTrack(track_id=len(self._tracks), points=_points_of(face))
                opened.take(frame_index, face, overlap)
                self._tracks.append(opened)

    @property
    def num_tracks(self) -> int:
        """People seen so far."""
        return len(self._tracks)

    @property
    def num_faces(self) -> int:
        """Faces seen so far, in all frames together."""
        return sum(len(track.faces) for track in self._tracks)

    def main_track(self) -> FaceTrack | None:
        """Return the track that the manipulation masks overlap most, or else the longest; None without any face.

        The track holds only the frames that show its face. On ties the earlier track wins, which is the larger face
        of the first frame.
        """
        if not self._tracks:
            return None
        best = max(self._tracks, key=lambda track: (track.mask_overlap, len(track.faces), -track.track_id))
        return FaceTrack(
            track_id=best.track_id,
            frame_indices=np.array(best.frame_indices, dtype=np.int64),
            boxes_xyxy=np.stack([face.box_xyxy for face in best.faces]),
            landmarks=np.stack([face.landmarks for face in best.faces]),
            scores=np.array([face.score for face in best.faces], dtype=np.float32),
            interpolated=np.zeros(len(best.faces), dtype=np.bool_),
        )


def fill_gaps(track: FaceTrack, frame_indices: npt.NDArray[np.int64]) -> FaceTrack:
    """Return the track with one row for each of the (T,) frame_indices.

    Boxes and landmarks of frames without the face are interpolated linearly in frame number between its neighbours and
    held at the ends; those rows are flagged, with score 0.
    """
    rows = np.searchsorted(track.frame_indices, frame_indices).clip(max=len(track) - 1)
    seen = track.frame_indices[rows] == frame_indices

    def filled(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        columns = values.reshape(len(track), -1).T
        interpolated = [np.interp(frame_indices, track.frame_indices, column) for column in columns]
        return np.stack(interpolated, axis=1, dtype=np.float32, casting="same_kind").reshape(-1, *values.shape[1:])

    return FaceTrack(
        track_id=track.track_id,
        frame_indices=frame_indices,
        boxes_xyxy=filled(track.boxes_xyxy),
        landmarks=filled(track.landmarks),
        scores=np.where(seen, track.scores[rows], np.float32(0)),
        interpolated=~seen,
    )


def mask_share(mask: npt.NDArray[np.uint8], box_xyxy: npt.NDArray[np.float32]) -> float:
    """Return the share (0..1) of an (H,W) uint8 mask's weight that lies inside a box; 0 for an empty mask."""
    total = int(mask.sum(dtype=np.int64))
    left, top, right, bottom = np.clip(np.rint(box_xyxy), 0, None).astype(int)
    return float(mask[top:bottom, left:right].sum(dtype=np.int64)) / total if total else 0.0


def _points_of(face: FaceDetection) -> npt.NDArray[np.float64]:
    """Box corners and landmarks of a face, (2+K,2) float64."""
    return np.concatenate([face.box_xyxy.reshape(2, 2), face.landmarks]).astype(np.float64)
