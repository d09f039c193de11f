"""Configuration of preprocessing: one validated model, read from YAML, dotted settings or Prefect's form."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ByteSize,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from flows.config.presets import load_preset
from flows.config.yaml_text import FAULTS, parse_yaml, parse_yaml_file
from manifests.datasets import DATASETS
from manifests.datasets.pair_lists import lists_digest
from manifests.errors import ConfigError, did_you_mean
from manifests.files import folder_to_be
from manifests.splits.policies import DEFAULT_RATIOS, POLICIES
from storage.files.layout import FORMAT_VERSION
from storage.index import JsonObject
from tasks.implementation import OneOf, Settings
from tasks.settings import StageSettings
from tasks.video.provenance import record_settings

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Beginnings of pydantic's messages; the text after them completes "expected …".
_PHRASE = re.compile(r"^(Value error, |Input should be )")
# Messages for the other faults, by pydantic's name of the fault. The one pattern is that of `detect.device`.
_WORDING = {
    "string_pattern_mismatch": "auto, cpu, cuda or cuda:N",
    "too_short": "at least one; leave it out for all",
    "model_type": "settings below it, such as frames.count",
    "path_type": "a path",
    "tuple_type": "a list",
    "invalid_key": "settings by name",
}

MAX_SHOWN: Final = 200  # characters of a wrong value

Model = TypeVar("Model", bound=BaseModel)

AUTO: Final = "auto"  # in place of a layout's name: the layout is recognised by the contents of the folder
LAYOUTS: Final[ChainMap[str, Any]] = ChainMap(DATASETS, {AUTO: None})  # `auto` first; a view, so new datasets appear

# Settings of `split` that change no record: the contents of lists count, not their paths.
IN_SPLIT_NO_RECORD: Final = ("official_dir", "file", "allow_leakage")


class DatasetSettings(Settings):
    """The dataset and the part of it that is used."""

    name: Annotated[str, OneOf(LAYOUTS)] = AUTO
    """Layout of the folder; auto: recognised by its contents."""

    root: Path
    """Folder of the dataset."""

    manipulations: tuple[str, ...] | None = Field(None, min_length=1)
    """Use only these manipulations and their real videos; default: all that are on disk."""

    compressions: tuple[str, ...] | None = Field(None, min_length=1)
    """Use only these compressions; default: all that are on disk."""

    @field_validator("manipulations", "compressions")
    @classmethod
    def _refuse_unknown_parts(cls, names: tuple[str, ...] | None, info: ValidationInfo) -> tuple[str, ...] | None:
        dataset = DATASETS.get(info.data.get("name", ""))  # an unknown dataset has its own message
        allowed = getattr(dataset, info.field_name or "", ()) if dataset else ()
        if allowed and not set(names or ()) <= set(allowed):
            raise ValueError(f"expected some of {', '.join(allowed)}")
        return names


class HeldOutSettings(DatasetSettings):
    """A dataset for testing only: models that were trained on other datasets are tested on it."""

    only_listed: bool = False
    """Use only the videos in the dataset's own list of test videos."""


class SplitSettings(Settings):
    """Division of the videos into train, val and test."""

    policy: Annotated[str, OneOf(POLICIES)] = "group"
    """Rule of the split: group (whole leakage groups), official (the dataset's lists), video (single videos, for
    comparison only) or file (your CSV).
    """

    ratios: tuple[float, float, float] = DEFAULT_RATIOS
    """Shares of train, val and test."""

    seed: int = 0
    """Seed of the random order in which groups are assigned."""

    official_dir: Path | None = None
    """Folder with the train, val and test lists of FaceForensics++, for the policy official."""

    file: Path | None = None
    """CSV with the columns video_id (or path) and split, for the policy file."""

    allow_leakage: bool = False
    """Store a split that breaks its policy's promise, and record that in the store; changes no record."""


class ShardSettings(Settings):
    """Grouping of records into files."""

    videos: int = Field(32, ge=1)
    """Videos per shard; a run that is killed loses its unfinished shards."""

    compact_above: float = Field(0.3, ge=0, le=1)
    """Share of superseded records above which a shard is rewritten without them."""


class VersionSettings(Settings):
    """Versions of the store that are kept."""

    keep: int = Field(2, ge=1)
    """Number of versions of the store that are kept, including the current one."""


