"""Contract of deepfake detector networks: how they are built, what they take and what they return."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

BACKBONE = "tf_efficientnet_b4"  # timm's name of the backbone of M2TR's authors: SAME padding, BN eps 1e-3
ATTRIBUTES = ("forward", "state_dict", "img_size", "num_classes", "num_features")  # which every network must have


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """The settings that a network is built from; each network uses those that it knows."""

    img_size: int
    """Side S of the crops, pixels. The studies use 320 for M2TR, 299 for Xception, 224 for `ff_attribution`."""

    num_classes: int | None = None
    """C, at least 2; None: five for `ff_attribution`, two for all others."""

    pretrained: bool = False
    """Whether weights are downloaded from timm's hub; False never accesses the network."""

    weights: Path | None = None
    """File of weights instead: of the whole network or, for M2TR and Swin, of its backbone."""

    num_stages: int = 4
    """Number of stages of M2TR."""

    backbone: str = BACKBONE
    """timm's name of the backbone of M2TR."""

    dropout: float = 0.5
    """0..1, probability of dropping a feature before the classifier of M2TR."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ModelOutput:
    """The output of a network for a batch of crops."""

    logits: Tensor
    """(B,C) raw: no softmax, no sigmoid. Two classes: 0 real, 1 fake."""

    features: Tensor
    """(B,F) pooled, before the classifier."""

    mask: Tensor | None = None
    """(B,1,S,S) 0..1, 1 where the crop is altered; None from a network without a mask decoder."""


class DeepfakeDetector(Protocol):
    """A network from crops to logits; every implementation is a `torch.nn.Module`."""

    img_size: int
    """Side S of the crops, pixels."""

    num_classes: int
    """C."""

    num_features: int
    """F, length of the features."""

    enlarges_crops: ClassVar[bool] = False
    """Whether its published recipe enlarges smaller crops, as DFD-FCG's does from 150 to 224 px. It may be missing."""

    def __call__(self, images: Tensor) -> ModelOutput:
        """Return the output for (B,3,S,S) float32 images, normalised with ImageNet's mean and deviation."""
        ...


class ModelBuilder(Protocol):
    """A value of `MODELS`: a function, or the class of a network whose one argument is the options."""

    def __call__(self, options: ModelOptions, /) -> nn.Module:
        """Build a network that satisfies `DeepfakeDetector`, with fresh weights."""
        ...
