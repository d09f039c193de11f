"""The types that flow between the stages of one video.

    VideoEntry ──decode──► FrameBatch ──detect──► FaceDetection ──track──► FaceTrack ──align──► AlignedClip

Each is checked when it is made, so a stage can trust its input. `Rejected` is re-exported from the
manifest, which records it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.rejected import Reason, Rejected, Stage
from storage.format.arrays import require_array
from storage.format.record import FoundBy

__all__ = [
    "AlignedClip",
    "FaceDetection",
    "FaceTrack",
    "Faces",
    "FoundBy",
    "FrameBatch",
    "MaskBatch",
    "Reason",
    "Rejected",
    "Stage",
]

FRAMES_PER_BATCH = 32  # frames that are decoded, searched and aligned together
NUM_DETECTOR_LANDMARKS = 5  # left eye, right eye, nose, left and right mouth corner, as seen in the image
NUM_IBUG_LANDMARKS = 68  # the order of iBUG's 300-W: jaw 0–16, brows –26, nose –35, eyes –47, mouth –67
NUM_LANDMARKS_ALLOWED = (0, NUM_DETECTOR_LANDMARKS, NUM_IBUG_LANDMARKS)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameBatch:
    """Some frames of one video, in display order."""

    data: npt.NDArray[np.uint8]
    """(T,H,W,3) uint8 RGB."""

    frame_indices: npt.NDArray[np.int64]
    """(T,) int64 in the whole video, 0-based, increasing."""

    pts_seconds: npt.NDArray[np.float64]
    """(T,) float64 presentation time in seconds."""

    num_decode_failures: int = 0
    """Number of requested frames that are missing; a strict decoder raises instead."""

    def __post_init__(self) -> None:
        """Check dtypes and shapes, which the type checker cannot see."""
        num_frames = len(self.frame_indices)
        require_array("FrameBatch", "data", self.data, np.uint8, (num_frames, None, None, 3))
        require_array("FrameBatch", "frame_indices", self.frame_indices, np.int64, (num_frames,))
        require_array("FrameBatch", "pts_seconds", self.pts_seconds, np.float64, (num_frames,))

    def __len__(self) -> int:
        """T."""
        return len(self.frame_indices)

    def rows(self, which: slice | Sequence[int] | npt.NDArray[np.int64]) -> FrameBatch:
        """Return some rows; those of a slice are views."""
        return FrameBatch(
            data=self.data[which], frame_indices=self.frame_indices[which], pts_seconds=self.pts_seconds[which]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskBatch:
    """The masks of some frames."""

    data: npt.NDArray[np.uint8]
    """(T,H,W) uint8, 255 where manipulated, 0 where there is no mask."""

    is_present: npt.NDArray[np.bool_]
    """(T,) bool, False after the end of the mask video."""

    def __post_init__(self) -> None:
        """Check dtypes and shapes, which the type checker cannot see."""
        require_array("MaskBatch", "data", self.data, np.uint8, (len(self.is_present), None, None))
        require_array("MaskBatch", "is_present", self.is_present, np.bool_, (len(self.data),))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceDetection:
    """One face in one frame."""

    box_xyxy: npt.NDArray[np.float32]
    """(4,) float32 left, top, right, bottom in pixels of the full frame; may cross its border."""

    score: float
    """The detector's confidence, 0..1."""

    landmarks: npt.NDArray[np.float32]
    """(K,2) float32 (x, y) pixels of the full frame. K = 5: left eye, right eye, nose, mouth corners, as seen in the
    image; K = 68: iBUG's order; K = 0 from a detector that returns only boxes.
    """

    landmark_scores: npt.NDArray[np.float32] | None = None
    """(K,) float32, the landmarker's confidence in each, about 0..1; None if it has none."""

    found_by: FoundBy = FoundBy.DETECTOR
    """Method that found it."""

    def __post_init__(self) -> None:
        """Check dtypes and shapes, which the type checker cannot see."""
        require_array("FaceDetection", "box_xyxy", self.box_xyxy, np.float32, (4,))
        require_array("FaceDetection", "landmarks", self.landmarks, np.float32, (None, 2))
        if len(self.landmarks) not in NUM_LANDMARKS_ALLOWED:
            raise ValueError(
                f"FaceDetection.landmarks: got shape {self.landmarks.shape}, expected (5, 2), (68, 2) or (0, 2)"
            )
        if self.landmark_scores is not None:
            shape = (len(self.landmarks),)
            require_array("FaceDetection", "landmark_scores", self.landmark_scores, np.float32, shape)
        if not 0.0 <= self.score <= 1.0:
            raise ValueError(f"FaceDetection.score: got {self.score}, expected 0..1")


