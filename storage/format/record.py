"""`Record`: one frame (T = 1) or one clip (T > 1) of one face track, as stored."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

from storage.format.arrays import require_array
from storage.format.images import decode_gray, decode_rgb

# Reason why a person of the video was chosen: the manipulation mask overlaps it most; it is seen in the most frames; it
# stands where the original's main face stands. `bystander`: another person, stored because of `track.max_tracks`.
TrackChoice = Literal["mask", "longest", "original", "bystander"]

# Source of the masks: the dataset, or the difference between a fake and its original.
MaskSource = Literal["dataset", "difference"]

# Arrays that a record may lack, since the code or the landmarker that made it did not provide them.
OPTIONAL_ARRAYS = frozenset({"found_by", "landmark_scores"})


class FoundBy(IntEnum):
    """Method that found the face in a frame: the detector, a step of `frames.at_least`, its neighbours, or none."""

    DETECTOR = 0  # the detector, as configured
    LOWER_THRESHOLDS = 1  # the detector with lower thresholds
    SECOND_DETECTOR = 2  # another detector
    NEIGHBOURS = 3  # a search of an enlarged part of the frame, where neighbouring frames show the face
    BETWEEN = 4  # the box is interpolated between two detections; the landmarker ran in it
    NOT_FOUND = 5  # not found: box and landmarks are interpolated


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Record:
    """One stored frame or clip: identity, labels, encoded crops and the geometry that made them.

    Raises:
        TypeError: an array has another dtype than its field.
        ValueError: an array has another shape, or the numbers of crops and frames differ.
    """

    key: str
    """Unique in the store, ASCII, at most 511 bytes: `{video_id}/{track_id:02d}/{first frame index:06d}`."""

    video_id: str
    """Identity of the video, such as `ffpp/Deepfakes/c23/519_515`."""

    dataset: str
    """Name of the dataset."""

    manipulation: str | None
    """Name of the forgery; None for real."""

    compression: str | None
    """`raw`, `c23`, `c40` or None."""

    split: str
    """`train`, `val` or `test`."""

    label: int
    """0 real, 1 fake."""

    target_id: str
    """Identity of the footage."""

    source_id: str | None
    """Donor of the face; None for real."""

    group_id: str
    """Identity of the leakage group, which must not cross splits."""

    track_id: int
    """Number of the person in the video; 0 is the first track that was opened."""

    crops_encoded: tuple[bytes, ...]
    """T encoded RGB images of S×S pixels (JPEG, PNG or WebP)."""

    masks_encoded: tuple[bytes, ...] | None
    """T PNGs of S×S grey pixels, or None where there is no mask."""

    boxes_xyxy: npt.NDArray[np.float32]
    """(T,4) float32, pixels of the full frame: left, top, right, bottom."""

    landmarks: npt.NDArray[np.float32]
    """(T,K,2) float32 (x, y) in crop pixels, K = 5 or 68."""

    matrices: npt.NDArray[np.float64]
    """(T,2,3) float64, full-frame pixels → crop pixels."""

    frame_indices: npt.NDArray[np.int64]
    """(T,) int64, position in the whole video, display order, 0-based."""

    pts_seconds: npt.NDArray[np.float64]
    """(T,) float64, presentation time in seconds."""

    scores: npt.NDArray[np.float32]
    """(T,) float32, the detector's confidence 0..1; 0 where interpolated."""

    interpolated: npt.NDArray[np.bool_]
    """(T,) bool, whether box and landmarks come from neighbouring frames."""

    landmark_scores: npt.NDArray[np.float32] | None = None
    """(T,K) float32, the landmarker's confidence in each, about 0..1; 0 where interpolated; None if it has none."""

    found_by: npt.NDArray[np.uint8] | None = None
    """(T,) uint8, a FoundBy for each frame: the method that found the face."""

    track_choice: TrackChoice | None = None
    """Reason why this person was chosen: `mask`, `longest`, `original` (its main face), or `bystander`."""

    geometry_from: str | None = None
    """video_id of the original that boxes and landmarks come from; None if they are the video's own."""

    mask_source: MaskSource | None = None
    """Source of the masks: `dataset`, or `difference` from the original; None without masks."""

    content_digest: str
    """Hex SHA-256 of the files that were read: the video and its mask."""

    config_digest: str
    """Hex SHA-256 of the settings that made the bytes."""

    def __post_init__(self) -> None:
        """Check dtypes and shapes, which the type checker cannot see."""
        num_frames = len(self.crops_encoded)
        if num_frames == 0:
            raise ValueError(f"Record.crops_encoded of {self.key}: got no image, expected at least 1")
        if self.masks_encoded is not None and len(self.masks_encoded) != num_frames:
            raise ValueError(
                f"Record.masks_encoded of {self.key}: got {len(self.masks_encoded)}, expected {num_frames}"
            )
        if self.label not in (0, 1):
            raise ValueError(f"Record.label of {self.key}: got {self.label!r}, expected 0 (real) or 1 (fake)")
        for name, dtype, shape in (
            ("boxes_xyxy", np.float32, (num_frames, 4)),
            ("landmarks", np.float32, (num_frames, None, 2)),
            ("matrices", np.float64, (num_frames, 2, 3)),
            ("frame_indices", np.int64, (num_frames,)),
            ("pts_seconds", np.float64, (num_frames,)),
            ("scores", np.float32, (num_frames,)),
            ("interpolated", np.bool_, (num_frames,)),
            ("landmark_scores", np.float32, self.landmarks.shape[:2]),
            ("found_by", np.uint8, (num_frames,)),
        ):
            if getattr(self, name) is not None or name not in OPTIONAL_ARRAYS:
                require_array("Record", name, getattr(self, name), dtype, shape)

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.crops_encoded)

    @property
    def crops(self) -> npt.NDArray[np.uint8]:
        """(T,S,S,3) uint8 RGB, decoded at each access: keep the result if you need it twice."""
        return np.stack([decode_rgb(data) for data in self.crops_encoded])

    @property
    def masks(self) -> npt.NDArray[np.uint8] | None:
        """(T,S,S) uint8, 255 where manipulated, or None; decoded at each access."""
        if self.masks_encoded is None:
            return None
        return np.stack([decode_gray(data) for data in self.masks_encoded])
