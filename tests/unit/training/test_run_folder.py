"""Damaged files of a run are one line each, and damaged points of its curve are left out."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from manifests.errors import ConfigError
from training.config import TrainConfig
from training.run_folder import RunState, read_curve, read_state, require_same_run, write_state

STATE = RunState(num_epochs=2, num_steps=30, stopped_early=False, val_auc=0.75)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b'{"num_epochs": "many"}', b"[" * 100_000])
def test_a_damaged_state_is_named(tmp_path: Path, content: bytes) -> None:
    assert read_state(tmp_path) is None
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^.*/state\.json: got [^\n]*, expected the state of a run; [^\n]*$"):
        read_state(tmp_path)


@pytest.mark.parametrize("content", [b"- a\n", b"\xff\x00\xfe", b"a: [", b"", b"[" * 50_000])
def test_damaged_settings_of_a_run_are_named(tmp_path: Path, content: bytes) -> None:
    config = TrainConfig(stores=(Path("store"),), run=tmp_path)
    require_same_run(config)
    (tmp_path / "config.yaml").write_text(json.dumps(config.model_dump(mode="json")))
    require_same_run(config)
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^.*/config\.yaml: got [^\n]*, expected the settings of a run"):
        require_same_run(config)


def test_settings_that_are_no_sections_differ(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("stores: [store]\nmodel: 3\n")
    with pytest.raises(ConfigError, match=r"model\.name: None → m2tr"):
        require_same_run(TrainConfig(stores=(Path("store"),), run=tmp_path))


def test_files_that_are_no_files_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "state.json")
    with pytest.raises(ConfigError, match="got a pipe, not a regular file, expected the state"):
        read_state(tmp_path)


def test_damaged_points_of_a_curve_are_left_out(tmp_path: Path) -> None:
    point = {"step": 1, "name": "train_loss", "value": 0.5}
    lines = [b"\xff\xfe", b"3", b'{"step": 2}', b'{"step": "2", "name": "a", "value": 1}', json.dumps(point).encode()]
    (tmp_path / "curve.jsonl").write_bytes(b"\n".join([*lines, b'{"step": 2, "na']))
    assert read_curve(tmp_path) == [point]