Faces = list[list[FaceDetection]]  # of each frame


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FaceTrack:
    """One person through the sampled frames of one video."""

    track_id: int
    """Order in which the track was opened, 0 first."""

    frame_indices: npt.NDArray[np.int64]
    """(T,) int64 in the whole video, increasing."""

    boxes_xyxy: npt.NDArray[np.float32]
    """(T,4) float32 pixels of the full frame."""

    landmarks: npt.NDArray[np.float32]
    """(T,K,2) float32 (x, y) pixels of the full frame, K = 5 or 68."""

    scores: npt.NDArray[np.float32]
    """(T,) float32 0..1; 0 where interpolated."""

    interpolated: npt.NDArray[np.bool_]
    """(T,) bool, whether the frame showed no face of this track."""

    landmark_scores: npt.NDArray[np.float32] | None = None
    """(T,K) float32, the landmarker's confidence in each, 0 where interpolated; None if it has none."""

    found_by: npt.NDArray[np.uint8] | None = None
    """(T,) uint8, a FoundBy for each row; None if it was not recorded."""

    def __post_init__(self) -> None:
        """Check dtypes and shapes, which the type checker cannot see."""
        num_frames = len(self.frame_indices)
        require_array("FaceTrack", "frame_indices", self.frame_indices, np.int64, (num_frames,))
        require_array("FaceTrack", "boxes_xyxy", self.boxes_xyxy, np.float32, (num_frames, 4))
        require_array("FaceTrack", "landmarks", self.landmarks, np.float32, (num_frames, None, 2))
        require_array("FaceTrack", "scores", self.scores, np.float32, (num_frames,))
        require_array("FaceTrack", "interpolated", self.interpolated, np.bool_, (num_frames,))
        if self.landmark_scores is not None:
            shape = self.landmarks.shape[:2]
            require_array("FaceTrack", "landmark_scores", self.landmark_scores, np.float32, shape)
        if self.found_by is not None:
            require_array("FaceTrack", "found_by", self.found_by, np.uint8, (num_frames,))

    def __len__(self) -> int:
        """T."""
        return len(self.frame_indices)

    def rows_at(self, frame_indices: npt.NDArray[np.int64]) -> FaceTrack:
        """Return the rows of exactly these (T,) frames, in their order.

        Raises:
            ValueError: the track has no row for one of them.
        """
        rows = np.searchsorted(self.frame_indices, frame_indices).clip(max=len(self) - 1)
        if not np.array_equal(self.frame_indices[rows], frame_indices):
            missing = sorted(set(frame_indices.tolist()) - set(self.frame_indices.tolist()))
            raise ValueError(f"FaceTrack.rows_at: got frames {missing[:5]} without a row, expected sampled frames only")
        return FaceTrack(
            track_id=self.track_id,
            frame_indices=self.frame_indices[rows],
            boxes_xyxy=self.boxes_xyxy[rows],
            landmarks=self.landmarks[rows],
            scores=self.scores[rows],
            interpolated=self.interpolated[rows],
            landmark_scores=None if self.landmark_scores is None else self.landmark_scores[rows],
            found_by=None if self.found_by is None else self.found_by[rows],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AlignedClip:
    """The crops of one track."""

    crops: npt.NDArray[np.uint8]
    """(T,S,S,3) uint8 RGB."""

    matrices: npt.NDArray[np.float64]
    """(T,2,3) float64, full-frame pixels → crop pixels."""

    landmarks: npt.NDArray[np.float32]
    """(T,K,2) float32 (x, y) in crop pixels."""

    masks: npt.NDArray[np.uint8] | None = None
    """(T,S,S) uint8, 255 where manipulated; None where there is no mask."""

    frame_indices: npt.NDArray[np.int64]
    """(T,) int64 in the whole video."""

    pts_seconds: npt.NDArray[np.float64]
    """(T,) float64 presentation time in seconds."""

    interpolated: npt.NDArray[np.bool_] | None = None
    """(T,) bool, whether landmarks come from neighbouring frames; None: as in the track."""

    def __post_init__(self) -> None:
        """Check dtypes and shapes, which the type checker cannot see."""
        num_frames = len(self.frame_indices)
        require_array("AlignedClip", "crops", self.crops, np.uint8, (num_frames, None, None, 3))
        require_array("AlignedClip", "matrices", self.matrices, np.float64, (num_frames, 2, 3))
        require_array("AlignedClip", "landmarks", self.landmarks, np.float32, (num_frames, None, 2))
        require_array("AlignedClip", "frame_indices", self.frame_indices, np.int64, (num_frames,))
        require_array("AlignedClip", "pts_seconds", self.pts_seconds, np.float64, (num_frames,))
        if self.masks is not None:
            require_array("AlignedClip", "masks", self.masks, np.uint8, self.crops.shape[:3])
        if self.interpolated is not None:
            require_array("AlignedClip", "interpolated", self.interpolated, np.bool_, (num_frames,))
