"""Presets: settings by name, one YAML file each, in `flows/config/presets/` and `training/presets/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from manifests.errors import ConfigError

PRESETS_DIR = Path(__file__).parent / "presets"
TRAINING_PRESETS_DIR = Path(__file__).parents[2] / "training" / "presets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A published preprocessing, or a recipe for training."""

    name: str
    """Of its file, without the suffix."""

    about: str
    """What it makes, in a line."""

    source: str
    """Whose it is, and where it differs."""

    settings: dict[str, Any]
    """Nested like the configuration."""

    expected: str = ""
    """Of a preprocessing: how many records come of which dataset."""


def preset_names(folder: Path = PRESETS_DIR) -> list[str]:
    """Return the names of all presets of a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def load_preset(name: str, folder: Path = PRESETS_DIR) -> Preset:
    """Return a preset.

    Raises:
        ConfigError: there is none of this name.
    """
    names = preset_names(folder)
    if name not in names:
        raise ConfigError(f"--preset: got {name!r}, expected one of {', '.join(names)}; see `faceshards presets`")
    return Preset(name=name, **yaml.safe_load((folder / f"{name}.yaml").read_text(encoding="utf-8")))
