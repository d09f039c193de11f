"""Presets: the settings of published preprocessings, by name. One YAML file each, in `flows/presets/`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from manifests.errors import ConfigError

PRESETS_DIR = Path(__file__).parent / "presets"


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A published preprocessing."""

    name: str
    # of its file, without the suffix

    about: str
    # what it makes, in a line

    source: str
    # whose it is, and where it differs

    expected: str
    # how many records come of which dataset

    settings: dict[str, Any]
    # nested like the configuration


def preset_names() -> list[str]:
    """Return the names of all presets, sorted."""
    return sorted(path.stem for path in PRESETS_DIR.glob("*.yaml"))


def load_preset(name: str) -> Preset:
    """Return a preset.

    Raises:
        ConfigError: there is none of this name.
    """
    names = preset_names()
    if name not in names:
        raise ConfigError(f"--preset: got {name!r}, expected one of {', '.join(names)}; see `faceshards presets`")
    return Preset(name=name, **yaml.safe_load((PRESETS_DIR / f"{name}.yaml").read_text(encoding="utf-8")))
