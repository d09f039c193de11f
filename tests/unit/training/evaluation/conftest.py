"""Scores and an evaluation of them that several tests read."""

from __future__ import annotations

import pytest

from tests.helpers.evaluations import made
from training.evaluation.results import (
    Evaluation,
    summarise,
)
from training.evaluation.scores import Scores


@pytest.fixture(scope="session")
def scores() -> Scores:
    return made()


@pytest.fixture(scope="session")
def evaluation(scores: Scores) -> Evaluation:
    about = {"model": "m2tr", "checkpoint": "runs/<i>last</i>.ckpt"}
    return summarise(scores, threshold=0.4, seed=1, about=about, missing_videos=(1, 0), num_resamples=50)
