"""Presets: each is a whole, valid configuration that says where it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.preprocess import load_config
from flows.config.presets import load_preset, preset_names
from manifests.errors import ConfigError

BASE = {"dataset": {"root": "/data"}, "out": "/data/store"}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_a_configuration_with_a_source_and_expected_counts(name: str) -> None:
    preset = load_preset(name)
    config = load_config(None, [], BASE, name)
    for section, values in preset.settings.items():
        for setting, value in values.items():
            assert getattr(getattr(config, section), setting) == value
    assert preset.about
    assert preset.source
    if "count" in preset.settings["frames"]:  # 5,000 videos: 1,000 originals, and 1,000 fakes of each of 4 kinds
        count = preset.settings["frames"]["count"]
        whole, *parts = (f"{number * count:,}" for number in (5000, 3500, 750, 750))
        assert f"5,000 videos, {whole} records ({' / '.join(parts)})" in " ".join(preset.expected.split())
    else:
        assert "record" in preset.expected


def test_the_presets_of_the_readme_are_those_there_are() -> None:
    readme = (Path(__file__).resolve().parents[4] / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in readme for name in preset_names())


def test_a_file_wins_over_a_preset_and_a_setting_over_both(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("frames: {count: 7}\ncrop: {margin: 1.5}\n")
    config = load_config(file, ["crop.margin=2"], BASE, "m2tr")
    assert (config.frames.count, config.crop.margin, config.crop.size_px) == (7, 2.0, 320)


def test_an_unknown_preset_is_refused_with_the_names() -> None:
    with pytest.raises(ConfigError, match=r"--preset: got 'm3tr', expected one of deepfakebench-like, dfd-fcg, .*m2tr"):
        load_preset("m3tr")
