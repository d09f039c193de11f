"""Five-point alignment: map eyes, nose and mouth corners onto the positions of a named template."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError, VideoRejected
from tasks.align.aligner import Aligner, AlignerSettings
from tasks.align.warp import warp_clip
from tasks.media import (
    NUM_DETECTOR_LANDMARKS,
    NUM_IBUG_LANDMARKS,
    AlignedClip,
    FaceDetection,
    FaceTrack,
    FrameBatch,
    Reason,
    Stage,
)

# (5,2) landmark places as shares of the template's side; the order is that of FaceDetection.landmarks.
TEMPLATES: dict[str, npt.NDArray[np.float64]] = {
    # ArcFace's points in a 112×112 crop (Deng et al., CVPR 2019; `arcface_dst` in InsightFace's face_align.py).
    "arcface": np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    / 112,
}


class FivePointAligner(Aligner):
    """Least-squares similarity (Umeyama, 1991) from five landmarks onto a template.

    Args:
        size_px: side S of the crop, pixels.
        margin: side of the crop divided by the side of the template; 1.0 cuts exactly as the template's authors do.
        template: a name in TEMPLATES.

    Raises:
        ConfigError: an unknown template.
    """

    num_landmarks: ClassVar[tuple[int, ...]] = (NUM_DETECTOR_LANDMARKS, NUM_IBUG_LANDMARKS)

    def __init__(self, size_px: int = 224, margin: float = 1.3, template: str = "arcface") -> None:
        if template not in TEMPLATES:
            raise ConfigError(f"crop.template: got {template!r}, expected one of {list(TEMPLATES)}")
        self._size_px = size_px
        # The template's centre stays the crop's centre. Shares of a side become coordinates of pixel centres.
        self._target = ((TEMPLATES[template] - 0.5) / margin + 0.5) * size_px - 0.5

    @classmethod
    def from_settings(cls, settings: AlignerSettings) -> Self:
        """Make an aligner with the settings' size, margin and template."""
        return cls(settings.size_px, settings.margin, settings.template)

    def accepts(self, face: FaceDetection) -> bool:
        """Return whether a similarity maps the landmarks onto the template."""
        return self._similarity(face.landmarks) is not None

    def align(self, frames: FrameBatch, track: FaceTrack, masks: npt.NDArray[np.uint8] | None = None) -> AlignedClip:
        """Return the (T,S,S,3) crops of the rows that `frames` covers.

        Raises:
            VideoRejected: no similarity maps the landmarks onto the template.
            ConfigError: the landmarks are neither 5 nor 68.
        """
        rows = track.rows_at(frames.frame_indices)
        matrices = np.stack([self._matrix(points) for points in rows.landmarks])
        return warp_clip(frames, rows, matrices, self._size_px, masks)

    def _matrix(self, landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the (2,3) float64 least-squares similarity of (5,2) or (68,2) full-frame pixels and the template."""
        matrix = self._similarity(landmarks)
        if matrix is None:
            detail = f"landmarks: got {landmarks.tolist()}, which no similarity maps onto the template"
            raise VideoRejected(Stage.CROP, Reason.DEGENERATE_GEOMETRY, detail)
        return matrix

    def _similarity(self, landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float64] | None:
        from skimage.transform import SimilarityTransform

        similarity = SimilarityTransform.from_estimate(five_points(landmarks), self._target)
        if not similarity or not np.isfinite(similarity.params).all():
            return None
        matrix: npt.NDArray[np.float64] = similarity.params[:2]
        return matrix


def five_points(landmarks: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return (5,2) eyes, nose and mouth corners from 5 or 68 landmarks; of 68, an eye is the mean of its outline.

    Raises:
        ConfigError: the landmarks are neither 5 nor 68.
    """
    points = landmarks.astype(np.float64)
    if len(points) == NUM_DETECTOR_LANDMARKS:
        return points
    if len(points) != NUM_IBUG_LANDMARKS:
        raise ConfigError(f"crop.kind five_point: got {len(points)} landmarks, expected 5 or 68")
    return np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0), points[30], points[48], points[54]])
