"""Networks of timm: their features, their weights from files, and Xception against that of the studies."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.m2tr import make_images, value_for
from manifests.errors import ConfigError
from training.models import build_model
from training.models.deepfake_detector import ModelOptions
from training.models.timm_detector import TimmDetector

GOLDEN_XCEPTION_LOGITS = [[0.15692414, -0.12827077], [0.16774114, -0.14841784]]
XCEPTION_PX = 299


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        pytest.fail("the network was touched")

    torch.set_num_threads(1)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_baselines_classify_their_own_features() -> None:
    """What `features` holds, put through the classifier, is what timm's network says."""
    model = TimmDetector("resnet10t", 64).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(model(images).logits, model.get_submodule("net")(images))


def test_weights_come_from_a_file_and_another_classifier_stays_out(tmp_path: Path) -> None:
    given = TimmDetector("resnet10t", 64, num_classes=7).net.state_dict()
    torch.save(given, tmp_path / "seven.pth")
    same = TimmDetector("resnet10t", 64, num_classes=7, weights=tmp_path / "seven.pth")
    other = TimmDetector("resnet10t", 64, num_classes=2, weights=tmp_path / "seven.pth")
    torch.testing.assert_close(same.net.state_dict()["fc.weight"], given["fc.weight"])
    for key in ("conv1.0.weight", "layer4.0.conv2.weight"):
        torch.testing.assert_close(other.net.state_dict()[key], given[key])
    assert other.net.state_dict()["fc.weight"].shape[0] == 2
    with pytest.raises(ConfigError, match="missing"):
        build_model("resnet18", ModelOptions(img_size=64, weights=tmp_path / "seven.pth"))


@pytest.fixture(scope="module")
def xception(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """The studies' Xception filled by the rule, through a file with their names: `last_linear` is timm's `fc`."""
    shapes = build_model("xception", ModelOptions(img_size=XCEPTION_PX)).get_submodule("net").state_dict()
    names = {key: key.replace("fc.", "last_linear.") for key in shapes}
    state = {name: value_for(name, tuple(shapes[key].shape)) for key, name in names.items()}
    path = tmp_path_factory.mktemp("weights") / "xception.pth"
    torch.save(state, path)
    return build_model("xception", ModelOptions(img_size=XCEPTION_PX, weights=path)).eval()


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
