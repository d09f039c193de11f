"""Grad-CAM (arXiv 1610.02391) by captum: the regions of a crop that raise the logit of a class, as maps and sheets.

A map shows where the features of a layer raise the logit of a class for one image. It does not tell whether the model
is right, and a coarse layer (10×10 for a crop of 320) cannot resolve anything smaller than its cells.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from manifests.errors import ConfigError
from training.data.augment import resize_crops
from training.models.deepfake_detector import ModelOutput

Layout = Literal["nchw", "nhwc", "tokens"]

# Prefix of a model's name → names of modules, best first, as regular expressions. A name matches any module whose
# dotted name ends with it; of several, the last one is taken.
DEFAULT_LAYERS: dict[str, tuple[str, ...]] = {
    "m2tr-swin": ("layers.3", "layers_3", "backbone.norm"),
    "m2tr": ("backbone.net.bn2", "bn2", "conv_head"),  # last map, 1792×10×10 at 320 px, after norm and SiLU
    "xception": ("act4", "bn4", "conv4"),
    "legacy_xception": ("act4", "bn4", "conv4"),
    "efficientnet": ("bn2", "conv_head"),
    "tf_efficientnet": ("bn2", "conv_head"),
    "swin": ("layers.3", "layers_3"),
    "resnet": ("layer4",),
    "convnext": ("stages.3", "stages_3"),
    "vit": ("norm",),
}
# Layouts of these layers' outputs where they are not (B,C,h,w).
DEFAULT_LAYOUTS: dict[str, Layout] = {"m2tr-swin": "nhwc", "swin": "nhwc", "vit": "tokens"}

# Layers with finer maps earlier in the network: 32×80×80 for a crop of 320.
FINE_LAYERS: dict[str, tuple[str, ...]] = {"m2tr": (r"stages\.\d+",)}
LAST, FINE = "last", "fine"  # accepted in place of a module's name

OVERLAY_SHARE = 0.45  # weight of the colour map in an overlay
UNUSED = "used in the graph"  # part of torch's message for a tensor without gradient
NUM_NAMED = 8  # modules named in a message, the last ones of the model
CAPTION_PX = 18  # height of the caption below an image, pixels
GAP_PX = 4  # pixels between images
_PAPER, _INK = 255, 32  # grey values of the sheet


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """A module whose output is a map of features."""

    name: str
    """Dotted name in the model."""

    module: nn.Module
    """The module."""

    layout: Layout
    """Layout of its output."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SheetItem:
    """A crop of a sheet with its map."""

    crop: npt.NDArray[np.uint8]
    """(S,S,3) uint8 RGB."""

    cam: npt.NDArray[np.float32]
    """(S,S) float32 0..1, Grad-CAM map."""

    caption: str
    """ASCII, such as `fake 0.93 Deepfakes`."""


def find_layer(model: nn.Module, model_name: str, wanted: str = LAST) -> Layer:
    """Return the layer of a model that Grad-CAM explains.

    Args:
        model: the network.
        model_name: its name in the settings, such as `m2tr`, `xception`, `efficientnet_b4`.
        wanted: `last`, `fine` for a finer map earlier in the network, or the dotted name of a module.

    Raises:
        ConfigError: no layer is known for the model, or it has no module of this name.
    """
    modules = {path: module for path, module in model.named_modules() if path}
    key = max((name for name in DEFAULT_LAYOUTS if model_name.startswith(name)), key=len, default="")
    layout = DEFAULT_LAYOUTS.get(key, "nchw")
    if wanted in modules:
        return Layer(name=wanted, module=modules[wanted], layout=layout)
    way_out = f"name a module, such as {', '.join(list(modules)[: -1 - NUM_NAMED : -1])}"
    if wanted not in (LAST, FINE):
        raise ConfigError(f"layer for Grad-CAM: got {wanted!r}, expected {LAST}, {FINE} or a module; {way_out}")
    layers = FINE_LAYERS if wanted == FINE else DEFAULT_LAYERS
    known = max((name for name in layers if model_name.startswith(name)), key=len, default=None)
    if known is None:
        raise ConfigError(
            f"{wanted} layer for Grad-CAM: got the model {model_name!r}, expected one that begins with "
            f"{', '.join(layers)}; {way_out}"
        )
    for suffix in layers[known]:
        found = [path for path in modules if re.fullmatch(rf"(.*\.)?{suffix}", path)]
        if found:
            return Layer(name=found[-1], module=modules[found[-1]], layout=layout)
    raise ConfigError(
        f"{wanted} layer for Grad-CAM of {model_name!r}: got no module {' or '.join(layers[known])}, expected one "
        f"in the model; {way_out}"
    )


