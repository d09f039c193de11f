"""Presets: settings by name, one YAML file each, in `flows/config/presets/` and `training/presets/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from manifests.errors import ConfigError, did_you_mean
from storage.index import JsonObject
from training.models import paper_weights
from training.models.deepfake_detector import BACKBONE

PRESETS_DIR = Path(__file__).parent / "presets"
TRAINING_PRESETS_DIR = Path(__file__).parents[2] / "training" / "presets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """Settings of a published preprocessing, or a recipe for training."""

    name: str
    """Name of its file, without the suffix."""

    about: str
    """One line that describes the result."""

    source: str
    """Publication that it follows, and differences from that."""

    settings: JsonObject
    """Settings, nested by section as in the configuration."""

    expected: str = ""
    """Preprocessing only: number of records that each dataset gives."""

    @property
    def weights(self) -> str | None:
        """Return the weights from which the paper of a training recipe starts; None if there are none."""
        model = self.settings.get("model", {})
        return paper_weights(model["name"], model.get("backbone", BACKBONE)) if "name" in model else None


def preset_names(folder: Path = PRESETS_DIR) -> list[str]:
    """Return the names of a folder's presets, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(name: str, folder: Path = PRESETS_DIR) -> Preset:
    """Return a preset.

    Raises:
        ConfigError: no preset has this name.
    """
    names = preset_names(folder)
    if name not in names:
        raise ConfigError(f"--preset: got {name!r}, expected one of {', '.join(names)}{did_you_mean(name, names)}")
    return Preset(name=name, **yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")))
