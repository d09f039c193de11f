"""An evaluation written with every part that a page may have."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.helpers.evaluations import made
from training.evaluation.report.write import write_evaluation
from training.evaluation.results import (
    Evaluation,
    Example,
    Extras,
    confusable,
    cross_dataset,
    robustness_row,
)
from training.evaluation.scores import Scores
from training.run_folder import CurvePoint


@pytest.fixture(scope="session")
def out_dir(tmp_path_factory: pytest.TempPathFactory, scores: Scores, evaluation: Evaluation) -> Path:
    folder = tmp_path_factory.mktemp("evaluation") / "out"
    jpeg = cv2.imencode(".jpg", np.full((16, 16, 3), 90, dtype=np.uint8))[1].tobytes()
    examples = [
        Example(key=scores.key[row], label=label, p_fake=float(scores.p_fake[row]), kind="real", jpeg=jpeg)
        for label, rows in enumerate(confusable(scores, 2))
        for row in rows
    ]
    robustness = [robustness_row("m2tr", "none", 0, None, scores)]
    robustness += [
        robustness_row("m2tr", "noise", 1, 5.0, made(damage=0.5)),
        robustness_row("m2tr", "noise", 2, 10.0, made(damage=1.2)),
    ]
    write_evaluation(
        folder,
        evaluation,
        scores,
        Extras(
            examples=examples,
            curves=[
                CurvePoint(step=step, name=name, value=1.0 / step)
                for step in (1, 2)
                for name in ("train/loss", "val/loss")
            ],
            cam_sheets={"fakes": jpeg},
            robustness=robustness,
            strips={"noise": jpeg},
            cross=cross_dataset({"ffpp": evaluation}),
        ),
    )
    return folder