class RunnerSettings(Settings):
    """Processes and machines that do the work."""

    kind: Literal["thread", "process", "dask", "ray"] = "thread"
    """Prefect task runner for the shards; process, dask and ray need a Prefect server."""

    workers: int = Field(0, ge=0)
    """Number of worker processes on this machine; 0: one per core. With thread, each takes one video at a time, and
    with several GPUs each GPU gets an equal share of them; with process, dask and ray, each takes one shard.
    """

    address: str | None = None
    """Address of the cluster: tcp://HOST:8786 of a Dask scheduler, or HOST:6379 of Ray's head; default: dask and ray
    start a cluster on this machine.
    """

    processes_per_worker: int = Field(1, ge=1)
    """With process, dask and ray: processes of each worker among which a shard's videos are divided."""

    @property
    def num_local(self) -> int:
        """Worker processes on this machine."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def num_workers(self) -> int:
        """Processes that take videos: those of the run with `thread`, else those of each worker that takes shards."""
        return self.num_local if self.kind == "thread" else self.processes_per_worker


class LimitSettings(Settings):
    """Limits of what one video may cost."""

    memory_per_worker: Annotated[ByteSize, Field(ge=1)] | None = None
    """Memory that one video may need in a worker process, beside about 0.8 GB for the models, such as 4GiB; larger
    videos are rejected as too_large; default: the machine's memory divided by the workers, 768 MiB to 2 GiB.
    """


class ReportSettings(Settings):
    """Notification about a run's outcome, and what the report checks."""

    max_rejected_share: float = Field(0.1, ge=0, le=1)
    """Share of rejected videos above which the event faceshards.rejections-high is sent."""

    crops_checked: int = Field(100, ge=0, le=100_000)
    """Number of stored crops of each manipulation, and of the real videos, in which the report searches the face again,
    with MTCNN at facenet-pytorch's settings; 0: none.
    """


class IndexConfig(Settings):
    """Settings of a manifest: its datasets and its split."""

    dataset: DatasetSettings
    """The dataset and the part of it that is used."""

    test_datasets: tuple[HeldOutSettings, ...] = ()
    """Other datasets, for testing only; each has the settings of `dataset`, and only_listed."""

    split: SplitSettings = SplitSettings()
    """Division of the videos into train, val and test."""


class PreprocessConfig(StageSettings, IndexConfig):
    """Configuration of a run of `preprocess`."""

    out: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder of the store."""

    shard: ShardSettings = ShardSettings()
    """Grouping of records into files."""

    runner: RunnerSettings = RunnerSettings()
    """Processes and machines that do the work."""

    limits: LimitSettings = LimitSettings()
    """Limits of what one video may cost."""

    report: ReportSettings = ReportSettings()
    """Notification about a run's outcome, and what the report checks."""

    versions: VersionSettings = VersionSettings()
    """Versions of the store that are kept."""

    vanished: Literal["keep", "drop"] = "keep"
    """Records of videos whose files are no longer on disk: keep them (the disk may only be unmounted) or drop them."""

    remake: Literal["never", "code"] = "never"
    """Stored videos to process again: never any; code: those made with another RECORDS_VERSION or other weights."""

    mirror: str | None = None
    """Folder, or URL such as s3://bucket/store, to which each run copies the finished store."""

    reprocess: bool = False
    """Recompute the store if it was made with other settings."""

    @property
    def stages(self) -> StageSettings:
        """Settings of the stages that process a video."""
        return StageSettings(**{name: getattr(self, name) for name in StageSettings.model_fields})

    def store_settings(self) -> JsonObject:
        """Return the settings that decide the bytes of a store's records, as plain values: the same in every run."""
        split = self.split.model_dump(mode="json", exclude=set(IN_SPLIT_NO_RECORD))
        if self.split.policy == "official" and self.split.official_dir is not None:
            # The lists' contents count, not their path. The user's split file is left out: it may grow, and no stored
            # video moves.
            split["lists_sha256"] = lists_digest(self.split.official_dir)
        return record_settings(self.stages) | {"split": split}

    @property
    def config_digest(self) -> str:
        """Hex SHA-256 over the record format and `store_settings`."""
        return digest_of(self.store_settings())