def grad_cam(model: nn.Module, layer: Layer, images: Tensor, target: int | Tensor) -> npt.NDArray[np.float32]:
    """Compute (B,S,S) float32 maps 0..1, with maximum 1; all 0 where nothing raises the logit of the class.

    Args:
        model: network that returns a ModelOutput; it runs in evaluation mode, and its mode is restored.
        layer: a module that is called once per forward pass. Its output is `nchw` (B,C,h,w), `nhwc` (B,h,w,C) or
            `tokens` (B,N,C), where N is a square, or a square and a leading class token.
        images: (B,3,S,S) float32, normalised as for the model.
        target: class whose logit is explained, one for all or (B,) int64.

    Raises:
        ConfigError: the output of the layer is not a map, or the logits do not depend on it.
        ValueError: the images have another shape.
    """
    from captum.attr import LayerGradCam

    if images.ndim != 4:
        raise ValueError(f"images: got shape {tuple(images.shape)}, expected (B, 3, S, S)")

    def logits(batch: Tensor) -> Tensor:
        output = model(batch)
        return output.logits if isinstance(output, ModelOutput) else output

    was_training, probe = model.training, nn.Identity()
    model.eval()
    try:
        # float32, since bfloat16 makes maps blotchy; a leaf that requires gradients, so that frozen models work.
        inputs = images.detach().float().clone().requires_grad_()
        with _probed(layer, probe), torch.enable_grad(), torch.autocast(images.device.type, enabled=False):
            maps = LayerGradCam(logits, probe).attribute(inputs, target=target, relu_attributions=True)
    except (AssertionError, RuntimeError) as error:  # of captum for a layer that was not called, and of torch
        if isinstance(error, RuntimeError) and UNUSED not in str(error):
            raise
        raise ConfigError(
            f"layer for Grad-CAM: got {layer.name!r}, on which the logits do not depend, expected one between "
            "images and logits; name another"
        ) from error
    finally:
        model.train(was_training)
    return _spread(maps.detach(), images.shape[-2:])


def overlay(crop: npt.NDArray[np.uint8], cam: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Blend a (S,S,3) uint8 RGB crop with its (S,S) map, dark blue for 0, red for 1.

    Raises:
        ValueError: the map has another size.
    """
    if cam.shape != crop.shape[:2]:
        raise ValueError(f"cam: got shape {cam.shape}, expected {crop.shape[:2]} as the crop")
    heat = np.rint(255 * np.clip(cam, 0.0, 1.0)).astype(np.uint8)
    coloured = cv2.cvtColor(cv2.applyColorMap(heat, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(crop, 1.0 - OVERLAY_SHARE, coloured, OVERLAY_SHARE, 0.0), dtype=np.uint8)


def sheet(items: Sequence[SheetItem], *, columns: int = 4, side: int = 160) -> npt.NDArray[np.uint8]:
    """Lay out a sheet, (H,W,3) uint8 RGB: each crop beside its overlay, with a caption below.

    Args:
        items: crops with maps, at least one.
        columns: pairs per row.
        side: side of an image, pixels.

    Raises:
        ValueError: there is no item.
    """
    if not items:
        raise ValueError("items of a sheet: got none, expected at least one")
    columns = min(columns, len(items))
    cell_height, cell_width = side + CAPTION_PX + GAP_PX, 2 * side + 2 * GAP_PX
    rows = -(-len(items) // columns)
    page = np.full((rows * cell_height + GAP_PX, columns * cell_width + GAP_PX, 3), _PAPER, dtype=np.uint8)
    for number, item in enumerate(items):
        top, left = GAP_PX + number // columns * cell_height, GAP_PX + number % columns * cell_width
        pair = resize_crops(np.stack([item.crop, overlay(item.crop, item.cam)]), side)
        page[top : top + side, left : left + 2 * side] = np.hstack(list(pair))
        place = (left, top + side + CAPTION_PX - 5)
        cv2.putText(page, item.caption, place, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (_INK,) * 3, 1, cv2.LINE_AA)
    return page


@contextmanager
def _probed(layer: Layer, probe: nn.Module) -> Iterator[None]:
    """Pass the output of a layer through `probe` as (B,C,h,w), the only layout that captum takes, and back."""
    handle = layer.module.register_forward_hook(lambda _module, _inputs, output: _through(probe, output, layer))
    try:
        yield
    finally:
        handle.remove()


def _through(probe: nn.Module, output: object, layer: Layer) -> Tensor:
    layout = layer.layout
    dimensions = 3 if layout == "tokens" else 4
    if not isinstance(output, Tensor) or output.ndim != dimensions:
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise ConfigError(
            f"layer for Grad-CAM: got {layer.name!r} with output {got}, expected {dimensions} dimensions ({layout}); "
            "name another"
        )
    if layout == "nchw":
        return Tensor(probe(output))
    if layout == "nhwc":
        return Tensor(probe(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
    side = int(output.shape[1] ** 0.5)
    extra = output.shape[1] - side * side
    if extra > 1:
        raise ConfigError(
            f"layer for Grad-CAM: got {layer.name!r} with {output.shape[1]} tokens, expected a square, or one more"
        )
    patches = output[:, extra:].transpose(1, 2).reshape(len(output), -1, side, side)
    return torch.cat([output[:, :extra], probe(patches).flatten(2).transpose(1, 2)], dim=1)


def _spread(maps: Tensor, size: Sequence[int]) -> npt.NDArray[np.float32]:
    """Enlarge (B,1,h,w) maps to (B,S,S), each divided by its maximum."""
    large = functional.interpolate(maps.float(), size=tuple(size), mode="bilinear", align_corners=False)[:, 0]
    highest = large.amax(dim=(1, 2), keepdim=True)
    return np.asarray((large / highest.clamp_min(torch.finfo(torch.float32).tiny)).cpu().numpy(), dtype=np.float32)
