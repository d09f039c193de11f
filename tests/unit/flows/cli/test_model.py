"""The commands about models: where they write, and what they set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.parser import _parser
from flows.config.training import PredictConfig
from tests.helpers.source_tree import REPO


class Stopped(Exception):
    """Raised in place of the work."""


@pytest.mark.parametrize(("words", "out"), [([], "clip.mp4.scores"), (["--out", "other"], "other")])
def test_scores_are_not_written_into_the_dataset(
    words: list[str], out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[PredictConfig] = []

    def stop(config: PredictConfig) -> None:
        found.append(config)
        raise Stopped

    monkeypatch.setattr("flows.run.prediction.predict", stop)
    monkeypatch.chdir(tmp_path)
    if words:
        (tmp_path / out).mkdir()
        (tmp_path / out / "prediction.json").touch()
    options = _parser().parse_args(["predict", "model.pt", "/data/ffpp/clip.mp4", *words])
    with pytest.raises(Stopped):
        options.run(options)
    assert [config.out.resolve() for config in found] == [tmp_path / out]
    assert ("other: replaces the prediction in it" in capsys.readouterr().err) == bool(words)


@pytest.mark.parametrize(("user", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
@pytest.mark.parametrize("module", ["flows.cli.parser", "flows.config", "training.config"])
def test_threads_wait_passively_unless_the_user_decides(module: str, user: str | None, policy: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    program = f"import os, sys, {module}; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    command = [sys.executable, "-c", program]
    environment |= {} if user is None else {"OMP_WAIT_POLICY": user}
    said = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, check=True).stdout
    assert said.split() == [policy, "False"]
