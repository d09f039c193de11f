"""M2TR: Multi-modal Multi-scale Transformers for Deepfake Detection (Wang et al., arXiv 2104.09770), as one network.

    images ─ Backbone.low ─ Stage × 4 ─ Backbone.high ─ mean ─ Classifier ─ logits
                             │      └───── MaskDecoder ─ mask
                             └ MultiScaleTransformer ─ FrequencyFilter ─ CrossModalityFusion

There is one class for each box of the paper's figure. The figure runs the filter in parallel with the transformer, the
authors' code (PyDeepFakeDet, MIT) runs it after the transformer. This module follows the code, since the published
weights do. Numbers from that code are marked `code`, those of EfficientNet (Tan & Le, arXiv 1905.11946) `B4`. No line
of the authors' code is copied.

The attention matrix is never materialised: 6,400 × 6,400 tokens take 164 MB per image. Maps are channels-last, so that
(B,C,H,W) maps are (B,H·W,C) tokens without a copy: the fast kernels need queries, keys and values that are contiguous
in their last dimension. On a CPU, call `torch.set_flush_denormal(True)` before any thread starts: peaked attention
produces denormal gradients, which double the time of a training step.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import timm
import torch
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its name in the documentation of torch

from manifests.errors import ConfigError
from training.models.deepfake_detector import BACKBONE, ModelOptions, ModelOutput
from training.models.weight_files import read_state, require_same, without_missing_counters

BACKBONE_BN_MOMENTUM = 0.01  # B4 (TensorFlow's 0.99); timm's own default is 0.1
BACKBONE_DROP_PATH = 0.2  # B4: probability of skipping the last block; that of block i is 0.2·i/32
NUM_LOW_STAGES = 2  # code: blocks 0–5; timm groups the 32 blocks as 2, 4, 4, 6, 6, 8, 2
CHANNELS = 32  # B4: channels of the texture map, after block 5
TEXTURE_STRIDE = 4  # pixels of a crop per position of the texture map
SIZE_STEP = 32  # pixels; crops are a multiple of it: 4 positions of the smallest patch, and the stride of the backbone
PATCHES_PER_SIDE = (1, 2, 4, 8)  # paper: patches of H, H/2, H/4, H/8, one head each
NEGATIVE_SLOPE = 0.2  # code: slope of LeakyReLU in the stages
DECODER_SLOPE = 0.2  # code: slope of LeakyReLU in the decoder
FILTER_SCALE = 0.02  # code: standard deviation of the initial weights of the filter


class LeanNorm(BatchNormAct2d):
    """timm's batch normalisation with activation, in place where the input is not needed again."""

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → (B,C,H,W)."""
        return cast(Tensor, self.act(normalise(self, x)))


class LeanConv(Conv2dSame):
    """A convolution of stride 2 with TensorFlow's SAME padding for even sides: k//2 - 1 before, k//2 after.

    The kernel is extended by a leading row and column of zeros and the padding is k//2 on both sides: the same sums,
    without a padded copy of the largest maps.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → (B,D,H/2,W/2), H and W even."""
        padding = self.kernel_size[0] // 2
        return F.conv2d(x, F.pad(self.weight, (1, 0, 1, 0)), self.bias, self.stride, padding, 1, self.groups)


class LeanExcite(SqueezeExcite):
    """timm's squeeze-and-excitation, in place where the input is not needed again."""

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → (B,C,H,W)."""
        gate = self.gate(self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True)))))
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class Backbone(nn.Module):
    """EfficientNet-B4, split after block 5: `low` runs before the stages, `high` after them.

    Three kinds of timm's modules get another `forward`, which changes neither state nor results: on a CPU, large maps
    take longer to allocate than to compute (batch normalisation of 8 × 144 × 160 × 160: 56 ms, in place 4 ms).

    Args:
        num_classes: rows of `net.classifier`, which is unused and frozen, but part of the authors' checkpoints.
        pretrained: download timm's ImageNet weights. False never accesses the network.
        name: timm's name of an EfficientNet; the paper uses B4.

    Raises:
        ConfigError: timm has no EfficientNet of this name.
    """

    def __init__(self, num_classes: int = 2, pretrained: bool = False, name: str = BACKBONE) -> None:
        super().__init__()
        if "efficientnet" not in name or not timm.is_model(name):
            raise ConfigError(f"backbone of m2tr: got {name!r}, expected an EfficientNet of timm, such as {BACKBONE}")
        # The authors' settings fine-tune B4 for days; a small network is trained from scratch within minutes.
        as_authors: dict[str, Any] = {"bn_momentum": BACKBONE_BN_MOMENTUM, "drop_path_rate": BACKBONE_DROP_PATH}
        options = as_authors if name == BACKBONE else {}
        self.net: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
        self.num_channels = cast(Any, self.net.feature_info)[NUM_LOW_STAGES - 1]["num_chs"]
        self.num_features = cast(int, self.net.num_features)
        self.net.get_submodule("classifier").requires_grad_(False)
        for module in self.net.modules():
            module.__class__ = LEAN.get(type(module), type(module))

    def low(self, images: Tensor) -> Tensor:
        """(B,3,S,S) → (B,32,S/4,S/4), the "texture": stem and blocks 0–5."""
        return self._run(("conv_stem", "bn1", *(f"blocks.{group}" for group in range(NUM_LOW_STAGES))), images)

    def high(self, texture: Tensor) -> Tensor:
        """(B,32,S/4,S/4) → (B,1792,S/32,S/32): blocks 6–31 and the head."""
        num_groups = len(cast(nn.Sequential, self.net.get_submodule("blocks")))
        parts = (*(f"blocks.{group}" for group in range(NUM_LOW_STAGES, num_groups)), "conv_head", "bn2")
        return self._run(parts, texture)

    def _run(self, parts: tuple[str, ...], maps: Tensor) -> Tensor:
        for name in parts:
            maps = self.net.get_submodule(name)(maps)
        return maps


LEAN: dict[type[nn.Module], type[nn.Module]] = {
    BatchNormAct2d: LeanNorm,
    Conv2dSame: LeanConv,
    SqueezeExcite: LeanExcite,
}


class ConvUnit(nn.Module):
    """Convolution, batch normalisation (eps 1e-5, momentum 0.1) and LeakyReLU(0.2) of unchanged size.

    Args:
        channels: channels of the maps.
        kernel_px: side of the kernel, positions.
        dilation: spacing of the kernel's taps, positions.
    """

    def __init__(self, channels: int, kernel_px: int, dilation: int = 1) -> None:
        super().__init__()
        padding = dilation * (kernel_px // 2)
        self.conv = nn.Conv2d(channels, channels, kernel_px, padding=padding, dilation=dilation)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,W) → (B,32,H,W)."""
        return F.leaky_relu(normalise(self.norm, self.conv(maps)), NEGATIVE_SLOPE, inplace=True)


