"""A store is completed with the settings that it was made with, whatever the defaults are today."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
from pydantic import BaseModel, Field

from flows.config import store_config as module
from flows.config.preprocess import PreprocessConfig, RunnerSettings, load_config, to_yaml
from flows.config.store_config import StoreConfig, named_settings, store_config
from flows.reprocess import has_other_settings
from manifests.errors import ConfigError, StoreChanged
from storage.files.layout import CONFIG_NAME
from storage.index import StoreIndex, read_index, write_index
from tasks.implementation import Before


def load(out: Path, *assignments: str) -> PreprocessConfig:
    return load_config(None, assignments, {"dataset": {"root": "/data"}, "out": out})


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where a store lies, or will lie."""
    return tmp_path / "store"


def write_store(out: Path, *assignments: str) -> StoreConfig:
    """A store that a run with these settings made."""
    made = store_config(load(out, *assignments))
    out.mkdir()
    write_index(
        out,
        StoreIndex(
            faceshards_version="1", complete=True, config_digest=made.digest, config=dict(made.settings), shards=()
        ),
    )
    (out / CONFIG_NAME).write_text(to_yaml(made.run))
    return made


def change_index(out: Path, change: Mapping[str, Any]) -> None:
    """Lay other values over the settings in a store's index; None takes a setting or a section away."""
    index = read_index(out)
    config = deepcopy(index.config)
    for name, value in change.items():
        section, _, setting = name.rpartition(".")
        values = config[section] if section else config
        if value is None:
            del values[setting]
        else:
            values[setting] = value
    write_index(out, replace(index, config=config))


def refusal(config: PreprocessConfig) -> list[str]:
    """What the message shows of each setting that differs."""
    with pytest.raises(StoreChanged) as refused:
        store_config(config)
    first, *shown, last = str(refused.value).splitlines()
    assert first.startswith(f"store {config.out}: got other settings than those it was made with")
    assert "--out" in last
    assert "--reprocess" in last
    return [line.strip() for line in shown]


def test_a_new_store_takes_what_is_named_over_the_defaults(out: Path) -> None:
    config = load(out, "frames.count=4")
    made = store_config(config)
    assert (made.run, made.settings, made.digest) == (config, config.store_settings(), config.config_digest)


def test_the_plain_command_completes_a_store(out: Path) -> None:
    made = write_store(out, "frames.count=4", "split.ratios=[0.5, 0.5, 0]", "crop.kind=lrw", "landmark.kind=dlib")
    plain = store_config(load(out))
    assert (plain.settings, plain.digest) == (made.settings, made.digest)
    assert plain.run.stages == made.run.stages
    assert plain.run.split == made.run.split
    again = store_config(plain.run)
    assert (again.run, again.digest) == (plain.run, made.digest)


def test_what_changes_no_record_is_the_users(out: Path) -> None:
    write_store(out, "frames.count=4", "shard.videos=3", "decode.timeout_s=9")
    config = load(out, "decode.timeout_s=5", "detect.device=cpu", "split.allow_leakage=true")
    run = store_config(config.model_copy(update={"runner": RunnerSettings(workers=7)})).run
    assert (run.decode.timeout_s, run.detect.device, run.runner.workers, run.frames.count) == (5, "cpu", 7, 4)
    assert (run.shard.videos, run.split.allow_leakage) == (32, True)


def test_only_what_is_named_is_compared(out: Path) -> None:
    write_store(out, "frames.count=4", "split.seed=2", "crop.size_px=64")
    same = load(out, "split.seed=2", "frames.count=4")
    assert store_config(same).run.crop.size_px == 64
    wanted = load(out, "crop.kind=five_point", "split.seed=3", "frames.count=4")
    assert refusal(wanted) == ["crop.kind: square → five_point", "split.seed: 2 → 3"]
    assert (has_other_settings(same), has_other_settings(wanted)) == (False, True)
    # A default that is named counts as named.
    assert refusal(load(out, "frames.count=32")) == ["frames.count: 4 → 32"]


def test_reprocessing_begins_from_the_defaults(out: Path) -> None:
    write_store(out, "frames.count=4", "split.seed=2")
    config = load(out, "crop.size_px=64", "reprocess=true")
    assert store_config(config).run == config
    assert store_config(config).digest == config.config_digest


def test_parameters_of_a_deployment_are_named_settings(out: Path) -> None:
    write_store(out, "frames.count=4")
    values = {"dataset": {"root": "/data"}, "out": str(out)}
    assert store_config(PreprocessConfig.model_validate(values)).run.frames.count == 4
    assert refusal(PreprocessConfig.model_validate(values | {"frames": {"count": 8}})) == ["frames.count: 4 → 8"]


