"""2D-FAN (Bulat & Tzimiropoulos, 2017) with the network, weights and arithmetic of face-alignment.

The landmarks equal those of `face_alignment.FaceAlignment(LandmarksType.TWO_D, flip_input=False, compile=False)` for
the same boxes: whole pixels, since the library truncates them. The library processes face by face, this module the
faces of all frames together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import numpy.typing as npt

from tasks.landmarks.landmarker import Landmarker, LandmarkerSettings
from tasks.media import NUM_IBUG_LANDMARKS, FaceDetection, FrameBatch
from tasks.models.face_alignment import PACKAGES, load_network, upload

if TYPE_CHECKING:
    from torch import Tensor

# face_alignment/utils.py and api.py, 1.5.0.
NUM_STACKS = 4  # hourglasses; the last one's heatmaps count
BOX_PER_SCALE_PX = 195.0  # sum of the box's width and height at a scale of 1
CROP_PER_SCALE_PX = 200.0  # side of the crop at a scale of 1
CENTRE_Y_OFFSET = 0.12  # distance of the crop's centre above that of the box, share of the box's height
CROP_PX = 256  # the network's input
HEATMAP_PX = 64  # its output
PEAK_SHIFT = 0.25  # heatmap pixels, toward the larger neighbour

# Faces in a batch of the network. On a CPU a batch is rounded differently from the single faces of the library, and one
# point in a thousand changes, where two maxima are equal up to rounding (random weights). Nor is it faster: on one
# thread, batches of 2 gain 1 %, of 4 and 8 lose 7 and 23 % (measured). For a GPU 64 is an estimate: the widest layer
# returns 64 faces × 64 channels × 128 × 128 × 2 bytes, 128 MiB.
FACES_PER_BATCH = {"cpu": 1, "cuda": 64}

# Frame pixels. The library inverts a matrix, and differs from the plain formula by up to 2e-8 in frames of 8000 pixels
# (measured). Closer than this to a whole pixel, where truncation could change the result, the library itself is called.
TRUNCATION_MARGIN_PX = 1e-6


class FANLandmarker(Landmarker):
    """Landmarker `fan`, the 2D-FAN of face-alignment: K = 68 in iBUG's order, whole pixels.

    It is most accurate with boxes of S3FD, with which it was trained. The landmark scores are the peaks of the
    heatmaps, about 0..1. If a face cannot be cut out, since its box has no area or is outside the frame, all its
    landmarks are in the middle of the box, with scores of 0.

    Args:
        device: `cpu` or `cuda:N`; on a GPU the network runs in float16.
        weights_dir: folder that is searched first for weight files; see `tasks/models/weights.py`.

    Raises:
        StageMissing: face-alignment or the weight file is missing, or the file does not fit.
    """

    title: ClassVar[str] = "landmarker fan"
    packages: ClassVar[Mapping[str, str]] = PACKAGES
    weights: ClassVar[tuple[str, ...]] = ("2dfan4",)
    uses_gpu: ClassVar[bool] = True

    def __init__(self, *, device: str = "cpu", weights_dir: Path | None = None) -> None:
        self.require_models(weights_dir)
        import torch
        from face_alignment.models import FAN

        self._device = torch.device(device)
        self._in_half = self._device.type == "cuda"
        self._faces_per_batch = FACES_PER_BATCH.get(self._device.type, FACES_PER_BATCH["cpu"])
        self._network = load_network(FAN(NUM_STACKS), self.weights[0], weights_dir, self._device)

    @classmethod
    def from_settings(cls, settings: LandmarkerSettings, *, device: str, weights_dir: Path | None) -> Self:
        """Make a landmarker; it has no settings."""
        del settings
        return cls(device=device, weights_dir=weights_dir)

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        """Return the same faces with their landmarks replaced.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            faces: faces of each of the T frames, full-frame pixels.

        Returns:
            As many faces in the same order; each with (68,2) float32 landmarks, whole full-frame pixels, and (68,)
            float32 scores.

        Raises:
            ValueError: the numbers of frames and of lists of faces differ.
        """
        pairs = [(image, face) for image, found in zip(frames.data, faces, strict=True) for face in found]
        landmarks, scores = self._locate([image for image, _ in pairs], [face.box_xyxy for _, face in pairs])
        located = (
            replace(face, landmarks=points, landmark_scores=peaks)
            for (_, face), points, peaks in zip(pairs, landmarks, scores, strict=True)
        )
        return [[next(located) for _ in found] for found in faces]

    def _locate(
        self, images: Sequence[npt.NDArray[np.uint8]], boxes: Sequence[npt.NDArray[np.float32]]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return (N,68,2) landmarks and (N,68) scores of N faces, each with its (H,W,3) image and (4,) box."""
        # float64, as boxes of the library's own detector.
        centres, scales = crop_geometry(np.array(boxes, dtype=np.float64).reshape(-1, 4))
        landmarks = np.repeat(_middles(boxes)[:, None], NUM_IBUG_LANDMARKS, axis=1)
        scores = np.zeros(landmarks.shape[:2], dtype=np.float32)
        found: list[tuple[list[int], Tensor, Tensor]] = []
        for start in range(0, len(boxes), self._faces_per_batch):
            rows, crops = [], []
            for row in range(start, min(start + self._faces_per_batch, len(boxes))):
                crop = cut(images[row], centres[row], float(scales[row]))
                if crop is not None:
                    rows.append(row)
                    crops.append(crop)
            if rows:
                found.append((rows, *self._peaks(np.stack(crops))))
        # This waits for the GPU, which has worked while the next faces were cut out.
        for rows, points, values in found:
            landmarks[rows] = to_frame(points.cpu().numpy(), centres[rows], scales[rows])
            scores[rows] = values.cpu().numpy()
        return landmarks, scores

    def _peaks(self, crops: npt.NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Return the `peaks` of (N,256,256,3) uint8 RGB crops, on the device."""
        import torch

        with torch.inference_mode():
            batch = upload(crops, self._device) / 255.0
            with torch.autocast(self._device.type, dtype=torch.float16, enabled=self._in_half):
                heatmaps: Tensor = self._network(batch)[-1]
            return peaks(heatmaps.float())


def crop_geometry(
    boxes: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the centres (N,2), pixels, and scales (N,) of the crops for (N,4) boxes, in the library's arithmetic."""
    left, top, right, bottom = boxes.T
    with np.errstate(invalid="ignore"):  # infinite boxes have no crop: `cut` returns None for them
        centre_y = bottom - (bottom - top) / 2.0 - (bottom - top) * CENTRE_Y_OFFSET
        centres = np.stack([right - (right - left) / 2.0, centre_y], axis=1)
        return centres, (right - left + bottom - top) / BOX_PER_SCALE_PX


def cut(image: npt.NDArray[np.uint8], centre: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.uint8] | None:
    """Return the library's crop (256,256,3) of an (H,W,3) image; None if the library fails for this box."""
    import cv2
    from face_alignment.utils import crop

    if not (scale > 0 and np.isfinite(scale) and np.isfinite(centre).all()):
        return None
    try:
        cropped: npt.NDArray[np.uint8] = crop(image, centre, scale)
    except (ValueError, MemoryError, cv2.error):
        # The crop has no pixel of the frame, no pixel at all, or more than fit in memory.
        return None
    return cropped


def peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions (N,K,2) float32 (x, y), in heatmap pixels, and values (N,K) of the maxima of float32 heatmaps.

    A maximum not on the border is moved by a quarter of a pixel toward the larger neighbour, in x and in y.

    Args:
        heatmaps: (N,K,64,64) float32.
    """
    import torch

    values = heatmaps.flatten(2)
    places = values.argmax(2, keepdim=True)  # the first of equals, as numpy's
    rows, columns = places // HEATMAP_PX, places % HEATMAP_PX
    corners = torch.cat([columns, rows], 2)
    inside = ((corners > 0) & (corners < HEATMAP_PX - 1)).all(2, keepdim=True)
    inner = torch.where(inside, places, HEATMAP_PX + 1)  # elsewhere any pixel with four neighbours
    x_step = values.gather(2, inner + 1) - values.gather(2, inner - 1)
    y_step = values.gather(2, inner + HEATMAP_PX) - values.gather(2, inner - HEATMAP_PX)
    shift = torch.cat([x_step, y_step], 2).sign() * PEAK_SHIFT * inside
    return corners + 0.5 + shift, values.gather(2, places)[..., 0]


def to_frame(
    points: npt.NDArray[np.float32], centres: npt.NDArray[np.float64], scales: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return (N,K,2) points of heatmaps in whole full-frame pixels, truncated toward 0 as in the library.

    Args:
        points: (N,K,2) float32 (x, y) in heatmap pixels, from `peaks`.
        centres: (N,2) float64 centres of the crops, full-frame pixels.
        scales: (N,) float64 scales of the crops.
    """
    from face_alignment.utils import transform_np

    sides = CROP_PER_SCALE_PX * scales
    exact = (points.astype(np.float64) / HEATMAP_PX - 0.5) * sides[:, None, None] + centres[:, None]
    whole: npt.NDArray[np.float64] = np.trunc(exact)
    close = (np.abs(exact - np.round(exact)) < TRUNCATION_MARGIN_PX).any(axis=2)
    for face, point in np.argwhere(close):
        whole[face, point] = transform_np(points[face, point], centres[face], scales[face], HEATMAP_PX, True)
    return whole.astype(np.float32)


def _middles(boxes: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Return the (N,2) middles of (4,) boxes."""
    corners: npt.NDArray[np.float32] = np.array(boxes, dtype=np.float32).reshape(-1, 2, 2)
    return (corners[:, 0] + corners[:, 1]) / np.float32(2)