class FeedForward(nn.Module):
    """Feed-forward part of the transformer and of the filter: two 3×3 convolutions, the first with dilation 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvUnit(channels, 3, dilation=2)
        self.second = ConvUnit(channels, 3)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,W) → (B,32,H,W), without the residual."""
        return cast(Tensor, self.second(self.first(maps)))


class MultiScaleTransformer(nn.Module):
    """Self-attention among patches of four sizes, one head of 8 channels per size, then the feed-forward part.

    A token is a whole patch of its head: 1, 4, 16 and 64 tokens. The values of a token are ordered (row, column,
    channel), in the authors' code (channel, row, column): inner products are the same. There is no positional encoding.
    With one token the softmax is 1: queries and keys of that head have no effect, and are not computed.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.output = ConvUnit(channels, 3)
        self.feed_forward = FeedForward(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H), H a multiple of 8."""
        attended = self._attend(project(maps, self.query, self.key, self.value))
        maps = maps + self.output(attended.permute(0, 3, 1, 2))
        return maps + cast(Tensor, self.feed_forward(maps))

    def _attend(self, projected: Tensor) -> Tensor:
        """(B,H,H,96), q, k and v concatenated → (B,H,H,32)."""
        heads = projected.view(*projected.shape[:3], 3, len(PATCHES_PER_SIDE), -1).unbind(4)
        mixed = [attend_patches(head, num) for head, num in zip(heads, PATCHES_PER_SIDE, strict=True)]
        return torch.cat(mixed, dim=3)


