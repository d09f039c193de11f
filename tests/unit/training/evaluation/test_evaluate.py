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
from storage.index import read_index, write_index
from tests.helpers.stores import SIDE_PX, write_forgeries
from training.config import EvaluateConfig
from training.data.dataset import BINARY_CLASSES
from training.evaluation.evaluate import evaluate, titles
from training.evaluation.perturbations import PERTURBATIONS
from training.evaluation.scores import read_scores
from training.evaluation.scoring import Perturbed, ScoringSettings, dataset_for, score
from training.models.checkpoint import AboutModel, load_model, make_model, save_model
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


def test_a_model_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    one, two = (tmp_path / name / "model.pt" for name in ("a", "b"))
    one.parent.mkdir()
    one.touch()
    (tmp_path / "link").symlink_to(one.parent)
    again = (tmp_path / "a" / ".." / "a" / "model.pt", tmp_path / "link" / "model.pt", two)
    assert titles([one, two, *again]) == {one: "a", two: "b"}


def test_the_models_beside_are_in_every_table_and_plot_once(store: Path, tmp_path: Path) -> None:
    runs = [tmp_path / name / "model.pt" for name in ("first", "second")]
    for run in runs:
        save_model(run, make_model(TINY), replace(TINY, started_from=f"weights of {run.parent.name}"))
        (run.parent / "curve.jsonl").write_text('{"step": 1, "name": "train_loss", "value": 0.5}\n')
    (tmp_path / "first" / "other.pt").write_bytes(runs[0].read_bytes())  # the run did not make it
    out = tmp_path / "out"
    out.mkdir()
    (out / "scores.4.parquet").touch()  # of an earlier evaluation
    models = [*runs, tmp_path / "first" / "other.pt", runs[0]]
    page, _ = evaluate(configured(models, [store], out, explain=False, perturbations=["noise"]))
    names = [f"test_resnet ({name})" for name in ("first", "second", "other.pt")]
    text, html = (out / "evaluation.md").read_text(), page.read_text()
    for name in names:
        written = name.replace("_", r"\_")
        # Frames and videos: all, and each of two manipulations.
        assert text.count(f"\n| {written} | ffpp |") == 2 * 3
        assert text.count(f"| FF++ c23 | **{written}** |") == 2
        assert text.count(f" {written} AUC |") == 1  # robustness
        assert html.count('<tr class="model"><th scope="rowgroup"') == 2 * len(names)
        for plot in ("roc", "histograms", "calibration", "confusion", "robustness"):
            assert name in (out / "figures" / f"{plot}.svg").read_text(), plot
    curves = (out / "figures" / "training.svg").read_text()
    assert [name in curves for name in names] == [True, True, False]
    assert html.count(">weights of second<") == 1
    beside = json.loads((out / "evaluation.json").read_text())["beside"]
    assert [found["about"]["model"] for found in beside] == names[1:]
    assert len(read_scores(out / "scores.3.parquet")) == 24
    tables = {f"{table}{number}.parquet" for table in ("scores", "videos") for number in ("", ".2", ".3")}
    assert {path.name for path in out.glob("*.parquet")} == tables


def test_smaller_crops_are_refused_and_others_told(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluation.evaluate.write_evaluation", lambda out, *_: out)  # plots take seconds
    other = write_forgeries(tmp_path / "other", dataset="dfdc")
    index = read_index(other)
    write_index(other, replace(index, config={**index.config, "crop": {"kind": "lrw", "size_px": SIDE_PX}}))
    larger, smaller = (replace(TINY, img_size=size, crops=index.config) for size in (2 * SIDE_PX, SIDE_PX // 2))
    for name, about in (("large", larger), ("small", smaller)):
        save_model(tmp_path / name / "model.pt", make_model(about), about)
    config = configured([tmp_path / "large" / "model.pt"], [store, other], tmp_path / "out", explain=False)
    with pytest.raises(ConfigError, match=r"crops of store: got 32 px, expected at least 64 px.*--allow-upsampling"):
        evaluate(config)
    _, found = evaluate(config.model_copy(update={"allow_upsampling": True}))
    assert found.about["crops"] == "64 px, enlarged from 32 to 64 px (store), enlarged from 32 to 64 px (other)"
    assert found.about["crops differ in"] == "crop.kind: square (store, the training data), lrw (other)"
    _, found = evaluate(config.model_copy(update={"checkpoints": (tmp_path / "small" / "model.pt",)}))
    assert found.about["crops"] == "16 px, reduced from 32 to 16 px (store), reduced from 32 to 16 px (other)"


def test_sheets_are_of_the_layers_asked_for(store: Path, tmp_path: Path) -> None:
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
    save_model(tmp_path / "model.pt", make_model(TINY), replace(TINY, threshold=0.123))
    assert load_model(tmp_path / "model.pt")[1].threshold == 0.123
    _, evaluation = evaluate(configured([tmp_path / "model.pt"], [store], tmp_path / "out", explain=False))
    assert evaluation.threshold == 0.123


def test_an_unknown_perturbation_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="perturbations: got 'fog', expected some of noise"):
        evaluate(configured([tmp_path / "none.pt"], [tmp_path], tmp_path / "out", perturbations=("fog",)))


def test_scores_are_of_float32_within_autocast_too(store: Path) -> None:
    """Under bfloat16 the logits have three digits, and many scores are tied."""
    model, dataset = make_model(TINY).eval(), dataset_for(TINY, [store], "test")
    plain = score(model, dataset, ScoringSettings())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(dataset[0].images[None]).logits.dtype == torch.bfloat16
        found = score(model, dataset, ScoringSettings())
    assert np.array_equal(found.p_fake, plain.p_fake)
