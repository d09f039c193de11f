"""What happens beside the steps of a run: the curve, the best model, where to go on, when to stop."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import distributed, nn

from manifests.errors import ConfigError
from manifests.files import publish, write_atomically
from training.models.checkpoint import AboutModel, save_model
from training.run_folder import read_curve

CURVE_EVERY_STEPS = 1
MOST_NOT_FINITE = 10  # steps in a row; float16's scaler, which halves itself after each, has found its value by then


class TimeIsUp(Exception):
    """A run has had its minutes; it is written down where it stands."""


class ModelKeeper(Callback):
    """Writes `model.pt` whenever the model is the best so far on val; without val, at the end of each epoch."""

    def __init__(self, path: Path, about: AboutModel, *, has_val: bool) -> None:
        self._path = path
        self._about = about
        self._has_val = has_val
        self.best: float | None = None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the model if no epoch was better."""
        auc = float(trainer.callback_metrics["val_auc"])  # finite: ForgeryModule refuses scores that are none
        if self.best is None or auc > self.best:
            self.best = auc
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the latest model where nothing says which is best."""
        if not self._has_val:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave a model even where no epoch was finished, as `max_minutes` may have it."""
        if not self._path.exists():
            self._save(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """Return what the next start needs to know."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best = state_dict["best"]

    def _save(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            save_model(self._path, cast(nn.Module, module.model), self._about)


class ResumePoint(Callback):
    """Writes `last.ckpt` every so many steps and at the end of each epoch, complete or not at all."""

    def __init__(self, path: Path, every_steps: int) -> None:
        self._path = path
        self._every_steps = every_steps
        self._saved_at = -1

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Save in the middle of an epoch."""
        step = trainer.global_step
        # After the last batch there is more to an epoch than batches: it is saved at its end.
        if step and step % self._every_steps == 0 and step != self._saved_at and not trainer.is_last_batch:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Save between two epochs."""
        self.save(trainer)

    def save(self, trainer: lightning.Trainer) -> None:
        """Save now; all processes take part."""
        self._saved_at = trainer.global_step
        partial = self._path.with_name(f".partial-{self._path.name}")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            publish(partial, self._path)


class RandomState(Callback):
    """Keeps the random states of all processes with a checkpoint: dropout goes on as if there had been no interruption.

    Raises:
        ConfigError: the run was begun with another number of processes, among which its epochs cannot be shared out.
    """

    def __init__(self) -> None:
        self._states: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the generators' states, a list over the processes."""
        cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
        here = {"cpu": torch.get_rng_state(), "cuda": cuda}
        if not distributed.is_initialized():
            return {"ranks": [here]}
        states: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(states, here)
        return {"ranks": states}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until training begins: building loaders draws numbers, too."""
        self._states = state_dict["ranks"]

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Refuse another number of processes."""
        if self._states is not None and len(self._states) != trainer.world_size:
            raise ConfigError(
                f"trainer.devices: got {trainer.world_size} processes, expected {len(self._states)} as the run was "
                "begun with; an epoch under way cannot be shared out otherwise"
            )

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Put them back before the first step."""
        if self._states is None:
            return
        here = self._states[trainer.global_rank]
        torch.set_rng_state(here["cpu"].cpu())
        if torch.cuda.is_available() and here["cuda"]:
            torch.cuda.set_rng_state(here["cuda"][0].cpu())
        self._states = None


class Curve(Callback):
    """Writes what is measured to `curve.jsonl`; what a killed run had written behind its checkpoint is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._step = -1
        self._num_not_finite = 0

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Drop points from behind the place where training goes on."""
        kept = [point for point in read_curve(self._path.parent) if point["step"] <= trainer.global_step]
        if trainer.is_global_zero:
            text = "".join(json.dumps(point) + "\n" for point in kept)
            write_atomically(self._path, text.encode())

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Add the step's losses and the learning rate.

        Raises:
            ConfigError: the loss has been no number for so many steps.
        """
        if trainer.global_step == self._step or trainer.global_step % CURVE_EVERY_STEPS:
            return
        self._step = trainer.global_step
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train_")}
        found["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self._add(trainer, found)
        self._num_not_finite = 0 if math.isfinite(found["train_loss"]) else self._num_not_finite + 1
        if self._num_not_finite == MOST_NOT_FINITE:
            raise ConfigError(
                f"train_loss: got {found['train_loss']} in {MOST_NOT_FINITE} steps up to {trainer.global_step}, "
                "expected a number; train into another --run with a smaller optim.lr"
            )

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Add what was measured on val."""
        metrics = trainer.callback_metrics.items()
        self._add(trainer, {name: float(value) for name, value in metrics if name.startswith("val_")})

    def _add(self, trainer: lightning.Trainer, values: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        with self._path.open("a", encoding="utf-8") as file:
            for name, value in sorted(values.items()):
                file.write(json.dumps({"step": trainer.global_step, "name": name, "value": value}) + "\n")


class TimeLimit(Callback):
    """Ends a run after the step at which so many minutes are over; the next start goes on as if it had not stopped.

    Not by `trainer.should_stop`: Lightning would call the epoch under way finished, and its schedules would move on.

    Args:
        minutes: how many.
        resume_point: writes down where the run stands.
        keeper: leaves a model, if there is none yet.
    """

    def __init__(self, minutes: float, resume_point: ResumePoint, keeper: ModelKeeper) -> None:
        self._end = time.monotonic() + 60 * minutes
        self._resume_point = resume_point
        self._keeper = keeper
        self._step = self._first_step = -1

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Remember where this start begins."""
        self._step = self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        """Look at the clock after a step, but for an epoch's last one: its end comes first."""
        has_stepped, self._step = trainer.global_step != self._step, trainer.global_step
        if has_stepped and not trainer.is_last_batch and self._is_over(trainer):
            self._resume_point.save(trainer)
            self._stop(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Look at the clock between two epochs: the checkpoint is written."""
        if trainer.global_step > self._first_step and self._is_over(trainer):
            self._stop(trainer, pl_module)

    def _is_over(self, trainer: lightning.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(time.monotonic() > self._end, all=False)

    def _stop(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._keeper.on_train_end(trainer, module)
        raise TimeIsUp
