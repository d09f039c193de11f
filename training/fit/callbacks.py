"""Callbacks of a run: curve, best model, checkpoints, random states, time limit.

Lightning's `ModelCheckpoint` and `Timer` are not used: a resumed run must follow the same curve from the middle of an
epoch, and a killed process must leave no partial file.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypedDict, cast

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, distributed, nn

from manifests.errors import ConfigError
from manifests.files import publish, write_atomically
from training.data.batch import Batch
from training.models.checkpoint import AboutModel, save_model
from training.run_folder import read_curve

MAX_NOT_FINITE = 10  # steps in a row; the loss scaler of float16 is halved at each, and has settled after ten


class TimeIsUp(Exception):
    """Raised when the time limit of a run is over and its checkpoint is written."""


class ModelKeeper(Callback):
    """Callback that writes `model.pt` when the validation AUC improves; without validation, after each epoch."""

    def __init__(self, path: Path, about: AboutModel, *, has_val: bool) -> None:
        self._path = path
        self._about = about
        self._has_val = has_val
        self.best: float | None = None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the model if its AUC is the best so far."""
        auc = float(trainer.callback_metrics["val_auc"])  # finite, since ForgeryModule refuses other scores
        if self.best is None or auc > self.best:
            self.best = auc
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save the latest model if there is no validation split."""
        if not self._has_val:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save a model if there is none yet, as after `max_minutes` within the first epoch."""
        if not self._path.exists():
            self._save(trainer, pl_module)

    def state_dict(self) -> dict[str, float | None]:
        """Return the best AUC, for the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, float | None]) -> None:
        """Restore the best AUC."""
        self.best = state_dict["best"]

    def _save(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        if trainer.is_global_zero:
            save_model(self._path, cast(nn.Module, module.model), self._about)


class ResumePoint(Callback):
    """Callback that writes `last.ckpt` atomically, every N steps and after each epoch."""

    def __init__(self, path: Path, every_steps: int) -> None:
        self._path = path
        self._every_steps = every_steps
        self._saved_at = -1

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Save in the middle of an epoch."""
        step = trainer.global_step
        # After the last batch of an epoch, `on_train_epoch_end` saves, when validation is done.
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


class RandomStates(TypedDict):
    """States of the random generators of one process."""

    cpu: Tensor
    """(5056,) uint8, state of torch's generator on the CPU."""

    cuda: list[Tensor]
    """(16,) uint8, state of the generator on the GPU of the process; empty without a GPU."""


class RandomState(Callback):
    """Callback that keeps the random states of all processes in the checkpoint, so that dropout resumes exactly.

    Raises:
        ConfigError: the run was started with another number of processes, among which its epochs are divided.
    """

    def __init__(self) -> None:
        self._states: list[RandomStates] | None = None

    def state_dict(self) -> dict[str, list[RandomStates]]:
        """Return the states of the generators, a list over the processes."""
        cuda = [torch.cuda.get_rng_state()] if torch.cuda.is_available() else []
        here: RandomStates = {"cpu": torch.get_rng_state(), "cuda": cuda}
        if not distributed.is_initialized():
            return {"ranks": [here]}
        states = [here] * distributed.get_world_size()
        distributed.all_gather_object(states, here)
        return {"ranks": states}

    def load_state_dict(self, state_dict: dict[str, list[RandomStates]]) -> None:
        """Keep the states until training begins, since building loaders draws numbers."""
        self._states = state_dict["ranks"]

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Refuse another number of processes."""
        if self._states is not None and len(self._states) != trainer.world_size:
            raise ConfigError(
                f"trainer.devices: got {trainer.world_size} processes, expected {len(self._states)} as at the "
                "start of the run, since its epochs are divided among them; set trainer.devices to that number"
            )

    def on_train_batch_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Restore the states before the first step."""
        if self._states is None:
            return
        here = self._states[trainer.global_rank]
        torch.set_rng_state(here["cpu"].cpu())
        if torch.cuda.is_available() and here["cuda"]:
            torch.cuda.set_rng_state(here["cuda"][0].cpu())
        self._states = None


