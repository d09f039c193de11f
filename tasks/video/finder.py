"""Face finder: detects the faces of each frame with their landmarks; the detector may run on every n-th frame only.

Detection is the most expensive stage. If frames follow each other without a gap, and `every` is n, the detector runs
on each n-th frame of a batch, and on the first and last. For the frames in between, boxes are interpolated, and the
landmarker runs in these boxes. The detector runs on a frame in between as well if
- the two detections around it do not show the same people,
- the picture jumps to or from it, as at a cut,
- its landmarks are farther from where they should be in the box than the tracker allows for the same person, or
- the scores of its landmarks are much lower than in the frames where the face was detected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from tasks.detect.detector import FaceDetector
from tasks.landmarks.landmarker import Landmarker
from tasks.media import FaceDetection, Faces, FoundBy, FrameBatch
from tasks.track.cuts import difference, thumbnail
from tasks.track.tracker import MAX_SHIFT_DIAGONALS, FaceTracker

# A landmarker returns landmarks for any box, even without a face. If their mean score is less than half of that in a
# frame where the face was detected, the face may be gone.
LEAST_SCORE_RATIO = 0.5


class FaceFinder:
    """Face finder: a detector and a landmarker together.

    Args:
        detector: finds boxes.
        landmarker: finds landmarks in the boxes.
        every: the detector runs on every n-th frame of a batch.
        max_side_px: longer side that frames are shrunk to before detector and landmarker; 0: no shrinking.
        accepts: returns whether a face can be aligned; other faces are ignored.
        cut_threshold: difference of two frames from which there may be a cut between them; 0: never.
    """

    def __init__(
        self,
        detector: FaceDetector,
        landmarker: Landmarker,
        every: int = 1,
        max_side_px: int = 0,
        accepts: Callable[[FaceDetection], bool] = lambda _: True,
        cut_threshold: float = 0.0,
    ) -> None:
        self.detector = detector
        self._landmarker = landmarker
        self._every = every
        self._max_side_px = max_side_px
        self._accepts = accepts
        self._cut_threshold = cut_threshold

    def find(self, frames: FrameBatch) -> Faces:
        """Return the faces of each of the T frames with their landmarks, full-frame pixels."""
        looked_at, scale = shrunk(frames, self._max_side_px)
        if self._every == 1 or len(frames) < 2:
            found = self._landmarker.locate(looked_at, self.detector.detect(looked_at))
        else:
            found = self._find_sparsely(looked_at)
        if looked_at is not frames:
            found = [[enlarged(face, scale) for face in faces] for faces in found]
        return [[face for face in faces if self._accepts(face)] for faces in found]

    def _find_sparsely(self, frames: FrameBatch) -> Faces:
        """Detect in some frames, interpolate boxes between them, locate landmarks, and detect where the checks fail."""
        visited = visited_rows(frames.frame_indices, self._every, self._jumps(frames))
        faces: Faces = [[] for _ in range(len(frames))]
        self._detect(frames, visited, faces)
        unclear: list[int] = []
        for first, last in pairwise(visited):
            between = _between(first, last, faces[first], faces[last])
            if between is None:
                unclear += range(first + 1, last)
            else:
                faces[first + 1 : last] = between
        self._detect(frames, unclear, faces)
        located = self._landmarker.locate(frames, faces)
        looked_at = {*visited, *unclear}
        unsteady = [row for row in range(len(frames)) if row not in looked_at and not _is_steady(located, visited, row)]
        if unsteady:
            again = frames.rows(unsteady)
            for row, found in zip(unsteady, self._landmarker.locate(again, self.detector.detect(again)), strict=True):
                located[row] = found
        return located

    def _jumps(self, frames: FrameBatch) -> npt.NDArray[np.bool_]:
        """Return for each of the T frames whether there may be a cut between it and the frame before, (T,) bool."""
        if not self._cut_threshold:
            return np.zeros(len(frames), dtype=np.bool_)
        pictures = [thumbnail(image) for image in frames.data]
        return np.array([False, *(difference(*pair) >= self._cut_threshold for pair in pairwise(pictures))])

    def _detect(self, frames: FrameBatch, rows: Sequence[int], faces: Faces) -> None:
        """Set the faces of some rows to those that the detector finds there."""
        if rows:
            for row, found in zip(rows, self.detector.detect(frames.rows(rows)), strict=True):
                faces[row] = found


def visited_rows(frame_indices: npt.NDArray[np.int64], every: int, jumps: npt.NDArray[np.bool_]) -> list[int]:
    """Return the rows that the detector runs on: every n-th, and both sides of each gap and jump.

    Args:
        frame_indices: (T,) the frames, increasing.
        every: distance between two rows without a gap or jump.
        jumps: (T,) whether there may be a cut between a frame and the one before.
    """
    starts = (np.diff(frame_indices, prepend=frame_indices[0] - 2) > 1) | jumps
    ends = np.append(starts[1:], True)
    return np.flatnonzero(starts | ends | (np.arange(len(frame_indices)) % every == 0)).tolist()


def shrunk(frames: FrameBatch, max_side_px: int) -> tuple[FrameBatch, npt.NDArray[np.float32]]:
    """Return frames shrunk to at most this longer side, bilinear, and the (2,) factors in x and y that undo it."""
    height, width = frames.data.shape[1:3]
    if not max_side_px or max(height, width) <= max_side_px:
        return frames, np.ones(2, dtype=np.float32)
    scale = max_side_px / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    data = np.stack([cv2.resize(image, size, interpolation=cv2.INTER_LINEAR) for image in frames.data])
    factors = np.array([width / size[0], height / size[1]], dtype=np.float32)
    return replace(frames, data=data.astype(np.uint8, copy=False)), factors


def enlarged(face: FaceDetection, factors: npt.NDArray[np.float32]) -> FaceDetection:
    """Return a face with its x and y multiplied by (2,) factors."""
    return replace(face, box_xyxy=face.box_xyxy * np.tile(factors, 2), landmarks=face.landmarks * factors)


def _between(first: int, last: int, before: Sequence[FaceDetection], after: Sequence[FaceDetection]) -> Faces | None:
    """Return the faces of the rows between two detections; None if the two do not show the same people."""
    tracker = FaceTracker()
    for row, found in ((first, before), (last, after)):
        tracker.add(row, [replace(face, landmarks=_NO_LANDMARKS, landmark_scores=None) for face in found])
    people = [person.track for person in tracker.tracks()]
    if any(len(track) < 2 for track in people):
        return None
    rows: Faces = []
    for row in range(first + 1, last):
        share = np.float32((row - first) / (last - first))
        rows.append(
            [
                FaceDetection(
                    box_xyxy=(1 - share) * track.boxes_xyxy[0] + share * track.boxes_xyxy[1],
                    score=float(track.scores.min()),
                    landmarks=_NO_LANDMARKS,
                    found_by=FoundBy.BETWEEN,
                )
                for track in people
            ]
        )
    return rows


_NO_LANDMARKS: npt.NDArray[np.float32] = np.empty((0, 2), dtype=np.float32)


def _is_steady(located: Faces, visited: Sequence[int], row: int) -> bool:
    """Return whether each interpolated face of a row agrees with a detected face of the row before or after it."""
    before = max(place for place in visited if place < row)
    after = min(place for place in visited if place > row)
    references = [*located[before], *located[after]]
    return all(any(_agrees(face, reference) for reference in references) for face in located[row])


def _agrees(face: FaceDetection, reference: FaceDetection) -> bool:
    """Return whether landmarks, relative to the box, are close to those of a detected face, with similar scores."""
    diagonal = float(np.linalg.norm(face.box_xyxy[2:] - face.box_xyxy[:2]))
    inside, expected = (one.landmarks - (one.box_xyxy[:2] + one.box_xyxy[2:]) / 2 for one in (face, reference))
    if face.landmark_scores is not None and reference.landmark_scores is not None:
        least_score = LEAST_SCORE_RATIO * float(reference.landmark_scores.mean())
        if float(face.landmark_scores.mean()) < least_score:
            return False
    return float(np.linalg.norm(inside - expected, axis=1).mean()) <= MAX_SHIFT_DIAGONALS * diagonal
