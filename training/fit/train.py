"""Training runs: started or resumed in a folder, which holds `model.pt` at the end.

See `training.run_folder` for the files of the folder.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

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
from training.fit.callbacks import Curve, EpochLines, ModelKeeper, RandomState, ResumePoint, TimeIsUp, TimeLimit
from training.fit.data_module import StoreData
from training.fit.lightning_module import ForgeryModule
from training.fit.ranks import run_on_ranks
from training.fit.resume import require_checkpoint
from training.models import paper_weights
from training.models.checkpoint import AboutModel, load_model, make_model, save_model
from training.run_folder import (
    CONFIG_NAME,
    CURVE_NAME,
    MODEL_NAME,
    RESUME_NAME,
    STATE_NAME,
    TENSORBOARD_DIR,
    RunState,
    read_state,
    require_same_run,
    write_state,
)

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """The outcome of a run."""

    model: Path
    """Path of the trained model."""

    val_auc: float | None
    """0..1, AUC of frames (or clips) on the validation split; None: see `no_auc`."""

    no_auc: str | None
    """Reason why there is no AUC, for a person; None if there is one."""

    started_from: str | None
    """Weights from which the run started, for a person; None: not recorded."""

    threshold: float | None
    """0..1, score from which a video is called fake, chosen on the validation split; None without one."""

    num_steps: int
    """Optimiser steps of the whole run."""

    is_complete: bool
    """Whether the last epoch is done; False after a stop by `max_minutes`."""

    had_nothing_to_do: bool
    """Whether an earlier start had completed the run."""

    @property
    def in_a_line(self) -> str:
        """Return AUC, steps and starting weights, for a person."""
        auc = self.no_auc if self.val_auc is None else f"best AUC {self.val_auc:.4f} on val"
        start = f"; started from {self.started_from}" if self.started_from else ""
        return f"{auc} after {self.num_steps:,} steps{start}"


def silent(_line: str) -> None:
    """Say nothing; unlike a lambda, it can be passed to another process."""


def train(config: TrainConfig, say: Say = silent, weights: Path | None = None) -> TrainResult:
    """Train a model on stores, or resume the run in its folder.

    Args:
        config: the settings of the run.
        say: called with a line of progress; picklable if there are several processes.
        weights: file with the pretrained weights that `model.pretrained` asks for; None: they come from timm's hub.

    Raises:
        ConfigError: a setting does not fit the stores, the folder holds a run with other settings, or the loss is not
            finite.
        StoreError: a store cannot be read.
    """
    require_same_run(config)
    before = read_state(config.run)
    if before is not None and before.is_complete(config.trainer.epochs):
        return _result(config, before, had_nothing_to_do=True)
    num_processes = count_processes(config)
    require_checkpoint(config.run)
    config.run.mkdir(parents=True, exist_ok=True)
    if num_processes == 1:
        fit(0, config, 1, say, weights)
    else:
        run_on_ranks(fit, (config, num_processes, say, weights), num_processes)
    state = read_state(config.run)
    if state is None:
        raise ConfigError(
            f"run {config.run}: got no {STATE_NAME}, expected one; start the run again, and leave its folder unchanged"
        )
    if state.val_auc is not None:
        state = replace(state, threshold=_keep_threshold(config))
        write_state(config.run, state)
    return _result(config, state, had_nothing_to_do=False)


def count_processes(config: TrainConfig) -> int:
    """Return the number of training processes.

    Raises:
        ConfigError: there is no GPU, or there are fewer than the settings ask for.
    """
    asked, num_gpus = config.trainer.devices, _count_gpus(config)
    if config.trainer.accelerator == "gpu" and not num_gpus:
        raise ConfigError("trainer.accelerator: got gpu, expected auto or cpu; PyTorch sees no GPU here")
    if num_gpus and asked > num_gpus:
        raise ConfigError(f"trainer.devices: got {asked}, expected at most {num_gpus}, the GPUs here; 0 takes all")
    return asked or num_gpus or 1


def fit(rank: int, config: TrainConfig, num_processes: int, say: Say, weights: Path | None) -> None:
    """Train in this process, one of several; the first one writes `state.json`.

    Args:
        rank: number of this process.
        config: settings of the run.
        num_processes: number of processes.
        say: called with a line of progress by the first process.
        weights: file with the pretrained weights, as for `train`.
    """
    lightning.seed_everything(config.trainer.seed, verbose=False)
    torch.set_flush_denormal(True)  # peaked attention produces denormals, which halve the speed on a CPU
    data = StoreData(config)
    start, advice = starting_weights(config)
    about = replace(data.about_model(), started_from=start)
    resume = config.run / RESUME_NAME
    model = _starting_model(config, about, weights, is_fresh=not resume.exists())
    module = ForgeryModule(model, config)
    remarks = [f"starts from {start}{advice}", *data.remarks(enlarges_crops=getattr(model, "enlarges_crops", False))]
    if rank:  # processes draw different dropout; the first one draws as a single process does
        torch.manual_seed(config.trainer.seed + rank)
    if not rank:
        settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        write_atomically(config.run / CONFIG_NAME, settings.encode())
        for remark in remarks:
            say(f"{config.model.name}: {remark}")
    keeper = ModelKeeper(config.run / MODEL_NAME, about, has_val=data.has_val)
    with _quiet(), contextlib.closing(data):
        trainer = _trainer(config, keeper, module, num_processes, say, has_val=data.has_val)
        with _interruptible(trainer), contextlib.suppress(TimeIsUp):
            trainer.fit(module, datamodule=data, ckpt_path=resume if resume.exists() else None, weights_only=True)
    if not rank:
        state = RunState(
            num_epochs=trainer.current_epoch,
            num_steps=trainer.global_step,
            stopped_early=trainer.should_stop,  # only set by patience
            val_auc=keeper.best,
            no_auc=data.no_auc or (None if keeper.best is not None else "no AUC yet, stopped before validation"),
            started_from=start,
        )
        write_state(config.run, state)


def _result(config: TrainConfig, state: RunState, *, had_nothing_to_do: bool) -> TrainResult:
    """Return the outcome of a run.

    Raises:
        ConfigError: its model file is missing.
    """
    model = config.run / MODEL_NAME
    if not model.exists():
        raise ConfigError(f"run {config.run}: got no {MODEL_NAME}, expected the trained model; choose another --run")
    return TrainResult(
        model=model,
        val_auc=state.val_auc,
        no_auc=state.no_auc or (None if state.val_auc is not None else "no AUC on val"),
        started_from=state.started_from,
        threshold=state.threshold,
        num_steps=state.num_steps,
        is_complete=state.is_complete(config.trainer.epochs),
        had_nothing_to_do=had_nothing_to_do,
    )


def _keep_threshold(config: TrainConfig) -> float | None:
    """Choose the threshold of a video's score on the validation split, save it in the model, and return it."""
    path = config.run / MODEL_NAME
    model, about = load_model(path)
    if about.threshold is None:  # otherwise the model is that of an earlier start
        settings = ScoringSettings(
            batch_size=config.data.batch_size,
            workers=config.data.workers,
            device="cuda" if _count_gpus(config) else "cpu",
        )
        dataset = dataset_for(
            about, config.stores, "val", manipulations=config.data.manipulations, compressions=config.data.compressions
        )
        videos = to_videos(score(model, dataset, settings))
        about = replace(about, threshold=choose_threshold(videos.label, videos.p_fake))
        save_model(path, model, about)
    return about.threshold


