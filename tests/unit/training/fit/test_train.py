"""Training runs: they learn, leave a model, and go on after a kill as if nothing had happened."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml

from manifests.errors import ConfigError
from storage.files.layout import VIDEOS_NAME
from storage.index import read_index, write_index
from tests.helpers.stores import write_forgeries
from training.config import TrainConfig
from training.data.dataset import StoreDataset
from training.fit import train as train_module
from training.fit.callbacks import Curve, EpochLines, TimeLimit
from training.fit.data_module import datasets_of
from training.fit.train import train
from training.models.checkpoint import AboutModel, load_model, make_model, save_model
from training.models.timm_detector import TimmDetector
from training.run_folder import (
    CONFIG_NAME,
    CURVE_NAME,
    MODEL_NAME,
    RESUME_NAME,
    read_curve,
    read_state,
    require_same_run,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

TINY: dict[str, Any] = {
    "model": {"name": "test_resnet", "img_size": 32},
    "data": {"batch_size": 8, "workers": 0, "augment": "flip", "balance": "class"},
    "loss": {"weights": [1.0, 0.0, 0.0]},
    "optim": {"kind": "adam", "lr": 3e-3, "schedule": "none"},
    "trainer": {"epochs": 3, "accelerator": "cpu", "save_every_steps": 2},
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forgeries(tmp_path_factory.mktemp("stores") / "store")


def configured(store: Path, run: Path, **sections: Any) -> TrainConfig:
    values = {name: {**TINY.get(name, {}), **sections.get(name, {})} for name in TINY}
    return TrainConfig.model_validate({"stores": [store], "run": run, **values})


FALLING = {"schedule": "step", "step_epochs": 1, "step_factor": 0.5}


class Killed(Exception):
    """What a kill is to the process that it strikes."""


def losses(run: Path) -> dict[int, float]:
    return {point["step"]: point["value"] for point in read_curve(run) if point["name"] == "train_loss"}


def test_it_learns_what_can_be_seen(store: Path, tmp_path: Path) -> None:
    result = train(configured(store, tmp_path / "run", trainer={"epochs": 6}))
    assert result.val_auc is not None
    assert result.val_auc > 0.95
    assert result.is_complete
    assert result.num_steps == 6 * (48 // 8)  # every epoch draws its items
    assert [point["step"] for point in read_curve(tmp_path / "run") if point["name"] == "val_auc"] == [
        6,
        12,
        18,
        24,
        30,
        36,
    ]
    model, about = load_model(result.model)
    assert (about.name, about.class_names, about.trained_on) == ("test_resnet", ("Real", "Fake"), ("ffpp",))
    assert about.threshold is not None
    assert about.crops["crop"]["size_px"] == 32
    assert not model.training


@pytest.fixture(scope="module")
def whole(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing has disturbed: 3 epochs of 6 steps, whose learning rate falls."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    train(configured(store, run, optim=FALLING))
    return run


def require_alike(run: Path, other: Path) -> None:
    """The curves and the models are the same, number by number."""
    assert read_curve(run) == read_curve(other)
    first, second = (load_model(one / MODEL_NAME)[0].state_dict() for one in (run, other))
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("step", [6, 7, 9, 12])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    store: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """In the middle of an epoch, behind its checkpoint or with it, or at an end that has not been measured yet."""
    add = Curve.on_train_batch_end

    def killing(self: Curve, trainer: Any, *rest: Any) -> None:
        add(self, trainer, *rest)
        if trainer.global_step == step:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Curve, "on_train_batch_end", killing)
        with pytest.raises(Killed):
            train(configured(store, tmp_path / "killed", optim=FALLING))
    assert (tmp_path / "killed" / RESUME_NAME).exists()
    assert max(losses(tmp_path / "killed")) == step
    train(configured(store, tmp_path / "killed", optim=FALLING))
    require_alike(tmp_path / "killed", whole)


def test_a_run_in_pieces_of_a_few_minutes_is_the_same_run(
    store: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is over at the 4th step, at the end of the first epoch, and in the next one."""
    stops = {4, 6, 8}
    monkeypatch.setattr(TimeLimit, "_is_over", lambda _, trainer: trainer.global_step in stops)
    limited = configured(store, tmp_path / "run", optim=FALLING, trainer={"max_minutes": 1})
    for step in sorted(stops):
        result = train(limited)
        assert (result.num_steps, result.is_complete) == (step, False)
        assert result.model.exists()
    assert train(limited).is_complete
    require_alike(tmp_path / "run", whole)


