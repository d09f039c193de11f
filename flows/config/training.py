"""The configuration of training: a preset, YAML, options and dotted settings, put together as for preprocessing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.config.preprocess import merged, put_together, validate
from flows.config.presets import TRAINING_PRESETS_DIR, load_preset
from training.config import TrainConfig


def load_train_config(
    path: Path | None, assignments: Sequence[str], base: Mapping[str, Any], preset: str | None = None
) -> TrainConfig:
    """Put a configuration together: a preset, YAML, the command line's own options, dotted settings; later ones win.

    Args:
        path: YAML file, or None.
        assignments: dotted settings such as `trainer.epochs=3`.
        base: options of the command line, nested like the configuration.
        preset: name of a recipe, or None.

    Raises:
        ConfigError: the preset, the file or a setting is wrong; one line for each fault, with the allowed values.
    """
    lowest = load_preset(preset, TRAINING_PRESETS_DIR).settings if preset else {}
    return validate(TrainConfig, merged(lowest, put_together(path, assignments, base)))
