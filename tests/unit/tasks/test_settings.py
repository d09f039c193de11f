"""Settings of the stages: sections that fit their stages, and choices that come from the registries."""

from __future__ import annotations

from typing import Annotated, Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from storage.format.images import ImageFormat
from tasks.align import ALIGNERS
from tasks.align.five_point import TEMPLATES
from tasks.decode import AUTO, AUTO_DECODER, BACKENDS
from tasks.detect import DETECTORS
from tasks.implementation import OneOf, Settings
from tasks.landmarks import LANDMARKERS
from tasks.settings import StageSettings

SECTIONS = {
    name: type(section)
    for name in StageSettings.model_fields
    if isinstance(section := getattr(StageSettings(), name), Settings)
}
FRUIT = {"apple": 1, "pear": 2}


def refusal(values: dict[str, Any]) -> list[tuple[tuple[int | str, ...], str]]:
    """Where each fault is, and what pydantic says of it."""
    with pytest.raises(ValidationError) as caught:
        StageSettings.model_validate(values)
    return [(fault["loc"], fault["msg"]) for fault in caught.value.errors()]


def test_defaults_are_the_documented_ones() -> None:
    settings = StageSettings()
    assert (settings.frames.mode, settings.frames.count, settings.frames.stride) == ("uniform", 32, 10)
    assert (settings.decode.backend, settings.decode.timeout_s) == ("pyav", 120.0)
    # facenet-pytorch's own: MTCNN(min_face_size=20, thresholds=[0.6, 0.7, 0.7], factor=0.709)
    detect = settings.detect
    assert (detect.kind, detect.min_face_px, detect.thresholds) == ("mtcnn", 20, (0.6, 0.7, 0.7))
    assert (detect.scale_factor, detect.device) == (0.709, "auto")
    assert (settings.landmark.kind, settings.track.min_coverage) == ("detector", 0.5)
    assert (settings.crop.kind, settings.crop.size_px, settings.crop.margin) == ("square", 224, 1.3)
    assert (settings.encode.image_format, settings.encode.quality) == ("jpeg", 95)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_setting_is_described_for_the_form(section: str) -> None:
    assert issubclass(SECTIONS[section], Settings)
    for name, field in SECTIONS[section].model_fields.items():
        assert field.description, f"{section}.{name}"
        assert not field.is_required(), f"{section}.{name}"


def test_settings_outside_of_sections_are_described_too() -> None:
    for name in StageSettings.model_fields.keys() - SECTIONS.keys():
        assert StageSettings.model_fields[name].description, name


@pytest.mark.parametrize(
    ("section", "name", "choices"),
    [
        ("decode", "backend", list(BACKENDS)),
        ("detect", "kind", list(DETECTORS)),
        ("landmark", "kind", list(LANDMARKERS)),
        ("crop", "kind", list(ALIGNERS)),
        ("crop", "template", list(TEMPLATES)),
        ("encode", "image_format", list(get_args(ImageFormat))),
        ("frames", "mode", ["uniform", "stride", "all", "clips"]),
    ],
)
def test_each_choice_is_drawn_and_taken(section: str, name: str, choices: list[str]) -> None:
    assert SECTIONS[section].model_json_schema()["properties"][name]["enum"] == choices
    for choice in choices:
        settings = StageSettings.model_validate({section: {name: choice}})
        assert getattr(getattr(settings, section), name) == (AUTO_DECODER if choice == AUTO else choice)
    ((where, _),) = refusal({section: {name: "nothing"}})
    assert where == (section, name)


@pytest.mark.parametrize(
    ("section", "name", "allowed", "refused"),
    [
        ("frames", "count", [1, 10_000], [0, -1]),
        ("frames", "stride", [1], [0]),
        ("decode", "timeout_s", [0.001, 3600], [0, -1]),
        ("detect", "min_face_px", [12, 500], [11]),
        ("detect", "scale_factor", [0.11, 0.99], [0.1, 1]),
        ("detect", "device", ["auto", "cpu", "cuda", "cuda:0", "cuda:15"], ["gpu", "cuda:", "cuda:-1", "CPU", " cpu"]),
        ("track", "min_coverage", [0, 1], [-0.1, 1.1]),
        ("crop", "size_px", [16, 4096], [15, 4097]),
        ("crop", "margin", [0.5, 5], [0.49, 5.1]),
        ("encode", "quality", [1, 100], [0, 101]),
    ],
)
def test_ranges(section: str, name: str, allowed: list[Any], refused: list[Any]) -> None:
    for value in allowed:
        assert getattr(getattr(StageSettings.model_validate({section: {name: value}}), section), name) == value
    for value in refused:
        ((where, _),) = refusal({section: {name: value}})
        assert where == (section, name), value


def test_unknown_settings_are_errors_at_every_level() -> None:
    assert [where for where, _ in refusal({"nothing": 1, "crop": {"nothing": 1}})] == [
        ("crop", "nothing"),
        ("nothing",),
    ]


def test_one_of_checks_and_draws_the_names_of_a_registry() -> None:
    adapter: TypeAdapter[str] = TypeAdapter(Annotated[str, OneOf(FRUIT)])
    assert adapter.json_schema() == {"type": "string", "enum": ["apple", "pear"]}
    assert adapter.validate_python("pear") == "pear"
    for wrong, message in (("plum", "expected one of apple, pear"), (3, "Input should be a valid string")):
        with pytest.raises(ValidationError) as caught:
            adapter.validate_python(wrong)
        assert [fault["msg"] for fault in caught.value.errors()] == [message]