def test_a_finished_run_has_nothing_to_do(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(store, tmp_path / "run", trainer={"epochs": 1})
    first = train(config)
    assert not first.had_nothing_to_do
    before = (tmp_path / "run" / CURVE_NAME).read_text()
    with monkeypatch.context() as patch:
        for name in ("fit", "score"):
            patch.setattr(train_module, name, None)
        again = train(config)
    assert again == replace(first, had_nothing_to_do=True)
    assert again.threshold == load_model(again.model)[1].threshold is not None
    assert (tmp_path / "run" / CURVE_NAME).read_text() == before
    more = train(configured(store, tmp_path / "run", trainer={"epochs": 2}))
    assert (more.num_steps, more.had_nothing_to_do) == (2 * first.num_steps, False)
    (tmp_path / "run" / MODEL_NAME).unlink()
    with pytest.raises(ConfigError, match=r"got no model\.pt"):
        train(config)


def test_without_a_terminal_each_epoch_is_a_line(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr(EpochLines.__init__, "__defaults__", (lambda: float(next(ticks)),))
    lines: list[str] = []
    result = train(configured(store, tmp_path / "run", trainer={"epochs": 2}), lines.append)
    assert lines[0] == "test_resnet: starts from random weights"
    assert lines[1] == "test_resnet: crops of train: 16 Real, 16 Deepfakes, 16 FaceSwap; 24 of val"
    assert lines[2] == "epochs: 2, each of 6 batches"
    # The clock ticks at the start, after each batch and at the end of an epoch: 6 s for 48 crops, 7 s for an epoch.
    loss, auc = mean_loss(tmp_path / "run", range(1, 7)), val_aucs(tmp_path / "run")
    assert lines[3] == f"epoch 1/2: loss {loss:.4f}, AUC {auc[0]:.4f} on val, 8.0 crops/s, 0:00:07 left"
    loss = mean_loss(tmp_path / "run", range(7, 13))
    assert lines[4] == f"epoch 2/2: loss {loss:.4f}, AUC {auc[1]:.4f} on val, 8.0 crops/s, 0:00:00 left"
    assert len(lines) == 5
    assert result.in_a_line == f"best AUC {result.val_auc:.4f} on val after 12 steps; started from random weights"


def test_on_a_terminal_a_bar_is_shown_instead(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(f"sys.{stream}.isatty", lambda: True)
    lines: list[str] = []
    train(configured(store, tmp_path / "run", trainer={"epochs": 1}, data={"epoch_items": 8}), lines.append)
    assert len(lines) == 2
    assert "Epoch 0" in capsys.readouterr().out


def mean_loss(run: Path, steps: range) -> float:
    return sum(losses(run)[step] for step in steps) / len(steps)


def val_aucs(run: Path) -> list[float]:
    return [point["value"] for point in read_curve(run) if point["name"] == "val_auc"]


@pytest.mark.parametrize(
    ("splits", "data", "why"),
    [
        (("train",), {}, "no validation split"),
        (("train", "rejected"), {}, "no AUC, since no video of val has crops"),
        (("train", "val"), {"manipulations": ["Face2Face"]}, "no AUC, since all 8 items of val are real"),
        (("train", "val"), {"compressions": ["raw"]}, None),
    ],
)
def test_it_is_said_why_there_is_no_auc(
    tmp_path: Path, splits: tuple[str, ...], data: dict[str, Any], why: str | None
) -> None:
    path = write_forgeries(tmp_path / "store", splits=[split for split in splits if split != "rejected"])
    if "rejected" in splits:
        pq.write_table(pa.table({"dataset": ["ffpp", "ffpp"], "split": ["train", "val"]}), path / VIDEOS_NAME)
    config = configured(
        path, tmp_path / "run", data=data | {"balance": "none", "epoch_items": 8}, trainer={"epochs": 1}
    )
    if why is None:
        with pytest.raises(ConfigError, match="expected at least one"):
            train(config)
        return
    result = train(config)
    assert (result.val_auc, result.no_auc) == (None, why)
    assert result.in_a_line.startswith(f"{why} after 1 steps")
    assert train(config).no_auc == why  # of the finished run


def test_a_run_that_is_stopped_before_validation_says_so(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TimeLimit, "_is_over", lambda _, trainer: trainer.global_step == 1)
    result = train(configured(store, tmp_path / "run", trainer={"max_minutes": 1}))
    assert (result.val_auc, result.no_auc) == (None, "no AUC yet, stopped before validation")


def test_smaller_crops_are_enlarged_only_if_it_is_asked_for_or_the_recipe(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = {"model": {"img_size": 64}, "trainer": {"epochs": 1}}
    with pytest.raises(ConfigError, match=r"got 32 px, expected at least 64 px"):
        train(configured(store, tmp_path / "run", **larger))
    lines: list[str] = []
    few = {"epoch_items": 8}
    train(configured(store, tmp_path / "run", data=few | {"allow_upsampling": True}, **larger), lines.append)
    assert f"test_resnet: crops are enlarged from 32 to 64 px ({store})" in lines
    monkeypatch.setattr(TimmDetector, "enlarges_crops", True, raising=False)
    assert train(configured(store, tmp_path / "own", data=few, **larger)).is_complete


def test_stores_that_differ_in_their_crops_are_named(store: Path, tmp_path: Path) -> None:
    other = write_forgeries(tmp_path / "other", dataset="dfdc")
    index = read_index(other)
    write_index(other, replace(index, config={**index.config, "crop": {"kind": "five_point", "size_px": 32}}))
    config = configured(store, tmp_path / "run", data={"epoch_items": 8}, trainer={"epochs": 1})
    lines: list[str] = []
    train(config.model_copy(update={"stores": (store, other)}), lines.append)
    assert f"test_resnet: stores differ in crop.kind: square ({store}), five_point ({other})" in lines


@pytest.mark.parametrize(
    ("present", "name"),
    [(["miniature-ffpp", None], "miniature-ffpp"), (["ffpp", "miniature-ffpp"], "ffpp"), (["ffpp"], "ffpp")],
)
def test_an_older_store_of_a_miniature_has_the_name_of_its_table(
    present: list[str | None], name: str, tmp_path: Path
) -> None:
    path = write_forgeries(tmp_path / "store", splits=("train",))
    pq.write_table(pa.table({"dataset": present}), path / VIDEOS_NAME)
    assert datasets_of([path], "train") == (name,)
    assert StoreDataset(path, "train")[0].origin.dataset == name


def test_patience_ends_a_run_for_good(store: Path, tmp_path: Path) -> None:
    config = configured(store, tmp_path / "run", trainer={"epochs": 9, "patience": 1}, optim={"lr": 1e-12})
    first = train(config)
    assert first.is_complete
    assert first.num_steps < 9 * 6
    state = read_state(tmp_path / "run")
    assert state is not None
    assert state.stopped_early
    assert train(config) == replace(first, had_nothing_to_do=True)


def test_a_loss_that_is_no_number_ends_the_run(store: Path, tmp_path: Path) -> None:
    config = configured(store, tmp_path / "run", optim={"kind": "sgd", "lr": 1e30}, trainer={"epochs": 4})
    with pytest.raises(ConfigError, match=r"expected (a number|numbers); train into another"):
        train(config)


def test_another_configuration_is_refused_with_the_difference(store: Path, tmp_path: Path) -> None:
    train(configured(store, tmp_path / "run", trainer={"epochs": 1}))
    with pytest.raises(ConfigError, match=r"optim\.lr: 0\.003 → 0\.1"):
        train(configured(store, tmp_path / "run", trainer={"epochs": 1}, optim={"lr": 0.1}))


def test_a_run_from_before_crops_were_refused_is_resumed(store: Path, tmp_path: Path) -> None:
    config = configured(store, tmp_path / "run", data={"allow_upsampling": True})
    settings = config.model_dump(mode="json")
    del settings["data"]["allow_upsampling"]
    config.run.mkdir()
    (config.run / CONFIG_NAME).write_text(yaml.safe_dump(settings))
    require_same_run(config)


def test_m2tr_with_all_its_losses(store: Path, tmp_path: Path) -> None:
    sections = {"model": {"name": "m2tr", "num_stages": 1}, "loss": {"weights": [1.0, 1.0, 0.001]}}
    train(configured(store, tmp_path / "run", trainer={"epochs": 1}, data={"epoch_items": 16}, **sections))
    names = {point["name"] for point in read_curve(tmp_path / "run")}
    assert {"train_loss", "train_segmentation", "train_contrastive", "val_auc", "lr"} <= names
    assert any(point["value"] > 0 for point in read_curve(tmp_path / "run") if point["name"] == "train_segmentation")


@pytest.mark.parametrize("head", ["vtf"])
def test_clips(tmp_path: Path, head: str) -> None:
    clips = write_forgeries(tmp_path / "clips", num_frames=3)
    config = configured(clips, tmp_path / "run", model={"head": head}, data={"frames": "clip"}, trainer={"epochs": 1})
    _, about = load_model(train(config).model)
    assert (about.head, about.clip_length) == (head, 3)


def test_several_classes(store: Path, tmp_path: Path) -> None:
    classes = ["Real", "FaceSwap", "Deepfakes"]
    config = configured(store, tmp_path / "run", model={"classes": classes}, trainer={"epochs": 1})
    assert load_model(train(config).model)[1].class_names == tuple(classes)


def test_a_model_file_round_trips_and_runs_nothing(tmp_path: Path) -> None:
    about = AboutModel(name="test_resnet", img_size=32, class_names=("Real", "Fake"), threshold=0.25)
    model = make_model(about).eval()
    save_model(tmp_path / MODEL_NAME, model, about)
    loaded, found = load_model(tmp_path / MODEL_NAME)
    assert found == about
    images = torch.zeros(1, 3, 32, 32)
    assert torch.equal(loaded(images).logits, model(images).logits)
    assert [path.name for path in tmp_path.iterdir()] == [MODEL_NAME]


@pytest.mark.parametrize("content", [b"", b"text", None])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / MODEL_NAME
    if content is None:
        torch.save({"format": "other", "state": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="checkpoint"):
        load_model(path)
