"""A training run: a folder that is made once, goes on where it was interrupted, and ends with `model.pt`.

See `training.run_folder` for what lies in the folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning
import torch
import yaml
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from torch import nn

from manifests.errors import ConfigError
from manifests.files import write_atomically
from training.config import TrainConfig
from training.evaluation.scores import to_videos
from training.evaluation.scoring import ScoringSettings, dataset_for, score
from training.evaluation.statistics.metrics import choose_threshold
from training.fit.callbacks import Curve, ModelKeeper, RandomState, ResumePoint, TimeIsUp, TimeLimit
from training.fit.data_module import StoreData
from training.fit.lightning_module import ForgeryModule
from training.fit.ranks import run_on_ranks
from training.models.checkpoint import AboutModel, load_model, make_model, save_model
from training.run_folder import (
    CONFIG_NAME,
    CURVE_NAME,
    MODEL_NAME,
    RESUME_NAME,
    TENSORBOARD_DIR,
    RunState,
    read_state,
    require_same_run,
    write_state,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """What came of a run."""

    model: Path
    """The trained model's file."""

    val_auc: float | None
    """Of the model on the validation split, frames (or clips); None without one."""

    threshold: float | None
    """p_fake from which a video is called fake, chosen on the validation split; None without one."""

    num_steps: int
    """Optimiser steps of the whole run."""

    is_complete: bool
    """False if it was stopped by `max_minutes` before its last epoch."""

    had_nothing_to_do: bool
    """Whether an earlier start had completed it."""


def train(config: TrainConfig) -> TrainResult:
    """Train a model on stores, or go on with the run that lies in the folder.

    Raises:
        ConfigError: a setting does not fit the stores, the folder holds a run with other settings, or the loss is no
            number any more.
        StoreError: a store cannot be read.
    """
    require_same_run(config)
    before = read_state(config.run)
    if before is not None and before.is_complete(config.trainer.epochs):
        return _result(config, before, had_nothing_to_do=True)
    num_processes = count_processes(config)
    config.run.mkdir(parents=True, exist_ok=True)
    if num_processes == 1:
        fit(0, config, 1)
    else:
        run_on_ranks(fit, (config, num_processes), num_processes)
    state = read_state(config.run)
    if state is None:
        raise ConfigError(f"run {config.run}: got no state of its end, expected one; was the folder changed meanwhile?")
    if state.val_auc is not None:
        state = replace(state, threshold=_keep_threshold(config))
        write_state(config.run, state)
    return _result(config, state, had_nothing_to_do=False)


def count_processes(config: TrainConfig) -> int:
    """Return how many processes train together.

    Raises:
        ConfigError: a GPU is asked for and not there, or more of them than there are.
    """
    asked, num_gpus = config.trainer.devices, _count_gpus(config)
    if config.trainer.accelerator == "gpu" and not num_gpus:
        raise ConfigError("trainer.accelerator: got gpu, expected auto or cpu; PyTorch sees no GPU here")
    if num_gpus and asked > num_gpus:
        raise ConfigError(f"trainer.devices: got {asked}, expected at most {num_gpus}, the GPUs here; 0 takes all")
    return asked or num_gpus or 1


def fit(rank: int, config: TrainConfig, num_processes: int) -> None:
    """Train in this process, one of several; the first of them leaves `state.json`.

    Args:
        rank: which of them it is.
        config: the run's.
        num_processes: how many there are.
    """
    lightning.seed_everything(config.trainer.seed, verbose=False)
    torch.set_flush_denormal(True)  # peaked attention makes denormals, which halve the speed on a CPU
    data = StoreData(config)
    about = data.about_model()
    module = ForgeryModule(_starting_model(config, about), config)
    if rank:  # another dropout on each; the first draws as a process alone does
        torch.manual_seed(config.trainer.seed + rank)
    if not rank:
        settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_atomically(config.run / CONFIG_NAME, settings.encode())
    keeper = ModelKeeper(config.run / MODEL_NAME, about, has_val=data.has_val)
    resume = config.run / RESUME_NAME
    with _quiet(), contextlib.closing(data):
        trainer = _trainer(config, keeper, module, num_processes, has_val=data.has_val)
        with _interruptible(trainer), contextlib.suppress(TimeIsUp):
            trainer.fit(module, datamodule=data, ckpt_path=resume if resume.exists() else None, weights_only=True)
    if not rank:
        state = RunState(
            num_epochs=trainer.current_epoch,
            num_steps=trainer.global_step,
            stopped_early=trainer.should_stop,  # nothing but patience sets it
            val_auc=keeper.best,
        )
        write_state(config.run, state)


