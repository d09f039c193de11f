"""A frame model and a head over time: a detector of clips."""

from __future__ import annotations

from typing import Literal, cast

from torch import Tensor, nn

from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOutput
from training.models.temporal import FrameMean, VideoTemporalFusion


class ClipDetector(nn.Module):
    """Looks at each frame of a clip, then at all of them.

    Args:
        frame_model: a detector of single frames.
        head: `vtf`, the paper's temporal fusion, or `mean`, the baseline: the frame model's classifier on the mean.
        max_frames: most frames of a clip.

    Raises:
        ConfigError: the frame model has no classifier that could be given a mean.
    """

    def __init__(self, frame_model: nn.Module, head: Literal["mean", "vtf"], max_frames: int) -> None:
        super().__init__()
        self.frame_model = frame_model
        self.img_size, self.num_classes = cast(int, frame_model.img_size), cast(int, frame_model.num_classes)
        num_features = cast(int, frame_model.num_features)
        if head == "mean":
            classifier = getattr(frame_model, "classifier", None)
            if not isinstance(classifier, nn.Module):
                raise ConfigError("model.head mean: got a model without a classifier of its own, expected m2tr; or vtf")
            self.head: nn.Module = FrameMean(classifier)
            self.num_features = num_features
        else:
            fusion = VideoTemporalFusion(num_features, self.num_classes, max(max_frames, 1))
            self.head, self.num_features = fusion, fusion.head.in_features

    def forward(self, images: Tensor) -> ModelOutput:
        """(B,T,3,S,S) → logits (B,C) raw, features (B,F'); the frames' masks are left out."""
        batch, frames = images.shape[:2]
        found = cast(ModelOutput, self.frame_model(images.flatten(0, 1)))
        return cast(ModelOutput, self.head(found.features.reshape(batch, frames, -1)))
