"""The folder of a training run: its files, and what can be read from them without a network.

RUN/
├── config.yaml     the settings
├── last.ckpt       where to go on: weights, optimiser, place in the epoch, random numbers
├── curve.jsonl     what was measured, step by step
├── tensorboard/    the same for TensorBoard
├── model.pt        the best model by AUC on val (without val: the last), for `faceshards evaluate`
└── state.json      how far the last start came: `RunState`
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from manifests.errors import ConfigError
from manifests.files import write_atomically
from training.config import TrainConfig

CONFIG_NAME, RESUME_NAME, CURVE_NAME = "config.yaml", "last.ckpt", "curve.jsonl"
MODEL_NAME, STATE_NAME, TENSORBOARD_DIR = "model.pt", "state.json", "tensorboard"
# Settings that may change from one start of a run to the next.
MAY_CHANGE = {"trainer": {"accelerator", "devices", "max_minutes", "save_every_steps", "epochs"}, "data": {"workers"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """How far the last start of a run came."""

    num_epochs: int
    """Whole ones, of the run."""

    num_steps: int
    """Optimiser steps of the run."""

    stopped_early: bool
    """Whether its patience ended it: no epoch is left, whatever `trainer.epochs`."""

    val_auc: float | None
    """Of the kept model on the validation split, frames (or clips); None without one."""

    threshold: float | None = None
    """That the validation split gives the kept model; None: not chosen yet, or no such split."""

    def is_complete(self, epochs: int) -> bool:
        """Return whether a run of so many epochs has nothing left to do."""
        return self.stopped_early or self.num_epochs >= epochs


def write_state(run: Path, state: RunState) -> None:
    """Write a run's state, complete or not at all."""
    write_atomically(run / STATE_NAME, (json.dumps(asdict(state), indent=2) + "\n").encode())


def read_state(run: Path) -> RunState | None:
    """Return a run's state; None if no start of it has come to an end.

    Raises:
        ConfigError: the file is not what `write_state` wrote.
    """
    path = run / STATE_NAME
    if not path.exists():
        return None
    try:
        return RunState(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: got {error}, expected a run's state; delete it to have it made anew") from error


def read_curve(run: Path) -> list[dict[str, Any]]:
    """Return the points {step, name, value} of a run; a line that a kill cut off is left out."""
    points: list[dict[str, Any]] = []
    if (run / CURVE_NAME).exists():
        for line in (run / CURVE_NAME).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                points.append(json.loads(line))
    return points


def require_same_run(config: TrainConfig) -> None:
    """Raise where the run's folder holds another run.

    Raises:
        ConfigError: it was begun with other settings.
    """
    path = config.run / CONFIG_NAME
    if not path.exists():
        return
    before, now = yaml.safe_load(path.read_text(encoding="utf-8")), config.model_dump(mode="json")
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
            f"run {config.run}: got other settings than those it was begun with (begun → asked for):\n  "
            + "\n  ".join(changed)
            + "\nexpected the same; choose another --run"
        )
