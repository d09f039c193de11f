"""What M2TR is trained to make small: L = L_cls + L_seg + 0.001 · L_con (arXiv 2104.09770), part by part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from manifests.entry import REAL_CLASS
from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOutput

CLASSIFICATION_WEIGHT = 1.0  # paper
SEGMENTATION_WEIGHT = 1.0  # paper
CONTRASTIVE_WEIGHT = 0.001  # paper
FOCAL_ALPHA = 1.0  # the authors' code
FOCAL_GAMMA = 2.0  # the authors' code
CENTRE_MOMENTUM = 0.99  # ours: share of the old centre that a batch of reals leaves


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossParts:
    """A batch's loss and what it is made of; scalars, float32, the parts without their weights and without gradient."""

    total: Tensor
    """() with gradient."""

    classification: Tensor
    """()."""

    segmentation: Tensor
    """() 0 when no sample has a mask or the model makes none."""

    contrastive: Tensor
    """() 0 as long as no real has been seen."""


class ForgeryLoss(nn.Module):
    """Classification, segmentation and contrast, weighted.

    Everything is computed in float32, outside of autocast: `binary_cross_entropy` refuses halves, rightly.

    Args:
        num_features: F, length of the features; None leaves the contrast out, whatever its weight.
        classification: `cross_entropy`, or `focal`: binary, on one-hot labels, as the authors' code has it.
        weights: of classification, segmentation and contrast.

    Raises:
        ConfigError: an unknown classification, or a weight below 0.
    """

    def __init__(
        self,
        num_features: int | None = None,
        classification: Literal["cross_entropy", "focal"] = "cross_entropy",
        weights: tuple[float, float, float] = (CLASSIFICATION_WEIGHT, SEGMENTATION_WEIGHT, CONTRASTIVE_WEIGHT),
    ) -> None:
        super().__init__()
        if classification not in ("cross_entropy", "focal"):
            raise ConfigError(
                f"classification: got {classification!r}, expected 'cross_entropy' or 'focal'; choose one"
            )
        if min(weights) < 0:
            raise ConfigError(f"weights: got {weights}, expected none below 0; 0 leaves a part out")
        self.classification, self.weights = classification, weights
        self.contrast = None if num_features is None else RealCentreContrast(num_features)

    def forward(
        self, output: ModelOutput, labels: Tensor, masks: Tensor | None = None, has_mask: Tensor | None = None
    ) -> LossParts:
        """Return the loss of a batch.

        Args:
            output: of the model.
            labels: (B,) int64, 0 real.
            masks: (B,1,S,S) or (B,S,S), 0..1, 1 where altered; of reals and where there is none anything may stand.
            has_mask: (B,) bool, whose masks are known; a real's is all zero and always known. None: those of all.
        """
        with torch.autocast(output.logits.device.type, enabled=False):
            logits = output.logits.float()
            named = focal_loss if self.classification == "focal" else F.cross_entropy
            classification = named(logits, labels)
            segmentation = segmentation_loss(output.mask, labels, masks, has_mask)
            contrast = logits.new_zeros(()) if self.contrast is None else self.contrast(output.features, labels)
            parts = (classification, segmentation, contrast)
            # A part of weight 0 is left out rather than multiplied: 0 times infinity is no number.
            total = sum(
                (weight * part for weight, part in zip(self.weights, parts, strict=True) if weight), 0 * logits.sum()
            )
        return LossParts(
            total=total,
            classification=classification.detach(),
            segmentation=segmentation.detach(),
            contrastive=contrast.detach(),
        )


class RealCentreContrast(nn.Module):
    """Features of reals near their centre by cosine distance, those of fakes away from it.

    The mean over reals of 1 - cos, plus the mean over fakes of max(cos, 0): both at least 0, both 0 when every real
    points where the centre does and no fake points to its side. (The authors' unfinished code has the sign reversed.)
    The centre is a running mean of reals' directions: a buffer, without gradient, the same in every process only when
    the trainer sees to it; the first batch with reals sets it. Evaluation leaves it alone.

    Args:
        num_features: F.
    """

    centre: Tensor

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(num_features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B,F) features and (B,) labels → () at least 0."""
        directions, is_real = F.normalize(features.float(), dim=1), labels == REAL_CLASS
        if self.training:
            self._follow(directions.detach()[is_real])
        cosines = directions @ F.normalize(self.centre, dim=0)
        # Sums over a mask, so that an empty side costs 0 and keeps its place in the graph.
        near = ((1 - cosines) * is_real).sum() / is_real.sum().clamp(min=1)
        away = (cosines.clamp(min=0) * ~is_real).sum() / (~is_real).sum().clamp(min=1)
        return (near + away) * self.centre.any()

    def _follow(self, reals: Tensor) -> None:
        if len(reals):
            momentum = CENTRE_MOMENTUM if self.centre.any() else 0.0
            self.centre.mul_(momentum).add_(reals.mean(dim=0), alpha=1 - momentum)


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary focal loss on one-hot labels: (B,C) and (B,) → () mean over all B·C; alpha 1, gamma 2."""
    targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    entropies = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return FOCAL_ALPHA * ((1 - torch.exp(-entropies)) ** FOCAL_GAMMA * entropies).mean()


def segmentation_loss(made: Tensor | None, labels: Tensor, masks: Tensor | None, has_mask: Tensor | None) -> Tensor:
    """Binary cross-entropy of the masks that are known, mean over their pixels.

    Args:
        made: (B,1,S,S) 0..1 of the model, or None.
        labels: (B,) int64; reals have an all-zero mask, which needs no file.
        masks: (B,1,M,M) or (B,M,M) true ones, 0..1; another size than S is brought to it by averaging. None: no fake's
            is known.
        has_mask: (B,) bool, or None: those of all are known.

    Returns:
        () float32; 0 when no mask is known or none is made.
    """
    if made is None:
        return torch.zeros((), device=labels.device)
    made, is_real = made.float(), labels == REAL_CLASS
    if masks is None:
        true, known = torch.zeros_like(made), is_real
    else:
        true = fit(masks.float().reshape(len(labels), 1, *masks.shape[-2:]), made.shape[-1])
        known = is_real | (torch.ones_like(is_real) if has_mask is None else has_mask.bool())
    true = torch.where(is_real[:, None, None, None], 0.0, true)
    if not known.any():
        return 0 * made.sum()
    return F.binary_cross_entropy(made[known], true[known])


def fit(masks: Tensor, side: int) -> Tensor:
    """(B,1,M,M) → (B,1,side,side), by the mean of what falls into a pixel."""
    return masks if masks.shape[-1] == side else F.interpolate(masks, (side, side), mode="area")
