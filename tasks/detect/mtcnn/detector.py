"""Detector `mtcnn` (Zhang et al., 2016), with the networks, weights and arithmetic of facenet-pytorch.

Boxes, scores and landmarks of a full search equal those of `facenet_pytorch.MTCNN(keep_all=True).detect` at the same
settings, except for rounding in float32: IoU above 0.99999, no face lost or added. With `follow`, later frames are
searched near known faces: these get the same boxes, but a new person much smaller than the largest face is found later.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

from tasks.detect.detector import DetectorSettings, FaceDetector
from tasks.media import FaceDetection, FrameBatch


class MTCNNDetector(FaceDetector):
    """Detector `mtcnn`; its weights are part of the package facenet-pytorch.

    Args:
        min_face_px: smallest face searched for, pixels; 20 is facenet-pytorch's default.
        thresholds: lowest scores of P-Net, R-Net and O-Net.
        scale_factor: step of the scale pyramid.
        follow: search the first frame of each call in full, and later frames near the faces of earlier frames.
        device: `cpu` or `cuda:N`; on a GPU all frames of a call are searched together, in full.

    Raises:
        StageMissing: facenet-pytorch is not installed.
    """

    title: ClassVar[str] = "detector mtcnn"
    packages: ClassVar[Mapping[str, str]] = {"facenet_pytorch": "facenet-pytorch 2.5.3; pip install it"}
    uses_gpu: ClassVar[bool] = True
    sure_score = 0.99  # measured in tasks/video/turned.py

    def __init__(
        self,
        min_face_px: int = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        scale_factor: float = 0.709,
        follow: bool = False,
        device: str = "cpu",
    ) -> None:
        self.require_models(None)
        import torch

        from tasks.detect.mtcnn.cascade import Cascade

        self._min_face_px = min_face_px
        self._scale_factor = scale_factor
        self._follow = follow
        self._device = torch.device(device)
        self._cascade = Cascade(thresholds, self._device)

    @classmethod
    def from_settings(
        cls, settings: DetectorSettings, *, device: str, weights_dir: Path | None, lenience: float = 1.0
    ) -> Self:
        """Make a detector with all thresholds multiplied by `lenience`; it needs no weight file."""
        del weights_dir
        p_net, r_net, o_net = (threshold * lenience for threshold in settings.thresholds)
        return cls(
            min_face_px=settings.min_face_px,
            thresholds=(p_net, r_net, o_net),
            scale_factor=settings.scale_factor,
            follow=settings.search == "follow",
            device=device,
        )

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        """Return the faces of each of the T frames, the largest box first."""
        from tasks.detect.mtcnn.following import follow
        from tasks.detect.mtcnn.pictures import CpuSumTables, SumTables
        from tasks.detect.mtcnn.pyramid import levels_of, whole

        levels = levels_of(*frames.data.shape[1:3], self._min_face_px, self._scale_factor)
        if not len(frames) or not levels:
            return [[] for _ in range(len(frames))]
        windows = [whole(level) for level in levels]
        if self._device.type != "cpu":
            return self._cascade.search(SumTables(frames.data, self._device), windows)
        if self._follow:
            return follow(self._cascade, frames.data, levels)
        # One frame at a time, so that its data stay in the core's cache.
        singles = (CpuSumTables(frames.data[row : row + 1]) for row in range(len(frames)))
        return [self._cascade.search(tables, windows)[0] for tables in singles]
