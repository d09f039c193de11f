"""The flow `train-m2tr`: training for schedules and workers.

`faceshards train` calls the same function without Prefect, since a run records its own progress in its folder.
"""

from __future__ import annotations

from typing import TypedDict

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.run.task_runs import enable_own_loggers
from storage.files.layout import lock_store
from training.config import TrainConfig


class TrainedModel(TypedDict):
    """The outcome of a training run."""

    model: str
    """Path of the model file."""

    val_auc: float | None
    """0..1, AUC of frames (or clips) on the validation split; None without such a split."""

    num_steps: int
    """Optimiser steps of the whole run."""


@flow(name="train-m2tr", flow_run_name="{config.run.name}", persist_result=False)
def train_m2tr(config: TrainConfig) -> TrainedModel:
    """Train a model on stores, or resume the run in its folder.

    Args:
        config: the settings of the run.

    Returns:
        Path, validation AUC and number of steps of the model.

    Raises:
        UserError: a setting does not fit the stores.
        StoreError: a store cannot be read.
    """
    from training.fit.train import train

    enable_own_loggers()
    with lock_store(config.run):
        result = train(config)
    auc = "no validation split" if result.val_auc is None else f"AUC {result.val_auc:.4f} on val"
    done = "already complete: " if result.had_nothing_to_do else ""
    text = f"{done}{auc} after {result.num_steps:,} steps: `{result.model}`"
    create_markdown_artifact(text, key="training-summary", description=str(config.run))
    return {"model": str(result.model), "val_auc": result.val_auc, "num_steps": result.num_steps}
