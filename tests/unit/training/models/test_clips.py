"""Heads over clips: temporal fusion and the mean of frames."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from manifests.errors import ConfigError
from training.models.clips import FrameMean, VideoTemporalFusion


def test_temporal_fusion_looks_at_the_order_and_not_behind_the_end() -> None:
    torch.manual_seed(0)
    head = VideoTemporalFusion(num_features=16, max_frames=8).eval()
    features = torch.randn(2, 6, 16)
    is_present = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    with torch.inference_mode():
        made = head(features, is_present)
        assert made.logits.shape == (2, 2)
        assert made.features.shape == (2, 512)
        torch.testing.assert_close(made.logits[0], head(features[:1]).logits[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.logits[1], head(features[1:, :4]).logits[0], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(head(features).logits, head(features.flip(1)).logits, atol=1e-4)
    with pytest.raises(ConfigError, match="frames of a clip: got 9, expected at most 8"):
        head(torch.randn(1, 9, 16))


def test_temporal_fusion_learns() -> None:
    """Fakes are reals backwards, which the mean of frames cannot tell."""
    torch.manual_seed(0)
    head = VideoTemporalFusion(num_features=4, max_frames=4)
    rising = torch.linspace(-1, 1, 4)[None, :, None].expand(8, 4, 4)
    clips, labels = torch.cat([rising, -rising]), torch.tensor([0] * 8 + [1] * 8)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-4)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(clips).logits, labels)
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.inference_mode():
        assert (head.eval()(clips).logits.argmax(1) == labels).all()


def test_the_mean_of_frames_is_the_mean_of_their_logits() -> None:
    classifier = nn.Linear(3, 2)
    head, features = FrameMean(classifier), torch.randn(2, 4, 3)
    is_present = torch.tensor([[True] * 4, [True, False, True, False]])
    with torch.inference_mode():
        found = head(features, is_present).logits
        torch.testing.assert_close(found[0], classifier(features[0]).mean(0))
        torch.testing.assert_close(found[1], classifier(features[1, ::2]).mean(0))
        torch.testing.assert_close(head(features).logits[1], classifier(features[1]).mean(0))
