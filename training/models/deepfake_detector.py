"""The contract of a detector of forgeries: what goes in and what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelOutput:
    """What a model says about a batch of crops."""

    logits: Tensor
    """(B,C) raw: no softmax, no sigmoid. Two classes: 0 real, 1 fake."""

    features: Tensor
    """(B,F) pooled, before the classifier."""

    mask: Tensor | None = None
    """(B,1,S,S) 0..1, where the crop is altered; None from a model without a mask decoder."""


class DeepfakeDetector(Protocol):
    """A network from crops to logits; every implementation is a `torch.nn.Module`."""

    img_size: int
    """Side S of the crops that it takes, pixels."""

    num_classes: int
    """C."""

    def __call__(self, images: Tensor) -> ModelOutput:
        """Return what the network says about (B,3,S,S) float32 images, normalised as ImageNet's are."""
        ...