def _count_gpus(config: TrainConfig) -> int:
    """Return the number of GPUs that a run may use."""
    wants_gpu = config.trainer.accelerator != "cpu"
    return torch.cuda.device_count() if wants_gpu and torch.cuda.is_available() else 0


def starting_weights(config: TrainConfig) -> tuple[str, str]:
    """Return the weights from which a run starts, for a person, and advice if its paper starts from others."""
    settings = config.model
    paper = paper_weights(settings.name, settings.backbone)
    file = settings.start_from or settings.weights
    if file is None and settings.pretrained:
        return paper or "the weights of timm's hub", ""
    if file is not None or paper is None:
        return "random weights" if file is None else file.name, ""
    return (
        f"random weights (model.pretrained: false), while its paper starts from {paper}",
        f": expect lower figures; run `faceshards weights fetch {paper}`, and train with --set model.pretrained=true "
        "into another --run",
    )


def _starting_model(config: TrainConfig, about: AboutModel, weights: Path | None, *, is_fresh: bool) -> nn.Module:
    """Build the model with its starting weights; a resumed run loads its own weights afterwards."""
    file = config.model.weights or (weights if config.model.pretrained else None)
    pretrained = config.model.pretrained and file is None
    model = make_model(about, pretrained=pretrained and is_fresh, weights=file if is_fresh else None)
    if config.model.start_from is None or not is_fresh:
        return model
    loaded, found = load_model(config.model.start_from)
    try:
        model.load_state_dict(loaded.state_dict())
    except RuntimeError as error:
        raise ConfigError(
            f"model.start_from {config.model.start_from}: got {found.name} of {found.img_size} px and "
            f"{len(found.class_names)} classes, expected {about.name} of {about.img_size} px and "
            f"{len(about.class_names)} classes; change model.start_from or the other settings of the model"
        ) from error
    return model


def _trainer(
    config: TrainConfig, keeper: ModelKeeper, module: ForgeryModule, num_processes: int, say: Say, *, has_val: bool
) -> lightning.Trainer:
    settings, has_gpu = config.trainer, _count_gpus(config) > 0
    resume_point = ResumePoint(config.run / RESUME_NAME, settings.save_every_steps)
    callbacks: list[Callback] = [RandomState(), Curve(config.run / CURVE_NAME), keeper, resume_point]
    if settings.patience and has_val:
        # Updated before the checkpoint of the epoch is written, so that it includes the count.
        patience = EarlyStopping("val_auc", mode="max", patience=settings.patience, check_on_train_epoch_end=False)
        callbacks.append(patience)
    has_terminal = sys.stdout.isatty() and sys.stderr.isatty()  # the bar is drawn on stdout
    if not has_terminal:
        callbacks.append(EpochLines(say))
    if settings.max_minutes is not None:
        callbacks.append(TimeLimit(settings.max_minutes, resume_point, keeper))
    precision = settings.precision
    if precision == "auto":
        precision = "bf16-mixed" if has_gpu and torch.cuda.is_bf16_supported() else "16-mixed" if has_gpu else "32-true"
    strategy: str | DDPStrategy = "auto"
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
        use_distributed_sampler=False,  # the samplers distribute items themselves
        enable_checkpointing=False,  # ResumePoint and ModelKeeper write files atomically
        enable_model_summary=False,
        enable_progress_bar=has_terminal,
    )


@contextlib.contextmanager
def _interruptible(trainer: lightning.Trainer) -> Iterator[None]:
    """Raise KeyboardInterrupt at Ctrl-C; Lightning exits with 1, and ignores further signals."""
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
    """Silence Lightning's log messages and warnings; its progress bar remains."""
    names = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("LIGHTNING_DISABLE_TIPS", "1")
    try:
        with warnings.catch_warnings():
            # Warnings about workers, logging intervals and `spawn`, which users do not choose.
            warnings.filterwarnings("ignore", module=r"lightning\..*")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
