"""Settings of the flows `train-m2tr` and `predict`: presets, YAML files, options and dotted settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from flows.config.preprocess import merged, put_together, validate
from flows.config.presets import TRAINING_PRESETS_DIR, load_preset
from manifests.files import folder_to_be
from tasks.models.weights import fetch
from training.config import Section, TrainConfig
from training.models import paper_weights
from training.run_folder import RESUME_NAME


class PredictConfig(Section):
    """Settings of a prediction."""

    checkpoint: Path
    """Model file (`model.pt`)."""

    video: Path
    """Video file that is scored."""

    out: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder for scores, plot and annotated clip."""

    device: str = "auto"
    """Device of stages and network: auto, cpu, cuda or cuda:N."""


def load_train_config(
    path: Path | None, assignments: Sequence[str], base: Mapping[str, object], preset: str | None = None
) -> TrainConfig:
    """Merge preset, YAML file, command-line options and dotted settings into a configuration; later ones win.

    Args:
        path: YAML file, or None.
        assignments: dotted settings such as `trainer.epochs=3`.
        base: command-line options, nested like the configuration.
        preset: name of a preset, or None.

    Raises:
        ConfigError: the preset, the file or a setting is invalid; one line per error, with the allowed values.
    """
    lowest = load_preset(preset, TRAINING_PRESETS_DIR).settings if preset else {}
    return validate(TrainConfig, merged(lowest, put_together(path, assignments, base)))


def backbone_file(config: TrainConfig) -> Path | None:
    """Return the file with the pretrained weights that a run starts from; it is downloaded if no folder has it.

    Returns:
        None if the run starts from other weights, is resumed, or its model has no paper: timm's hub has its weights.

    Raises:
        StageMissing: the file is missing and cannot be downloaded.
    """
    model = config.model
    name = paper_weights(model.name, model.backbone)
    if not model.pretrained or model.weights or model.start_from or name is None:
        return None
    return None if (config.run / RESUME_NAME).exists() else fetch(name)
