"""Evaluation end to end on a small store: every crop scored once, figures that follow from the scores, a whole page."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from manifests.errors import ConfigError
from tests.helpers.stores import SIDE_PX, write_forgeries
from training.config import EvaluateConfig
from training.data.dataset import BINARY_CLASSES
from training.evaluation.evaluate import evaluate, titles
from training.evaluation.perturbations import PERTURBATIONS
from training.evaluation.scores import read_scores
from training.evaluation.scoring import Perturbed, ScoringSettings, dataset_for, score
from training.models.checkpoint import AboutModel, load_model, save_model
from training.models.deepfake_detector import ModelOutput

TINY = AboutModel(name="test_resnet", img_size=SIDE_PX, class_names=BINARY_CLASSES, trained_on=("ffpp",))


class Redness(nn.Module):
    """Knows what the forgeries of `tests.helpers.stores` are: the middle is redder than the rest."""

    img_size, num_classes, num_features = SIDE_PX, 2, 1

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> ModelOutput:
        middle = slice(SIDE_PX // 4, 3 * SIDE_PX // 4)
        excess = images[:, 0, middle, middle].mean((1, 2)) - images[:, 0].mean((1, 2))
        logits = torch.stack([torch.zeros_like(excess), 20 * (excess - 0.5)], dim=1)
        return ModelOutput(logits=logits + self.anchor, features=excess[:, None])


def configured(checkpoints: list[Path], stores: list[Path], out: Path, **settings: Any) -> EvaluateConfig:
    return EvaluateConfig.model_validate(
        {"checkpoints": checkpoints, "stores": stores, "out": out, "workers": 0, **settings}
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forgeries(tmp_path_factory.mktemp("stores") / "store")


def test_every_item_is_scored_once_and_rightly(store: Path) -> None:
    dataset = dataset_for(TINY, [store], "test")
    found = score(Redness(), dataset, ScoringSettings(batch_size=5))
    assert len(found) == len(dataset) == 24
    assert len(set(found.key)) == 24
    assert ((found.p_fake > 0.5) == (found.label == 1)).all()


def test_a_fake_whose_dataset_names_no_manipulation_is_a_fake(tmp_path: Path) -> None:
    """As in DFDC, whose metadata say FAKE and nothing more."""
    path = write_forgeries(tmp_path / "dfdc", dataset="dfdc", kinds={"real": None, "fake": "dfdc"}, are_named=False)
    found = score(Redness(), dataset_for(TINY, [path], "test"), ScoringSettings())
    assert set(found.manipulation) == {None}
    assert found.label.sum() == 8
    assert ((found.p_fake > 0.5) == (found.label == 1)).all()


def test_forgeries_of_other_classes_are_fakes_of_an_unknown_one(store: Path) -> None:
    class Three(Redness):
        def forward(self, images: Tensor) -> ModelOutput:
            output = super().forward(images)
            return replace(output, logits=torch.cat([output.logits, output.logits[:, 1:] - 1], dim=1))

    about = replace(TINY, class_names=("Real", "FaceSwap", "Face2Face"))
    found = score(Three(), dataset_for(about, [store], "test"), ScoringSettings())
    assert found.class_label is not None
    by_kind = dict(zip(found.manipulation, found.class_label.tolist(), strict=True))
    assert by_kind == {None: 0, "FaceSwap": 1, "Deepfakes": -1}
    assert found.label.sum() == 16


def test_models_are_called_by_what_tells_them_apart(tmp_path: Path) -> None:
    one, two, three = (tmp_path / name / "model.pt" for name in ("a/run", "b/run", "b/other"))
    assert list(titles([one, three]).values()) == ["run", "other"]
    assert list(titles([one, two, three]).values()) == ["a/run", "b/run", "b/other"]
    assert list(titles([one, one.with_name("official.pth")]).values()) == ["run", "official.pth"]
    with pytest.raises(ConfigError, match="expected each once"):
        titles([one, tmp_path / "a" / "." / "run" / "model.pt"])


def test_sheets_are_of_the_layers_asked_for(store: Path, tmp_path: Path) -> None:
    from training.models.checkpoint import make_model

    save_model(tmp_path / "run" / "model.pt", make_model(TINY), TINY)
    checkpoints, layers = [tmp_path / "run" / "model.pt"], ("net.layer1", "net.layer4")
    page, found = evaluate(configured(checkpoints, [store], tmp_path / "out", explain_layers=layers))
    assert found.about["Grad-CAM"] == "net.layer1, net.layer4"
    assert page.read_text().count("Grad-CAM sheet: fakes scored ") == 2 * len(layers)
    with pytest.raises(ConfigError, match="expected last, fine or a module"):
        evaluate(configured(checkpoints, [store], tmp_path / "none", explain_layers=("layer9",)))
    assert not (tmp_path / "none").exists()
    _, silent = evaluate(configured(checkpoints, [store], tmp_path / "other"))
    assert silent.about["Grad-CAM"].startswith("none; last layer for Grad-CAM: got the model 'test_resnet'")
    assert silent.missing is None, "a store without its table of videos does not say"


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
    from training.models.checkpoint import make_model

    torch.manual_seed(0)
    for name in ("first", "second"):
        save_model(tmp_path / name / "model.pt", make_model(TINY), TINY)
    other = write_forgeries(tmp_path / "other", dataset="celeb_df", seed=1)
    checkpoints = [tmp_path / name / "model.pt" for name in ("first", "second")]
    config = configured(checkpoints, [store, other], tmp_path / "out", perturbations=("blur",), explain=False)
    page, evaluation = evaluate(config)
    assert page.read_text().lower().startswith("<!doctype html>")
    assert evaluation.datasets == ("celeb_df", "ffpp")
    assert len(read_scores(tmp_path / "out" / "scores.parquet")) == 48
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    rows = written["robustness"]
    assert {row["perturbation"] for row in rows} == {"none", "blur"}
    assert {row["model"] for row in rows} == {"test_resnet (first)", "test_resnet (second)"}
    assert len(rows) == 2 * (1 + len(PERTURBATIONS["blur"].levels))
    assert written["cross_dataset"]["columns"] == ["celeb_df", "ffpp"]
    assert written["cross_dataset"]["rows"] == ["test_resnet (first): ffpp", "test_resnet (second): ffpp"]
    assert "A crop under Gaussian blur at each level" in page.read_text()
    assert "ffpp" in (tmp_path / "out" / "evaluation.md").read_text()


def test_the_threshold_of_the_model_is_used(store: Path, tmp_path: Path) -> None:
    from training.models.checkpoint import make_model

    save_model(tmp_path / "model.pt", make_model(TINY), replace(TINY, threshold=0.123))
    assert load_model(tmp_path / "model.pt")[1].threshold == 0.123
    _, evaluation = evaluate(configured([tmp_path / "model.pt"], [store], tmp_path / "out", explain=False))
    assert evaluation.threshold == 0.123


def test_an_unknown_perturbation_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="perturbations: got 'fog', expected some of noise"):
        evaluate(configured([tmp_path / "none.pt"], [tmp_path], tmp_path / "out", perturbations=("fog",)))
