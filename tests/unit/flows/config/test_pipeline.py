"""Settings of the pipeline: what follows from another stage, presets, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.config.pipeline import PipelineConfig, contents_of, load_pipeline_config
from manifests.errors import ConfigError
from storage.index import StoreIndex, write_index

LEAST = ("preprocess.dataset.root=data", "preprocess.out=store")


def configured(*assignments: str) -> PipelineConfig:
    return load_pipeline_config(None, [*LEAST, *assignments], {})


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store where the least settings have it."""
    monkeypatch.chdir(tmp_path)
    Path("store").mkdir()
    values: dict[str, Any] = {"faceshards_version": "0", "config_digest": "", "config": {}, "shards": ()}
    write_index(Path("store"), StoreIndex(complete=True, **values))
    return Path("store")


def test_a_dataset_and_a_store_are_enough() -> None:
    config = configured()
    assert (config.for_download, config.verify, config.for_train(), config.for_evaluate(None)) == (
        None,
        True,
        None,
        None,
    )
    assert config.for_preprocess.model_fields_set == {"dataset", "out"}  # the rest is the store's, where there is one


def test_what_follows_from_an_earlier_stage_may_be_left_out(store: Path) -> None:
    config = configured("train.run=runs", "download.compressions=[raw]")
    assert config.for_download is not None
    assert (config.for_download.out, config.for_download.compressions) == (Path("data"), ("raw",))
    train = config.for_train()
    assert train is not None
    assert (train.stores, train.run) == ((store,), Path("runs", f"store-{contents_of([store])[:8]}"))
    evaluate = config.for_evaluate(train.run / "model.pt")
    assert evaluate is not None
    assert (evaluate.checkpoints, evaluate.stores) == ((train.run / "model.pt",), (store,))
    assert evaluate.out == train.run / "evaluation"


def test_what_is_named_counts(store: Path) -> None:
    words = ("download.out=fetched", "train.run=runs", "train.stores=[store, store]")
    config = configured(*words, "evaluate.checkpoints=[a/model.pt]", "evaluate.stores=[other]", "evaluate.out=page")
    assert config.for_download is not None
    assert config.for_download.out == Path("fetched")
    train, evaluate = config.for_train(), config.for_evaluate(None)
    assert train is not None
    assert evaluate is not None
    assert train.stores == (store, store)
    assert (evaluate.checkpoints, evaluate.stores, evaluate.out) == (
        (Path("a/model.pt"),),
        (Path("other"),),
        Path("page"),
    )
    assert configured("train.run=runs", "evaluate=null").for_evaluate(Path("model.pt")) is None


def test_settings_override_those_of_a_preset(store: Path) -> None:
    config = configured(
        "preprocess.preset=lrw-mouth", "train.run=runs", "train.preset=m2tr-small", "train.data.workers=3"
    )
    assert config.for_preprocess.landmark.kind == "fan"
    train = config.for_train()
    assert train is not None
    assert (train.data.workers, train.model.img_size) == (3, 96)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        ((), "preprocess: got nothing, expected a value"),
        ((*LEAST, "train={}"), "train.run: got nothing, expected a value"),
        ((*LEAST, "train.run=runs", "train.preset=m3tr"), "--preset: got 'm3tr', expected one of"),
        ((*LEAST, "preprocess.frames.cuont=3"), "preprocess.frames.cuont: got an unknown setting"),
        ((*LEAST, "verifi=true"), "verifi: got an unknown setting, expected one of .*; did you mean 'verify'?"),
    ],
)
def test_what_is_refused(assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_pipeline_config(None, assignments, {})
