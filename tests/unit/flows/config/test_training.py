"""Settings of training: recipes that are whole, faults in one line, evaluation's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.presets import TRAINING_PRESETS_DIR, load_preset, preset_names
from flows.config.training import PredictConfig, backbone_file, load_train_config
from flows.run.prediction import stages_of
from manifests.errors import ConfigError
from tasks.models.weights import WEIGHTS
from training.config import EvaluateConfig, Section, TrainConfig
from training.fit.train import starting_weights
from training.models import paper_weights

BASE = {"stores": ["/store"], "run": "/run"}


@pytest.mark.parametrize("name", preset_names(TRAINING_PRESETS_DIR))
def test_a_recipe_is_a_configuration_with_a_source(name: str) -> None:
    preset = load_preset(name, TRAINING_PRESETS_DIR)
    config = load_train_config(None, [], BASE, name).model_dump(mode="json")
    for section, values in preset.settings.items():
        for setting, value in values.items():
            assert config[section][setting] == value
    assert preset.about
    assert preset.source


@pytest.mark.parametrize("name", preset_names(TRAINING_PRESETS_DIR))
def test_the_backbone_of_a_recipe_is_found_without_a_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACESHARDS_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("tasks.models.weights.Fetcher", None)  # a download would fail
    base = BASE | {"run": str(tmp_path / "run")}
    plain = load_train_config(None, [], base, name)
    asking = load_train_config(None, ["model.pretrained=true"], base, name)
    paper = paper_weights(plain.model.name, plain.model.backbone)
    assert backbone_file(plain) is None
    if name == "m2tr-small":  # of no paper: its backbone is tiny
        assert paper is None
        assert starting_weights(plain) == ("random weights", "")
        return
    assert paper is not None
    file = tmp_path / WEIGHTS[paper].file_name
    file.write_bytes(b"weights")
    assert backbone_file(asking) == file
    assert backbone_file(load_train_config(None, ["model.pretrained=true", "model.weights=/own"], base, name)) is None
    start, advice = starting_weights(plain)
    assert start == f"random weights (model.pretrained: false), while its paper starts from {paper}"
    assert f"`faceshards weights fetch {paper}`" in advice
    assert starting_weights(asking) == (paper, "")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.ckpt").touch()
    assert backbone_file(asking) is None  # a resumed run has its own weights


def test_a_file_wins_over_a_recipe_and_a_setting_over_both(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("trainer: {epochs: 7}\noptim: {lr: 0.5}\n")
    config = load_train_config(file, ["optim.lr=0.25"], BASE, "m2tr")
    assert (config.trainer.epochs, config.optim.lr, config.model.img_size) == (7, 0.25, 320)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["trainer.epochs=0"], "trainer.epochs: got 0, expected greater than or equal to 1"),
        (["optim.kind=lion"], "optim.kind: got 'lion', expected 'adam', 'adamw' or 'sgd'"),
        (["model.size=3"], "model.size: got an unknown setting, expected one of "),
        (["model.classes=[Real,A,B]", "loss.classification=focal"], "cross_entropy with more than two classes"),
    ],
)
def test_faults_are_told_in_one_line(assignments: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_train_config(None, assignments, BASE, "m2tr")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_video_is_not_cropped_by_another_mean_face_than_the_training_data(tmp_path: Path) -> None:
    own = tmp_path / "mean.npy"
    with pytest.raises(ConfigError, match=r"crop\.mean_face: got .*mean\.npy, expected the file"):
        stages_of({"crop": {"kind": "lrw", "mean_face": str(own)}})
    own.touch()
    assert stages_of({"crop": {"kind": "lrw", "mean_face": str(own)}}).crop.mean_face == own


def test_a_model_of_another_version_keeps_the_settings_of_its_crops() -> None:
    stages = stages_of({"crop": {"size_px": 64, "sharpen": 3}, "track": {"max_tracks": 2}, "blur": 1})
    assert (stages.crop.size_px, stages.track.max_tracks) == (64, 1)
    with pytest.raises(ConfigError, match=r"crop\.kind: got 'wild', expected one of"):
        stages_of({"crop": {"kind": "wild"}})


def test_a_run_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^run: got .*file.*, expected a folder, and this is a file$"):
        load_train_config(None, [], BASE | {"run": tmp_path / "file"}, "m2tr")


def test_every_setting_is_described() -> None:
    sections: list[type[Section]] = [TrainConfig, EvaluateConfig, PredictConfig]
    for section in sections:
        for name, field in section.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Section):
                sections.append(inner)
            else:
                assert field.description, f"{section.__name__}.{name}"
    assert len(sections) == 8
