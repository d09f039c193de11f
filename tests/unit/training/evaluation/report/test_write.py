from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from manifests.errors import UserError
from training.evaluation.report.write import read_evaluation, write_evaluation
from training.evaluation.results import (
    Evaluation,
    summarise,
)
from training.evaluation.scores import Scores, read_scores, scores_from_columns, to_videos


def test_everything_is_there_and_can_be_read_again(out_dir: Path, scores: Scores, evaluation: Evaluation) -> None:
    names = {path.name for path in out_dir.iterdir()}
    assert names == {
        "evaluation.json",
        "scores.parquet",
        "videos.parquet",
        "evaluation.md",
        "evaluation.html",
        "figures",
    }
    assert read_evaluation(out_dir / "evaluation.json") == evaluation
    assert read_scores(out_dir / "videos.parquet").p_fake.tolist() == to_videos(scores).p_fake.tolist()
    assert len(json.loads((out_dir / "evaluation.json").read_text())["robustness"]) == 3


def test_the_same_scores_give_the_same_bytes(
    out_dir: Path, scores: Scores, evaluation: Evaluation, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        write_evaluation(tmp_path / name, evaluation, scores)
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path.name


@pytest.mark.parametrize("kept", [0, 1, None])
def test_an_evaluation_of_one_class_or_of_nothing_is_still_written(
    tmp_path: Path, scores: Scores, kept: int | None
) -> None:
    some = scores.where(scores.label == (7 if kept is None else kept))
    found = summarise(some, threshold=0.5, seed=0)
    page = write_evaluation(tmp_path / "out", found, some).read_text()
    assert "Receiver" not in page
    assert read_evaluation(tmp_path / "out" / "evaluation.json") == found
    if kept is not None:
        reason = f"only {'fakes' if kept else 'reals'}: both are needed"
        assert found.groups[0].figures["auc"].reason == reason
        assert ">AUC</abbr>" not in page


def test_several_classes_have_their_place(tmp_path: Path, scores: Scores) -> None:
    p = scores.p_fake
    columns = {
        name: getattr(scores, name)
        for name in (
            "key",
            "dataset",
            "video_id",
            "track_id",
            "frame_index",
            "manipulation",
            "compression",
            "label",
            "p_fake",
        )
    }
    classes = {
        "class_names": ("Real", "Face2Face", "Deepfakes"),
        "class_label": 2 * scores.label,
        "class_probabilities": np.stack([1 - p, p / 4, 3 * p / 4], axis=1),
    }
    several = scores_from_columns(columns | classes)
    found = summarise(several, threshold=None, seed=0, num_resamples=20)
    page = write_evaluation(tmp_path / "out", found, several).read_text()
    assert found.classes[0].macro_auc.reason == "no row of class Face2Face: every class is needed"
    assert "Macro AUC" in page
    assert (tmp_path / "out" / "figures" / "classes.svg").is_file()
    assert read_evaluation(tmp_path / "out" / "evaluation.json") == found


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text('{"about": 3}')
    with pytest.raises(UserError, match="expected an evaluation"):
        read_evaluation(tmp_path / "evaluation.json")
