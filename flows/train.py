"""The flow `train-m2tr`: training for schedules and workers.

`faceshards train` calls the same function without Prefect, since a run records its own progress in its folder.
"""

from __future__ import annotations

import logging
import sys
from typing import TypedDict

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.config.training import backbone_file
from flows.run.task_runs import enable_own_loggers
from storage.files.layout import lock_store
from training.config import TrainConfig

logger = logging.getLogger(__name__)


class TrainedModel(TypedDict):
    """The outcome of a training run."""

    model: str
    """Path of the model file."""

    val_auc: float | None
    """0..1, AUC of frames (or clips) on the validation split; None: it could not be measured."""

    num_steps: int
    """Optimiser steps of the whole run."""

    in_a_line: str
    """AUC, or why there is none, steps and starting weights, for a person."""


@flow(name="train-m2tr", flow_run_name="{config.run.name}", persist_result=False)
def train_m2tr(config: TrainConfig) -> TrainedModel:
    """Train a model on stores, or resume the run in its folder.

    Args:
        config: the settings of the run.

    Returns:
        Path, validation AUC and number of steps of the model, and these in words.

    Raises:
        UserError: a setting does not fit the stores.
        StoreError: a store cannot be read.
    """
    from training.fit.train import train

    enable_own_loggers()
    with lock_store(config.run):
        result = train(config, _tell, backbone_file(config))
    done = "already complete: " if result.had_nothing_to_do else ""
    text = f"{done}{result.in_a_line}: `{result.model}`"
    create_markdown_artifact(text, key="training-summary", description=str(config.run))
    return {
        "model": str(result.model),
        "val_auc": result.val_auc,
        "num_steps": result.num_steps,
        "in_a_line": result.in_a_line,
    }


def _tell(line: str) -> None:
    """Show a line of progress in the run's log, or on stderr in a process that Prefect does not know."""
    if logger.isEnabledFor(logging.INFO):
        logger.info(line)
    else:
        sys.stderr.write(f"{line}\n")
