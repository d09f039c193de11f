"""Stages of the pipeline: which run, which are skipped, and what decides it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import pipeline
from flows.config.download import DownloadConfig
from flows.pipeline import Stages, facts_of_download, facts_of_evaluation, facts_of_training, stored
from manifests.errors import ConfigError, StoreCorrupt
from storage.index import StoreIndex, write_index
from training.config import EvaluateConfig, TrainConfig
from training.run_folder import RunState, write_state


class WithoutPrefect:
    """Steps that are called at once."""

    def subflow(self, flow: Callable[[object], object], config: object) -> object:
        return flow(config)

    def skip(self, _name: str, _why: str) -> None:
        """Nothing to show."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Take one stage, in a run of its own, and return its outcome."""
    monkeypatch.setattr(pipeline, "Steps", WithoutPrefect)

    def take(config: object, facts: object, flow: Callable[[Any], object] = lambda _: "done") -> str:
        stages = Stages(tmp_path / "pipeline.json")
        stages.take("verify", flow, config, str, lambda _: facts)
        return stages.outcomes["verify"]

    return take


def test_a_stage_is_skipped_once_it_has_finished_on_the_same_facts(run: Callable[..., str], tmp_path: Path) -> None:
    assert [run("settings", facts) for facts in ("one", "one", "two", "two")] == [
        *("done", "skipped: nothing has changed"),
        *("done", "skipped: nothing has changed"),
    ]
    assert run(None, "two") == "skipped: not in the settings"
    (tmp_path / "pipeline.json").write_text("[")
    assert [run("settings", "two") for _ in range(2)] == ["done", "skipped: nothing has changed"]


def test_a_stage_that_failed_or_has_no_result_runs_again(run: Callable[..., str]) -> None:
    def fail(_config: object) -> object:
        raise StoreCorrupt("broken")

    with pytest.raises(StoreCorrupt):
        run("settings", "one", fail)
    assert [run("settings", facts) for facts in ("one", None, None)] == ["done", "done", "done"]


def test_a_file_that_is_gone_from_the_dataset_is_fetched_again(tmp_path: Path) -> None:
    config = DownloadConfig(out=tmp_path / "data")
    empty = facts_of_download(config)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "000.mp4").touch()
    assert facts_of_download(config) != empty
    (tmp_path / "data" / "000.mp4").unlink()
    assert facts_of_download(config) == empty


def test_a_training_and_an_evaluation_depend_on_settings_model_and_store(tmp_path: Path) -> None:
    store, run = tmp_path / "store", tmp_path / "run"
    store.mkdir()
    values: dict[str, Any] = {"faceshards_version": "0", "config_digest": "", "config": {}, "shards": ()}
    write_index(store, StoreIndex(complete=True, **values))
    training = TrainConfig.model_validate({"stores": [store], "run": run, "trainer": {"epochs": 2}})
    assert facts_of_training(training) is None
    run.mkdir()
    (run / "model.pt").write_bytes(b"weights")
    state: dict[str, Any] = {"num_steps": 1, "stopped_early": False, "val_auc": None}
    write_state(run, RunState(num_epochs=1, **state))
    assert facts_of_training(training) is None  # its second epoch is missing
    write_state(run, RunState(num_epochs=2, **state))
    assert facts_of_training(training) is not None
    (run / "config.yaml").write_text("optim: {lr: 1.0}")
    with pytest.raises(ConfigError, match="got other settings than at its start"):
        facts_of_training(training)

    evaluation = EvaluateConfig(checkpoints=(run / "model.pt",), stores=(store,), out=tmp_path / "page")
    assert facts_of_evaluation(evaluation) is None
    evaluation.out.mkdir()
    (evaluation.out / "evaluation.html").touch()
    before = facts_of_evaluation(evaluation)
    assert before is not None
    (run / "model.pt").write_bytes(b"other weights")
    assert facts_of_evaluation(evaluation) != before


def test_what_preprocessing_did_in_words() -> None:
    totals = {"num_stored": 1000, "num_rejected": 2, "videos_processed": 0, "videos_changed": 0}
    assert stored(totals) == "nothing has changed: 1,000 videos stored, 2 rejected"
    assert stored(totals | {"videos_processed": 3}) == "1,000 videos stored, 2 rejected; 3 processed by this run"
