"""M2TR: Multi-modal Multi-scale Transformers for Deepfake Detection (Wang et al., arXiv 2104.09770), in one file.

    images ─ Backbone.low ─ Stage × 4 ─ Backbone.high ─ mean ─ Classifier ─ logits
                             │      └───── MaskDecoder ─ mask
                             └ MultiScaleTransformer ─ FrequencyFilter ─ CrossModalityFusion

One class for each box of the paper's figure. The figure runs the filter beside the transformer, the authors' code
(PyDeepFakeDet, MIT) behind it: we follow the code, since the published weights do. Numbers that are the code's are
marked `code`, those of EfficientNet (Tan & Le, arXiv 1905.11946) `B4`. Every line here is our own.

Attention never makes its matrix: 6,400 tokens against 6,400 are 164 MB an image. Pictures are held channels-last,
so that (B,C,H,W) maps are (B,H·W,C) tokens without a copy; the fast kernels want just that: queries, keys and values
that are contiguous in their last dimension. On a CPU call `torch.set_flush_denormal(True)` before any thread starts:
peaked attention makes denormal gradients, and they make a training step twice as long.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.layers.conv2d_same import Conv2dSame
from timm.layers.norm_act import BatchNormAct2d
from timm.models._efficientnet_blocks import SqueezeExcite
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from manifests.errors import ConfigError
from training.models.deepfake_detector import ModelOutput

BACKBONE = "tf_efficientnet_b4"  # timm's name of the network that the authors use: SAME padding, BN eps 1e-3
BACKBONE_BN_MOMENTUM = 0.01  # B4 (TensorFlow's 0.99); timm's own default is 0.1
BACKBONE_DROP_PATH = 0.2  # B4: chance to skip the last block; that of block i is 0.2·i/32
NUM_LOW_STAGES = 2  # code: blocks 0–5; timm groups the 32 blocks as 2, 4, 4, 6, 6, 8, 2
CHANNELS = 32  # B4: of the texture map behind block 5
TEXTURE_STRIDE = 4  # pixels of a crop to a place of the texture map
SIZE_STEP = 32  # crops are a multiple of this, pixels: four places to the smallest patch, and the backbone's stride
PATCHES_PER_SIDE = (1, 2, 4, 8)  # paper: patches of H, H/2, H/4, H/8, a head each
NEGATIVE_SLOPE = 0.2  # code: of LeakyReLU in the stages
DECODER_SLOPE = 0.2  # code: of LeakyReLU in the decoder
FILTER_SCALE = 0.02  # code: deviation of the filter's first weights

# The one table of keys: a part of our model, and what the authors call it. Backbone, blocks (those that expand
# their channels and those of the first group, which do not), stages, heads.
OFFICIAL_BACKBONE = {
    "conv_stem": "_conv_stem",
    "bn1": "_bn0",
    "conv_head": "_conv_head",
    "bn2": "_bn1",
    "classifier": "_fc",
}
OFFICIAL_BLOCK = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "se.conv_reduce": "_se_reduce",
    "se.conv_expand": "_se_expand",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
OFFICIAL_FIRST_BLOCK = {
    "conv_dw": "_depthwise_conv",
    "bn1": "_bn1",
    "se.conv_reduce": "_se_reduce",
    "se.conv_expand": "_se_expand",
    "conv_pw": "_project_conv",
    "bn2": "_bn2",
}
OFFICIAL_STAGE = {
    "transformer.query": "0.t.attention.query_embedding",
    "transformer.key": "0.t.attention.key_embedding",
    "transformer.value": "0.t.attention.value_embedding",
    "transformer.output.conv": "0.t.attention.output_linear.0",
    "transformer.output.norm": "0.t.attention.output_linear.1",
    "transformer.feed_forward.first.conv": "0.t.feed_forward.conv.0",
    "transformer.feed_forward.first.norm": "0.t.feed_forward.conv.1",
    "transformer.feed_forward.second.conv": "0.t.feed_forward.conv.3",
    "transformer.feed_forward.second.norm": "0.t.feed_forward.conv.4",
    "frequency": "1.filter",
    "frequency.feed_forward.first.conv": "1.feed_forward.conv.0",
    "frequency.feed_forward.first.norm": "1.feed_forward.conv.1",
    "frequency.feed_forward.second.conv": "1.feed_forward.conv.3",
    "frequency.feed_forward.second.norm": "1.feed_forward.conv.4",
    "fusion.query": "2.conv1",
    "fusion.key": "2.conv2",
    "fusion.value": "2.conv3",
    "fusion.output.conv": "2.conv4.0",
    "fusion.output.norm": "2.conv4.1",
}
OFFICIAL_HEADS = {
    "classifier.projection": "classifier.projection",
    "decoder.first": "decoder.deconv1.conv",
    "decoder.second": "decoder.conv1.0",
    "decoder.third": "decoder.deconv2.conv",
    "decoder.last": "decoder.conv2.1",
}
BLOCKS = "backbone.net.blocks."  # `group.block` follows
BLOCKS_DEPTH = 4  # dots in the name of a block
# What torch and safetensors raise at damaged and foreign files.
UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
MAX_REASON = 200  # characters of torch's own message
MAX_NAMED = 8  # keys that a message names; the rest is counted


class LeanNorm(BatchNormAct2d):
    """timm's batch normalisation with its activation, in place where nothing asks for the input again."""

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → (B,C,H,W)."""
        return cast(Tensor, self.act(normalise(self, x)))


class LeanConv(Conv2dSame):
    """A convolution of stride 2 with TensorFlow's SAME padding, on even sides: k//2 - 1 in front, k//2 behind.

    The kernel gets a row and a column of zeros in front and the padding is k//2 on both sides: the same sums, without
    a padded copy of the largest maps.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → (B,D,H/2,W/2), H and W even."""
        padding = self.kernel_size[0] // 2
        return F.conv2d(x, F.pad(self.weight, (1, 0, 1, 0)), self.bias, self.stride, padding, 1, self.groups)


class LeanExcite(SqueezeExcite):
    """timm's squeeze-and-excitation, in place where nothing asks for the input again."""

    def forward(self, x: Tensor) -> Tensor:
        """(B,C,H,W) → (B,C,H,W)."""
        gate = self.gate(self.conv_expand(self.act1(self.conv_reduce(x.mean((2, 3), keepdim=True)))))
        return x * gate if torch.is_grad_enabled() else x.mul_(gate)


