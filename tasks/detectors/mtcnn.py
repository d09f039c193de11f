"""MTCNN (Zhang et al., 2016) with the networks, weights and arithmetic of facenet-pytorch.

The boxes, scores and landmarks are those of `facenet_pytorch.MTCNN(keep_all=True).detect` at the same settings.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from manifests.errors import StageMissing, VideoRejected
from tasks.media import FaceDetection, FrameBatch, Reason, Stage
from tasks.models import NeedsNoModels


class MTCNNDetector(NeedsNoModels):
    """facenet-pytorch's MTCNN behind the detector contract; its weights ship inside that package.

    Args:
        min_face_px: smallest face looked for, pixels; 20 is facenet-pytorch's default.
        thresholds: lowest scores of P-Net, R-Net and O-Net.
        scale_factor: step of the scale pyramid.
        device: `cpu` or `cuda:N`; on a GPU a whole batch of frames goes through the networks at once.

    Raises:
        StageMissing: facenet-pytorch is not installed.
    """

    def __init__(
        self,
        min_face_px: int = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        scale_factor: float = 0.709,
        device: str = "cpu",
    ) -> None:
        self.require_models()
        from facenet_pytorch import MTCNN

        self._min_face_px = min_face_px
        # On a CPU batches of 4 and 8 frames cost 9–14 % more per frame than single ones (measured, 720p).
        self._batch_frames = device != "cpu"
        self._networks = MTCNN(
            keep_all=True,
            min_face_size=min_face_px,
            thresholds=list(thresholds),
            factor=scale_factor,
            device=device,
        )

    @classmethod
    def require_models(cls, weights_dir: Path | None = None) -> None:
        """Check that facenet-pytorch is installed.

        Raises:
            StageMissing: it is not.
        """
        if find_spec("facenet_pytorch") is None:
            raise StageMissing(
                "detector mtcnn: got no package facenet_pytorch, expected facenet-pytorch 2.5.3; pip install it"
            )

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        """Return the faces of each of the T frames, the largest box first.

        Raises:
            VideoRejected: the networks' own code fails on these frames.
        """
        if len(frames) == 0 or min(frames.data.shape[1:3]) < self._min_face_px:
            return [[] for _ in range(len(frames))]  # the pyramid would have no level, at which facenet-pytorch raises
        if self._batch_frames:
            return self._detect_batch(frames.data)
        return [faces for image in frames.data for faces in self._detect_batch(image[None])]

    def _detect_batch(self, images: np.ndarray) -> list[list[FaceDetection]]:
        """Run the three networks on (T,H,W,3) uint8 RGB images of one size."""
        try:
            found = self._networks.detect(images, landmarks=True)
        except (IndexError, ValueError) as error:
            detail = f"facenet-pytorch's MTCNN: got {error!r} on frames of shape {images.shape}"
            raise VideoRejected(Stage.DETECT, Reason.CRASHED, detail) from error
        return [_faces(boxes, scores, points) for boxes, scores, points in zip(*found, strict=True)]


def _faces(boxes: np.ndarray | None, scores: np.ndarray, points: np.ndarray | None) -> list[FaceDetection]:
    """Turn the object arrays of one frame into detections."""
    if boxes is None or points is None:
        return []
    return [
        FaceDetection(
            box_xyxy=np.asarray(box, dtype=np.float32),
            score=min(float(score), 1.0),  # a softmax in float32 can end one rounding step above 1
            landmarks=np.asarray(landmarks, dtype=np.float32),
        )
        for box, score, landmarks in zip(boxes, scores, points, strict=True)
    ]