class Curve(Callback):
    """Callback that writes `curve.jsonl`; points of a killed run after its checkpoint are dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._step = -1
        self._num_not_finite = 0

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Drop points after the step that training resumes from."""
        kept = [point for point in read_curve(self._path.parent) if point["step"] <= trainer.global_step]
        if trainer.is_global_zero:
            text = "".join(json.dumps(point) + "\n" for point in kept)
            write_atomically(self._path, text.encode())

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Add losses and learning rate of the step.

        Raises:
            ConfigError: the loss was not finite for MAX_NOT_FINITE steps in a row.
        """
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train_")}
        found["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self._add(trainer, found)
        self._num_not_finite = 0 if math.isfinite(found["train_loss"]) else self._num_not_finite + 1
        if self._num_not_finite == MAX_NOT_FINITE:
            raise ConfigError(
                f"train_loss: got {found['train_loss']} in {MAX_NOT_FINITE} steps up to {trainer.global_step}, "
                "expected a number; train into another --run with a smaller optim.lr"
            )

    def on_validation_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Add the metrics of the validation split."""
        metrics = trainer.callback_metrics.items()
        self._add(trainer, {name: float(value) for name, value in metrics if name.startswith("val_")})

    def _add(self, trainer: lightning.Trainer, values: dict[str, float]) -> None:
        if not trainer.is_global_zero:
            return
        with self._path.open("a", encoding="utf-8") as file:
            for name, value in sorted(values.items()):
                file.write(json.dumps({"step": trainer.global_step, "name": name, "value": value}) + "\n")


class EpochLines(Callback):
    """Callback that says a line per epoch, where there is no terminal for a progress bar.

    Args:
        say: called with each line.
        clock: returns seconds.
    """

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say, self._clock = say, clock
        self._start = self._start_of_epoch = self._end_of_steps = 0.0
        self._num_batches = self._num_crops = 0  # batches of this start, crops of this epoch on all devices
        self._losses: list[float] = []  # of this epoch

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Say how long the run is."""
        self._start = self._start_of_epoch = self._clock()
        resumed = f", resumed after step {trainer.global_step:,}" if trainer.global_step else ""
        self._tell(
            trainer, f"epochs: {trainer.max_epochs}, each of {int(trainer.num_training_batches):,} batches{resumed}"
        )

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        _module: lightning.LightningModule,
        _outputs: object,
        batch: Batch,
        _batch_idx: int,
    ) -> None:
        """Count the crops, and keep the loss."""
        self._num_batches += 1
        self._num_crops += batch.pixels.shape[:-3].numel() * trainer.world_size
        self._losses.append(float(trainer.callback_metrics["train_loss"]))
        self._end_of_steps = self._clock()

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Say loss, AUC, crops per second and the time that is left."""
        now, metrics = self._clock(), trainer.callback_metrics
        epoch, epochs = trainer.current_epoch + 1, trainer.max_epochs or 0
        left = (epochs - epoch) * int(trainer.num_training_batches) * (now - self._start) / max(self._num_batches, 1)
        rate = self._num_crops / max(self._end_of_steps - self._start_of_epoch, 1e-9)
        auc = f", AUC {float(metrics['val_auc']):.4f} on val" if "val_auc" in metrics else ""
        loss = sum(self._losses) / max(len(self._losses), 1)
        time_left = timedelta(seconds=round(left))
        self._tell(trainer, f"epoch {epoch}/{epochs}: loss {loss:.4f}{auc}, {rate:.1f} crops/s, {time_left} left")
        self._num_crops, self._start_of_epoch = 0, now
        self._losses.clear()

    def _tell(self, trainer: lightning.Trainer, line: str) -> None:
        if trainer.is_global_zero:
            self._say(line)


class TimeLimit(Callback):
    """Callback that ends a run after the step at which its minutes are over; the next start resumes exactly.

    It does not set `trainer.should_stop`, after which Lightning would count the current epoch as finished.

    Args:
        minutes: limit of the run, minutes.
        resume_point: writes the checkpoint.
        keeper: writes a model, if there is none yet.
    """

    def __init__(self, minutes: float, resume_point: ResumePoint, keeper: ModelKeeper) -> None:
        self._end = time.monotonic() + 60 * minutes
        self._resume_point = resume_point
        self._keeper = keeper
        self._step = self._first_step = -1

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Remember the step that this start begins with."""
        self._step = self._first_step = trainer.global_step

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object) -> None:
        """Check the time after each step but the last one of an epoch, whose end comes first."""
        has_stepped, self._step = trainer.global_step != self._step, trainer.global_step
        if has_stepped and not trainer.is_last_batch and self._is_over(trainer):
            self._resume_point.save(trainer)
            self._stop(trainer, pl_module)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Check the time between two epochs, when the checkpoint is written."""
        if trainer.global_step > self._first_step and self._is_over(trainer):
            self._stop(trainer, pl_module)

    def _is_over(self, trainer: lightning.Trainer) -> bool:
        return trainer.strategy.reduce_boolean_decision(time.monotonic() > self._end, all=False)

    def _stop(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        self._keeper.on_train_end(trainer, module)
        raise TimeIsUp
