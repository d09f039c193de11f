"""One contract over every detector, timm's Xception against the studies', and the heads over clips."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.m2tr import make_images, value_for
from manifests.errors import ConfigError
from training.models.baselines import MODELS, SwinSpectrum, TimmDetector, build_model
from training.models.deepfake_detector import DeepfakeDetector
from training.models.temporal import FrameMean, VideoTemporalFusion

SIZES = {"m2tr": 64, "m2tr-swin-tiny": 64, "xception": 75, "efficientnet_b4": 64, "ff_attribution": 64}
GOLDEN_XCEPTION_LOGITS = [[0.15692414, -0.12827077], [0.16774114, -0.14841784]]
XCEPTION_PX = 299


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        pytest.fail("the network was touched")

    torch.set_num_threads(1)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("name", [*MODELS, "resnet10t", "vit_tiny_patch16_224", "mobilenetv3_small_050"])
def test_every_model_keeps_the_contract(name: str) -> None:
    size = SIZES.get(name, 64)
    model = build_model(name, img_size=size).eval()
    detector = cast(DeepfakeDetector, model)
    with torch.inference_mode():
        made = detector(torch.randn(2, 3, size, size))
    assert detector.img_size == size
    assert detector.num_classes == (5 if name == "ff_attribution" else 2)
    assert made.logits.shape == (2, detector.num_classes)
    assert made.features.shape == (2, model.num_features)
    assert (made.mask is None) == (name != "m2tr")


def test_baselines_classify_their_own_features() -> None:
    """What `features` holds, put through the classifier, is what timm's network says."""
    model = TimmDetector("resnet10t", 64).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(images).logits, model.get_submodule("net")(images))


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "m2tr-swin-tiny"])
def test_num_classes(name: str) -> None:
    model = build_model(name, img_size=64, num_classes=5).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 64)).logits.shape == (1, 5)


