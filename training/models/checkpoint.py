"""Model files: the weights of a trained model, and the description needed to build it and to make its crops.

    {"format": "faceshards-model", "version": 1, "about": {…}, "state": {key: tensor}}

They are read with `weights_only=True`: no code in them is executed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from manifests.files import written_whole
from training.models import MODELS, build_model
from training.models.clips import ClipDetector
from training.models.deepfake_detector import BACKBONE, ModelOptions
from training.models.official_m2tr import load_official
from training.models.weight_files import read_weights, require_intact

FORMAT, VERSION = "faceshards-model", 1
OFFICIAL_KEYS = ("model._conv_stem.weight", "model_state")  # a checkpoint of M2TR's authors has one of them


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutModel:
    """Description of a model: what is needed to build and to apply it."""

    name: str
    """Key of `training.models.MODELS`, or timm's name of a network."""

    img_size: int
    """Side S of the crops, pixels."""

    class_names: tuple[str, ...]
    """Names of the classes, the real one first."""

    num_stages: int = 4
    """Number of stages of M2TR."""

    backbone: str = BACKBONE
    """timm's name of the backbone of M2TR."""

    dropout: float = 0.5
    """0..1, probability of dropping a feature before the classifier of M2TR."""

    head: str | None = None
    """`mean` or `vtf` for a model of clips; None for single frames."""

    clip_length: int | None = None
    """T, frames of a clip; None for single frames."""

    threshold: float | None = None
    """0..1, score from which a video is called fake, chosen on the validation split; None: 0.5."""

    crops: dict[str, Any] = field(default_factory=dict)
    """Settings of the training store, from which `predict` makes the same crops."""

    trained_on: tuple[str, ...] = ()
    """Names of the training datasets."""

    started_from: str | None = None
    """Weights from which training started, for a person; None: not recorded."""

    distribution: str | None = None
    """Name and version of the distribution whose entry point builds the model; None: faceshards or timm."""


def make_model(about: AboutModel, *, pretrained: bool = False, weights: Path | None = None) -> nn.Module:
    """Build a model with fresh weights.

    Args:
        about: description of the model.
        pretrained: download the ImageNet weights of the backbone from timm's hub. False never accesses the network.
        weights: file of these weights instead.

    Raises:
        ConfigError: the model is unknown, or the file does not match it.
    """
    options = ModelOptions(
        img_size=about.img_size,
        num_classes=len(about.class_names),
        pretrained=pretrained,
        weights=weights,
        num_stages=about.num_stages,
        backbone=about.backbone,
        dropout=about.dropout,
    )
    frame_model = build_model(about.name, options)
    if about.head is None:
        return frame_model
    return ClipDetector(frame_model, "mean" if about.head == "mean" else "vtf", about.clip_length or 1)


def save_model(path: Path, model: nn.Module, about: AboutModel) -> None:
    """Write a model file atomically, with the distribution that the model comes from."""
    origin = MODELS.origin(about.name)
    about = replace(about, distribution=origin and " ".join(origin))
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    content = {"format": FORMAT, "version": VERSION, "about": json.dumps(asdict(about)), "state": state}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        torch.save(content, partial)


def load_model(path: Path) -> tuple[nn.Module, AboutModel]:
    """Load a model file, or a checkpoint of M2TR's authors; return the model in evaluation mode on the CPU.

    Raises:
        ConfigError: the file is damaged or not a model file, or its model comes from a distribution that is not
            installed.
    """
    content = read_weights(path)
    require_intact(path)
    if not isinstance(content, dict):
        raise ConfigError(f"checkpoint {path}: got a {type(content).__name__}, expected a model")
    if any(str(key).removeprefix("module.") in OFFICIAL_KEYS for key in content):  # `module.`: prefix of DDP
        official = load_official(path)
        return official.eval(), AboutModel(name="m2tr", img_size=official.img_size, class_names=("Real", "Fake"))
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise ConfigError(
            f"checkpoint {path}: got keys {sorted(map(str, content))[:4]}, expected a model that `faceshards train` "
            "wrote (model.pt), or a checkpoint of M2TR's authors"
        )
    try:
        about = json.loads(content["about"])
        found = AboutModel(**about | {name: tuple(about[name]) for name in ("class_names", "trained_on")})
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"checkpoint {path}: got {error!r}, expected a description of a model; train it again"
        ) from error
    if found.distribution is not None and found.name not in MODELS:
        raise ConfigError(
            f"checkpoint {path}: got the model {found.name!r} of {found.distribution}, which is not installed, "
            f"expected that distribution; run: pip install {found.distribution.replace(' ', '==')}"
        )
    model = make_model(found)
    try:
        model.load_state_dict(cast(dict[str, Tensor], content.get("state")))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"checkpoint {path}: got weights that do not match {found.name} ({error}), expected those that "
            "it was saved with"
        ) from error
    return model.eval(), found
