"""From frames to videos: the mean of the frames' logits, and VTF, temporal fusion of their features over a clip.

The paper names VTF and no code of it exists; this is the description in words (arXiv 2104.09770, section 3): pooled
features of T frames of one track, projected, with learned positions and a class token, through a small encoder.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOutput

WIDTH = 512  # of the projected features
NUM_LAYERS = 2
NUM_HEADS = 8
EXPANSION = 4  # of the encoder's feed-forward part, as in Vaswani et al. (arXiv 1706.03762)
DROPOUT = 0.1  # likewise
POSITION_SCALE = 0.3  # deviation of positions and class token at the start: that of projected features. With ViT's 0.02
# the head did not learn to tell a clip from its reverse in 40 steps; with this it took 20.


class VideoTemporalFusion(nn.Module):
    """A head over the features of a clip's frames.

    Args:
        num_features: F of a frame.
        num_classes: C.
        max_frames: most frames of a clip.
    """

    def __init__(self, num_features: int, num_classes: int = 2, max_frames: int = 32) -> None:
        super().__init__()
        self.max_frames = max_frames
        self.project = nn.Linear(num_features, WIDTH)
        self.token = nn.Parameter(POSITION_SCALE * torch.randn(1, 1, WIDTH))
        self.positions = nn.Parameter(POSITION_SCALE * torch.randn(1, max_frames + 1, WIDTH))
        layer = nn.TransformerEncoderLayer(
            WIDTH, NUM_HEADS, EXPANSION * WIDTH, DROPOUT, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, NUM_LAYERS, norm=nn.LayerNorm(WIDTH), enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, num_classes)

    def forward(self, features: Tensor, is_present: Tensor | None = None) -> ModelOutput:
        """Return what the head says about clips.

        Args:
            features: (B,T,F) of frames in their order.
            is_present: (B,T) bool, False where a clip is shorter; None: all frames are there.

        Returns:
            logits (B,C) raw, features (B,512) of the class token.

        Raises:
            ConfigError: more frames than positions.
        """
        batch, frames, _ = features.shape
        if frames > self.max_frames:
            way_out = "cut the clip or build the head with a larger max_frames"
            raise ConfigError(f"frames of a clip: got {frames}, expected at most {self.max_frames}; {way_out}")
        tokens = torch.cat([self.token.expand(batch, -1, -1), self.project(features)], dim=1)
        padding = None
        if is_present is not None:
            padding = torch.cat([is_present.new_zeros(batch, 1), ~is_present], dim=1)
        encoded = self.encoder(tokens + self.positions[:, : frames + 1], src_key_padding_mask=padding)[:, 0]
        return ModelOutput(logits=self.head(encoded), features=encoded)


class FrameMean(nn.Module):
    """The baseline: the mean of frames' features, and the frame model's own classifier on it.

    With a linear classifier this is the mean of the frames' logits.

    Args:
        classifier: (B,F) → (B,C), that of the frame model.
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Tensor, is_present: Tensor | None = None) -> ModelOutput:
        """(B,T,F) features and (B,T) bool → logits (B,C) raw, features (B,F); a clip without frames has zeros."""
        weights = torch.ones(features.shape[:2], device=features.device) if is_present is None else is_present
        weights = weights.to(features.dtype)[..., None]
        mean = (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return ModelOutput(logits=cast(Tensor, self.classifier(mean)), features=mean)
