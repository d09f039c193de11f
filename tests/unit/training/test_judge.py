"""Evaluation end to end on a small store: every crop scored once, figures that follow from the scores, a whole page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from tests.stores import SIDE_PX, write_forgeries
from training.checkpoint import AboutModel, load_model, save_model
from training.data import BINARY_CLASSES
from training.judge import JudgeSettings, evaluate
from training.model import ModelOutput
from training.perturb import PERTURBATIONS
from training.scores import read_scores
from training.scoring import Perturbed, ScoringSettings, dataset_for, score

TINY = AboutModel(name="test_resnet", img_size=SIDE_PX, class_names=BINARY_CLASSES, trained_on=("ffpp",))


class Redness(nn.Module):
    """Knows what the forgeries of `tests.stores` are: the middle is redder than the rest."""

    img_size, num_classes, num_features = SIDE_PX, 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> ModelOutput:
        middle = slice(SIDE_PX // 4, 3 * SIDE_PX // 4)
        excess = images[:, 0, middle, middle].mean((1, 2)) - images[:, 0].mean((1, 2))
        logits = torch.stack([torch.zeros_like(excess), 20 * (excess - 0.5)], dim=1)
        return ModelOutput(logits=logits + self.anchor, features=excess[:, None])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forgeries(tmp_path_factory.mktemp("stores") / "store")


def test_every_item_is_scored_once_and_rightly(store: Path) -> None:
    dataset = dataset_for(TINY, [store], "test")
    seen: list[int] = []
    found = score(Redness(), dataset, ScoringSettings(batch_size=5), seen.append)
    assert len(found) == len(dataset) == sum(seen) == 24
    assert len(set(found.key)) == 24
    assert ((found.p_fake > 0.5) == (found.label == 1)).all()


def test_a_perturbation_is_the_same_each_time_and_changes_scores(store: Path) -> None:
    def scores(level: int, seed: int = 0) -> np.ndarray:
        transform = Perturbed(PERTURBATIONS["noise"], level, SIDE_PX)
        dataset = dataset_for(TINY, [store], "test", transform=transform, seed=seed)
        return score(Redness(), dataset, ScoringSettings()).p_fake

    assert np.array_equal(scores(3), scores(3))
    assert not np.array_equal(scores(3), scores(5))
    assert not np.array_equal(scores(3), scores(3, seed=1))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_an_evaluation_is_written_whole(store: Path, tmp_path: Path) -> None:
    from training.checkpoint import make_model

    torch.manual_seed(0)
    for name in ("first", "second"):
        save_model(tmp_path / name / "model.pt", make_model(TINY), TINY)
    other = write_forgeries(tmp_path / "other", dataset="celeb_df", seed=1)
    settings = JudgeSettings(perturbations=("blur",), explain=False)
    checkpoints = [tmp_path / name / "model.pt" for name in ("first", "second")]
    page, evaluation = evaluate(checkpoints, [store, other], tmp_path / "out", settings)
    assert page.read_text().lower().startswith("<!doctype html>")
    assert evaluation.datasets == ("celeb_df", "ffpp")
    assert len(read_scores(tmp_path / "out" / "scores.parquet")) == 48
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    rows = written["robustness"]
    assert {row["perturbation"] for row in rows} == {"none", "blur"}
    assert {row["model"] for row in rows} == {"test_resnet (first)", "test_resnet (second)"}
    assert len(rows) == 2 * (1 + len(PERTURBATIONS["blur"].levels))
    assert written["cross_dataset"]["columns"] == ["celeb_df", "ffpp"]
    assert "ffpp" in (tmp_path / "out" / "evaluation.md").read_text()


def test_the_threshold_of_the_model_is_used(store: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    from training.checkpoint import make_model

    save_model(tmp_path / "model.pt", make_model(TINY), replace(TINY, threshold=0.123))
    assert load_model(tmp_path / "model.pt")[1].threshold == 0.123
    _, evaluation = evaluate([tmp_path / "model.pt"], [store], tmp_path / "out", JudgeSettings(explain=False))
    assert evaluation.threshold == 0.123


def test_an_unknown_perturbation_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="perturbations: got fog, expected some of noise"):
        evaluate([tmp_path / "none.pt"], [tmp_path], tmp_path / "out", JudgeSettings(perturbations=("fog",)))
