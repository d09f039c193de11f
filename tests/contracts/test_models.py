"""One contract over every model, and a model of another distribution that is trained and evaluated."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import cast

import pytest
import torch

from flows.config.training import load_train_config
from manifests.errors import ConfigError
from tests.helpers.plugins import install, refresh
from tests.helpers.stores import SIDE_PX, write_forgeries
from training.config import EvaluateConfig, TrainConfig
from training.evaluation.evaluate import evaluate
from training.evaluation.scores import read_scores
from training.fit.train import train
from training.models import MODELS, build_model
from training.models.checkpoint import load_model
from training.models.deepfake_detector import DeepfakeDetector, ModelOptions

SIZES = {"m2tr": 64, "m2tr-swin-tiny": 64, "xception": 75, "efficientnet_b4": 64, "ff_attribution": 64}


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
    model = build_model(name, ModelOptions(img_size=size)).eval()
    detector = cast(DeepfakeDetector, model)
    with torch.inference_mode():
        made = detector(torch.randn(2, 3, size, size))
    assert detector.img_size == size
    assert detector.num_classes == (5 if name == "ff_attribution" else 2)
    assert made.logits.shape == (2, detector.num_classes)
    assert made.features.shape == (2, model.num_features)
    assert (made.mask is None) == (name != "m2tr")


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "m2tr-swin-tiny"])
def test_num_classes(name: str) -> None:
    model = build_model(name, ModelOptions(img_size=64, num_classes=5)).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 64)).logits.shape == (1, 5)


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"model.name: got 'xceptoin', expected one of m2tr, .*timm; did you mean 'xception'"
    ):
        build_model("xceptoin", ModelOptions(img_size=64))
    with pytest.raises(ConfigError, match="img_size: got 100, expected a multiple of 32"):
        build_model("m2tr-swin-tiny", ModelOptions(img_size=100))
    with pytest.raises(ConfigError, match="num_classes: got 1, expected at least 2"):
        build_model("xception", ModelOptions(img_size=64, num_classes=1))


# A network of another distribution: what it costs to add one.
TOY = """
import torch
from training.models.deepfake_detector import ModelOutput

class MeanColour(torch.nn.Module):
    num_features = 3

    def __init__(self, options):
        super().__init__()
        self.img_size, self.num_classes = options.img_size, options.num_classes or 2
        self.classifier = torch.nn.Linear(3, self.num_classes)

    def forward(self, images):
        features = images.mean((2, 3))
        return ModelOutput(logits=self.classifier(features), features=features)

class NoSize(MeanColour):
    def __init__(self, options):
        super().__init__(options)
        del self.img_size
"""
NAMES = {"mean-colour": "MeanColour", "no-size": "NoSize", "gone": "Gone", "text": "__name__"}


@pytest.fixture
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {name: f"labs_own:{target}" for name, target in NAMES.items()}
    install(tmp_path / "site-packages", {MODELS.group: names}, TOY, monkeypatch)
    refresh(MODELS, monkeypatch)


def configured(folder: Path, name: str) -> TrainConfig:
    values = {
        "model": {"name": name, "img_size": SIDE_PX},
        "data": {"batch_size": 8, "workers": 0, "epoch_items": 16},
        "trainer": {"epochs": 1, "accelerator": "cpu"},
    }
    return load_train_config(None, [], {"stores": [str(folder / "store")], "run": str(folder / "run"), **values})


@pytest.mark.usefixtures("_plugin")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_a_model_of_another_distribution_is_trained_and_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = write_forgeries(tmp_path / "store")
    result = train(configured(tmp_path, "mean-colour"))
    assert result.num_steps == 2
    _, about = load_model(result.model)
    assert (about.name, about.distribution) == ("mean-colour", "labs-own 1.2")
    config = EvaluateConfig(checkpoints=(result.model,), stores=(store,), out=tmp_path / "page", workers=0)
    page, evaluation = evaluate(config)
    assert "mean-colour (run)" in page.read_text()
    assert evaluation.num_frames == len(read_scores(tmp_path / "page" / "scores.parquet")) == 24
    monkeypatch.setitem(vars(MODELS), "entry_points", {})
    message = r"got the model 'mean-colour' of labs-own 1\.2, which is not installed, .* pip install labs-own==1\.2"
    with pytest.raises(ConfigError, match=message):
        load_model(result.model)


@pytest.mark.usefixtures("_plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", r"model gone: got AttributeError .* from labs-own 1\.2"),
        ("text", r"model text: got an object without __call__ from labs-own 1\.2"),
        ("mean-color", r"model\.name: got 'mean-color', expected one of m2tr, .*; did you mean 'mean-colour'\?"),
    ],
)
def test_a_broken_plugin_and_an_unknown_name_are_refused_before_any_work(
    name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        configured(tmp_path, name)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_plugin")
def test_a_network_that_breaks_the_contract_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model no-size: got a NoSize without img_size, expected the contract"):
        build_model("no-size", ModelOptions(img_size=SIDE_PX))
