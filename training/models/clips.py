"""Detectors of clips: a frame model and a head over time, by temporal fusion or by the mean.

The paper names video temporal fusion (VTF) without publishing code. `VideoTemporalFusion` follows its description
(arXiv 2104.09770, section 3): pooled features of T frames of one track, projected, with learned positions and a class
token, through a small encoder.
"""

from __future__ import annotations

from typing import Literal, cast

import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOutput

WIDTH = 512  # length of the projected features
NUM_LAYERS = 2
NUM_HEADS = 8
EXPANSION = 4  # of the encoder's feed-forward part, as in Vaswani et al. (arXiv 1706.03762)
DROPOUT = 0.1  # of the encoder, from the same source
# Initial standard deviation of positions and class token: that of projected features. With 0.02, as in ViT, the head
# did not learn to tell a clip from its reverse in 40 steps; with 0.3 it took 20.
POSITION_SCALE = 0.3


class VideoTemporalFusion(nn.Module):
    """Temporal fusion: a small encoder over the features of the frames of a clip.

    Args:
        num_features: F, features of a frame.
        num_classes: C.
        max_frames: maximum number of frames of a clip.
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
        """Classify clips.

        Args:
            features: (B,T,F) features of frames in order of time.
            is_present: (B,T) bool, False for padding of a shorter clip; None: no padding.

        Returns:
            logits (B,C) raw, features (B,512) of the class token.

        Raises:
            ConfigError: a clip has more than `max_frames` frames.
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
    """Baseline over time: the classifier of the frame model, applied to the mean of the frame features.

    With a linear classifier this is the mean of the frame logits.

    Args:
        classifier: classifier of the frame model, (B,F) → (B,C).
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, features: Tensor, is_present: Tensor | None = None) -> ModelOutput:
        """(B,T,F) features and (B,T) bool → logits (B,C) raw, features (B,F); zeros for a clip without frames."""
        weights = torch.ones(features.shape[:2], device=features.device) if is_present is None else is_present
        weights = weights.to(features.dtype)[..., None]
        mean = (features * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        return ModelOutput(logits=cast(Tensor, self.classifier(mean)), features=mean)


class ClipDetector(nn.Module):
    """A detector of clips: a frame model on each frame, then a head over time.

    Args:
        frame_model: a detector of single frames.
        head: `vtf`, the temporal fusion of the paper, or `mean`, the baseline.
        max_frames: maximum number of frames of a clip.

    Raises:
        ConfigError: the head is `mean` and the frame model has no `classifier` module.
    """

    def __init__(self, frame_model: nn.Module, head: Literal["mean", "vtf"], max_frames: int) -> None:
        super().__init__()
        self.frame_model = frame_model
        self.img_size, self.num_classes = cast(int, frame_model.img_size), cast(int, frame_model.num_classes)
        self.enlarges_crops = getattr(frame_model, "enlarges_crops", False)
        num_features = cast(int, frame_model.num_features)
        if head == "mean":
            classifier = getattr(frame_model, "classifier", None)
            if not isinstance(classifier, nn.Module):
                raise ConfigError(
                    "model.head: got mean for a model without `classifier`, expected a model with one, such as m2tr; "
                    "choose model.head=vtf for others"
                )
            self.head: nn.Module = FrameMean(classifier)
            self.num_features = num_features
        else:
            fusion = VideoTemporalFusion(num_features, self.num_classes, max(max_frames, 1))
            self.head, self.num_features = fusion, fusion.head.in_features

    def forward(self, images: Tensor) -> ModelOutput:
        """(B,T,3,S,S) → logits (B,C) raw, features (B,F') of the head; no mask."""
        batch, frames = images.shape[:2]
        found = cast(ModelOutput, self.frame_model(images.flatten(0, 1)))
        return cast(ModelOutput, self.head(found.features.reshape(batch, frames, -1)))
