from __future__ import annotations

import numpy as np
import pytest

from tests.helpers.evaluations import made
from training.evaluation.results import (
    Evaluation,
    confusable,
    cross_dataset,
    summarise,
)
from training.evaluation.scores import Scores, to_videos


def test_values_by_hand(evaluation: Evaluation, scores: Scores) -> None:
    videos = to_videos(scores)
    assert (evaluation.num_frames, evaluation.num_videos) == (72, 24)
    right = ((videos.p_fake >= 0.5) == (videos.label == 1)).sum()
    assert evaluation.missing is not None
    assert evaluation.missing.accuracy_if_wrong == pytest.approx(right / 25)
    assert [(found.level, found.threshold) for found in evaluation.confusions] == [
        ("frame", 0.5),
        ("frame", 0.4),
        ("video", 0.5),
        ("video", 0.4),
    ]
    assert sum(found.count for found in evaluation.calibrations["frame"]) == 72


def test_confusable_takes_the_worst_frame_of_each_video(scores: Scores) -> None:
    reals, fakes = confusable(scores, 5)
    assert scores.label[reals].tolist() == [0] * 5
    assert scores.label[fakes].tolist() == [1] * 5
    assert len(set(scores.video_id[reals])) == 5
    assert scores.p_fake[reals[0]] == scores.p_fake[scores.label == 0].max()
    assert (np.diff(scores.p_fake[fakes]) >= 0).all()


def test_cross_dataset_matrix_has_a_place_for_what_was_not_tested(evaluation: Evaluation) -> None:
    other = summarise(made("celeb_df", None), threshold=None, seed=0, num_resamples=0)
    found = cross_dataset({"ffpp c23": evaluation, "celeb_df": other})
    assert (found.rows, found.columns) == (("ffpp c23", "celeb_df"), ("celeb_df", "ffpp"))
    assert found.figures[0][0].reason == "not tested on it"
    assert found.figures[0][1] == evaluation.groups[2].figures["auc"]
    with pytest.raises(ValueError, match="metric: got 'AUC'"):
        cross_dataset({}, metric="AUC")