def _result(config: TrainConfig, state: RunState, *, had_nothing_to_do: bool) -> TrainResult:
    """Return what is told of a run.

    Raises:
        ConfigError: its model is gone.
    """
    model = config.run / MODEL_NAME
    if not model.exists():
        raise ConfigError(f"run {config.run}: got no {MODEL_NAME}, expected that of its end; choose another --run")
    return TrainResult(
        model=model,
        val_auc=state.val_auc,
        threshold=state.threshold,
        num_steps=state.num_steps,
        is_complete=state.is_complete(config.trainer.epochs),
        had_nothing_to_do=had_nothing_to_do,
    )


def _keep_threshold(config: TrainConfig) -> float | None:
    """Return the score from which a video is called fake, chosen on the validation split and kept in the model."""
    path = config.run / MODEL_NAME
    model, about = load_model(path)
    if about.threshold is None:  # else the kept model is that of the start before
        settings = ScoringSettings(
            batch_size=config.data.batch_size,
            workers=config.data.workers,
            device="cuda" if _count_gpus(config) else "cpu",
        )
        dataset = dataset_for(
            about,
            config.stores,
            "val",
            manipulations=config.data.manipulations,
            compressions=config.data.compressions,
        )
        videos = to_videos(score(model, dataset, settings))
        about = replace(about, threshold=choose_threshold(videos.label, videos.p_fake))
        save_model(path, model, about)
    return about.threshold


def _count_gpus(config: TrainConfig) -> int:
    """Return how many GPUs a run may use."""
    wants_gpu = config.trainer.accelerator != "cpu"
    return torch.cuda.device_count() if wants_gpu and torch.cuda.is_available() else 0


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


def _trainer(
    config: TrainConfig, keeper: ModelKeeper, module: ForgeryModule, num_processes: int, *, has_val: bool
) -> lightning.Trainer:
    settings, has_gpu = config.trainer, _count_gpus(config) > 0
    resume_point = ResumePoint(config.run / RESUME_NAME, settings.save_every_steps)
    callbacks: list[Callback] = [RandomState(), Curve(config.run / CURVE_NAME), keeper, resume_point]
    if settings.patience and has_val:
        # Counted before the epoch's checkpoint is written, which then knows of it.
        patience = EarlyStopping("val_auc", mode="max", patience=settings.patience, check_on_train_epoch_end=False)
        callbacks.append(patience)
    if settings.max_minutes is not None:
        callbacks.append(TimeLimit(settings.max_minutes, resume_point, keeper))
    precision = settings.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_gpu and torch.cuda.is_bf16_supported() else "16-mixed" if has_gpu else "32-true"
    strategy: Any = "auto"
    if num_processes > 1:
        strategy = DDPStrategy(
            cluster_environment=LightningEnvironment(), find_unused_parameters=module.has_unused_parameters
        )
    return lightning.Trainer(
        accelerator="gpu" if has_gpu else "cpu",
        devices=num_processes,
        strategy=strategy,
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


@contextlib.contextmanager
def _interruptible(trainer: lightning.Trainer) -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning makes it an exit with 1, and the process deaf to the next one."""
    is_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGINT) if is_main else None
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
        raise KeyboardInterrupt from None
    finally:
        if is_main:
            signal.signal(signal.SIGINT, handler)


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
