"""Samples and batches: uint8 crops with labels, masks and origins.

Pixels stay uint8 until they are on the device: a quarter of the memory and of the transfer. `Batch.images` converts
them to float32 and normalises them on the device of the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1, as in torchvision and timm
IMAGENET_STD = (0.229, 0.224, 0.225)
WHITE = 255.0


def normalise(pixels: Tensor) -> Tensor:
    """Normalise pixels by ImageNet's mean and deviation: (…,3,S,S) float32 in the memory layout of the pixels.

    Args:
        pixels: (…,3,S,S) uint8 RGB, on any device.
    """
    scale = torch.tensor([1 / (WHITE * std) for std in IMAGENET_STD], device=pixels.device)
    offset = torch.tensor([-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)])
    return torch.addcmul(offset.to(pixels.device)[:, None, None], pixels, scale[:, None, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """The record and the video that a sample comes from."""

    key: str
    """Key of the record in its store."""

    video_id: str
    """Identifier of the video."""

    track_id: int
    """Person of the video, 0-based."""

    dataset: str
    """Name of the dataset."""

    manipulation: str | None
    """Manipulation; None for real."""

    compression: str | None
    """`raw`, `c23`, `c40`; None where the dataset has none."""

    frame_index: int
    """Position of the (first) frame in the whole video, 0-based."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One item as arrays; T = 1 for a single frame."""

    crops: npt.NDArray[np.uint8]
    """(T,S,S,3) uint8 RGB."""

    masks: npt.NDArray[np.uint8] | None
    """(T,S,S) uint8, 255 where altered; None for reals, or where it is unknown."""

    has_mask: bool
    """Whether the altered region is known; always for reals, where it is empty."""

    label: int
    """Class, 0 real."""

    origin: Origin
    """Record and video."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One item of a dataset."""

    pixels: Tensor
    """(3,S,S) uint8 RGB, or (T,3,S,S) for a clip; channels last in memory."""

    mask_pixels: Tensor | None
    """(1,S,S) or (T,1,S,S) uint8, 255 where altered; None for reals, or where it is unknown."""

    has_mask: bool
    """Whether the altered region is known; always for reals, where it is empty."""

    label: int
    """Class, 0 real."""

    origin: Origin
    """Record and video."""

    @property
    def images(self) -> Tensor:
        """(3,S,S) or (T,3,S,S) float32, normalised."""
        return normalise(self.pixels)

    @property
    def masks(self) -> Tensor:
        """(1,S,S) or (T,1,S,S) float32 0..1, 1 where altered; zeros where it is unknown."""
        if self.mask_pixels is None:
            return torch.zeros_like(self.pixels[..., :1, :, :], dtype=torch.float32)
        return self.mask_pixels / WHITE


@dataclass(frozen=True, kw_only=True, eq=False)
class Origins:
    """The records and the videos that the items of a batch come from."""

    keys: list[str]
    """B keys of the records."""

    video_ids: list[str]
    """B identifiers of the videos."""

    track_ids: list[int]
    """B persons of the videos, 0-based."""

    datasets: list[str]
    """B names of datasets."""

    manipulations: list[str | None]
    """B manipulations; None for real."""

    compressions: list[str | None]
    """B compressions: `raw`, `c23`, `c40`; None where the dataset has none."""

    frame_indices: list[int]
    """B positions of the (first) frames in the whole videos, 0-based."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch(Origins):
    """Items that pass through the network together."""

    pixels: Tensor
    """(B,3,S,S) uint8 RGB, or (B,T,3,S,S) for clips; channels last in memory. Or float32, already normalised."""

    labels: Tensor
    """(B,) int64 class, 0 real."""

    mask_pixels: Tensor
    """(B,1,S,S) or (B,T,1,S,S) uint8, 255 where altered; 0 where it is unknown."""

    has_mask: Tensor
    """(B,) bool, whether the altered region is known; always for reals, where it is empty."""

    def __len__(self) -> int:
        """Return B, the number of items."""
        return len(self.keys)

    @cached_property
    def images(self) -> Tensor:
        """(B,3,S,S) or (B,T,3,S,S) float32, normalised on the device of the batch at the first access."""
        return self.pixels if self.pixels.is_floating_point() else normalise(self.pixels)

    @cached_property
    def masks(self) -> Tensor:
        """(B,1,S,S) or (B,T,1,S,S) float32 0..1."""
        return self.mask_pixels / WHITE

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device; copies from page-locked memory to a GPU are asynchronous."""
        target = torch.device(device)
        is_asynchronous = target.type != "cpu"  # to the CPU, the tensors would be read before they have arrived

        def moved(tensor: Tensor) -> Tensor:
            return tensor.to(target, non_blocking=is_asynchronous)

        return replace(
            self,
            pixels=moved(self.pixels),
            labels=moved(self.labels),
            mask_pixels=moved(self.mask_pixels),
            has_mask=moved(self.has_mask),
        )


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one shape into a batch."""
    pixels = torch.stack([sample.pixels.movedim(-3, -1) for sample in samples]).movedim(-1, -3)
    none = torch.zeros_like(samples[0].pixels[..., :1, :, :])
    masks = torch.stack([none if sample.mask_pixels is None else sample.mask_pixels for sample in samples])
    return batch_of(pixels, masks, facts_of([(sample.label, sample.has_mask, sample.origin) for sample in samples]))


class Facts(NamedTuple):
    """All data of a batch except the pixels."""

    labels: list[int]
    """B classes, 0 real."""

    has_mask: list[bool]
    """Whether the altered region of each item is known."""

    origins: Origins
    """Records and videos of the items."""


Fact = tuple[int, bool, Origin]  # label, has_mask, origin


def batch_of(pixels: Tensor, mask_pixels: Tensor, facts: Facts) -> Batch:
    """Return the batch of pixels, masks and facts."""
    labels, has_mask = torch.tensor(facts.labels), torch.tensor(facts.has_mask)
    return Batch(pixels=pixels, labels=labels, mask_pixels=mask_pixels, has_mask=has_mask, **vars(facts.origins))


def facts_of(items: Sequence[Fact]) -> Facts:
    """Collect labels and origins of the items of a batch."""
    origins = [origin for _, _, origin in items]
    return Facts(
        labels=[label for label, _, _ in items],
        has_mask=[has_mask for _, has_mask, _ in items],
        origins=Origins(
            keys=[origin.key for origin in origins],
            video_ids=[origin.video_id for origin in origins],
            track_ids=[origin.track_id for origin in origins],
            datasets=[origin.dataset for origin in origins],
            manipulations=[origin.manipulation for origin in origins],
            compressions=[origin.compression for origin in origins],
            frame_indices=[origin.frame_index for origin in origins],
        ),
    )
