"""2D-FAN (Bulat & Tzimiropoulos, 2017) with the network, weights and arithmetic of face-alignment.

The landmarks are those of `face_alignment.FaceAlignment(LandmarksType.TWO_D, flip_input=False, compile=False)` for the
same boxes: whole pixels, for the library truncates them. What it does face by face is done here for the faces of all
frames together.
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
BOX_PER_SCALE_PX = 195.0  # a scale of 1 is a box whose width and height add up to this
CROP_PER_SCALE_PX = 200.0  # and a crop of this side
CENTRE_Y_OFFSET = 0.12  # of the box's height, by which the crop's centre lies above the box's
CROP_PX = 256  # the network's input
HEATMAP_PX = 64  # its output
PEAK_SHIFT = 0.25  # heatmap pixels, toward the larger neighbour

# Faces together in the network. On a CPU a batch rounds otherwise than single faces, which the library takes, and
# one point in a thousand comes to lie elsewhere, where two maxima are equal but for rounding (random weights). Nor does
# it pay: on one thread 2 gain 1 %, 4 and 8 lose 7 and 23 % (measured). For a GPU 64 is an estimate: the widest layer
# gives 64 faces × 64 channels × 128 × 128 × 2 bytes, 128 MiB.
FACES_PER_BATCH = {"cpu": 1, "cuda": 64}

# Frame pixels. The library inverts a matrix, and strays from the plain formula by up to 2e-8 in frames of 8000 pixels
# (measured); nearer than this to a whole pixel, where truncation makes a whole one of that, it is asked itself.
TRUNCATION_MARGIN_PX = 1e-6


class FANLandmarker(Landmarker):
    """face-alignment's 2D-FAN behind the landmarker contract: K = 68 in iBUG's order, whole pixels.

    The boxes are best those of S3FD, with which it was trained. The landmark scores are the heatmaps' peaks, about
    0..1. A face that cannot be cut out, for its box has no area or lies off the frame, has all its landmarks in the
    middle of the box, with scores of 0.

    Args:
        device: `cpu` or `cuda:N`; on a GPU the network runs in float16.
        weights_dir: where weight files are looked for first; see `tasks/models/weights.py`.

    Raises:
        StageMissing: face-alignment or the weight file is not there, or the file does not fit.
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
            faces: those of each of the T frames, full-frame pixels.

        Returns:
            As many faces in the same order; each with (68,2) float32 landmarks, whole full-frame pixels, and (68,)
            float32 scores.

        Raises:
            ValueError: there are not as many lists of faces as frames.
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
        # float64, as those of the library's own detector.
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
        # Not before now is a GPU waited for: it worked while the next faces were cut out.
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
    with np.errstate(invalid="ignore"):  # infinite boxes have no crop, and `cut` finds that out
        centre_y = bottom - (bottom - top) / 2.0 - (bottom - top) * CENTRE_Y_OFFSET
        centres = np.stack([right - (right - left) / 2.0, centre_y], axis=1)
        return centres, (right - left + bottom - top) / BOX_PER_SCALE_PX


def cut(image: npt.NDArray[np.uint8], centre: npt.NDArray[np.float64], scale: float) -> npt.NDArray[np.uint8] | None:
    """Return the library's crop (256,256,3) of an (H,W,3) image; None where it has none for this box."""
    import cv2
    from face_alignment.utils import crop

    if not (scale > 0 and np.isfinite(scale) and np.isfinite(centre).all()):
        return None
    try:
        cropped: npt.NDArray[np.uint8] = crop(image, centre, scale)
    except (ValueError, MemoryError, cv2.error):
        # No pixel of the frame in it, no pixel at all, or more than the memory holds.
        return None
    return cropped


def peaks(heatmaps: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places (N,K,2) float32 (x, y), in heatmap pixels, and values (N,K) of the maxima of float32 heatmaps.

    A maximum inside is moved a quarter of a pixel toward the larger neighbour, in x and in y.

    Args:
        heatmaps: (N,K,64,64) float32.
    """
    import torch

    values = heatmaps.flatten(2)
    places = values.argmax(2, keepdim=True)  # the first of equals, as numpy's
    rows, columns = places // HEATMAP_PX, places % HEATMAP_PX
    corners = torch.cat([columns, rows], 2)
    inside = ((corners > 0) & (corners < HEATMAP_PX - 1)).all(2, keepdim=True)
    inner = torch.where(inside, places, HEATMAP_PX + 1)  # anywhere with four neighbours
    x_step = values.gather(2, inner + 1) - values.gather(2, inner - 1)
    y_step = values.gather(2, inner + HEATMAP_PX) - values.gather(2, inner - HEATMAP_PX)
    shift = torch.cat([x_step, y_step], 2).sign() * PEAK_SHIFT * inside
    return corners + 0.5 + shift, values.gather(2, places)[..., 0]


def to_frame(
    points: npt.NDArray[np.float32], centres: npt.NDArray[np.float64], scales: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Return (N,K,2) points of heatmaps in full-frame pixels, truncated to whole ones toward 0 as the library does.

    Args:
        points: (N,K,2) float32 (x, y) in heatmap pixels, from `peaks`.
        centres: (N,2) float64 of the crops, full-frame pixels.
        scales: (N,) float64 of the crops.
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