def test_what_follows_from_another_setting_is_not_named(out: Path) -> None:
    write_store(out, "crop.kind=lrw", "crop.size_px=96", "landmark.kind=dlib")
    config = load(out, "crop.kind=lrw")
    assert set(named_settings(config)) == {"crop.kind", "dataset.root", "out"}
    assert (store_config(config).run.landmark.kind, store_config(config).run.crop.size_px) == ("dlib", 96)
    assert refusal(load(out, "landmark.kind=fan", "crop.size_px=150")) == [
        "crop.size_px: 96 → 150",
        "landmark.kind: dlib → fan",
    ]


def test_a_default_that_has_moved_since(out: Path) -> None:
    """The store was made when 0.8 was the default of `scale_factor`; no user ever named it."""
    made = write_store(out)
    change_index(out, {"detect.scale_factor": 0.8})
    plain = store_config(load(out))
    assert (plain.run.detect.scale_factor, plain.digest) == (0.8, made.digest)
    assert refusal(load(out, "detect.scale_factor=0.709")) == ["detect.scale_factor: 0.8 → 0.709"]


def test_a_setting_and_a_section_that_are_newer_than_the_store(out: Path) -> None:
    made = write_store(out, "crop.kind=five_point")
    change_index(out, {"crop.template": None, "landmark": None, "masks": None})
    plain = store_config(load(out))
    assert plain.digest == made.digest
    assert plain.settings == read_index(out).config  # nothing is added to it
    assert plain.run.stages == made.run.stages
    assert store_config(load(out, "masks=none", "landmark.kind=detector")).digest == made.digest
    assert refusal(load(out, "masks=difference")) == ["masks: none → difference"]


def test_a_setting_that_no_longer_exists_stays_recorded(out: Path) -> None:
    made = write_store(out)
    change_index(out, {"crop.rounding": "up", "smoothing": {"window": 12}})
    plain = store_config(load(out))
    assert (plain.digest, plain.settings["crop"]["rounding"]) == (made.digest, "up")
    assert plain.settings["smoothing"] == {"window": 12}


def test_a_value_that_is_no_longer_allowed_is_told(out: Path) -> None:
    write_store(out)
    change_index(out, {"decode.backend": "gone"})
    with pytest.raises(StoreChanged, match=r"decode\.backend: got 'gone', expected one of auto, decord, pyav"):
        store_config(load(out))


class Section(BaseModel):
    """Toy settings: one from the beginning, and three that came later."""

    old: int = 1
    later: int = 2
    changed: Annotated[int, Before(30)] = 3
    free: int = 4


class Toy(BaseModel):
    """Toy configuration."""

    section: Section = Section()
    late: Annotated[str, Before("as before")] = "today"
    nested: dict[str, int] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        ({"section": {"old": 7}}, {"section": {"old": 7, "changed": 30, "free": 9}, "late": "as before"}),
        ({"section": {"old": 7, "changed": 3}, "late": "today"}, {"section": {"old": 7, "changed": 3, "free": 9}}),
        ({}, {"section": {"changed": 30, "free": 9}, "late": "as before"}),
        ({"section": 5}, {"section": {"changed": 30, "free": 9}, "late": "as before"}),  # it was a setting once
    ],
)
def test_a_setting_declares_what_was_done_before_it(stored: dict[str, Any], expected: dict[str, Any]) -> None:
    named = {"section": {"old": 5, "later": 6, "free": 9}}
    found = module.values_of_store(Toy.model_fields, named, stored, {"section": {"free": True}})
    assert found == {"late": "today"} | expected


def test_a_mean_face_is_found_again_by_the_stores_own_configuration(out: Path, tmp_path: Path) -> None:
    points = np.linspace(10, 240, 136).reshape(68, 2)
    for name, values in {"first": points, "moved": points, "other": points + 1}.items():
        np.save(tmp_path / f"{name}.npy", values)
    made = write_store(out, "crop.kind=lrw", f"crop.mean_face={tmp_path}/first.npy")
    plain = store_config(load(out))
    assert (plain.run.crop.mean_face, plain.digest) == (tmp_path / "first.npy", made.digest)
    assert store_config(load(out, f"crop.mean_face={tmp_path}/moved.npy")).digest == made.digest
    (shown,) = refusal(load(out, f"crop.mean_face={tmp_path}/other.npy"))
    assert shown.startswith(f"crop.mean_face: {made.settings['crop']['mean_face']} → ")
    np.save(tmp_path / "first.npy", points + 2)  # the file is another one today
    assert [line.split(":")[0] for line in refusal(load(out))] == ["crop.mean_face"]
    (out / CONFIG_NAME).unlink()
    assert refusal(load(out)) == [f"crop.mean_face: {made.settings['crop']['mean_face']} → None"]
    assert store_config(load(out, f"crop.mean_face={tmp_path}/moved.npy")).digest == made.digest