class Backbone(nn.Module):
    """EfficientNet-B4, cut behind block 5: `low` runs before the stages, `high` after them.

    Of timm's modules three kinds get a `forward` of ours, without a change to state or sums: on a CPU, large maps cost
    more to allocate than to compute (batch normalisation of 8 × 144 × 160 × 160: 56 ms, in place 4 ms).

    Args:
        num_classes: rows of `net.classifier`, which nothing uses; it is kept, frozen, since checkpoints hold it.
        pretrained: fetch timm's ImageNet weights. False never touches the network.
        name: timm's, of an EfficientNet; B4 is the paper's.

    Raises:
        ConfigError: timm has no such EfficientNet.
    """

    def __init__(self, num_classes: int = 2, pretrained: bool = False, name: str = BACKBONE) -> None:
        super().__init__()
        if "efficientnet" not in name or not timm.is_model(name):
            raise ConfigError(f"backbone of m2tr: got {name!r}, expected an EfficientNet of timm's, such as {BACKBONE}")
        # The authors' settings are for fine-tuning B4 for days; a small network learns from nothing within minutes.
        as_authors: dict[str, Any] = {"bn_momentum": BACKBONE_BN_MOMENTUM, "drop_path_rate": BACKBONE_DROP_PATH}
        options = as_authors if name == BACKBONE else {}
        self.net: nn.Module = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, **options)
        self.num_channels = cast(int, self.net.feature_info[NUM_LOW_STAGES - 1]["num_chs"])  # type: ignore[index]
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
    """Convolution, batch normalisation (eps 1e-5, momentum 0.1) and LeakyReLU(0.2), the size kept.

    Args:
        channels: of the maps.
        kernel_px: side of the kernel.
        dilation: distance of its taps.
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
    """The feed-forward part of the transformer and of the filter: two 3×3 convolutions, the first with dilation 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvUnit(channels, 3, dilation=2)
        self.second = ConvUnit(channels, 3)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,W) → (B,32,H,W), without the residual."""
        return cast(Tensor, self.second(self.first(maps)))


class MultiScaleTransformer(nn.Module):
    """Self-attention among patches of four sizes, a head of 8 channels for each, then the feed-forward part.

    A token is a whole patch of its head: 1, 4, 16 and 64 tokens. The order of the numbers in a token is (row, column,
    channel) here and (channel, row, column) in the authors' code: inner products do not know. There is no encoding of
    positions. With one token the softmax is 1, so that head's queries and keys have no effect, and cost nothing.
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
        """(B,H,H,96), q, k and v behind one another → (B,H,H,32)."""
        heads = projected.view(*projected.shape[:3], 3, len(PATCHES_PER_SIDE), -1).unbind(4)
        mixed = [attend_patches(head, num) for head, num in zip(heads, PATCHES_PER_SIDE, strict=True)]
        return torch.cat(mixed, dim=3)


