"""Networks of timm as deepfake detectors: the baselines of the studies, and any other by timm's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
from torch import Tensor, nn

from training.models.deepfake_detector import ModelOptions, ModelOutput
from training.models.weight_files import read_state, require_same, without_missing_counters

XCEPTION_OLD_HEAD = "last_linear."  # name of timm's `fc` in other checkpoints of Xception


class TimmDetector(nn.Module):
    """A network of timm: features from its pooling, logits from its classifier, no mask.

    Args:
        name: timm's name of the network.
        img_size: side S of the crops, pixels; networks of a fixed input size are built for it.
        num_classes: C.
        pretrained: download timm's weights. False never accesses the network.
        weights: file of weights instead; a classifier of another number of classes is skipped.

    Raises:
        ConfigError: the file does not match the network.
    """

    def __init__(
        self, name: str, img_size: int, num_classes: int = 2, pretrained: bool = False, weights: Path | None = None
    ) -> None:
        super().__init__()
        self.img_size, self.num_classes = img_size, num_classes
        config = timm.get_pretrained_cfg(name)
        fixed: dict[str, Any] = {"img_size": img_size} if config is not None and config.fixed_input_size else {}
        self.net: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **fixed)
        self.num_features = cast(int, getattr(self.net, "head_hidden_size", None) or self.net.num_features)
        if weights is not None:
            load_weights(self.net, weights)

    def forward(self, images: Tensor) -> ModelOutput:
        """(B,3,S,S) → logits (B,C) raw, features (B,F)."""
        maps = cast(Callable[[Tensor], Tensor], self.net.forward_features)(images)
        # Pooled, after the dropout of the network.
        features = cast(Callable[..., Tensor], self.net.forward_head)(maps, pre_logits=True)
        classifier = cast(Callable[[], nn.Module], self.net.get_classifier)()
        return ModelOutput(logits=classifier(features), features=features)


def load_weights(net: nn.Module, path: Path) -> None:
    """Load weights into a network of timm from a file; a classifier of another number of classes is skipped.

    Raises:
        ConfigError: the file cannot be read, or its keys or shapes do not match.
    """
    head = f"{cast(dict[str, str], net.pretrained_cfg)['classifier']}."
    ours = net.state_dict()
    state = {key.replace(XCEPTION_OLD_HEAD, head): tensor for key, tensor in read_state(path).items()}
    if any(key not in ours or ours[key].shape != state[key].shape for key in state if key.startswith(head)):
        state = {key: tensor for key, tensor in state.items() if not key.startswith(head)}
        ours = {key: tensor for key, tensor in ours.items() if not key.startswith(head)}
    require_same(path, state, without_missing_counters(ours, state))
    net.load_state_dict(state, strict=False)


def make_timm(name: str, num_classes: int, options: ModelOptions) -> TimmDetector:
    """Build a network of timm with `num_classes`, unless the options give another number."""
    return TimmDetector(name, options.img_size, options.num_classes or num_classes, options.pretrained, options.weights)
