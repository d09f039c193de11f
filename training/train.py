"""A training run: a folder that is made once, goes on where it was interrupted, and ends with `model.pt`.

RUN/
├── config.yaml     the settings
├── last.ckpt       where to go on: weights, optimiser, place in the epoch, random numbers
├── curve.jsonl     what was measured, step by step
├── tensorboard/    the same for TensorBoard
└── model.pt        the best model by AUC on val (without val: the last), for `faceshards evaluate`
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import lightning
import torch
import yaml
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from manifests.errors import ConfigError, StoreError
from storage.index import read_index
from storage.layout import RECORDS_NAME, publish, write_atomically
from storage.tables import read_rows
from training.augment import PaperAugmentation, Resize, Transform
from training.checkpoint import AboutModel, load_model, make_model, save_model
from training.config import DataSettings, TrainConfig
from training.data import Batch, Loader, StoreDataset, make_loader
from training.module import ForgeryModule
from training.sampling import BlockShuffle, InOrder

logger = logging.getLogger(__name__)

CONFIG_NAME, RESUME_NAME, CURVE_NAME, MODEL_NAME = "config.yaml", "last.ckpt", "curve.jsonl", "model.pt"
TENSORBOARD_DIR = "tensorboard"
CURVE_EVERY_STEPS = 1
# Settings that may change from one start of a run to the next.
MAY_CHANGE = {"trainer": {"accelerator", "devices", "max_minutes", "save_every_steps", "epochs"}, "data": {"workers"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came of a run."""

    model: Path
    # the trained model's file

    val_auc: float | None
    # of the model's epoch on the validation split, frames (or clips); None without one

    num_steps: int
    # optimiser steps of the whole run

    is_complete: bool
    # False if it was stopped by `max_minutes` before its last epoch


