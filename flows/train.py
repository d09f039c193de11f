"""The flows `train-m2tr` and `evaluate`: what stands behind preprocessing, for schedules and workers.

The command line calls the same functions without Prefect: a training run writes down by itself where it stands.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from pydantic import Field

from flows.run.task_runs import let_own_loggers_speak
from storage.files.layout import lock_store
from tasks.workers.pool import resolve_devices
from training.config import Section, TrainConfig


class EvaluateConfig(Section):
    """Everything that an evaluation can be told."""

    checkpoints: tuple[Path, ...] = Field(min_length=1)
    """model.pt of the model, and of others beside it."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of stores to test on."""

    out: Path
    """Folder of the page and of everything behind it."""

    split: str = Field("test", pattern="^(train|val|test)$")
    """Which split of the stores."""

    perturbations: tuple[str, ...] = ()
    """Score everything again under these, at every level."""

    explain: bool = True
    """Make sheets of Grad-CAM overlays."""

    explain_layers: tuple[str, ...] = ()
    """Of which layers: last, fine (M2TR's last stage), or modules' names; none: last."""

    batch_size: int = Field(32, ge=1)
    """Items at a time."""

    workers: int = Field(2, ge=0)
    """Processes that decode."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Auto, cpu, cuda or cuda:N."""

    seed: int = Field(0, ge=0)
    """Of resampling and perturbations."""


@flow(name="train-m2tr", flow_run_name="{config.run.name}", persist_result=False)
def train_m2tr(config: TrainConfig) -> dict[str, Any]:
    """Train a model on stores, or go on with the run that lies in its folder.

    Args:
        config: everything that the run can be told.

    Returns:
        Where the model lies, its AUC on val, and how many steps it took.

    Raises:
        UserError: a setting does not fit the stores.
        StoreError: a store cannot be read.
    """
    from training.fit.train import train

    let_own_loggers_speak()
    with lock_store(config.run):
        result = train(config)
    auc = "no validation split" if result.val_auc is None else f"AUC {result.val_auc:.4f} on val"
    done = "finished before: " if result.had_nothing_to_do else ""
    text = f"{done}{auc} after {result.num_steps:,} steps: `{result.model}`"
    create_markdown_artifact(text, key="training-summary", description=str(config.run))
    return {"model": str(result.model), "val_auc": result.val_auc, "num_steps": result.num_steps}


@flow(name="evaluate", flow_run_name="{config.out.name}", persist_result=False)
def evaluate_model(config: EvaluateConfig) -> str:
    """Evaluate a model on stores, and write its page.

    Args:
        config: everything that the evaluation can be told.

    Returns:
        The page's path.

    Raises:
        UserError: a checkpoint is none, or there is nothing to test on.
        StoreError: a store cannot be read.
    """
    let_own_loggers_speak()
    page = run_evaluation(config)
    create_markdown_artifact(
        (config.out / "evaluation.md").read_text(encoding="utf-8"), key="evaluation", description=str(page)
    )
    return str(page)


def run_evaluation(config: EvaluateConfig, say: Any = lambda _: None) -> Path:
    """Evaluate without Prefect; return the page's path."""
    import torch

    from training.evaluation.evaluate import JudgeSettings, evaluate
    from training.evaluation.scoring import ScoringSettings

    torch.set_flush_denormal(True)
    (device, *_) = resolve_devices(config.device, "device")
    settings = JudgeSettings(
        split=config.split,
        scoring=ScoringSettings(batch_size=config.batch_size, workers=config.workers, device=device),
        perturbations=config.perturbations,
        explain=config.explain,
        explain_layers=config.explain_layers,
        seed=config.seed,
    )
    page, _ = evaluate(config.checkpoints, config.stores, config.out, settings, say)
    return page
