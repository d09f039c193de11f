"""The loss of M2TR: L = L_cls + L_seg + 0.001 · L_con (arXiv 2104.09770), and its parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name in the documentation of torch

from manifests.entry import REAL_CLASS
from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOutput

CLASSIFICATION_WEIGHT = 1.0  # paper
SEGMENTATION_WEIGHT = 1.0  # paper
CONTRASTIVE_WEIGHT = 0.001  # paper
FOCAL_ALPHA = 1.0  # code of M2TR's authors
FOCAL_GAMMA = 2.0  # code of M2TR's authors
CENTRE_MOMENTUM = 0.99  # chosen here: weight of the old centre in the running mean


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LossParts:
    """The loss of a batch and its parts: float32 scalars, the parts unweighted and without gradient."""

    total: Tensor
    """() weighted sum of the parts, with gradient."""

    classification: Tensor
    """() classification loss."""

    segmentation: Tensor
    """() segmentation loss; 0 if no mask is known, or the model computes none."""

    contrastive: Tensor
    """() contrastive loss; 0 before the first real."""


class ForgeryLoss(nn.Module):
    """Weighted sum of classification, segmentation and contrastive loss.

    It is computed in float32 without autocast, since `binary_cross_entropy` refuses half precision.

    Args:
        num_features: F, length of the features; None: no contrastive loss.
        classification: `cross_entropy`, or `focal`, binary on one-hot labels as in the code of M2TR's authors.
        weights: weights of classification, segmentation and contrast.

    Raises:
        ConfigError: the classification is unknown, or a weight is negative.
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
            raise ConfigError(f"weights: got {weights}, expected none below 0; 0 disables a part")
        self.classification, self.weights = classification, weights
        self.contrast = None if num_features is None else RealCentreContrast(num_features)

    def forward(
        self, output: ModelOutput, labels: Tensor, masks: Tensor | None = None, has_mask: Tensor | None = None
    ) -> LossParts:
        """Compute the loss of a batch.

        Args:
            output: output of the model.
            labels: (B,) int64, 0 real.
            masks: (B,1,S,S) or (B,S,S) 0..1, 1 where altered; ignored for reals and where `has_mask` is False.
            has_mask: (B,) bool, whether a mask is known; that of a real is always known, all zero. None: all are known.
        """
        with torch.autocast(output.logits.device.type, enabled=False):
            logits = output.logits.float()
            named = focal_loss if self.classification == "focal" else F.cross_entropy
            classification = named(logits, labels)
            segmentation = segmentation_loss(output.mask, labels, masks, has_mask)
            contrast = logits.new_zeros(()) if self.contrast is None else self.contrast(output.features, labels)
            parts = (classification, segmentation, contrast)
            # Parts of weight 0 are skipped, since 0 times infinity is NaN.
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
    """Contrastive loss: pulls features of reals towards their centre by cosine distance, pushes those of fakes away.

    The mean over reals of 1 - cos, plus the mean over fakes of max(cos, 0). Both terms are at least 0, and 0 if every
    real points in the direction of the centre and no fake has a positive cosine with it. (The unfinished code of M2TR's
    authors has the opposite sign.) The centre is a running mean of the directions of reals, a buffer without gradient.
    The first batch with reals sets it; processes have different centres unless the trainer synchronises them;
    evaluation leaves it unchanged.

    Args:
        num_features: F.
    """

    centre: Tensor
    """(F,) float32, running mean of the directions of reals; zeros before the first one."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(num_features))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """(B,F) features and (B,) labels → () at least 0."""
        directions, is_real = F.normalize(features.float(), dim=1), labels == REAL_CLASS
        if self.training:
            self._follow(directions.detach()[is_real])
        cosines = directions @ F.normalize(self.centre, dim=0)
        # Masked sums, so that a class without items gives 0 and stays in the graph.
        near = ((1 - cosines) * is_real).sum() / is_real.sum().clamp(min=1)
        away = (cosines.clamp(min=0) * ~is_real).sum() / (~is_real).sum().clamp(min=1)
        return (near + away) * self.centre.any()

    def _follow(self, reals: Tensor) -> None:
        if len(reals):
            momentum = CENTRE_MOMENTUM if self.centre.any() else 0.0
            self.centre.mul_(momentum).add_(reals.mean(dim=0), alpha=1 - momentum)


def focal_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the binary focal loss on one-hot labels: (B,C) and (B,) → () mean over all B·C; alpha 1, gamma 2."""
    targets = F.one_hot(labels, logits.shape[1]).to(logits.dtype)
    entropies = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return FOCAL_ALPHA * ((1 - torch.exp(-entropies)) ** FOCAL_GAMMA * entropies).mean()


def segmentation_loss(made: Tensor | None, labels: Tensor, masks: Tensor | None, has_mask: Tensor | None) -> Tensor:
    """Compute the binary cross-entropy of the known masks, the mean over their pixels.

    Args:
        made: (B,1,S,S) 0..1 masks of the model, or None.
        labels: (B,) int64; the mask of reals is all zero.
        masks: (B,1,M,M) or (B,M,M) 0..1 true masks, averaged to S if M differs. None: no mask of a fake is known.
        has_mask: (B,) bool, whether a mask is known; None: all are known.

    Returns:
        () float32; 0 if no mask is known, or the model computes none.
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
    """(B,1,M,M) → (B,1,side,side), by area averages."""
    return masks if masks.shape[-1] == side else F.interpolate(masks, (side, side), mode="area")