def test_official_lists_are_found_again_and_compared(out: Path, tmp_path: Path) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    for split in ("train", "val", "test"):
        (lists / f"{split}.json").write_text("[]")
    made = write_store(out, "split.policy=official", f"split.official_dir={lists}")
    plain = store_config(load(out))
    assert (plain.run.split.policy, plain.run.split.official_dir, plain.digest) == ("official", lists, made.digest)
    (lists / "train.json").write_text('[["000", "001"]]')
    assert [line.split(":")[0] for line in refusal(load(out))] == ["split.lists_sha256"]


def test_a_split_file_is_found_again_and_may_grow(out: Path, tmp_path: Path) -> None:
    made = write_store(out, "split.policy=file", f"split.file={tmp_path}/own.csv")
    plain = store_config(load(out))
    assert (plain.run.split.file, plain.digest) == (tmp_path / "own.csv", made.digest)
    assert store_config(load(out, "split.file=/other.csv")).run.split.file == Path("/other.csv")


def test_model_files_that_are_not_the_published_ones_are_compared(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They decide records, and no setting names them: they are those that are there."""
    there: dict[str, str] = {"fan": "a" * 64}
    monkeypatch.setattr("tasks.video.provenance.foreign_models", lambda _settings: dict(there))
    made = write_store(out, "weights_dir=/own")
    plain = store_config(load(out))
    assert (plain.run.weights_dir, plain.digest) == (Path("/own"), made.digest)
    there["fan"] = "b" * 64
    assert refusal(load(out)) == [f"models.fan: {'a' * 64} → {'b' * 64}"]
    there.clear()
    assert refusal(load(out)) == [f"models.fan: {'a' * 64} → absent"]


def test_published_models_record_no_folder(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, str] = {}
    monkeypatch.setattr("tasks.video.provenance.foreign_models", lambda _settings: dict(there))
    write_store(out, "weights_dir=/own")
    assert store_config(load(out)).run.weights_dir is None
    there["fan"] = "b" * 64
    assert refusal(load(out)) == [f"models.fan: absent → {'b' * 64}"]


def test_a_file_that_is_gone_is_named(out: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "face.npy", np.linspace(10, 240, 136).reshape(68, 2))
    write_store(out, "crop.kind=lrw", f"crop.mean_face={tmp_path}/face.npy")
    (tmp_path / "face.npy").unlink()
    with pytest.raises(ConfigError, match=r"face\.npy"):
        store_config(load(out))


def test_a_store_of_decord_keeps_it_and_refuses_another_decoder(out: Path) -> None:
    """Version 0.1.0's default: the plain command, whose default is auto, completes its stores."""
    made = write_store(out, "decode.backend=decord")
    assert (store_config(load(out)).run.decode.backend, store_config(load(out)).digest) == ("decord", made.digest)
    assert refusal(load(out, "decode.backend=auto")) == ["decode.backend: decord → pyav"]


@pytest.mark.parametrize("named", [(), ("decode.backend=auto",), ("decode.backend=pyav",)])
def test_a_store_records_the_decoder_that_auto_stands_for(out: Path, named: tuple[str, ...]) -> None:
    made = write_store(out, *named)
    assert made.settings["decode"]["backend"] == "pyav"
    for again in ((), ("decode.backend=auto",), ("decode.backend=pyav",)):
        assert store_config(load(out, *again)).digest == made.digest


def test_a_store_from_before_cuts_were_found_is_completed_without_them(out: Path) -> None:
    made = write_store(out)
    change_index(out, dict.fromkeys(("track.cut_threshold", "track.max_gap_s", "track.turned")))
    track = store_config(load(out)).run.track
    assert (track.cut_threshold, track.max_gap_s, track.turned) == (0.0, None, "store")
    assert store_config(load(out)).digest == made.digest
    assert refusal(load(out, "track.max_gap_s=2")) == ["track.max_gap_s: None → 2.0"]
