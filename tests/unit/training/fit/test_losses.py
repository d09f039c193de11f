"""Losses whose values can be computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from manifests.errors import ConfigError
from training.fit.losses import ForgeryLoss, RealCentreContrast, focal_loss, segmentation_loss
from training.models.deepfake_detector import ModelOutput

LABELS = torch.tensor([0, 1, 1])
LN2 = math.log(2)


def output_of(logits: Tensor, mask: Tensor | None = None, features: Tensor | None = None) -> ModelOutput:
    return ModelOutput(logits=logits, features=torch.zeros(len(logits), 4) if features is None else features, mask=mask)


def test_focal_loss_of_undecided_logits() -> None:
    """p is 1/2 everywhere: (1/2)² · ln 2."""
    assert float(focal_loss(torch.zeros(3, 2), LABELS)) == pytest.approx(0.25 * LN2)


def test_focal_loss_counts_what_is_wrong_and_not_what_is_right() -> None:
    logits = torch.tensor([[4.0, -4.0]])
    p = 1 / (1 + math.exp(-4))
    assert float(focal_loss(logits, torch.tensor([0]))) == pytest.approx((1 - p) ** 2 * -math.log(p), rel=1e-4)
    assert float(focal_loss(logits, torch.tensor([1]))) == pytest.approx(p**2 * -math.log(1 - p), rel=1e-4)


def test_classification_alone_is_cross_entropy() -> None:
    logits = torch.tensor([[1.0, 2.0], [0.5, -0.5], [0.0, 3.0]])
    parts = ForgeryLoss()(output_of(logits), LABELS)
    assert float(parts.total) == pytest.approx(float(F.cross_entropy(logits, LABELS)))
    assert float(parts.segmentation) == float(parts.contrastive) == 0


def test_more_than_two_classes() -> None:
    for kind in ("cross_entropy", "focal"):
        parts = ForgeryLoss(classification=kind)(output_of(torch.zeros(3, 5)), torch.tensor([0, 3, 4]))
        assert float(parts.total) == pytest.approx(math.log(5) if kind == "cross_entropy" else 0.25 * LN2)


def test_reals_need_no_mask_and_unknown_masks_do_not_count() -> None:
    made = torch.stack([torch.full((1, 4, 4), value) for value in (0.1, 0.8, 0.3)])
    masks = torch.full((3, 1, 4, 4), 1.0)  # of the real and of the unknown: anything
    found = segmentation_loss(made, LABELS, masks, torch.tensor([False, True, False]))
    assert float(found) == pytest.approx((-math.log(0.9) - math.log(0.8)) / 2)
    assert float(segmentation_loss(made, LABELS, None, None)) == pytest.approx(-math.log(0.9))
    known = segmentation_loss(made, LABELS, masks[:, 0], None)
    assert float(known) == pytest.approx((-math.log(0.9) - math.log(0.8) - math.log(0.3)) / 3)


def test_no_mask_at_all_costs_nothing_and_stays_in_the_graph() -> None:
    made = torch.full((2, 1, 4, 4), 0.5, requires_grad=True)
    found = segmentation_loss(made, torch.tensor([1, 1]), None, None)
    torch.autograd.backward(found)
    assert float(found.detach()) == 0
    assert made.grad is not None
    assert not made.grad.any()
    assert float(segmentation_loss(None, LABELS, torch.ones(3, 4, 4), None)) == 0


def test_a_mask_of_another_size_is_averaged() -> None:
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., ::2, :] = 1
    found = segmentation_loss(torch.full((1, 1, 4, 4), 0.5), torch.tensor([1]), masks, None)
    assert float(found) == pytest.approx(LN2)


def test_contrast_draws_reals_near_and_pushes_fakes_away() -> None:
    """The centre is the first real's direction; the fake stands at 45 degrees, the second real at 90."""
    contrast = RealCentreContrast(2)
    contrast(torch.tensor([[3.0, 0.0]]), torch.tensor([0]))
    contrast.eval()
    features = torch.tensor([[0.0, 2.0], [1.0, 1.0]], requires_grad=True)
    found = contrast(features, torch.tensor([0, 1]))
    assert float(found.detach()) == pytest.approx(1 + math.sqrt(0.5))
    torch.autograd.backward(found)
    assert features.grad is not None
    moved = F.normalize((features - 0.1 * features.grad).detach())
    assert moved[0, 0] > 0  # the real turns towards the centre
    assert moved[1, 0] < math.sqrt(0.5)  # the fake away from it


def test_contrast_of_a_perfect_batch_is_zero() -> None:
    contrast = RealCentreContrast(2)
    features = torch.tensor([[2.0, 0.0], [5.0, 0.0], [-1.0, 0.5]])
    assert float(contrast(features, torch.tensor([0, 0, 1]))) == pytest.approx(0, abs=1e-6)


def test_contrast_waits_for_the_first_real_and_follows_slowly() -> None:
    contrast = RealCentreContrast(2)
    assert float(contrast(torch.ones(2, 2), torch.tensor([1, 1]))) == 0
    contrast(torch.tensor([[1.0, 0.0]]), torch.tensor([0]))
    contrast(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    torch.testing.assert_close(contrast.centre, torch.tensor([0.99, 0.01]))
    contrast.eval()(torch.tensor([[0.0, 1.0]]), torch.tensor([0]))
    torch.testing.assert_close(contrast.centre, torch.tensor([0.99, 0.01]))


def test_the_parts_are_weighted_as_in_the_paper() -> None:
    torch.manual_seed(0)
    loss = ForgeryLoss(num_features=4)
    output = output_of(torch.randn(3, 2), torch.rand(3, 1, 4, 4), torch.randn(3, 4))
    parts = loss(output, LABELS, torch.ones(3, 1, 4, 4))
    assert float(parts.total) == pytest.approx(
        float(parts.classification) + float(parts.segmentation) + 0.001 * float(parts.contrastive)
    )
    assert min(float(parts.segmentation), float(parts.contrastive)) > 0
    assert "contrast.centre" in loss.state_dict()


def test_it_runs_under_autocast() -> None:
    output = output_of(torch.randn(3, 2).bfloat16(), torch.rand(3, 1, 4, 4), torch.randn(3, 4).bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        parts = ForgeryLoss(num_features=4, classification="focal")(output, LABELS, torch.ones(3, 1, 4, 4))
    assert parts.total.dtype == torch.float32
    assert torch.isfinite(parts.total)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="classification: got 'hinge'"):
        ForgeryLoss(classification="hinge")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected none below 0"):
        ForgeryLoss(weights=(1.0, -1.0, 0.0))