def digest_of(store_settings: Mapping[str, object]) -> str:
    """Return the hex SHA-256 over the record format and the settings that decide records."""
    settings = {"format_version": FORMAT_VERSION, "settings": store_settings}
    return hashlib.sha256(json.dumps(settings, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def load_config(
    path: Path | None, assignments: Sequence[str], base: Mapping[str, object], preset: str | None = None
) -> PreprocessConfig:
    """Combine a preset, YAML, options of the command line and dotted settings into a configuration; later ones win.

    Args:
        path: YAML file, or None.
        assignments: dotted settings such as `frames.count=8`; values are read as YAML.
        base: options of the command line, nested like the configuration.
        preset: name of a preset, or None.

    Raises:
        ConfigError: the preset, the file or a setting is wrong; one line for each fault, with the allowed values.
    """
    lowest = load_preset(preset).settings if preset else {}
    return validate(PreprocessConfig, merged(lowest, put_together(path, assignments, base)))


def load_index_config(path: Path | None, assignments: Sequence[str], base: Mapping[str, object]) -> IndexConfig:
    """Combine the settings of a manifest as `load_config` does; other sections of the file are ignored.

    Raises:
        ConfigError: the file or a setting is wrong; one line for each fault, with the allowed values.
    """
    values = put_together(path, assignments, base)
    others = PreprocessConfig.model_fields.keys() - IndexConfig.model_fields.keys()
    return validate(IndexConfig, {name: value for name, value in values.items() if name not in others})


def validate(model: type[Model], values: Mapping[str, object], *, as_options: bool = False) -> Model:
    """Return the validated configuration.

    Args:
        model: the configuration's class.
        values: the settings, nested by section.
        as_options: whether messages name settings as options of the command line.

    Raises:
        ConfigError: one line for each fault, with the allowed values; secrets are not shown.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:  # not chained: its own text would show secrets
        raise ConfigError("\n".join(_fault(fault, model, as_options) for fault in error.errors())) from None


def differences(stored: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """Return a line `name: stored → wanted` for each dotted setting that differs."""
    before, after = dict(dotted(stored)), dict(dotted(wanted))
    return [
        f"{name}: {before.get(name, 'absent')} → {after.get(name, 'absent')}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def to_yaml(config: PreprocessConfig) -> str:
    """Return the whole configuration as YAML that `--config` can read."""
    return yaml.safe_dump(config.model_dump(mode="json", exclude={"reprocess"}), sort_keys=False)


def put_together(path: Path | None, assignments: Sequence[str], base: Mapping[str, object]) -> dict[str, object]:
    """Return the values of a YAML file, overridden by options and then by dotted settings.

    Raises:
        ConfigError: the file cannot be read, or a setting is not NAME=VALUE.
    """
    values = merged(read_yaml(path) if path else {}, base)
    for assignment in assignments:
        values = merged(values, _nested(assignment))
    return values


def read_yaml(path: Path) -> dict[str, object]:
    """Return the mapping that a YAML file holds; an empty file gives an empty one.

    Raises:
        ConfigError: the file cannot be read, or holds something else.
    """
    try:
        values = parse_yaml_file(path)
    except FAULTS as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else _one_line(error)
        raise ConfigError(
            f"--config {path}: got {reason}, expected a YAML file with each setting once; check the path and its syntax"
        ) from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: got a {type(values).__name__}, expected a mapping such as 'frames: …'")
    return values


def _nested(assignment: str) -> dict[str, object]:
    """Turn `a.b=1` into {"a": {"b": 1}}."""
    name, equals, text = assignment.partition("=")
    if not (name and equals):
        raise ConfigError(f"--set: got {assignment!r}, expected NAME=VALUE such as frames.count=8")
    try:
        value = parse_yaml(text)
    except FAULTS as error:
        raise ConfigError(
            f"--set {name}: got {text[:MAX_SHOWN]!r}, expected a YAML value: {_one_line(error)}"
        ) from error
    return put(name, value)


def put(name: str, value: object) -> dict[str, object]:
    """Return a setting with a dotted name as nested values."""
    first, _, rest = name.partition(".")
    return {first: put(rest, value) if rest else value}


def _one_line(error: Exception) -> str:
    """Return a message without its line breaks: messages of a YAML parser have several lines."""
    return " ".join(str(error).split())


def merged(lower: Mapping[str, object], upper: Mapping[str, object]) -> dict[str, object]:
    """Return `lower`, overridden by the values of `upper`, section by section."""
    result = dict(lower)
    for name, value in upper.items():
        below = result.get(name)
        result[name] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def _fault(fault: ErrorDetails, model: type[BaseModel], as_options: bool) -> str:
    """Return one line for an error that pydantic found."""
    name = ".".join(str(part) for part in fault["loc"])
    if as_options:
        name = "--" + str(fault["loc"][0]).replace("_", "-")
    message = _PHRASE.sub("", fault["msg"])
    if fault["type"] == "missing":
        return f"{name}: got nothing, expected a value"
    if fault["type"] == "extra_forbidden":
        known = sorted(_setting_names(model))
        hint = did_you_mean(name.removeprefix("--"), {*known, *model.model_fields})
        return f"{name}: got an unknown setting, expected one of {', '.join(known)}{hint}"
    wanted = message if message.startswith("expected") else f"expected {_WORDING.get(fault['type'], message)}"
    field = model.model_fields.get(str(fault["loc"][0])) if fault["loc"] else None
    if field is not None and SecretStr.__name__ in str(field.annotation):
        return f"{name}: {wanted}"
    if fault["type"] == "value_error" and isinstance(fault["input"], Mapping):
        return f"{name or 'settings'}: got values that contradict each other, {wanted}"
    got = str(fault["input"]) if isinstance(fault["input"], Path) else repr(fault["input"])
    got = got if len(got) <= MAX_SHOWN else f"{got[:MAX_SHOWN]}…"
    return f"{name}: got {got}, {wanted}"


def _setting_names(model: type[BaseModel]) -> list[str]:
    """Return the dotted names of all settings."""
    names: list[str] = []
    for section, field in model.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        names.extend([section] if inner is None else [f"{section}.{name}" for name in inner])
    return names


def dotted(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield (dotted name, value) of each setting in a nested configuration."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
