"""Every detector by its name: M2TR, its relative with Swin, and any backbone of timm's as a baseline.

Each takes (B,3,S,S) crops and returns a `ModelOutput`; `img_size`, `num_classes` and `num_features` are attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import timm
import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOutput
from training.models.m2tr import BACKBONE, M2TR, SIZE_STEP, read_state, require_same

ATTRIBUTION_CLASSES = ("Real", "NeuralTextures", "Face2Face", "Deepfakes", "FaceSwap")  # of ff_attribution, by label
XCEPTION = "legacy_xception"  # timm's name of the network of Chollet (arXiv 1610.02357) that the studies use
XCEPTION_OLD_HEAD = "last_linear."  # what others' checkpoints call timm's `fc`
SWIN = "swin_tiny_patch4_window7_224"
SPECTRUM_WIDTHS = (32, 64, 128)  # channels behind each convolution of the spectrum branch; ours
DROPOUT = 0.5  # before the classifier of two branches, as M2TR has it
MAX_SUGGESTIONS = 5


class ModelMaker(Protocol):
    """What `MODELS` holds."""

    def __call__(self, img_size: int, num_classes: int | None, pretrained: bool, weights: Path | None) -> nn.Module:
        """Build a detector; `num_classes` None: the model's own."""
        ...


class TimmDetector(nn.Module):
    """A network of timm's behind the contract: features of its pooling, logits of its classifier, no mask.

    Args:
        name: timm's.
        img_size: side S of the crops, pixels; networks of one fixed size are built for it.
        num_classes: C.
        pretrained: fetch timm's weights. False never touches the network.
        weights: a file with weights instead; a classifier of another number of classes is left out.

    Raises:
        ConfigError: timm has no such network, or the file is not its.
    """

    def __init__(
        self, name: str, img_size: int, num_classes: int = 2, pretrained: bool = False, weights: Path | None = None
    ) -> None:
        super().__init__()
        if not timm.is_model(name):
            near = [*timm.list_models(f"*{name}*")[:MAX_SUGGESTIONS], *MODELS]
            raise ConfigError(f"model: got {name!r}, expected one of ours or timm's; such as {', '.join(near)}")
        self.img_size, self.num_classes = img_size, num_classes
        config = timm.get_pretrained_cfg(name)
        options: dict[str, Any] = {"img_size": img_size} if config is not None and config.fixed_input_size else {}
        self.net: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
        self.num_features = cast(int, getattr(self.net, "head_hidden_size", None) or self.net.num_features)
        if weights is not None:
            load_weights(self.net, weights)

    def forward(self, images: Tensor) -> ModelOutput:
        """(B,3,S,S) → logits (B,C) raw, features (B,F)."""
        features = self.embed(images)
        classifier = cast(Callable[[], nn.Module], self.net.get_classifier)()
        return ModelOutput(logits=classifier(features), features=features)

    def embed(self, images: Tensor) -> Tensor:
        """(B,3,S,S) → (B,F), pooled, the network's own dropout included."""
        maps = cast(Callable[[Tensor], Tensor], self.net.forward_features)(images)
        return cast(Callable[..., Tensor], self.net.forward_head)(maps, pre_logits=True)