def test_the_spectrum_branch_sees_a_grid_that_pooling_hides() -> None:
    """A checkerboard of single pixels has the same mean as grey; its spectrum has a peak."""
    torch.manual_seed(0)
    model = SwinSpectrum(64).eval()
    grey = torch.zeros(1, 3, 64, 64)
    rows = torch.arange(64)
    grid = ((rows[:, None] + rows) % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    with torch.inference_mode():
        assert not model.spectrum(grey).any()
        assert model.spectrum(grid).max() > 1e-4


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model: got 'xceptoin', expected one of ours or timm's; such as .*xception"):
        build_model("xceptoin", img_size=64)
    with pytest.raises(ConfigError, match="img_size: got 100, expected a multiple of 32"):
        build_model("m2tr-swin-tiny", img_size=100)
    with pytest.raises(ConfigError, match="num_classes: got 1, expected at least 2"):
        build_model("xception", img_size=64, num_classes=1)


def test_weights_come_from_a_file_and_another_classifier_stays_out(tmp_path: Path) -> None:
    given = TimmDetector("resnet10t", 64, num_classes=7).net.state_dict()
    torch.save(given, tmp_path / "seven.pth")
    same = cast(TimmDetector, build_model("resnet10t", img_size=64, num_classes=7, weights=tmp_path / "seven.pth"))
    other = cast(TimmDetector, build_model("resnet10t", img_size=64, num_classes=2, weights=tmp_path / "seven.pth"))
    torch.testing.assert_close(same.net.state_dict()["fc.weight"], given["fc.weight"])
    for key in ("conv1.0.weight", "layer4.0.conv2.weight"):
        torch.testing.assert_close(other.net.state_dict()[key], given[key])
    assert other.net.state_dict()["fc.weight"].shape[0] == 2
    with pytest.raises(ConfigError, match="missing"):
        build_model("resnet18", img_size=64, weights=tmp_path / "seven.pth")


@pytest.fixture(scope="module")
def xception(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """The studies' Xception filled by the rule, through a file with their names: `last_linear` is timm's `fc`."""
    shapes = build_model("xception", img_size=XCEPTION_PX).get_submodule("net").state_dict()
    names = {key: key.replace("fc.", "last_linear.") for key in shapes}
    state = {name: value_for(name, tuple(shapes[key].shape)) for key, name in names.items()}
    path = tmp_path_factory.mktemp("weights") / "xception.pth"
    torch.save(state, path)
    return build_model("xception", img_size=XCEPTION_PX, weights=path).eval()


def test_xception_says_what_the_studies_xception_says(xception: nn.Module) -> None:
    with torch.inference_mode():
        made = xception(make_images(2)[..., :XCEPTION_PX, :XCEPTION_PX])
    assert made.logits.numpy() == pytest.approx(np.array(GOLDEN_XCEPTION_LOGITS), abs=1e-5)


@pytest.mark.samples
def test_xception_is_the_reference_block_by_block(xception: nn.Module, samples_dir: Path) -> None:
    reference = np.load(samples_dir.parent / "reference" / "xception_reference.npz")
    taps: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _args, made: taps.__setitem__(name, made.clone())

    net = xception.get_submodule("net")
    parts = {f"b{number}": f"block{number}" for number in (1, 3, 7, 11, 12)} | {"b0": "act2", "final": "act4"}
    for name, part in parts.items():
        net.get_submodule(part).register_forward_hook(keep(name))
    with torch.inference_mode():
        logits = xception(make_images(2)[..., :XCEPTION_PX, :XCEPTION_PX]).logits
    assert logits.numpy() == pytest.approx(reference["logits_f64"], abs=1e-5)
    for name, made in taps.items():
        assert list(made.shape) == reference[f"shape/{name}"].tolist()
        found = made.contiguous().flatten()[reference[f"idx/{name}"]].numpy()
        assert found == pytest.approx(reference[f"f64/{name}"], abs=1e-4), name


def test_temporal_fusion_looks_at_the_order_and_not_behind_the_end() -> None:
    torch.manual_seed(0)
    head = VideoTemporalFusion(num_features=16, max_frames=8).eval()
    features = torch.randn(2, 6, 16)
    is_present = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    with torch.inference_mode():
        made = head(features, is_present)
        assert made.logits.shape == (2, 2)
        assert made.features.shape == (2, 512)
        torch.testing.assert_close(made.logits[0], head(features[:1]).logits[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(made.logits[1], head(features[1:, :4]).logits[0], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(head(features).logits, head(features.flip(1)).logits, atol=1e-4)
    with pytest.raises(ConfigError, match="frames of a clip: got 9, expected at most 8"):
        head(torch.randn(1, 9, 16))


def test_temporal_fusion_learns() -> None:
    """Fakes are reals backwards, which the mean of frames cannot tell."""
    torch.manual_seed(0)
    head = VideoTemporalFusion(num_features=4, max_frames=4)
    rising = torch.linspace(-1, 1, 4)[None, :, None].expand(8, 4, 4)
    clips, labels = torch.cat([rising, -rising]), torch.tensor([0] * 8 + [1] * 8)
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-4)
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(head(clips).logits, labels)
        torch.autograd.backward(loss)
        optimizer.step()
    with torch.inference_mode():
        assert (head.eval()(clips).logits.argmax(1) == labels).all()


def test_the_mean_of_frames_is_the_mean_of_their_logits() -> None:
    classifier = nn.Linear(3, 2)
    head, features = FrameMean(classifier), torch.randn(2, 4, 3)
    is_present = torch.tensor([[True] * 4, [True, False, True, False]])
    with torch.inference_mode():
        found = head(features, is_present).logits
        torch.testing.assert_close(found[0], classifier(features[0]).mean(0))
        torch.testing.assert_close(found[1], classifier(features[1, ::2]).mean(0))
        torch.testing.assert_close(head(features).logits[1], classifier(features[1]).mean(0))
