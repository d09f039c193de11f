"""Samples and batches: crops as uint8 with their labels, masks and origins, normalised where they are by then.

Between decoding and the device pixels stay uint8: a quarter of the memory and of the transfer. `Batch.images` makes
them float32 and normalises them where the batch is by then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1; torchvision's and timm's
IMAGENET_STD = (0.229, 0.224, 0.225)
WHITE = 255.0


def normalise(pixels: Tensor) -> Tensor:
    """Return (…,3,S,S) float32 images with ImageNet's mean and deviation taken out, in the memory layout of the pixels.

    Args:
        pixels: (…,3,S,S) uint8 RGB, on any device.
    """
    scale = torch.tensor([1 / (WHITE * std) for std in IMAGENET_STD], device=pixels.device)
    offset = torch.tensor([-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)])
    return torch.addcmul(offset.to(pixels.device)[:, None, None], pixels, scale[:, None, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """Whose face a sample shows."""

    key: str
    """Of the record."""

    video_id: str

    track_id: int
    """Which person of the video."""

    dataset: str

    manipulation: str | None
    """None for real."""

    compression: str | None
    """`raw`, `c23`, `c40` or None."""

    frame_index: int
    """Position in the whole video; of a clip's first frame."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One item as arrays; T = 1 for a single frame."""

    crops: npt.NDArray[np.uint8]
    """(T,S,S,3) uint8 RGB."""

    masks: npt.NDArray[np.uint8] | None
    """(T,S,S) uint8, 255 where altered; None where that is nowhere, or not known."""

    has_mask: bool
    """Whether it is known where the crop is altered: of a real one always (nowhere)."""

    label: int
    """Class, 0 real."""

    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One item of a dataset."""

    pixels: Tensor
    """(3,S,S) uint8 RGB, or (T,3,S,S) for a clip; channels last in memory."""

    mask_pixels: Tensor | None
    """(1,S,S) or (T,1,S,S) uint8, 255 where altered; None where that is nowhere, or not known."""

    has_mask: bool
    """Whether it is known where the crop is altered: of a real one always (nowhere)."""

    label: int
    """Class, 0 real."""

    origin: Origin

    @property
    def images(self) -> Tensor:
        """(3,S,S) or (T,3,S,S) float32, normalised."""
        return normalise(self.pixels)

    @property
    def masks(self) -> Tensor:
        """(1,S,S) or (T,1,S,S) float32 0..1, zeros where no mask is known."""
        if self.mask_pixels is None:
            return torch.zeros_like(self.pixels[..., :1, :, :], dtype=torch.float32)
        return self.mask_pixels / WHITE


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Items that go through the network together."""

    pixels: Tensor
    """(B,3,S,S) uint8 RGB, or (B,T,3,S,S) for clips; channels last in memory. Or float32: normalised already."""

    labels: Tensor
    """(B,) int64, class, 0 real."""

    mask_pixels: Tensor
    """(B,1,S,S) or (B,T,1,S,S) uint8, 255 where altered; 0 where no mask is known."""

    has_mask: Tensor
    """(B,) bool, whether it is known where the crop is altered: of real ones always (nowhere)."""

    keys: list[str]
    """Of the records."""

    video_ids: list[str]

    track_ids: list[int]
    """Which person of the video."""

    datasets: list[str]

    manipulations: list[str | None]
    """None for real."""

    compressions: list[str | None]
    """`raw`, `c23`, `c40` or None."""

    frame_indices: list[int]
    """Position in the whole video; of a clip's first frame."""

    def __len__(self) -> int:
        """B."""
        return len(self.keys)

    @cached_property
    def images(self) -> Tensor:
        """(B,3,S,S) or (B,T,3,S,S) float32, normalised; made where the batch is, at the first access."""
        return self.pixels if self.pixels.is_floating_point() else normalise(self.pixels)

    @cached_property
    def masks(self) -> Tensor:
        """(B,1,S,S) or (B,T,1,S,S) float32 0..1."""
        return self.mask_pixels / WHITE

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device; from page-locked memory to a GPU without waiting for it."""
        target = torch.device(device)
        is_asynchronous = target.type != "cpu"  # towards the CPU, the tensors would be read before they are there
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(target, non_blocking=is_asynchronous)
        return replace(self, **moved)


def collate(samples: Sequence[Sample]) -> Batch:
    """Return samples of one shape as a batch."""
    pixels = torch.stack([sample.pixels.movedim(-3, -1) for sample in samples]).movedim(-1, -3)
    none = torch.zeros_like(samples[0].pixels[..., :1, :, :])
    masks = torch.stack([none if sample.mask_pixels is None else sample.mask_pixels for sample in samples])
    return batch_of(pixels, masks, facts_of([(sample.label, sample.has_mask, sample.origin) for sample in samples]))


def batch_of(pixels: Tensor, mask_pixels: Tensor, facts: dict[str, list[Any]]) -> Batch:
    """A batch of pixels, masks and `facts_of`."""
    values: dict[str, Any] = {"pixels": pixels, "mask_pixels": mask_pixels, **facts}
    for name in ("labels", "has_mask"):
        values[name] = torch.tensor(facts[name])
    return Batch(**values)


Fact = tuple[int, bool, Origin]  # label, has_mask, origin


def facts_of(items: Sequence[Fact]) -> dict[str, list[Any]]:
    """Every field of a batch but the pixels."""
    labels, has_mask, origins = zip(*items, strict=True)
    return {
        "labels": list(labels),
        "has_mask": list(has_mask),
        "keys": [origin.key for origin in origins],
        "video_ids": [origin.video_id for origin in origins],
        "track_ids": [origin.track_id for origin in origins],
        "datasets": [origin.dataset for origin in origins],
        "manipulations": [origin.manipulation for origin in origins],
        "compressions": [origin.compression for origin in origins],
        "frame_indices": [origin.frame_index for origin in origins],
    }