class FrequencyFilter(nn.Module):
    """A learned complex factor per frequency and channel, in float32 under any autocast, then the feed-forward part.

    Args:
        channels: channels of the maps.
        side: H of the maps, which fixes the shape of the weights.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.complex_weight = nn.Parameter(FILTER_SCALE * torch.randn(side, side // 2 + 1, channels, 2))
        self.feed_forward = FeedForward(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H), with the residual."""
        return maps + cast(Tensor, self.feed_forward(self.filter(maps)))

    def filter(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H): real FFT over both sides, multiplied by the weights, inverse FFT; norm "ortho"."""
        precision = at_least_float32(maps)
        with torch.autocast(maps.device.type, enabled=False):
            waves = torch.fft.rfft2(maps.permute(0, 2, 3, 1).to(precision), dim=(1, 2), norm="ortho")
            waves = waves * torch.view_as_complex(self.complex_weight.to(precision).contiguous())
            filtered: Tensor = torch.fft.irfft2(waves, s=maps.shape[2:], dim=(1, 2), norm="ortho")
        return filtered.permute(0, 3, 1, 2).to(maps.dtype)


class CrossModalityFusion(nn.Module):
    """Cross-attention from texture to filtered maps: one head of 32 channels over all H·W tokens."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.output = ConvUnit(channels, 1)

    def forward(self, texture: Tensor, frequency: Tensor) -> Tensor:
        """(B,32,H,W) of the transformer and (B,32,H,W) of the filter → (B,32,H,W)."""
        query = project(texture, self.query).flatten(1, 2)
        key, value = project(frequency, self.key, self.value).flatten(1, 2).chunk(2, dim=2)
        fused = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        fused = fused.transpose(1, 2).view(texture.shape)
        return texture + cast(Tensor, self.output(fused))


class Stage(nn.Module):
    """Transformer, filter and fusion in sequence.

    Args:
        channels: channels of the maps.
        side: H of the maps.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.transformer = MultiScaleTransformer(channels)
        self.frequency = FrequencyFilter(channels, side)
        self.fusion = CrossModalityFusion(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H)."""
        texture = self.transformer(maps)
        return cast(Tensor, self.fusion(texture, self.frequency(texture)))


class Classifier(nn.Module):
    """Dropout and one linear layer.

    Args:
        num_features: F.
        num_classes: C.
        dropout: probability of dropping a feature in training.
    """

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B,1792) → (B,C) raw logits. The authors' model returns sigmoids of them in evaluation."""
        return cast(Tensor, self.projection(self.dropout(features)))


