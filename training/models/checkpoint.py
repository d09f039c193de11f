"""A trained model in one file: its weights, and what is needed to build it and to give it the crops that it knows.

    {"format": "faceshards-model", "version": 1, "about": {…}, "state": {key: tensor}}

Read with `weights_only=True`: nothing in it can run.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from manifests.files import written_whole
from training.models.baselines import build_model
from training.models.clips import ClipDetector
from training.models.m2tr import BACKBONE, M2TR, load_official, read_weights

FORMAT, VERSION = "faceshards-model", 1
OFFICIAL_KEYS = ("model._conv_stem.weight", "model_state")  # by which a checkpoint of M2TR's authors is told


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutModel:
    """What a model is, beside its weights."""

    name: str
    """Key of `training.models.baselines.MODELS`, or timm's name."""

    img_size: int
    """Side of the crops that it takes, pixels."""

    class_names: tuple[str, ...]
    """The real one first."""

    num_stages: int = 4
    """Of m2tr."""

    backbone: str = BACKBONE
    """Of m2tr."""

    dropout: float = 0.5
    """Of m2tr, in training."""

    head: str | None = None
    """`mean` or `vtf` of a model of clips; None of one of single frames."""

    clip_length: int | None = None
    """T of a model of clips."""

    threshold: float | None = None
    """p_fake from which a frame (or clip) is called fake, chosen on the validation split; None: 0.5."""

    crops: dict[str, Any] = field(default_factory=dict)
    """Settings of the store that it was trained on: how its crops were made."""

    trained_on: tuple[str, ...] = ()
    """Datasets."""


def make_model(about: AboutModel, *, pretrained: bool = False, weights: Path | None = None) -> nn.Module:
    """Build a model with fresh weights.

    Args:
        about: which.
        pretrained: fetch the backbone's ImageNet weights from timm's hub. False never touches the network.
        weights: a file with them instead.

    Raises:
        ConfigError: there is no such model, or the file is not its.
    """
    num_classes = len(about.class_names)
    if about.name == "m2tr":
        frame_model: nn.Module = M2TR(
            about.img_size,
            num_classes,
            pretrained=pretrained,
            backbone_weights=weights,
            num_stages=about.num_stages,
            dropout=about.dropout,
            backbone=about.backbone,
        )
    else:
        frame_model = build_model(
            about.name, img_size=about.img_size, num_classes=num_classes, pretrained=pretrained, weights=weights
        )
    if about.head is None:
        return frame_model
    head = "mean" if about.head == "mean" else "vtf"
    return ClipDetector(frame_model, head, about.clip_length or 1)  # type: ignore[arg-type]  # one of two words


def save_model(path: Path, model: nn.Module, about: AboutModel) -> None:
    """Write a model, complete or not at all."""
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    content = {"format": FORMAT, "version": VERSION, "about": json.dumps(asdict(about)), "state": state}
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        torch.save(content, partial)


def load_model(path: Path) -> tuple[nn.Module, AboutModel]:
    """Return a model of ours, or of M2TR's authors, in evaluation mode on the CPU, and what it is.

    Raises:
        ConfigError: the file cannot be read, or holds no model.
    """
    content = read_weights(path)
    if not isinstance(content, dict):
        raise ConfigError(f"checkpoint {path}: got a {type(content).__name__}, expected a model")
    if any(str(key).removeprefix("module.") in OFFICIAL_KEYS for key in content):  # `module.`: of DDP
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
        raise ConfigError(f"checkpoint {path}: got {error!r}, expected a model's description; train it anew") from error
    model = make_model(found)
    try:
        model.load_state_dict(cast(dict[str, Tensor], content["state"]))
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path}: got weights that are not {found.name}'s ({error})") from error
    return model.eval(), found
