"""One contract over every perturbation, and one of another distribution that an evaluation uses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from manifests.errors import ConfigError
from tests.helpers.plugins import install, refresh
from tests.helpers.stores import SIDE_PX, write_forgeries
from training.config import EvaluateConfig
from training.data.dataset import BINARY_CLASSES
from training.evaluation.evaluate import evaluate
from training.evaluation.perturbations import PERTURBATIONS
from training.models.checkpoint import AboutModel, make_model, save_model

Images = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def images() -> Images:
    """Three frames of something smooth with colours at both ends, so that what overflows shows."""
    y, x = np.mgrid[:64, :64] / 63.0
    frame = np.stack([x, y, 1 - x * y], axis=-1)
    moved = [np.roll(frame, 2 * number, axis=1) for number in range(3)]
    return np.asarray(np.rint(255 * np.stack(moved)), dtype=np.uint8)


def change(name: str, images: Images, level: int, seed: int = 0, key: str = "a") -> Images:
    return PERTURBATIONS[name].apply(images, level, seed, key)


def far(one: Images, other: Images) -> float:
    return float(abs(one.astype(int) - other.astype(int)).mean())


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_level_keeps_shape_and_type_leaves_its_input_and_repeats_itself(name: str, images: Images) -> None:
    before = images.copy()
    assert (change(name, images, 0) == images).all()
    assert not np.shares_memory(change(name, images, 0), images)
    for level in range(1, len(PERTURBATIONS[name].levels) + 1):
        changed = change(name, images, level)
        assert changed.shape == images.shape
        assert changed.dtype == np.uint8
        assert (changed == change(name, images, level)).all()
        assert far(changed, images) > 0
    assert (images == before).all()


@pytest.mark.parametrize("name", [name for name in PERTURBATIONS if name != "rotation"])
def test_a_higher_level_is_further_away(name: str, images: Images) -> None:
    distances = [far(change(name, images, level), images) for level in range(len(PERTURBATIONS[name].levels) + 1)]
    assert distances == sorted(distances)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_one_frame_of_odd_size_will_do(name: str) -> None:
    small = np.full((1, 31, 31, 3), 200, dtype=np.uint8)
    assert change(name, small, len(PERTURBATIONS[name].levels)).shape == small.shape


def test_a_perturbation_has_the_name_of_its_key() -> None:
    assert all(found.name == name for name, found in PERTURBATIONS.items())


# A perturbation of another distribution: what it costs to add one.
TOY = """
from training.evaluation.perturbations.perturbation import Perturbation

MIRROR = Perturbation(
    name="mirror",
    title="mirror image",
    belongs_to="lab",
    parameter="1: mirrored",
    levels=(1,),
    change=lambda images, _parameter, _rng: images[:, :, ::-1],
)
"""


@pytest.fixture
def _plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"mirror": "labs_own:MIRROR", "gone": "labs_own:GONE", "text": "labs_own:__name__"}
    install(tmp_path / "site-packages", {PERTURBATIONS.group: names}, TOY, monkeypatch)
    refresh(PERTURBATIONS, monkeypatch)


def configured(folder: Path, *perturbations: str) -> EvaluateConfig:
    return EvaluateConfig(
        checkpoints=(folder / "run" / "model.pt",),
        stores=(folder / "store",),
        out=folder / "page",
        perturbations=perturbations,
        explain=False,
        workers=0,
    )


@pytest.mark.usefixtures("_plugin")
def test_a_perturbation_of_another_distribution_is_evaluated(tmp_path: Path) -> None:
    write_forgeries(tmp_path / "store")
    about = AboutModel(name="test_resnet", img_size=SIDE_PX, class_names=BINARY_CLASSES)
    save_model(tmp_path / "run" / "model.pt", make_model(about), about)
    page, _ = evaluate(configured(tmp_path, "mirror"))
    assert "A crop under mirror image at each level" in page.read_text()
    rows = json.loads((tmp_path / "page" / "evaluation.json").read_text())["robustness"]
    assert [(row["perturbation"], row["level"]) for row in rows] == [("none", 0), ("mirror", 1)]


@pytest.mark.usefixtures("_plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", r"perturbation gone: got AttributeError .* from labs-own 1\.2"),
        ("text", r"perturbation text: got an object without apply, .* from labs-own 1\.2"),
        ("miror", r"perturbations: got 'miror', expected some of noise, .*mirror.*; did you mean 'mirror'\?"),
    ],
)
def test_a_broken_plugin_and_an_unknown_name_are_refused_before_any_work(
    name: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        evaluate(configured(tmp_path, name))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "page").exists()
