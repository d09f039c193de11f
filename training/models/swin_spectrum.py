"""Swin-Tiny with a spectrum branch: the model `m2tr-swin-tiny`."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import timm
import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOptions, ModelOutput
from training.models.m2tr import SIZE_STEP
from training.models.timm_detector import load_weights

SWIN = "swin_tiny_patch4_window7_224"
SPECTRUM_WIDTHS = (32, 64, 128)  # channels after each convolution of the spectrum branch; chosen here
DROPOUT = 0.5  # before the classifier of both branches, as in M2TR


class SpectrumBranch(nn.Module):
    """Three convolutions over the amplitude spectrum of an image, where generators leave regular traces."""

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
        """(B,3,S,S) → (B,128): log(1 + amplitude) of the real FFT, in float32 under any autocast."""
        with torch.autocast(images.device.type, enabled=False):
            spectrum = torch.fft.rfft2(images.float(), norm="ortho").abs().log1p()
        return cast(Tensor, self.layers(spectrum)).mean((2, 3))


class SwinSpectrum(nn.Module):
    """`m2tr-swin-tiny`: Swin-Tiny (Liu et al., arXiv 2103.14030) and a spectrum branch, one classifier.

    It follows an earlier study that replaced backbone and transformer of M2TR by Swin-Tiny. That study published no
    code: this is its idea in the simplest form, and does not reproduce its numbers.

    Args:
        img_size: side S of the crops, pixels, a multiple of 32.
        num_classes: C.
        pretrained: download timm's weights of Swin-Tiny. False never accesses the network.
        weights: file of these weights instead.

    Raises:
        ConfigError: the size is not a multiple of 32, or the file does not match Swin-Tiny.
    """

    def __init__(
        self, img_size: int = 224, num_classes: int = 2, pretrained: bool = False, weights: Path | None = None
    ) -> None:
        super().__init__()
        if img_size <= 0 or img_size % SIZE_STEP:
            raise ConfigError(f"img_size: got {img_size}, expected a multiple of {SIZE_STEP}; Swin-Tiny uses 224")
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


def make_swin_spectrum(options: ModelOptions) -> SwinSpectrum:
    """Build Swin-Tiny with a spectrum branch; `options.weights` are those of Swin-Tiny."""
    return SwinSpectrum(options.img_size, options.num_classes or 2, options.pretrained, options.weights)