class MaskDecoder(nn.Module):
    """Mask of the altered region, from the maps of the last stage: two upsamplings by 2 and four convolutions.

    Args:
        as_published: no padding in the first convolution, as in the authors' code: a mask of side S - 4.
        channels: channels of the maps.
    """

    def __init__(self, as_published: bool = False, channels: int = CHANNELS) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=0 if as_published else 1)
        self.second = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.third = nn.Conv2d(channels // 2, channels // 2, 3, padding=1)
        self.last = nn.Conv2d(channels // 2, 1, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,S/4,S/4) → (B,1,S,S) float32, 0..1."""
        maps = F.leaky_relu(self.first(enlarge(maps)), DECODER_SLOPE, inplace=True)
        maps = F.leaky_relu(self.second(maps), DECODER_SLOPE, inplace=True)
        maps = F.leaky_relu(self.third(enlarge(maps)), DECODER_SLOPE**2, inplace=True)  # code: applied twice
        maps = self.last(maps)
        return torch.sigmoid(maps.to(at_least_float32(maps)))


class M2TR(nn.Module):
    """The complete M2TR network.

    Args:
        img_size: side S of the crops, pixels, a multiple of 32; it fixes the shape of the filters' weights.
        num_classes: C; with two classes, real and fake.
        decoder: whether a mask is computed.
        pretrained: download timm's ImageNet weights of the backbone. False never accesses the network.
        backbone_weights: file of these weights instead: timm's keys, `.safetensors` or torch's format.
        num_stages: number of stages (transformer, filter and fusion).
        dropout: probability of dropping a feature before the classifier.
        backbone: timm's name of an EfficientNet; the paper uses B4.

    Raises:
        ConfigError: the size is not a multiple of 32, or the file does not match the backbone.
    """

    def __init__(
        self,
        img_size: int = 320,
        num_classes: int = 2,
        decoder: bool = True,
        pretrained: bool = False,
        backbone_weights: Path | None = None,
        num_stages: int = 4,
        dropout: float = 0.5,
        backbone: str = BACKBONE,
    ) -> None:
        super().__init__()
        if img_size <= 0 or img_size % SIZE_STEP:
            raise ConfigError(f"img_size: got {img_size}, expected a multiple of {SIZE_STEP}; the paper uses 320")
        self.img_size, self.num_classes = img_size, num_classes
        self.memory_format = torch.channels_last
        self.backbone = Backbone(num_classes, pretrained, backbone)
        self.num_features, channels = self.backbone.num_features, self.backbone.num_channels
        if backbone_weights is not None:
            load_backbone(self.backbone, backbone_weights)
        self.stages = nn.ModuleList(Stage(channels, img_size // TEXTURE_STRIDE) for _ in range(num_stages))
        self.classifier = Classifier(self.num_features, num_classes, dropout)
        self.decoder = MaskDecoder(channels=channels) if decoder else None
        for module in self.modules():  # all but the filters, whose weights are complex pairs of four dimensions
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> ModelOutput:
        """(B,3,S,S) float32, normalised as ImageNet → logits (B,C) raw, features (B,1792), mask (B,1,S,S) 0..1."""
        maps = self.backbone.low(images.contiguous(memory_format=self.memory_format))
        for stage in self.stages:
            maps = stage(maps)
        mask = None if self.decoder is None else self.decoder(maps)
        features = self.backbone.high(maps).mean((2, 3))
        return ModelOutput(logits=self.classifier(features), features=features, mask=mask)


def make_m2tr(options: ModelOptions) -> M2TR:
    """Build M2TR from the settings of a model; `options.weights` are those of the backbone."""
    return M2TR(
        options.img_size,
        options.num_classes or 2,
        pretrained=options.pretrained,
        backbone_weights=options.weights,
        num_stages=options.num_stages,
        dropout=options.dropout,
        backbone=options.backbone,
    )


def normalise(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """Apply batch normalisation to (B,C,H,W) maps; on a CPU in evaluation without gradients, in place.

    Args:
        norm: weights and statistics.
        maps: output of a convolution that nothing else uses.
    """
    if norm.training or torch.is_grad_enabled() or maps.device.type != "cpu" or maps.dtype != norm.weight.dtype:
        return nn.BatchNorm2d.forward(norm, maps)
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    return torch.addcmul(shift[:, None, None], maps, scale[:, None, None], out=maps)


def at_least_float32(maps: Tensor) -> torch.dtype:
    """Return float32, or float64 for float64 maps, which gradient checks use."""
    return torch.promote_types(maps.dtype, torch.float32)


def project(maps: Tensor, *convs: nn.Conv2d) -> Tensor:
    """Apply 1×1 convolutions as one matrix product: (B,C,H,W) channels-last → (B,H,W,C·len(convs)), contiguous."""
    weight = torch.cat([conv.weight for conv in convs]).flatten(1)
    bias = torch.cat([cast(Tensor, conv.bias) for conv in convs])
    return F.linear(maps.permute(0, 2, 3, 1), weight, bias)


def attend_patches(head: Tensor, per_side: int) -> Tensor:
    """Apply attention among the patches of one head: (B,H,W,3,8), q, k and v → (B,H,W,8)."""
    if per_side == 1:
        return head[..., 2, :]
    batch, side, _, _, width = head.shape
    grid = head.reshape(batch, per_side, side // per_side, per_side, side // per_side, 3, width)
    query, key, value = grid.permute(5, 0, 1, 3, 2, 4, 6).reshape(3, batch, 1, per_side**2, -1)
    mixed = F.scaled_dot_product_attention(query, key, value)
    grid = mixed.view(batch, per_side, per_side, side // per_side, side // per_side, width)
    return grid.transpose(2, 3).reshape(batch, side, side, width)


def enlarge(maps: Tensor) -> Tensor:
    """(B,C,H,W) → (B,C,2H,2W), bilinear, aligned corners (code)."""
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


def load_backbone(backbone: Backbone, path: Path) -> None:
    """Load ImageNet weights into the backbone from a file, without the classifier of 1,000 classes.

    Raises:
        ConfigError: the file cannot be read, or its keys or shapes do not match.
    """
    state = {key: tensor for key, tensor in read_state(path).items() if not key.startswith("classifier.")}
    expected = {key: value for key, value in backbone.net.state_dict().items() if not key.startswith("classifier.")}
    require_same(path, state, without_missing_counters(expected, state))
    backbone.net.load_state_dict(state, strict=False)
