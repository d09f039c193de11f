"""`faceshards.preprocess` puts settings together as the command line does and runs the same flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import faceshards
import flows.preprocess
from flows.config.preprocess import PreprocessConfig, load_config


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[PreprocessConfig]:
    """Configurations that the flow was called with, in place of its run."""
    called: list[PreprocessConfig] = []

    def preprocess_ffpp(config: PreprocessConfig) -> dict[str, Any]:
        called.append(config)
        return {"videos_processed": 3}

    monkeypatch.setattr("flows.server.embedded.start_embedded_server", lambda _: None)
    monkeypatch.setattr(flows.preprocess, "preprocess_ffpp", preprocess_ffpp)
    return called


def test_settings_are_put_together_as_on_the_command_line(configs: list[PreprocessConfig], tmp_path: Path) -> None:
    root, out, file = tmp_path / "videos", tmp_path / "out", tmp_path / "settings.yaml"
    for video in (root / "real/a.mp4", root / "fake/b.mp4"):
        video.parent.mkdir(parents=True)
        video.touch()
    file.write_text("frames: {count: 5}\nencode: {quality: 80}\n")

    done = faceshards.preprocess(
        root, out, layout="folder", preset="m2tr", config=file, frames={"count": 8}, split={"seed": 7}
    )

    assert done == {"videos_processed": 3}
    base = {"dataset": {"name": "folder", "root": root}, "out": out}
    assert configs == [load_config(file, ["frames.count=8", "split.seed=7"], base, "m2tr")]
    assert (configs[0].frames.count, configs[0].encode.quality, configs[0].crop.size_px) == (8, 80, 320)


def test_a_wrong_setting_is_refused_before_prefect_starts(configs: list[PreprocessConfig], tmp_path: Path) -> None:
    with pytest.raises(faceshards.FaceshardsError, match=r"crop\.sise_px: got an unknown setting"):
        faceshards.preprocess(tmp_path, tmp_path / "out", crop={"sise_px": 96})
    assert not configs


def test_a_missing_dataset_is_refused_before_prefect_starts(configs: list[PreprocessConfig], tmp_path: Path) -> None:
    with pytest.raises(faceshards.FaceshardsError, match="nowhere"):
        faceshards.preprocess(tmp_path / "nowhere", tmp_path / "out")
    assert not configs
