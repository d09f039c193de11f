"""Manipulation masks: a second video beside a fake, white where it was altered, sometimes shorter than the fake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from storage.format.arrays import require_array
from tasks.decode.decoder import Decoder
from tasks.media import FrameBatch, Reason, Stage


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskBatch:
    """The masks of some frames."""

    data: npt.NDArray[np.uint8]
    """(T,H,W) uint8, 255 where manipulated, 0 where there is no mask."""

    is_present: npt.NDArray[np.bool_]
    """(T,) bool, False behind the end of the mask video."""

    def __post_init__(self) -> None:
        """Refuse what the type checker cannot see."""
        require_array("MaskBatch", "data", self.data, np.uint8, (len(self.is_present), None, None))
        require_array("MaskBatch", "is_present", self.is_present, np.bool_, (len(self.data),))


def read_masks(decoder: Decoder, path: Path, frames: FrameBatch) -> MaskBatch:
    """Return the (T,H,W) masks of these frames.

    Args:
        decoder: the frames' own decoder.
        path: the mask video.
        frames: what the masks belong to.

    Raises:
        VideoRejected: the mask video cannot be read, or its frames have another size.
    """
    data = np.zeros(frames.data.shape[:3], dtype=np.uint8)
    with decoder.open(path) as reader:
        is_present = frames.frame_indices < reader.num_frames
        found = reader.read(frames.frame_indices[is_present]).data if is_present.any() else None
    if found is not None:
        if found.shape[1:3] != data.shape[1:3]:
            detail = f"{path.name}: got {found.shape[1:3]} pixels (H,W), expected {data.shape[1:3]} as in the video"
            raise VideoRejected(Stage.DECODE, Reason.DECODE_ERROR, detail)
        data[is_present] = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in found]
    return MaskBatch(data=data, is_present=is_present)
