"""Face finder: every face of each frame, with its landmarks, with the detector run on every n-th frame.

Detecting costs most. Where frames follow each other without a gap, and `every` is n, the detector looks at each n-th
of a batch, and at the first and last of them. In between, a face's box lies on the line between the two detections, and
the landmarks are measured there. The detector looks at a frame between, too, where the two visits do not show the same
people, or where landmarks are not where that person's may be by the tracker's own rule, or much less certain.
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
from tasks.track.tracker import MAX_SHIFT_DIAGONALS, FaceTracker

# A landmarker answers for any box. Where it is less than half as certain as in the frames where the face was detected,
# the face may have gone.
LEAST_CERTAINTY = 0.5


class FaceFinder:
    """A detector and a landmarker at work together.

    Args:
        detector: finds boxes.
        landmarker: places landmarks in them.
        every: the detector looks at every n-th frame of a batch.
        max_side_px: frames are shrunk to this long side before either looks at them; 0 does not shrink them.
        accepts: whether a face can be aligned; one that cannot is not seen.
    """

    def __init__(
        self,
        detector: FaceDetector,
        landmarker: Landmarker,
        every: int = 1,
        max_side_px: int = 0,
        accepts: Callable[[FaceDetection], bool] = lambda _: True,
    ) -> None:
        self._detector = detector
        self._landmarker = landmarker
        self._every = every
        self._max_side_px = max_side_px
        self._accepts = accepts

    def find(self, frames: FrameBatch) -> Faces:
        """Return the faces of each of the T frames with their landmarks, full-frame pixels."""
        looked_at, scale = shrunk(frames, self._max_side_px)
        if self._every == 1 or len(frames) < 2:
            found = self._landmarker.locate(looked_at, self._detector.detect(looked_at))
        else:
            found = self._find_sparsely(looked_at)
        if looked_at is not frames:
            found = [[enlarged(face, scale) for face in faces] for faces in found]
        return [[face for face in faces if self._accepts(face)] for faces in found]

    def _find_sparsely(self, frames: FrameBatch) -> Faces:
        """Detect in some frames, interpolate boxes between them, measure landmarks, and look again where they stray."""
        visited = visited_rows(frames.frame_indices, self._every)
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
        astray = [row for row in range(len(frames)) if row not in looked_at and not _steady(located, visited, row)]
        if astray:
            again = frames.rows(astray)
            for row, found in zip(astray, self._landmarker.locate(again, self._detector.detect(again)), strict=True):
                located[row] = found
        return located

    def _detect(self, frames: FrameBatch, rows: Sequence[int], faces: Faces) -> None:
        """Put into some rows what the detector finds there."""
        if rows:
            for row, found in zip(rows, self._detector.detect(frames.rows(rows)), strict=True):
                faces[row] = found


def visited_rows(frame_indices: npt.NDArray[np.int64], every: int) -> list[int]:
    """Return the rows of (T,) increasing frames that the detector looks at: every n-th, and both sides of each gap."""
    starts = np.diff(frame_indices, prepend=frame_indices[0] - 2) > 1
    ends = np.diff(frame_indices, append=frame_indices[-1] + 2) > 1
    return np.flatnonzero(starts | ends | (np.arange(len(frame_indices)) % every == 0)).tolist()


def shrunk(frames: FrameBatch, max_side_px: int) -> tuple[FrameBatch, npt.NDArray[np.float32]]:
    """Return the frames with at most this long side in pixels, bilinear, and the (2,) factors that undo it, x and y."""
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
    """Return the faces of the rows between two visits; None where the two do not show the same people."""
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


def _steady(located: Faces, visited: Sequence[int], row: int) -> bool:
    """Whether each face of a row between two visits has its landmarks where its box says that the person is."""
    before = max(place for place in visited if place < row)
    after = min(place for place in visited if place > row)
    references = [*located[before], *located[after]]
    return all(any(_same_person(face, reference) for reference in references) for face in located[row])


def _same_person(face: FaceDetection, reference: FaceDetection) -> bool:
    """Whether the landmarks, seen from the box, are where they are in a detected face, and about as certain."""
    diagonal = float(np.linalg.norm(face.box_xyxy[2:] - face.box_xyxy[:2]))
    inside, expected = (one.landmarks - (one.box_xyxy[:2] + one.box_xyxy[2:]) / 2 for one in (face, reference))
    if face.landmark_scores is not None and reference.landmark_scores is not None:
        certain = LEAST_CERTAINTY * float(reference.landmark_scores.mean())
        if float(face.landmark_scores.mean()) < certain:
            return False
    return float(np.linalg.norm(inside - expected, axis=1).mean()) <= MAX_SHIFT_DIAGONALS * diagonal
