"""The flow `predict`: the score of one video, for deployments.

`faceshards predict` calls the same function without Prefect.
"""

from __future__ import annotations

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.config.training import PredictConfig
from flows.run.prediction import Prediction, predict, summary
from flows.run.task_runs import enable_own_loggers


@flow(name="predict", flow_run_name="{config.video.name}", persist_result=False)
def predict_video(config: PredictConfig) -> Prediction:
    """Score the main face of a video; write scores, plot and annotated clip.

    Args:
        config: the settings of the prediction.

    Raises:
        UserError: the checkpoint or the video cannot be used.
    """
    enable_own_loggers()
    prediction = predict(config)
    create_markdown_artifact("\n\n".join(summary(prediction)), key="prediction", description=str(config.video))
    return prediction