def train(config: TrainConfig) -> TrainResult:
    """Train a model on stores, or go on with the run that lies in the folder.

    Raises:
        ConfigError: a setting does not fit the stores, or the folder holds a run with other settings.
        StoreError: a store cannot be read.
    """
    require_same_run(config)
    lightning.seed_everything(config.trainer.seed, verbose=False)
    torch.set_flush_denormal(True)  # peaked attention makes denormals, which halve the speed on a CPU
    data = StoreData(config)
    about = data.about_model()
    module = ForgeryModule(_starting_model(config, about), config)
    config.run.mkdir(parents=True, exist_ok=True)
    write_atomically(config.run / CONFIG_NAME, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
    keeper = ModelKeeper(config.run / MODEL_NAME, about, has_val=data.has_val)
    resume = config.run / RESUME_NAME
    with _quiet():
        trainer = _trainer(config, keeper, has_val=data.has_val)
        trainer.fit(module, datamodule=data, ckpt_path=resume if resume.exists() else None, weights_only=True)
    data.close()
    if trainer.interrupted:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        _add_threshold(config)
    is_complete = trainer.current_epoch >= config.trainer.epochs or trainer.should_stop
    return TrainResult(
        model=config.run / MODEL_NAME, val_auc=keeper.best, num_steps=trainer.global_step, is_complete=is_complete
    )


def _add_threshold(config: TrainConfig) -> None:
    """Choose the score from which a video is called fake on the validation split, and write it into the model."""
    from training.metrics import choose_threshold
    from training.scores import to_videos
    from training.scoring import ScoringSettings, dataset_for, score

    path = config.run / MODEL_NAME
    model, about = load_model(path)
    try:
        dataset = dataset_for(about, config.stores, "val")
    except StoreError:
        raise
    except ConfigError:  # there is none
        return
    has_gpu = config.trainer.accelerator != "cpu" and torch.cuda.is_available()
    settings = ScoringSettings(
        batch_size=config.data.batch_size, workers=config.data.workers, device="cuda" if has_gpu else "cpu"
    )
    videos = to_videos(score(model, dataset, settings))
    save_model(path, model, replace(about, threshold=choose_threshold(videos.label, videos.p_fake)))


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


class Feed:
    """A loader as Lightning takes it: what it does not see (a sampler) it does not replace. Its state goes along."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the epoch."""
        return iter(self._loader)

    def state_dict(self) -> dict[str, Any]:
        """Return where the loader stands."""
        return self._loader.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self._loader.load_state_dict(state)


class StoreData(lightning.LightningDataModule):
    """The training and validation splits of the stores."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._config = config
        self.train_set = self._dataset("train", _transform(config.data, config.model.img_size))
        self._val_set = self._val_dataset()
        self._loaders: list[Loader] = []

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split with both real and fake items."""
        return self._val_set is not None

    def about_model(self) -> AboutModel:
        """Return what a model that is trained on this data is."""
        model = self._config.model
        is_clip = self._config.data.frames == "clip"
        return AboutModel(
            name=model.name,
            img_size=model.img_size,
            class_names=self.train_set.class_names,
            num_stages=model.num_stages,
            backbone=model.backbone,
            dropout=model.dropout,
            head=model.head if is_clip else None,
            clip_length=self.train_set.clip_length,
            crops=dict(read_index(self._config.stores[0]).config),
            trained_on=datasets_of(self._config.stores, "train"),
        )

    def train_dataloader(self) -> Feed:
        """Return the shuffled, balanced loader of this process."""
        trainer, data = self._trainer_of(), self._config.data
        sampler = BlockShuffle(
            self.train_set.labels,
            self.train_set.methods,
            seed=self._config.trainer.seed,
            balance=data.balance,
            num_draws=data.epoch_items,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        loader = make_loader(
            self.train_set, sampler, data.batch_size, data.workers, drop_last=len(sampler) >= data.batch_size
        )
        self._loaders.append(loader)
        return Feed(loader)

    def val_dataloader(self) -> Feed | list[Feed]:
        """Return the loader of the validation split, in order; none where there is no such split."""
        if self._val_set is None:
            return []
        trainer = self._trainer_of()
        sampler = InOrder(len(self._val_set), rank=trainer.global_rank, world_size=trainer.world_size)
        loader = make_loader(self._val_set, sampler, self._config.data.batch_size, self._config.data.workers)
        self._loaders.append(loader)
        return Feed(loader)

    def close(self) -> None:
        """End the processes that decode."""
        for loader in self._loaders:
            loader.close()

    def _trainer_of(self) -> lightning.Trainer:
        return cast(lightning.Trainer, self.trainer)

    def _dataset(self, split: str, transform: Transform) -> StoreDataset:
        config = self._config
        return StoreDataset(
            config.stores,
            split,
            transform=transform,
            classes=config.model.classes or "binary",
            frames=config.data.frames,
            manipulations=config.data.manipulations,
            compressions=config.data.compressions,
            with_masks=config.loss.weights[1] > 0,
            seed=config.trainer.seed,
        )

    def _val_dataset(self) -> StoreDataset | None:
        try:
            found = self._dataset("val", Resize(self._config.model.img_size))
        except StoreError:
            raise
        except ConfigError:  # nothing in it
            return None
        return found if len(set((found.labels != 0).tolist())) == 2 else None


def datasets_of(stores: Sequence[Path], split: str) -> tuple[str, ...]:
    """Return the names of the datasets in a split of some stores, sorted."""
    rows = (row for store in stores for row in read_rows(store / RECORDS_NAME, ["dataset", "split"]))
    return tuple(sorted({dataset for dataset, where in rows if where == split}))


class ModelKeeper(Callback):
    """Writes `model.pt` whenever the model is the best so far on val; without val, at the end of each epoch."""

    def __init__(self, path: Path, about: AboutModel, *, has_val: bool) -> None:
        self._path = path
        self._about = about
        self._has_val = has_val
        self.best: float | None = None

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the model if no epoch was better."""
        auc = float(trainer.callback_metrics["val_auc"])
        if self.best is None or auc > self.best:
            self.best = auc
            self._save(trainer, pl_module)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Keep the latest model where nothing says which is best."""
        if not self._has_val:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Leave a model even where no epoch was finished."""
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
        if step and step % self._every_steps == 0 and step != self._saved_at:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Save between two epochs."""
        self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        self._saved_at = trainer.global_step
        partial = self._path.with_name(f".partial-{self._path.name}")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            publish(partial, self._path)


class RandomState(Callback):
    """Keeps torch's random state with a checkpoint: dropout goes on as if there had been no interruption."""

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the generators' states."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {"cpu": torch.get_rng_state(), "cuda": cuda}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep them until training begins: building loaders draws numbers, too."""
        self._state = state_dict

    def on_train_batch_start(self, *_: Any) -> None:
        """Put them back before the first step."""
        if self._state is None:
            return
        torch.set_rng_state(self._state["cpu"].cpu())
        if torch.cuda.is_available() and len(self._state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([state.cpu() for state in self._state["cuda"]])
        self._state = None


class Curve(Callback):
    """Writes what is measured to `curve.jsonl`; what a killed run had written behind its checkpoint is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._step = -1

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Drop points from behind the place where training goes on."""
        kept = [point for point in read_curve(self._path.parent) if point["step"] <= trainer.global_step]
        if trainer.is_global_zero:
            text = "".join(json.dumps(point) + "\n" for point in kept)
            write_atomically(self._path, text.encode())

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Add the step's losses and the learning rate."""
        if trainer.global_step == self._step or trainer.global_step % CURVE_EVERY_STEPS:
            return
        self._step = trainer.global_step
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train_")}
        found["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        self._add(trainer, found)

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


def read_curve(run: Path) -> list[dict[str, Any]]:
    """Return the points {step, name, value} of a run; a line that a kill cut off is left out."""
    points: list[dict[str, Any]] = []
    if (run / CURVE_NAME).exists():
        for line in (run / CURVE_NAME).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                points.append(json.loads(line))
    return points


def _starting_model(config: TrainConfig, about: AboutModel) -> nn.Module:
    model = make_model(about, pretrained=config.model.pretrained, weights=config.model.weights)
    if config.model.start_from is None:
        return model
    loaded, found = load_model(config.model.start_from)
    try:
        model.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"model.start_from {config.model.start_from}: got {found.name} of {found.img_size} px and "
            f"{len(found.class_names)} classes, expected {about.name} of {about.img_size} px and "
            f"{len(about.class_names)} classes"
        ) from error
    return model


def _transform(data: DataSettings, img_size: int) -> Transform:
    if data.augment == "paper":
        return PaperAugmentation(img_size)
    if data.augment == "flip":
        flips = replace(
            PaperAugmentation(img_size), colour_probability=0.0, noise_probability=0.0, jpeg_probability=0.0
        )
        return replace(flips, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    return Resize(img_size)


def _trainer(config: TrainConfig, keeper: ModelKeeper, *, has_val: bool) -> lightning.Trainer:
    settings = config.trainer
    callbacks: list[Callback] = [
        RandomState(),
        Curve(config.run / CURVE_NAME),
        keeper,
        ResumePoint(config.run / RESUME_NAME, settings.save_every_steps),
    ]
    if settings.patience and has_val:
        callbacks.append(EarlyStopping("val_auc", mode="max", patience=settings.patience))
    if settings.max_minutes is not None:
        callbacks.append(TimeLimit(settings.max_minutes))
    has_gpu = settings.accelerator != "cpu" and torch.cuda.is_available()
    if settings.accelerator == "gpu" and not has_gpu:
        raise ConfigError("trainer.accelerator: got gpu, expected auto or cpu; PyTorch sees no GPU here")
    precision = settings.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_gpu and torch.cuda.is_bf16_supported() else "16-mixed" if has_gpu else "32-true"
    devices: Any = settings.devices or ("auto" if has_gpu else 1)
    return lightning.Trainer(
        accelerator="gpu" if has_gpu else "cpu",
        devices=devices,
        precision=precision,
        max_epochs=settings.epochs,
        accumulate_grad_batches=settings.accumulate,
        callbacks=callbacks,
        logger=TensorBoardLogger(config.run, name="", version=TENSORBOARD_DIR),
        log_every_n_steps=1,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # the samplers know their ranks
        enable_checkpointing=False,  # ResumePoint and ModelKeeper write complete files or none
        enable_model_summary=False,
        enable_progress_bar=sys.stderr.isatty(),
    )


class TimeLimit(Callback):
    """Ends a run at the first step after so many minutes; the next start goes on."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Look at the clock."""
        if time.monotonic() > self._end:
            trainer.should_stop = True


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about itself; our own words and its progress bar remain."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("LIGHTNING_DISABLE_TIPS", "1")
    try:
        with warnings.catch_warnings():
            # On workers, logging intervals and `spawn`: decided here, not by the user.
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
