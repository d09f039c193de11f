"""S3FD (Zhang et al., 2017) with the network, weights and arithmetic of face-alignment.

The boxes and scores equal those of `face_alignment.detection.sfd.FaceDetector(…).detect_from_image`. The library
processes candidates one by one in Python; here all candidates of a batch of frames are processed at once, with the
library's own `decode` and `nms`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tasks.detect.detector import DetectorSettings, FaceDetector
from tasks.media import FaceDetection, FrameBatch
from tasks.models.face_alignment import PACKAGES, load_network, upload

if TYPE_CHECKING:
    from torch import Tensor

# face_alignment/detection/sfd/detect.py and sfd_detector.py, 1.5.0.
MEANS_BGR = (104.0, 117.0, 123.0)  # subtracted from 8-bit colours
STRIDES_PX = (4, 8, 16, 32, 64, 128)  # of the six output maps
ANCHOR_STRIDES = 4  # an anchor's side, in strides
VARIANCES = (0.1, 0.2)  # of the offsets of centre and size
MIN_CANDIDATE_SCORE = 0.05
NMS_IOU = 0.3

# Five poolings halve a frame, rounding down: the network fails if no pixel is left.
MIN_FRAME_SIDE_PX = 32

# Pixels in one call of the network on a GPU: 16 frames of 720p, for which the first layer returns 64 channels × 2 bytes
# a pixel, 1.8 GiB. On a CPU, 2 and 4 frames cost 1 and 7 % more per frame than single ones (measured, 360p).
BATCH_PIXELS_CUDA = 16 * 1280 * 720


class S3FDDetector(FaceDetector):
    """Detector `s3fd`, the S3FD of face-alignment: boxes and scores, no landmarks.

    On a GPU the network runs in float16, and in float32 for frames whose values exceed the range of float16.

    Args:
        threshold: score that a face must exceed, 0..1; 0.5 is face-alignment's default.
        device: `cpu` or `cuda:N`; on a GPU several frames go through the network at once.
        weights_dir: folder that is searched first for weight files; see `tasks/models/weights.py`.

    Raises:
        StageMissing: face-alignment or the weight file is missing, or the file does not fit.
    """

    title: ClassVar[str] = "detector s3fd"
    packages: ClassVar[Mapping[str, str]] = PACKAGES
    weights: ClassVar[tuple[str, ...]] = ("s3fd",)
    uses_gpu: ClassVar[bool] = True
    gives_landmarks: ClassVar[bool] = False
    bytes_per_pixel: ClassVar[int] = 2 * 64 * 4 + 12  # input and output of the second layer, float32; picture

    def __init__(self, *, threshold: float = 0.5, device: str = "cpu", weights_dir: Path | None = None) -> None:
        self.require_models(weights_dir)
        import torch
        from face_alignment.detection.sfd.net_s3fd import s3fd

        self._threshold = threshold
        self._device = torch.device(device)
        self._in_half = self._device.type == "cuda"
        self._network = load_network(s3fd(), self.weights[0], weights_dir, self._device)

    @classmethod
    def from_settings(
        cls, settings: DetectorSettings, *, device: str, weights_dir: Path | None, lenience: float = 1.0
    ) -> Self:
        """Make a detector whose threshold is multiplied by `lenience`."""
        return cls(threshold=settings.s3fd_threshold * lenience, device=device, weights_dir=weights_dir)

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        """Return the faces of each of the T frames, the largest box first; their landmarks are (0,2)."""
        num_frames, height, width, _ = frames.data.shape
        if min(height, width) < MIN_FRAME_SIDE_PX:
            return [[] for _ in range(num_frames)]
        step = max(1, BATCH_PIXELS_CUDA // (height * width)) if self._device.type == "cuda" else 1
        batches = (frames.data[start : start + step] for start in range(0, num_frames, step))
        return [faces for images in batches for faces in self._detect_batch(images)]

    def _detect_batch(self, images: npt.NDArray[np.uint8]) -> list[list[FaceDetection]]:
        """Find the faces of (B,H,W,3) uint8 RGB images."""
        import torch

        with torch.inference_mode():
            batch = upload(images, self._device).flip(1) - torch.tensor(MEANS_BGR, device=self._device).view(1, 3, 1, 1)
            maps = self._maps(batch)
            map_sizes = [tuple(scores.shape[-2:]) for scores in maps[::2]]
            # (B,P) and (B,P,4) float32, P the positions in all six maps, row after row
            scores = torch.cat([logits.float().softmax(1)[:, 1].flatten(1) for logits in maps[::2]], 1)
            offsets = torch.cat([values.float().flatten(2) for values in maps[1::2]], 2).transpose(1, 2)
            image_numbers, places = torch.where(scores > MIN_CANDIDATE_SCORE)
            found = [image_numbers, places, scores[image_numbers, places], offsets[image_numbers, places]]
        return self._faces(len(images), map_sizes, *(values.cpu().numpy() for values in found))

    def _maps(self, batch: Tensor) -> list[Tensor]:
        """Run the network: logits (B,2,h,w) and offsets (B,4,h,w) of each stride in turn."""
        import torch

        if self._in_half:
            with torch.autocast(self._device.type, dtype=torch.float16):
                maps: list[Tensor] = self._network(batch)
            if all(bool(values.isfinite().all()) for values in maps):
                return maps
            # The network's activations are not normalised. Above 65504 they would turn into scores of NaN, and faces
            # would be lost silently.
        return list(self._network(batch))

    def _faces(
        self,
        num_images: int,
        map_sizes: Sequence[tuple[int, ...]],
        image_numbers: npt.NDArray[np.int64],
        places: npt.NDArray[np.int64],
        scores: npt.NDArray[np.float32],
        offsets: npt.NDArray[np.float32],
    ) -> list[list[FaceDetection]]:
        """Decode the N candidates of all images, and suppress those that overlap a better one of their image."""
        from face_alignment.detection.sfd.bbox import decode

        boxes = decode(offsets, anchors(places, map_sizes), VARIANCES)
        ends = np.searchsorted(image_numbers, np.arange(num_images + 1))
        faces: list[list[FaceDetection]] = []
        for start, stop in pairwise(ends):
            mine = slice(int(start), int(stop))
            kept = start + suppress(boxes[mine], scores[mine], self._threshold)
            areas = np.prod(boxes[kept, 2:] - boxes[kept, :2], axis=1)
            faces.append([_face(boxes[row], scores[row]) for row in kept[np.argsort(-areas, kind="stable")]])
        return faces


def anchors(places: npt.NDArray[np.int64], map_sizes: Sequence[tuple[int, ...]]) -> npt.NDArray[np.float64]:
    """Return the (N,4) float64 anchors, centre x, y, width, height in pixels, at N positions in concatenated maps.

    Args:
        places: (N,) numbers of positions, counted row after row and map after map.
        map_sizes: (height, width) of the map of each stride.
    """
    sizes = np.array(map_sizes, dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes.prod(axis=1))])
    levels = np.searchsorted(starts, places, side="right") - 1
    strides = np.array(STRIDES_PX, dtype=np.float64)[levels]
    rows, columns = np.divmod(places - starts[levels], sizes[levels, 1])
    sides = ANCHOR_STRIDES * strides
    return np.stack([(columns + 0.5) * strides, (rows + 0.5) * strides, sides, sides], axis=1)


def suppress(
    boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float32], threshold: float
) -> npt.NDArray[np.int64]:
    """Return which of one image's candidates the library keeps, the best first.

    Greedy suppression goes from high scores to low ones, and a candidate can only be suppressed by a better one. So
    candidates at or below the threshold cannot change the result for those above it, and are left out. But all are
    sorted, as float64 and with numpy's default algorithm, since the library does so and the order of equal scores
    depends on it.

    Args:
        boxes: (N,4) float64 left, top, right, bottom.
        scores: (N,) float32 of every candidate over `MIN_CANDIDATE_SCORE`.
        threshold: score that a face must exceed.
    """
    from face_alignment.detection.sfd.bbox import nms

    wide = scores.astype(np.float64)
    order = wide.argsort()[::-1]
    order = order[wide[order] > threshold]
    # `nms` sorts by score again, so it gets numbers that keep this order instead of the scores.
    ranks = np.arange(len(order), 0, -1)
    return order[np.array(nms(np.column_stack([boxes[order], ranks]), NMS_IOU), dtype=np.int64)]


def _face(box: npt.NDArray[np.float64], score: np.float32) -> FaceDetection:
    return FaceDetection(
        box_xyxy=box.astype(np.float32),
        score=min(float(score), 1.0),  # a softmax in float32 can end one rounding step above 1
        landmarks=np.empty((0, 2), dtype=np.float32),
    )
