"""The folder of a training run: its files, and functions that read them without the model.

RUN/
├── config.yaml     the settings
├── last.ckpt       checkpoint to resume from: weights, optimiser, position in the epoch, random states
├── curve.jsonl     losses and metrics by step
├── tensorboard/    the same for TensorBoard
├── model.pt        the best model by validation AUC (without validation: the last one)
└── state.json      progress of the last start: `RunState`
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypedDict, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from manifests.errors import ConfigError
from manifests.files import open_regular, write_atomically
from training.config import TrainConfig

CONFIG_NAME, RESUME_NAME, CURVE_NAME = "config.yaml", "last.ckpt", "curve.jsonl"
MODEL_NAME, STATE_NAME, TENSORBOARD_DIR = "model.pt", "state.json", "tensorboard"
MAX_BYTES = 2**20  # of config.yaml and state.json, which have 2 KB
# Settings that may change between two starts of a run.
MAY_CHANGE = {
    "trainer": {"accelerator", "devices", "max_minutes", "save_every_steps", "epochs"},
    "data": {"workers", "allow_upsampling"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Progress of a run after its last start."""

    num_epochs: int
    """Complete epochs of the run."""

    num_steps: int
    """Optimiser steps of the run."""

    stopped_early: bool
    """Whether patience ended the run, before `trainer.epochs`."""

    val_auc: float | None
    """0..1, AUC of the saved model on the validation split, frames (or clips); None: see `no_auc`."""

    threshold: float | None = None
    """0..1, score from which a video is called fake; None: not chosen yet, or not possible."""

    no_auc: str | None = None
    """Reason why there is no AUC, for a person; None if there is one."""

    started_from: str | None = None
    """Weights from which the run started, for a person; None: not recorded."""

    def is_complete(self, epochs: int) -> bool:
        """Return whether a run of this number of epochs is complete."""
        return self.stopped_early or self.num_epochs >= epochs


def write_state(run: Path, state: RunState) -> None:
    """Write the state of a run atomically."""
    write_atomically(run / STATE_NAME, (json.dumps(asdict(state), indent=2) + "\n").encode())


def read_state(run: Path) -> RunState | None:
    """Return the state of a run; None before the end of its first start.

    Raises:
        ConfigError: the file cannot be read as a state.
    """
    path = run / STATE_NAME
    if not path.exists():
        return None
    try:
        with open_regular(path, MAX_BYTES) as file:
            return TypeAdapter(RunState).validate_json(file.read())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path}: got {_reason(error)}, expected the state of a run; delete it, and start the run again"
        ) from error


class CurvePoint(TypedDict):
    """One point of a training curve, a line of `curve.jsonl`."""

    step: int
    """Optimiser steps of the run."""

    name: str
    """Loss or metric, such as `train_loss`; on a page `train/loss`, where equal last parts share a plot."""

    value: float
    """Its value."""


def read_curve(run: Path) -> list[CurvePoint]:
    """Return the points of the curve of a run, without lines that a killed run left incomplete or a disk damaged."""
    points: list[CurvePoint] = []
    if (run / CURVE_NAME).exists():
        for line in (run / CURVE_NAME).read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                point = json.loads(line)
                if isinstance(point, dict) and isinstance(point.get("step"), int) and {"name", "value"} <= point.keys():
                    points.append(cast(CurvePoint, point))
    return points


def require_same_run(config: TrainConfig) -> None:
    """Require that the folder of a run holds no run with other settings.

    Raises:
        ConfigError: it holds such a run; the message lists the differences.
    """
    path = config.run / CONFIG_NAME
    if not path.exists():
        return
    before, now = _read_settings(path), config.model_dump(mode="json")
    changed = [
        f"{section}.{name}: {before.get(section, {}).get(name)} → {value}"
        for section, values in now.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if name not in MAY_CHANGE.get(section, set()) and before.get(section, {}).get(name) != value
    ]
    changed += [f"stores: {before.get('stores')} → {now['stores']}"] if before.get("stores") != now["stores"] else []
    if changed:
        raise ConfigError(
            f"run {config.run}: got other settings than at its start (start → now):\n  "
            + "\n  ".join(changed)
            + "\nexpected the same; choose another --run"
        )


def _read_settings(path: Path) -> dict[str, Any]:
    """Return the settings in the config.yaml of a run; what is not a section counts as an empty one.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        with open_regular(path, MAX_BYTES) as file:
            settings = yaml.safe_load(file)
        if not isinstance(settings, dict):
            raise ValueError(f"a {type(settings).__name__}")
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(
            f"{path}: got {_reason(error)}, expected the settings of a run; delete it, or choose another --run"
        ) from error
    sections = {name for name, value in settings.items() if isinstance(value, dict)} | {"stores"}
    return {name: value for name, value in settings.items() if name in sections}


def _reason(error: Exception) -> str:
    """Return what is wrong with a file, on one line."""
    if isinstance(error, ValidationError):
        return "; ".join(": ".join(map(str, (*fault["loc"], fault["msg"]))) for fault in error.errors())
    return (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
