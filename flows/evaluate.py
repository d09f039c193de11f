"""The flow `evaluate`: a trained model on stores, for schedules and workers.

`faceshards evaluate` calls the same function without Prefect.
"""

from __future__ import annotations

import logging

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.run.task_runs import enable_own_loggers
from tasks.workers.devices import resolve_devices
from training.config import EvaluateConfig

logger = logging.getLogger(__name__)


@flow(name="evaluate", flow_run_name="{config.out.name}", persist_result=False)
def evaluate_model(config: EvaluateConfig) -> str:
    """Evaluate a model on stores and write its page.

    Args:
        config: the settings of the evaluation.

    Returns:
        The path of the page.

    Raises:
        UserError: a checkpoint cannot be read, or there is nothing to test on.
        StoreError: a store cannot be read.
    """
    from training.evaluation.evaluate import evaluate
    from training.evaluation.report.write import MARKDOWN_NAME

    enable_own_loggers()
    (device, *_) = resolve_devices(config.device, "device")
    page, _ = evaluate(config, device, logger.info)
    text = (config.out / MARKDOWN_NAME).read_text(encoding="utf-8")
    create_markdown_artifact(text, key="evaluation", description=str(page))
    return str(page)