class FrequencyFilter(nn.Module):
    """A learned complex factor for every frequency and channel, in float32 whatever the autocast, then feed-forward.

    Args:
        channels: of the maps.
        side: H of the maps; the weights are bound to it.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.complex_weight = nn.Parameter(FILTER_SCALE * torch.randn(side, side // 2 + 1, channels, 2))
        self.feed_forward = FeedForward(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H), the residual included."""
        return maps + cast(Tensor, self.feed_forward(self.filter(maps)))

    def filter(self, maps: Tensor) -> Tensor:
        """(B,32,H,H) → (B,32,H,H): real FFT over both sides, times the weights, and back; "ortho" both ways."""
        precision = at_least_float32(maps)
        with torch.autocast(maps.device.type, enabled=False):
            waves = torch.fft.rfft2(maps.permute(0, 2, 3, 1).to(precision), dim=(1, 2), norm="ortho")
            waves = waves * torch.view_as_complex(self.complex_weight.to(precision).contiguous())
            filtered: Tensor = torch.fft.irfft2(waves, s=maps.shape[2:], dim=(1, 2), norm="ortho")
        return filtered.permute(0, 3, 1, 2).to(maps.dtype)


class CrossModalityFusion(nn.Module):
    """Every place of the picture asks every place of its filtered form: one head of 32 over all H·W tokens."""

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
    """Transformer, filter and fusion, one behind the other.

    Args:
        channels: of the maps.
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
        dropout: chance of a feature to be left out in training.
    """

    def __init__(self, num_features: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(num_features, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B,1792) → (B,C) raw logits. The authors' model returns sigmoids of them in evaluation."""
        return cast(Tensor, self.projection(self.dropout(features)))


class MaskDecoder(nn.Module):
    """Where the crop is altered, from the last stage: two enlargements by two and four convolutions.

    Args:
        as_published: leave the first convolution without padding, as the authors do: a mask of S - 4.
        channels: of the maps.
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
        maps = F.leaky_relu(self.third(enlarge(maps)), DECODER_SLOPE**2, inplace=True)  # code: it stands there twice
        maps = self.last(maps)
        return torch.sigmoid(maps.to(at_least_float32(maps)))


class M2TR(nn.Module):
    """The whole detector.

    Args:
        img_size: side S of the crops, pixels, a multiple of 32; the filters' weights are bound to it.
        num_classes: C; two are real and fake.
        decoder: whether there is a mask.
        pretrained: fetch timm's ImageNet weights of the backbone. False never touches the network.
        backbone_weights: a file with them instead, timm's keys, `.safetensors` or torch's own format.
        num_stages: of transformer, filter and fusion.
        dropout: before the classifier.
        backbone: timm's name of another EfficientNet than the paper's.

    Raises:
        ConfigError: the size is no multiple of 32, or the file is not that backbone's.
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
            raise ConfigError(f"img_size: got {img_size}, expected a multiple of {SIZE_STEP}; 320 is the paper's")
        self.img_size, self.num_classes = img_size, num_classes
        self.memory_format = torch.channels_last
        self.backbone = Backbone(num_classes, pretrained, backbone)
        self.num_features, channels = self.backbone.num_features, self.backbone.num_channels
        if backbone_weights is not None:
            load_backbone(self.backbone, backbone_weights)
        self.stages = nn.ModuleList(Stage(channels, img_size // TEXTURE_STRIDE) for _ in range(num_stages))
        self.classifier = Classifier(self.num_features, num_classes, dropout)
        self.decoder = MaskDecoder(channels=channels) if decoder else None
        for module in self.modules():  # not the filters' weights, which are complex pairs of four dimensions
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> ModelOutput:
        """(B,3,S,S), ImageNet's mean and deviation → logits (B,C) raw, features (B,1792), mask (B,1,S,S) 0..1."""
        maps = self.backbone.low(images.contiguous(memory_format=self.memory_format))
        for stage in self.stages:
            maps = stage(maps)
        mask = None if self.decoder is None else self.decoder(maps)
        features = self.backbone.high(maps).mean((2, 3))
        return ModelOutput(logits=self.classifier(features), features=features, mask=mask)


def normalise(norm: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    """Batch normalisation of (B,C,H,W) maps, which it overwrites on a CPU in evaluation without gradients.

    Args:
        norm: its weights and statistics.
        maps: what a convolution has just made, so that nothing else needs them.
    """
    if norm.training or torch.is_grad_enabled() or maps.device.type != "cpu" or maps.dtype != norm.weight.dtype:
        return nn.BatchNorm2d.forward(norm, maps)
    mean, variance = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    shift = norm.bias - mean * scale
    return torch.addcmul(shift[:, None, None], maps, scale[:, None, None], out=maps)


def at_least_float32(maps: Tensor) -> torch.dtype:
    """Return float32, or float64 for maps of it, as checks have them."""
    return torch.promote_types(maps.dtype, torch.float32)


def project(maps: Tensor, *convs: nn.Conv2d) -> Tensor:
    """Run 1×1 convolutions as one product: (B,C,H,W) channels-last → (B,H,W,C·len(convs)), contiguous."""
    weight = torch.cat([conv.weight for conv in convs]).flatten(1)
    bias = torch.cat([cast(Tensor, conv.bias) for conv in convs])
    return F.linear(maps.permute(0, 2, 3, 1), weight, bias)


def attend_patches(head: Tensor, per_side: int) -> Tensor:
    """Attention among the patches of one head: (B,H,W,3,8), q, k and v → (B,H,W,8)."""
    if per_side == 1:
        return head[..., 2, :]
    batch, side, _, _, width = head.shape
    grid = head.reshape(batch, per_side, side // per_side, per_side, side // per_side, 3, width)
    query, key, value = grid.permute(5, 0, 1, 3, 2, 4, 6).reshape(3, batch, 1, per_side**2, -1)
    mixed = F.scaled_dot_product_attention(query, key, value)
    grid = mixed.view(batch, per_side, per_side, side // per_side, side // per_side, width)
    return grid.transpose(2, 3).reshape(batch, side, side, width)


def enlarge(maps: Tensor) -> Tensor:
    """(B,C,H,W) → (B,C,2H,2W), bilinear, corners on corners (code)."""
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)


def load_backbone(backbone: Backbone, path: Path) -> None:
    """Load ImageNet weights of the backbone from a file; the classifier of its thousand classes is left out.

    Raises:
        ConfigError: the file cannot be read, or its keys or shapes are not this backbone's.
    """
    state = {key: tensor for key, tensor in read_state(path).items() if not key.startswith("classifier.")}
    expected = {key: value for key, value in backbone.net.state_dict().items() if not key.startswith("classifier.")}
    require_same(path, state, expected)
    backbone.net.load_state_dict(state, strict=False)


def load_official(path: Path, img_size: int = 320) -> M2TR:
    """Load a checkpoint of the authors' code: a bare state dict or `{"model_state": …}`, with or without a decoder.

    Args:
        path: the file. Nothing in it is run: only tensors and plain values are read.
        img_size: side of the crops that it was trained on, pixels.

    Raises:
        ConfigError: it cannot be read, or its keys or shapes are not M2TR's at that size; the message names them.
    """
    state = {key.removeprefix("module."): tensor for key, tensor in read_state(path).items()}  # of DDP
    projection = state.get("classifier.projection.weight")
    num_classes = 2 if projection is None else len(projection)
    model = M2TR(img_size, num_classes, decoder=any(key.startswith("decoder.") for key in state))
    ours = model.state_dict()
    names = official_names(model)
    require_same(path, state, {official: ours[name] for official, name in names.items()})
    model.load_state_dict({name: state[official] for official, name in names.items()})
    return model


def official_names(model: M2TR) -> dict[str, str]:
    """Return our key for each of the authors' keys, in the order of our state dict."""
    parts = dict(OFFICIAL_HEADS)
    parts |= {f"backbone.net.{ours}": f"model.{official}" for ours, official in OFFICIAL_BACKBONE.items()}
    blocks = [name for name, _ in model.named_modules() if name.startswith(BLOCKS) and name.count(".") == BLOCKS_DEPTH]
    for number, block in enumerate(blocks):
        table = OFFICIAL_FIRST_BLOCK if block.startswith(f"{BLOCKS}0.") else OFFICIAL_BLOCK
        parts |= {f"{block}.{ours}": f"model._blocks.{number}.{official}" for ours, official in table.items()}
    for number in range(len(model.stages)):
        parts |= {f"stages.{number}.{ours}": f"layers.{number}.{official}" for ours, official in OFFICIAL_STAGE.items()}
    split = {key: key.rpartition(".") for key in model.state_dict()}
    return {f"{parts[part]}.{last}": key for key, (part, _, last) in split.items()}


def read_weights(path: Path) -> Any:
    """Read whatever a file of torch's, or a `.safetensors`, holds; nothing in it is run.

    Raises:
        ConfigError: it is damaged, or holds more than tensors and plain values.
    """
    try:
        return load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        way_out = "save its state dict alone, unless it is damaged: torch.save(checkpoint['model_state'], path)"
        raise ConfigError(f"{path}: got {reason}, expected tensors and plain values only; {way_out}") from error


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, bare or under `model_state`; see `read_weights`.

    Raises:
        ConfigError: there is none in the file, or the file holds more than tensors and plain values.
    """
    held = read_weights(path)
    state = held.get("model_state", held) if isinstance(held, dict) else held
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        what = f"a dict of {sorted(map(str, state))[:MAX_NAMED]}" if isinstance(state, dict) else type(state).__name__
        raise ConfigError(f"{path}: got {what}, expected a state dict or one under `model_state`; look into the file")
    return state


def require_same(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Compare keys and shapes.

    Raises:
        ConfigError: they differ; the message names the first of them.
    """
    wrong = {
        "missing": [key for key in expected if key not in found],
        "unknown": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {tuple(found[key].shape)} for {tuple(value.shape)}"
            for key, value in expected.items()
            if key in found and found[key].shape != value.shape
        ],
    }
    told = [f"{len(keys)} {what} ({', '.join(keys[:MAX_NAMED])})" for what, keys in wrong.items() if keys]
    if told:
        way_out = "weights are bound to the model and to the img_size that they were trained at"
        raise ConfigError(f"{path}: got keys {'; '.join(told)}, expected {len(expected)} that match; {way_out}")