class SpectrumBranch(nn.Module):
    """The amplitudes of an image's frequencies through three convolutions: regular traces of generators show there."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in SPECTRUM_WIDTHS:
            conv = nn.Conv2d(before, width, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            before = width
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """(B,3,S,S) → (B,128): log(1 + amplitude) of the real FFT, in float32 whatever the autocast."""
        with torch.autocast(images.device.type, enabled=False):
            spectrum = torch.fft.rfft2(images.float(), norm="ortho").abs().log1p()
        return cast(Tensor, self.layers(spectrum)).mean((2, 3))


class SwinSpectrum(nn.Module):
    """`m2tr-swin-tiny`: Swin-Tiny (Liu et al., arXiv 2103.14030) and a spectrum branch, one classifier.

    After the earlier study that put Swin-Tiny in the place of M2TR's backbone and transformer. It published no code:
    this is its idea in its simplest form, not its numbers.

    Args:
        img_size: side S of the crops, pixels, a multiple of 32.
        num_classes: C.
        pretrained: fetch timm's weights of Swin-Tiny. False never touches the network.
        weights: a file with them instead.

    Raises:
        ConfigError: the size is no multiple of 32, or the file is not Swin-Tiny's.
    """

    def __init__(
        self, img_size: int = 224, num_classes: int = 2, pretrained: bool = False, weights: Path | None = None
    ) -> None:
        super().__init__()
        if img_size <= 0 or img_size % SIZE_STEP:
            raise ConfigError(f"img_size: got {img_size}, expected a multiple of {SIZE_STEP}; 224 is Swin-Tiny's own")
        self.img_size, self.num_classes = img_size, num_classes
        self.texture = timm.create_model(SWIN, pretrained=pretrained, num_classes=0, img_size=img_size)
        if weights is not None:
            load_weights(self.texture, weights)
        self.spectrum = SpectrumBranch()
        self.num_features = cast(int, self.texture.num_features) + SPECTRUM_WIDTHS[-1]
        self.classifier = nn.Sequential(nn.Dropout(DROPOUT), nn.Linear(self.num_features, num_classes))

    def forward(self, images: Tensor) -> ModelOutput:
        """(B,3,S,S) → logits (B,C) raw, features (B,896)."""
        features = torch.cat([self.texture(images), self.spectrum(images)], dim=1)
        return ModelOutput(logits=self.classifier(features), features=features)


def load_weights(net: nn.Module, path: Path) -> None:
    """Load a timm network's weights from a file; a classifier of another number of classes is left out.

    Raises:
        ConfigError: the file cannot be read, or its keys or shapes are not this network's.
    """
    head = f"{cast(dict[str, str], net.pretrained_cfg)['classifier']}."
    ours = net.state_dict()
    state = {key.replace(XCEPTION_OLD_HEAD, head): tensor for key, tensor in read_state(path).items()}
    if any(key not in ours or ours[key].shape != state[key].shape for key in state if key.startswith(head)):
        state = {key: tensor for key, tensor in state.items() if not key.startswith(head)}
        ours = {key: tensor for key, tensor in ours.items() if not key.startswith(head)}
    require_same(path, state, ours)
    net.load_state_dict(state, strict=False)


def make_m2tr(img_size: int, num_classes: int | None, pretrained: bool, weights: Path | None) -> nn.Module:
    """M2TR of the paper; `weights` are those of its backbone."""
    return M2TR(img_size, 2 if num_classes is None else num_classes, pretrained=pretrained, backbone_weights=weights)


def make_swin(img_size: int, num_classes: int | None, pretrained: bool, weights: Path | None) -> nn.Module:
    """Swin-Tiny beside a spectrum branch."""
    return SwinSpectrum(img_size, 2 if num_classes is None else num_classes, pretrained, weights)


def timm_maker(name: str, own_classes: int = 2) -> ModelMaker:
    """Return the maker of a network of timm's."""

    def make(img_size: int, num_classes: int | None, pretrained: bool, weights: Path | None) -> nn.Module:
        return TimmDetector(name, img_size, own_classes if num_classes is None else num_classes, pretrained, weights)

    return make


MODELS: dict[str, ModelMaker] = {
    "m2tr": make_m2tr,
    "m2tr-swin-tiny": make_swin,
    "xception": timm_maker(XCEPTION),
    "efficientnet_b4": timm_maker(BACKBONE),
    "ff_attribution": timm_maker("tf_efficientnetv2_b0", len(ATTRIBUTION_CLASSES)),
}


def build_model(
    name: str, *, img_size: int, num_classes: int | None = None, pretrained: bool = False, weights: Path | None = None
) -> nn.Module:
    """Build a detector.

    Args:
        name: a key of `MODELS`, or a network of timm's by its own name.
        img_size: side S of the crops, pixels. 320 for M2TR, 299 for Xception, 224 for `ff_attribution` in the studies.
        num_classes: C; None: five for `ff_attribution`, two for all others.
        pretrained: fetch weights from timm's hub. False never touches the network.
        weights: a file with weights instead, of the whole network or, for M2TR and Swin, of its backbone.

    Raises:
        ConfigError: an unknown name, a size that the model cannot take, fewer than two classes, or another's weights.
    """
    if num_classes is not None and num_classes < 2:
        raise ConfigError(f"num_classes: got {num_classes}, expected at least 2; real and fake are two")
    make = MODELS[name] if name in MODELS else timm_maker(name)
    return make(img_size, num_classes, pretrained, weights)
