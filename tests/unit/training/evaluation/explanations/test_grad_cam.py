from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from training.evaluation.explanations.grad_cam import (
    FINE,
    LAST,
    Layer,
    Layout,
    SheetItem,
    find_layer,
    grad_cam,
    overlay,
    sheet,
)
from training.models.deepfake_detector import ModelOutput
from training.models.m2tr import M2TR

SIDE = 32


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


class ByColour(nn.Module):
    """Class 0 is the mean of red, class 1 that of green, over cells of 4×4 pixels: the answer of Grad-CAM is known."""

    def __init__(self, layout: Layout = "nchw") -> None:
        super().__init__()
        self.cells = nn.AvgPool2d(4)
        self.conv_head = nn.Identity()
        self.weight = nn.Parameter(torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
        self.layout = layout

    def forward(self, images: Tensor) -> ModelOutput:
        cells = self.cells(images)
        if self.layout == "nhwc":
            cells = self.conv_head(cells.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        elif self.layout == "tokens":
            tokens = cells.flatten(2).transpose(1, 2)
            tokens = self.conv_head(torch.cat([tokens[:, :1], tokens], dim=1))[:, 1:]
            cells = tokens.transpose(1, 2).unflatten(2, cells.shape[2:])
        else:
            cells = self.conv_head(cells)
        features = cells.mean(dim=(2, 3))
        return ModelOutput(logits=features @ self.weight.T, features=features)


def head_of(model: ByColour) -> Layer:
    return Layer(name="conv_head", module=model.conv_head, layout=model.layout)


@pytest.fixture
def images() -> Tensor:
    """Red in the upper left quarter, green in the lower right; the second image is all blue."""
    pictures = torch.zeros(2, 3, SIDE, SIDE)
    pictures[0, 0, : SIDE // 2, : SIDE // 2] = 1.0
    pictures[0, 1, SIDE // 2 :, SIDE // 2 :] = 0.5
    pictures[1, 2] = 1.0
    return pictures


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "tokens"])
def test_the_map_is_where_the_class_is(images: Tensor, layout: Layout) -> None:
    model = ByColour(layout)
    red = grad_cam(model, head_of(model), images, 0)
    green = grad_cam(model, head_of(model), images, torch.tensor([1, 1]))
    assert red.shape == (2, SIDE, SIDE)
    assert red.dtype == np.float32
    assert (red[0, :12, :12] == 1.0).all()
    assert (red[0, 20:] == 0.0).all()
    assert np.allclose(green[0], red[0, ::-1, ::-1])  # half as green, and yet its highest value is 1
    assert (red[1] == 0.0).all()


def test_a_map_is_in_proportion_to_the_colour(images: Tensor) -> None:
    images[0, 0, : SIDE // 2, SIDE // 2 :] = 0.25
    model = ByColour()
    red = grad_cam(model, head_of(model), images, 0)
    assert red[0, 4, 4] == 1.0
    assert red[0, 4, -4] == 0.25


def test_mode_gradients_and_hooks_are_left_as_they_were(images: Tensor) -> None:
    model = ByColour().train()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with torch.no_grad():
        grad_cam(model, head_of(model), images, 0)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.conv_head._forward_hooks
    assert not images.requires_grad


def test_a_layer_without_a_map_is_refused(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    with pytest.raises(ConfigError, match=r"got '0' with output \(2, 3072\), expected 4 dimensions"):
        grad_cam(model, find_layer(model, "mynet", "0"), images, 0)
    with pytest.raises(ValueError, match="expected"):
        grad_cam(model, find_layer(model, "mynet", "0"), images[0], 0)


@pytest.mark.parametrize("name", ["decoder", "stages"])
def test_a_layer_that_the_logits_do_not_depend_on_is_refused(name: str) -> None:
    """The decoder makes the mask; the list of stages is never called itself."""
    model = M2TR(img_size=32, num_stages=1)
    with pytest.raises(ConfigError, match=f"got '{name}', on which the logits do not depend"):
        grad_cam(model, find_layer(model, "m2tr", name), torch.rand(1, 3, 32, 32), 1)


def test_the_layer_is_found_by_the_models_name_or_its_own() -> None:
    model = nn.ModuleDict({"backbone": ByColour()})
    found = find_layer(model, "efficientnet_b4")
    assert (found.name, found.module, found.layout) == ("backbone.conv_head", model["backbone"].conv_head, "nchw")
    assert find_layer(model, "m2tr").name == "backbone.conv_head"
    assert find_layer(model, "m2tr", "backbone.cells").module is model["backbone"].cells
    assert find_layer(model, "swin_tiny", "backbone.cells").layout == "nhwc"
    with pytest.raises(ConfigError, match=r"got the model 'mynet'.*backbone\.conv_head"):
        find_layer(model, "mynet")
    with pytest.raises(ConfigError, match=r"got no module layer4,.*backbone\.conv_head"):
        find_layer(model, "resnet50")
    with pytest.raises(ConfigError, match="got 'head', expected last, fine or a module"):
        find_layer(model, "m2tr", "head")


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "legacy_xception", "swin_tiny_patch4_window7_224", "resnet18"])
def test_the_default_layers_of_timms_networks_give_maps(name: str) -> None:
    import timm

    side = 224 if name.startswith("swin") else 64
    model = timm.create_model(name, pretrained=False, num_classes=2)
    found = grad_cam(model, find_layer(model, name), torch.rand(1, 3, side, side), 1)
    assert found.shape == (1, side, side)
    assert 0.0 <= found.min() <= found.max() <= 1.0


@pytest.mark.parametrize(
    ("wanted", "name", "shape"), [(LAST, "backbone.net.bn2", (1792, 2)), (FINE, "stages.1", (32, 16))]
)
def test_m2tr_has_a_coarse_and_a_fine_map(wanted: str, name: str, shape: tuple[int, int]) -> None:
    """At 320 pixels 1792×10×10 and 32×80×80; the fine one is behind the last stage, however many there are."""
    model = M2TR(img_size=64, num_stages=2)
    layer, seen = find_layer(model, "m2tr", wanted), []
    layer.module.register_forward_hook(lambda _module, _inputs, output: seen.append(output.shape[1:3]))
    found = grad_cam(model, layer, torch.rand(2, 3, 64, 64), 1)
    assert layer.name == name
    assert {tuple(size) for size in seen} == {shape}
    assert found.shape == (2, 64, 64)
    assert 0.0 <= found.min() <= found.max() <= 1.0


def test_an_overlay_is_blue_for_nothing_and_red_for_all() -> None:
    crop = np.full((8, 8, 3), 128, dtype=np.uint8)
    cam = np.zeros((8, 8), dtype=np.float32)
    cam[:4] = 0.95  # the very end of the colour map is nearly black
    red, blue = overlay(crop, cam)[[0, -1], 0].astype(int)
    assert red[0] > red[2] + 40
    assert blue[2] > blue[1]
    with pytest.raises(ValueError, match="as the crop"):
        overlay(crop, cam[:4])


def item(side: int) -> SheetItem:
    crop: npt.NDArray[np.uint8] = np.full((side, side, 3), 100, dtype=np.uint8)
    return SheetItem(crop=crop, cam=np.zeros((side, side), dtype=np.float32), caption="fake 0.93")


def test_a_sheet_has_a_place_for_every_pair() -> None:
    one, five = sheet([item(40)], side=32), sheet([item(64)] * 5, columns=2, side=32)
    assert one.dtype == np.uint8
    assert (one[4:36, 4:36] == 100).all()
    assert five.shape[0] > 2 * one.shape[0]
    assert five.shape[1] > 1.9 * one.shape[1] - 8
    with pytest.raises(ValueError, match="got none"):
        sheet([])
