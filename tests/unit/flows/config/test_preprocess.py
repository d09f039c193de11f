"""Configuration: which source wins, what each fault says, and which settings a store must share."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.config.preprocess import (
    LAYOUTS,
    PreprocessConfig,
    RunnerSettings,
    differences,
    digest_of,
    dotted,
    load_config,
    to_yaml,
    validate,
)
from manifests.datasets import DATASETS
from manifests.errors import ConfigError
from manifests.splits.policies import POLICIES
from tasks.align import ALIGNERS
from tasks.align.five_point import TEMPLATES
from tasks.decode import BACKENDS
from tasks.detect import DETECTORS
from tasks.landmarks import LANDMARKERS
from tasks.settings import StageSettings

REQUIRED = {"dataset": {"root": "/data"}, "out": "/store"}

# Every setting, with a value that is not its default.
CHANGES_RECORDS: dict[str, Any] = {
    **{"frames.mode": "all", "frames.count": 8, "frames.stride": 5, "frames.max_visits": 64},
    **{"frames.clip_seconds": 2.0, "frames.clip_frames": 16, "frames.short_video": "reject"},
    "decode.backend": "another",
    **{"detect.kind": "another", "detect.min_face_px": 40, "detect.scale_factor": 0.8},
    **{"detect.thresholds": [0.6, 0.7, 0.8], "detect.s3fd_threshold": 0.6, "detect.max_side_px": 800},
    **{"landmark.kind": "another", "detect.search": "full"},
    **{"track.min_coverage": 0.6, "track.max_tracks": 2, "track.reuse_geometry": True, "masks": "difference"},
    **{"track.cut_threshold": 0.5, "track.max_gap_s": 3.5, "track.turned": "store"},
    **{"crop.kind": "five_point", "crop.size_px": 320, "crop.margin": 1.5, "crop.template": "another"},
    "crop.strict": True,
    **{"encode.image_format": "png", "encode.quality": 80},
    **{"split.ratios": [0.5, 0.25, 0.25], "split.seed": 1},
}
CHANGES_NO_RECORD: dict[str, Any] = {
    **{"dataset.root": "/elsewhere", "dataset.manipulations": ["Deepfakes"], "dataset.compressions": ["c23"]},
    **{"out": "/other", "reprocess": True, "remake": "code", "vanished": "drop"},
    **{"shard.compact_above": 0.5, "versions.keep": 5},
    **{"decode.timeout_s": 5, "detect.device": "cpu", "shard.videos": 4, "runner.workers": 3},
    **{"runner.address": "tcp://host:8786", "runner.processes_per_worker": 2, "runner.kind": "dask"},
    **{"mirror": "s3://bucket/store", "report.max_rejected_share": 0.5, "report.crops_checked": 0},
    **{"limits.memory_per_worker": "4GiB"},
    # What the lists say does, under the policies that read them.
    **{"split.official_dir": "/lists", "split.file": "/own.csv", "split.allow_leakage": True},
    **{"test_datasets": [{"root": "/other"}], "weights_dir": "/weights"},
}
# Digests that stores were made with: they never change. MEAN stands for a mean face's file.
DECORD = "decode.backend=decord"  # the default of version 0.1.0
DIGESTS: dict[tuple[str, ...], str] = {
    (): "6e96410611f77b5f059525c4742c846bcf2a3acb29eeab4141201520a5567613",
    ("decode.backend=pyav",): "6e96410611f77b5f059525c4742c846bcf2a3acb29eeab4141201520a5567613",
    ("decode.backend=auto",): "6e96410611f77b5f059525c4742c846bcf2a3acb29eeab4141201520a5567613",
    (DECORD,): "3bf702c33e368f1a67bbbda8832b3d2c22b0bd1f0335def3f6775d6642e7e6d7",
    (
        DECORD,
        "crop.kind=lrw",
    ): "1bb1c9893d193c33ad65abceff98e12577246f62fe1ecb7899df8b128492672d",
    (DECORD, "crop.kind=lrw", "crop.size_px=96", "landmark.kind=dlib"): (
        "8135fba458f68a469e443108e53259993c357082e78167cc63c27be4b19f5daf"
    ),
    (
        DECORD,
        "crop.kind=lrw",
        "crop.mean_face=MEAN",
    ): "fdc92985cb3e15fb4cb80f0afbb44eeb6b81b5e3f2eeeb3aad928ffd4420e823",
    (
        DECORD,
        "crop.mean_face=MEAN",
    ): "e81b34d5b9f201700ae94ab7a3a6e7ddc8e28cee8219ee63eb4d140297f979b2",
    (
        DECORD,
        "detect.kind=s3fd",
    ): "a3fd6d2a7f6af07be49436b4834e6f9f527f259cb13be895e2805ca63072c4ff",
    (
        DECORD,
        "crop.kind=five_point",
    ): "5ab5b1aff175fd7bdde90a3eb50561a2e4df7923765ed6f5c4c9ff870041081b",
    (
        DECORD,
        "landmark.kind=dlib",
        "detect.every=4",
    ): "bb528ec05b746804c00a6315419867fad7619963b92b8287e6703736249b2358",
    (DECORD, "frames.at_least=8", "detect.second=s3fd", "landmark.kind=fan"): (
        "4381ec69123f051af889018aa91bb348461bf9c7e0cb95538519ea858e2e420c"
    ),
    ("frames.mode=clips", "decode.backend=pyav", "masks=difference"): (
        "79a956dac9494ea25f06e6713a35608975ffaf71568fcb46445a6c136ac7e67d"
    ),
}
NEWER_SETTINGS = {"track.cut_threshold", "track.max_gap_s", "track.turned"}
# Settings that need others beside them.
ON_THEIR_OWN = {"dataset.name", "split.policy"}
ON_THEIR_OWN |= {"frames.at_least", "detect.every", "detect.second", "crop.mean_face"}
# Those of implementations of other distributions: not listed where there are none.
OPTIONS = {"decode.options", "detect.options", "landmark.options", "crop.options"}
REGISTRIES: dict[str, MutableMapping[str, Any]] = {
    "dataset.name": LAYOUTS,
    "split.policy": POLICIES,
    "decode.backend": BACKENDS,
    "detect.kind": DETECTORS,
    "landmark.kind": LANDMARKERS,
    "crop.kind": ALIGNERS,
    "crop.template": TEMPLATES,
}


def load(*assignments: str, config: Path | None = None) -> PreprocessConfig:
    return load_config(config, assignments, REQUIRED)


def fault(*assignments: str, config: Path | None = None) -> str:
    with pytest.raises(ConfigError) as refusal:
        load(*assignments, config=config)
    return str(refusal.value)


def with_setting(name: str, value: Any) -> PreprocessConfig:
    section, _, setting = name.partition(".")
    values: dict[str, Any] = {key: dict(item) if isinstance(item, dict) else item for key, item in REQUIRED.items()}
    if setting:
        values.setdefault(section, {})[setting] = value
    else:
        values[section] = value
    return validate(PreprocessConfig, values)


def setting_names() -> set[str]:
    return {name for name, _ in dotted(validate(PreprocessConfig, REQUIRED).model_dump())}


@pytest.fixture
def yaml_file(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text("out: /from-yaml\nframes: {count: 4, stride: 7}\ncrop:\n  margin: 1.5\n")
    return path


def test_defaults() -> None:
    config = load()
    assert (config.dataset.root, config.out) == (Path("/data"), Path("/store"))
    assert (config.frames.count, config.frames.mode, config.detect.min_face_px) == (32, "uniform", 20)
    assert (config.crop.size_px, config.crop.margin, config.encode.quality) == (224, 1.3, 95)
    assert (config.split.ratios, config.split.policy) == ((0.70, 0.15, 0.15), "group")


def test_dotted_settings_win_over_options_and_options_over_yaml(yaml_file: Path) -> None:
    config = load_config(yaml_file, ["frames.count=8"], REQUIRED | {"crop": {"margin": 2.0}})
    assert (config.frames.count, config.frames.stride) == (8, 7)
    assert config.crop.margin == 2.0
    assert config.out == Path("/store")
    assert load_config(yaml_file, [], {"dataset": {"root": "/data"}}).out == Path("/from-yaml")
    assert load("frames.count=8", "frames.count=9").frames.count == 9
    assert load("out=/last").out == Path("/last")


@pytest.mark.parametrize("text", ["", "# nothing is set\n", "---\n"])
def test_an_empty_yaml_file_sets_nothing(tmp_path: Path, text: str) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text(text)
    assert load(config=path) == load()


def test_values_are_read_as_yaml() -> None:
    config = load(
        "split.ratios=[0.5, 0.5, 0]",
        "detect.thresholds= [.5, 6e-1, 0.7]",
        "dataset.manipulations=[Deepfakes, FaceSwap]",
        "dataset.compressions=null",
        "out=/a=b",
        "crop={size_px: 64}",
        "crop.margin=2",
        "split.official_dir='lists'",
    )
    assert config.split.ratios == (0.5, 0.5, 0.0)
    assert config.detect.thresholds == (0.5, 0.6, 0.7)
    assert config.dataset.manipulations == ("Deepfakes", "FaceSwap")
    assert config.dataset.compressions is None
    assert config.out == Path("/a=b")
    assert (config.crop.size_px, config.crop.margin) == (64, 2.0)
    assert config.split.official_dir == Path("lists")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("frames.count=0", "frames.count: got 0, expected greater than or equal to 1"),
        ("frames.count=x", "frames.count: got 'x', expected a valid integer"),
        ("frames.count=", "frames.count: got None, expected a valid integer"),
        ("frames.mode=every", "frames.mode: got 'every', expected 'uniform', 'stride', 'all' or 'clips'"),
        ("frames=3", "frames: got 3, expected settings below it"),
        ("encode.image_format=gif", "encode.image_format: got 'gif', expected 'jpeg', 'png' or 'webp'"),
        ("encode.quality=101", "encode.quality: got 101, expected less than or equal to 100"),
        ("detect.min_face_px=11", "detect.min_face_px: got 11, expected greater than or equal to 12"),
        ("detect.scale_factor=1", "detect.scale_factor: got 1, expected less than 1"),
        ("detect.device=gpu", "detect.device: got 'gpu', expected "),
        ("decode.timeout_s=0", "decode.timeout_s: got 0, expected greater than 0"),
        ("track.min_coverage=.nan", "track.min_coverage: got nan, expected "),
        ("crop.size_px=5000", "crop.size_px: got 5000, expected less than or equal to 4096"),
        ("split.ratios=[0.5, 0.5]", "split.ratios.2: got nothing, expected a value"),
        ("shard.videos=0", "shard.videos: got 0, expected greater than or equal to 1"),
        ("runner.kind=slurm", "runner.kind: got 'slurm', expected 'thread', 'process', 'dask' or 'ray'"),
        ("runner.workers=-1", "runner.workers: got -1, expected greater than or equal to 0"),
        ("dataset.manipulations=[]", "dataset.manipulations: got [], expected "),
        ("out=", "out: got None, expected "),
        ("frames.count", "--set: got 'frames.count', expected NAME=VALUE such as frames.count=8"),
        ("=8", "--set: got '=8', expected NAME=VALUE"),
        ("split.seed=2020-13-45", "--set split.seed: got '2020-13-45', expected a YAML value"),
        ("test_datasets=7", "test_datasets: got 7, expected a list"),
    ],
)
def test_a_fault_is_one_line_with_the_value_and_what_is_allowed(assignment: str, message: str) -> None:
    said = fault(assignment)
    assert said.startswith(message)
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("name", REGISTRIES)
def test_choices_come_from_the_registries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault(f"{name}=nothing") == f"{name}: got 'nothing', expected one of {', '.join(REGISTRIES[name])}"
    section, _, setting = name.partition(".")
    form = PreprocessConfig.model_json_schema()
    drawn = form["$defs"][form["properties"][section]["$ref"].rpartition("/")[2]]["properties"][setting]
    assert (drawn["type"], drawn["enum"]) == ("string", list(REGISTRIES[name]))
    # A new entry needs no other line of code.
    monkeypatch.setitem(REGISTRIES[name], "nothing", next(iter(REGISTRIES[name].values())))
    assert dict(dotted(load(f"{name}=nothing").model_dump()))[name] == "nothing"


@pytest.mark.parametrize("assignment", ["frames.coutn=3", "nothing=1", "frames.count.more=1", "seed=3", ".=1"])
def test_an_unknown_setting_lists_all_settings(assignment: str) -> None:
    said = fault(assignment)
    if assignment == "frames.count.more=1":
        assert said == "frames.count: got {'more': 1}, expected a valid integer"
        return
    name = assignment.partition("=")[0].strip(".")
    assert said.startswith(f"{name}: got an unknown setting, expected one of crop.kind, crop.margin, ")
    known, _, hint = said.partition("expected one of ")[2].partition("; did you mean ")
    assert set(known.split(", ")) == setting_names() | OPTIONS
    assert hint == ("'frames.count'?" if name == "frames.coutn" else "")


def test_unknown_parts_of_a_dataset_list_the_known_ones() -> None:
    known = ", ".join(DATASETS["ffpp"].manipulations)
    said = fault("dataset.name=ffpp", "dataset.manipulations=[Deepfakes, Foo]")
    assert said == f"dataset.manipulations: got ['Deepfakes', 'Foo'], expected some of {known}"
    assert (
        fault("dataset.name=ffpp", "dataset.compressions=[c99]")
        == "dataset.compressions: got ['c99'], expected some of raw, c23, c40"
    )
    # Of a layout that is yet to be found, any may be; of one that does not exist, none is.
    assert load("dataset.manipulations=[Foo]").dataset.manipulations == ("Foo",)
    said = fault("dataset.name=nothing", "dataset.manipulations=[Foo]")
    assert said == f"dataset.name: got 'nothing', expected one of auto, {', '.join(DATASETS)}"


def test_each_fault_has_its_line() -> None:
    assert fault("frames.count=0", "crop.size_px=1", "nothing=1").splitlines() == [
        "frames.count: got 0, expected greater than or equal to 1",
        "crop.size_px: got 1, expected greater than or equal to 16",
        fault("nothing=1"),
    ]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError) as refusal:
        load_config(None, [], {})
    assert str(refusal.value).splitlines() == [
        "dataset: got nothing, expected a value",
        "out: got nothing, expected a value",
    ]


def test_an_output_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"^out: got .*file.*, expected a folder, and this is a file$"):
        load_config(None, [], REQUIRED | {"out": tmp_path / "file"})


def test_an_output_folder_that_cannot_be_one() -> None:
    assert fault(f"out={'a' * 300}").startswith("out: got 'aaa")


@pytest.mark.parametrize(
    ("content", "got"),
    [
        ("- frames\n", "got a list, expected a mapping such as 'frames: …'"),
        ("3\n", "got a int, expected a mapping"),
        (None, "No such file or directory"),
        (b"\xff\xfe\x00\xd8", "expected a YAML file"),
    ],
    ids=["list", "number", "no file", "no text"],
)
def test_a_yaml_file_that_is_none(tmp_path: Path, content: str | bytes | None, got: str) -> None:
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    said = fault(config=path)
    assert said.startswith(f"--config {path}: got ")
    assert got in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["frames: [", "frames:\n\tcount: 3\n", "a: 1\n---\nb: 2\n", "a: !!python/name:os.system\n"]
)
def test_broken_yaml_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert fault(config=path).startswith(f"--config {path}: got ")
    assert fault("frames.count=[").startswith("--set frames.count: got '[', expected a YAML value")


def test_broken_yaml_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("frames: [")
    assert [len(fault(config=path).splitlines()), len(fault("frames.count=[").splitlines())] == [1, 1]


def test_faults_of_a_yaml_file_are_named_like_settings(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("frames: {count: 0}\n")
    assert fault(config=path) == "frames.count: got 0, expected greater than or equal to 1"


@pytest.mark.parametrize(
    "assignment", ["decode.timeout_s=.inf", "decode.timeout_s=1e10", "detect.thresholds=[5, 0, 0]"]
)
def test_what_no_video_could_be_processed_with_is_refused_at_once(assignment: str) -> None:
    assert ", expected " in fault(assignment)


def test_every_setting_is_known_here() -> None:
    assert setting_names() == {*CHANGES_RECORDS, *CHANGES_NO_RECORD, *ON_THEIR_OWN}


@pytest.mark.parametrize("name", CHANGES_RECORDS)
def test_the_digest_changes_with_what_changes_records(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if CHANGES_RECORDS[name] == "another":
        monkeypatch.setitem(REGISTRIES[name], "another", next(iter(REGISTRIES[name].values())))
    assert with_setting(name, CHANGES_RECORDS[name]).config_digest != validate(PreprocessConfig, REQUIRED).config_digest


@pytest.mark.parametrize("assignments", DIGESTS, ids=" ".join)
def test_digests_are_those_of_earlier_versions(
    assignments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FACESHARDS_WEIGHTS", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # model files of one's own would count
    np.save(tmp_path / "mean.npy", np.linspace(10, 240, 136).reshape(68, 2))
    named = [assignment.replace("MEAN", str(tmp_path / "mean.npy")) for assignment in assignments]
    settings = load(*named).store_settings()
    # A store that was made before a setting existed has no value of it in its index.
    track = settings["track"]
    settings["track"] = {name: value for name, value in track.items() if f"track.{name}" not in NEWER_SETTINGS}
    assert digest_of(settings) == DIGESTS[assignments]


@pytest.mark.parametrize("name", CHANGES_NO_RECORD)
def test_the_digest_does_not_change_with_what_changes_none(name: str) -> None:
    changed = with_setting(name, CHANGES_NO_RECORD[name])
    assert changed != validate(PreprocessConfig, REQUIRED)
    assert changed.config_digest == validate(PreprocessConfig, REQUIRED).config_digest


def test_what_the_official_lists_say_changes_records_and_where_they_lie_does_not(tmp_path: Path) -> None:
    digests = {}
    for folder, pairs in {"first": '[["000", "001"]]', "moved": '[["000", "001"]]', "changed": "[]"}.items():
        (tmp_path / folder).mkdir()
        for split in ("train", "val", "test"):
            (tmp_path / folder / f"{split}.json").write_text(pairs if split == "train" else "[]")
        digests[folder] = load("split.policy=official", f"split.official_dir={tmp_path / folder}").config_digest
    assert digests["first"] == digests["moved"]
    assert len({*digests.values(), load().config_digest}) == 3


@pytest.mark.parametrize(
    "assignments", [("frames.at_least=8",), ("landmark.kind=dlib", "detect.every=4"), ("detect.second=mtcnn",)]
)
def test_the_digest_changes_with_settings_that_need_others(assignments: tuple[str, ...]) -> None:
    assert load(*assignments).config_digest != load(*assignments[:-1]).config_digest


def test_what_a_mean_face_says_changes_records_and_where_it_lies_does_not(tmp_path: Path) -> None:
    points = np.linspace(10, 240, 136).reshape(68, 2)
    for name, values in {"first": points, "moved": points, "changed": points + 1}.items():
        np.save(tmp_path / f"{name}.npy", values)
    digests = {
        name: load("crop.kind=lrw", f"crop.mean_face={tmp_path / name}.npy").config_digest
        for name in ("first", "moved", "changed")
    }
    assert digests["first"] == digests["moved"]
    assert len({*digests.values(), load("crop.kind=lrw").config_digest}) == 3


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (("crop.kind=lrw", "landmark.kind=detector"), "expected landmark.kind fan or dlib: crop.kind lrw needs 68"),
        (("detect.every=4",), "expected landmark.kind fan or dlib: detect.every leaves frames without"),
        (("detect.kind=s3fd", "landmark.kind=detector"), "s3fd gives no landmarks"),
        (("crop.kind=lrw", "frames.at_least=4"), "expected another crop.kind than lrw"),
        (("crop.kind=lrw", "crop.size_px=224"), "expected crop.size_px 150 or 96 with crop.kind lrw"),
        (("frames.mode=all", "frames.at_least=4"), "expected frames.at_least with frames.mode uniform only"),
    ],
)
def test_settings_that_contradict_each_other(assignments: tuple[str, ...], message: str) -> None:
    said = fault(*assignments)
    assert message in said
    assert len(said.splitlines()) == 1


def test_what_needs_68_landmarks_gets_them() -> None:
    assert (load("crop.kind=lrw").landmark.kind, load("crop.kind=lrw").crop.size_px) == ("fan", 150)
    assert load("detect.kind=s3fd").landmark.kind == "fan"
    assert load("crop.kind=lrw", "landmark.kind=dlib", "crop.size_px=96").landmark.kind == "dlib"


def test_the_digest_does_not_depend_on_how_a_value_was_written() -> None:
    assert load("crop.margin=2").config_digest == load("crop.margin=2.0").config_digest
    assert load("frames.count=32").config_digest == load().config_digest


def test_the_whole_configuration_as_yaml_is_read_again(tmp_path: Path) -> None:
    changes = {**CHANGES_RECORDS, **CHANGES_NO_RECORD}
    names = [name for name, value in changes.items() if value != "another" and name != "reprocess"]
    config = load(*(f"{name}={changes[name]}" for name in names))
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(config))
    assert load_config(path, [], {}) == config
    assert {name for name, _ in dotted(load_config(path, [], {}).model_dump())} == setting_names()


def test_reprocessing_is_asked_for_anew_each_time() -> None:
    assert to_yaml(load("reprocess=true")) == to_yaml(load())


def test_values_do_not_change_once_validated() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().frames.count = 3  # type: ignore[misc]


def test_stages_see_their_part_only() -> None:
    stages = load("crop.size_px=64").stages
    assert type(stages) is StageSettings
    assert stages == StageSettings.model_validate({"crop": {"size_px": 64}})


def test_workers_default_to_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 3, 5})
    assert (RunnerSettings().num_workers, RunnerSettings(workers=2).num_workers) == (3, 2)


@pytest.mark.parametrize(
    ("stored", "wanted", "lines"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3, "c": 2}}, ["a.b: 1 → 3"]),
        ({"b": [1, 2], "a": 1}, {"b": [1], "a": 2}, ["a: 1 → 2", "b: [1, 2] → [1]"]),
        ({"a": {"b": 1}}, {"a": {"c": 2}}, ["a.b: 1 → absent", "a.c: absent → 2"]),
    ],
)
def test_differences(stored: dict[str, Any], wanted: dict[str, Any], lines: Sequence[str]) -> None:
    assert differences(stored, wanted) == lines
