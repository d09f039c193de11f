"""Implementations of other distributions: chosen by name, checked before any work, with settings of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.config.preprocess import PreprocessConfig, load_config
from flows.run.preflight import require_models
from manifests.errors import ConfigError, StageMissing
from tasks.decode import BACKENDS
from tasks.settings import StageSettings
from tasks.video.provenance import made_with
from tests.helpers.plugins import NAME, VERSION
from tests.helpers.toys import CLASSES, COST, FAMILIES, SOURCES, install_toys, lines_of

OPTION = {
    "decode.backend": ("decode.options.delay_s", 2.0),
    "detect.kind": ("detect.options.score", 0.25),
    "landmark.kind": ("landmark.options.shift_px", 3.0),
}


def load(*assignments: str) -> PreprocessConfig:
    return load_config(None, assignments, {"dataset": {"root": "/data"}, "out": "/store"})


def fault(*assignments: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load(*assignments)
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_toys(tmp_path / "site", monkeypatch)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_lines_that_an_implementation_costs(name: str) -> None:
    assert lines_of(SOURCES[name]) == COST[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_an_unknown_name_is_told_with_the_known_ones(name: str) -> None:
    known = ", ".join(BACKENDS if name == "decode.backend" else FAMILIES[name])
    assert fault(f"{name}=nothing").startswith(f"{name}: got 'nothing', expected one of {known}")


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import package_that_is_not_there", "got ModuleNotFoundError (No module named 'package_that_is_not_there')"),
        ("1 / 0", "got ZeroDivisionError (division by zero)"),
        ("class {}: pass", "got an object without "),
    ],
)
def test_a_broken_one_is_told_before_any_work(
    name: str, source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_toys(tmp_path / "site", monkeypatch, {name: source.format(CLASSES[name])}, "labs_broken")
    said = fault(f"{name}=toy")
    assert message in said
    assert f"{NAME} {VERSION} ({FAMILIES[name].group}: labs_broken:{CLASSES[name]})" in said
    load()  # whoever does not name it is not concerned


@pytest.mark.parametrize("name", FAMILIES)
def test_an_abstract_one_is_told_before_any_work(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = FAMILIES[name].own[next(iter(FAMILIES[name].own))].__mro__[1]
    source = (
        f"from {contract.__module__} import {contract.__name__}\nclass {CLASSES[name]}({contract.__name__}): pass\n"
    )
    install_toys(tmp_path / "site", monkeypatch, {name: source}, "labs_abstract")
    assert "got an object without " in fault(f"{name}=toy")


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("name", OPTION)
def test_settings_of_its_own_decide_records_with_their_defaults(name: str) -> None:
    setting, value = OPTION[name]
    section, _, option = setting.partition(".options.")
    extra = ["landmark.kind=toy"] if name == "detect.kind" else []
    plain = load(f"{name}=toy", *extra)
    changed = load(f"{name}=toy", f"{setting}={value}", *extra)
    default = plain.store_settings()[section]["options"]
    assert default.keys() == {option}
    assert changed.store_settings()[section]["options"] == {option: value}
    assert len({load(*extra).config_digest, plain.config_digest, changed.config_digest}) == 3
    assert load(f"{name}=toy", f"{setting}={default[option]}", *extra).config_digest == plain.config_digest
    assert PreprocessConfig.model_validate(json.loads(changed.model_dump_json())) == changed


@pytest.mark.usefixtures("toys")
def test_a_path_counts_by_what_lies_there(tmp_path: Path) -> None:
    for name, text in {"first": "7", "moved": "7", "other": "8"}.items():
        (tmp_path / name).write_text(text)
    digests = {
        name: load("crop.kind=toy", f"crop.options.tint={tmp_path / name}").config_digest
        for name in ("first", "moved", "other")
    }
    assert digests["first"] == digests["moved"] != digests["other"]
    with pytest.raises(ConfigError, match=r"crop\.options\.tint: got .*gone \(No such file.*expected a file"):
        load("crop.kind=toy", f"crop.options.tint={tmp_path / 'gone'}").store_settings()


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("detect.options.score=0.5",), "expected options of mtcnn (none): score: Extra inputs are not permitted"),
        (("detect.kind=toy", "detect.options.score=2"), "expected options of toy (score): score: Input should be less"),
        (("detect.kind=toy", "detect.options=3"), "detect.options: got 3, expected options of toy (score): "),
        (("detect.kind=toy", "landmark.kind=detector"), "or landmark.kind fan or dlib: toy gives no landmarks"),
        (
            ("crop.kind=lrw", "landmark.kind=toy"),
            "expected landmark.kind fan or dlib: crop.kind lrw needs 68 landmarks",
        ),
        (("crop.kind=toy", "crop.size_px=224"), "expected crop.size_px 48 or 64 with crop.kind toy"),
    ],
)
def test_what_does_not_go_together_is_told_in_one_line(assignments: tuple[str, ...], message: str) -> None:
    assert message in fault(*assignments)


@pytest.mark.usefixtures("toys")
def test_what_follows_from_what_it_says_of_itself() -> None:
    assert load("crop.kind=toy").crop.size_px == 48
    assert load("detect.kind=toy").landmark.kind == "fan"
    assert load("detect.second=toy", "detect.kind=mtcnn", "landmark.kind=toy").detect.for_second() is not None


@pytest.mark.usefixtures("toys")
def test_shards_say_whose_it_was() -> None:
    assert NAME not in made_with(StageSettings())
    assert made_with(StageSettings.model_validate({"decode": {"backend": "toy"}}))[NAME] == VERSION


def test_a_package_that_it_needs_is_asked_for_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs = '    title = "decoder toy"\n    packages = {"package_of_a_lab": "it, 2.0"}\n'
    source = SOURCES["decode.backend"].replace("    class Options", f"{needs}\n    class Options")
    install_toys(tmp_path / "site", monkeypatch, {"decode.backend": source}, "labs_needy")
    with pytest.raises(StageMissing, match=r"decoder toy: got no package package_of_a_lab, expected it, 2\.0"):
        require_models(load("decode.backend=toy"))
