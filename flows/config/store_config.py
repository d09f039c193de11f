"""Configuration of a run over an existing store: settings that the user names, and the store's own for all others.

A default may change between releases, and a setting may be new. A store keeps the values that it was made with:

    named by the user                        must equal the store's value; the message of a refusal names the setting
    in the `config` of the store's index     that value
    not there: the setting is newer          what `Before` declares (tasks.implementation), else the setting's default
    a file, of which the index has a digest  the path in the store's config.yaml; its digest must still be the same
    in the index, but no longer a setting    stays in the index

So the store keeps its `config_digest`, and its records stay valid. `--reprocess` uses the defaults instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Final

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.config.preprocess import (
    IN_SPLIT_NO_RECORD,
    PreprocessConfig,
    differences,
    digest_of,
    dotted,
    merged,
    put,
    read_yaml,
    validate,
)
from manifests.errors import ConfigError, StoreChanged
from storage.files.layout import CONFIG_NAME
from storage.index import JsonObject, stored_index
from tasks.implementation import Before
from tasks.settings import StageSettings
from tasks.video.provenance import CHANGE_NO_RECORD

# Settings that change no record; True: the whole section. `_completed` adds paths, which digests replace in the index.
FREE: Final[dict[str, object]] = {
    **dict.fromkeys(PreprocessConfig.model_fields.keys() - StageSettings.model_fields.keys(), True),
    **CHANGE_NO_RECORD,
    "split": dict.fromkeys(IN_SPLIT_NO_RECORD, True),
}
Settings = dict[str, object]  # by dotted name

LISTS_DIGEST: Final = "split.lists_sha256"  # what the index holds in place of split.official_dir
MODELS: Final = "models."  # prefix of the digests of model files that are not the published ones


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreConfig:
    """Settings of a run, and the form in which the store records them."""

    run: PreprocessConfig
    """The user's settings; what the user does not name has the value that the store was made with."""

    settings: JsonObject
    """The settings that decide the bytes of records, as the store's index holds them."""

    digest: str
    """Hex SHA-256 by which each record names these settings."""


def store_config(config: PreprocessConfig) -> StoreConfig:
    """Complete the configuration of a run from the store in its output folder, if there is one.

    Raises:
        StoreChanged: the user names a value that differs from the store's; the message shows each one.
        StoreError: the index of the store cannot be read.
        ConfigError: a file that a setting names cannot be used.
    """
    stored = stored_index(config.out)
    if stored is None or config.reprocess:
        settings = config.store_settings()
        return StoreConfig(run=config, settings=settings, digest=digest_of(settings))
    changed = differences(*_named_and_files(config, stored.config))
    if changed:
        lines = "\n  ".join(changed)
        raise StoreChanged(
            f"store {config.out}: got other settings than those it was made with (stored → asked for):\n  {lines}\n"
            "expected the same; choose another --out, or recompute this store with --reprocess"
        )
    return StoreConfig(run=_completed(config, stored.config), settings=stored.config, digest=stored.config_digest)


def named_settings(settings: BaseModel, prefix: str = "") -> Iterator[str]:
    """Yield the dotted name of each setting to which a preset, YAML, an option or a parameter gave a value."""
    for name in sorted(settings.model_fields_set):
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from named_settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _named_and_files(config: PreprocessConfig, stored: Mapping[str, object]) -> tuple[Settings, Settings]:
    """Return the values that have to agree, by dotted name: those of the store and those of the run."""
    own = dict(dotted(_completed(config, stored).store_settings()))
    held, wanted = dict(dotted(stored)), dict(dotted(config.store_settings()))
    paths = StageSettings.path_names(stored)  # the index holds a digest under the same name
    files = {LISTS_DIGEST, *paths, *(name for name in (*held, *own) if name.startswith(MODELS))}
    named = (wanted.keys() & set(named_settings(config))) - files
    ours = {name: own[name] for name in named} | {name: held[name] for name in files & held.keys()}
    return ours, {name: wanted[name] for name in named} | {name: own[name] for name in files & own.keys()}


def _completed(config: PreprocessConfig, stored: Mapping[str, object]) -> PreprocessConfig:
    """Return the configuration with the store's values of all settings that change records.

    Raises:
        StoreChanged: the store has a value that is no longer allowed.
    """
    values = merged(_paths_of_store(config.out, stored), config.model_dump(exclude_unset=True))
    try:
        paths = (put(name, True) for name in StageSettings.path_names(stored))
        free = reduce(merged, paths, FREE)
        return validate(PreprocessConfig, values_of_store(PreprocessConfig.model_fields, values, stored, free))
    except ConfigError as error:
        raise StoreChanged(
            f"store {config.out}: got settings that this version of faceshards refuses ({error}), expected settings "
            "that it knows; process with the version that made the store, or recompute it with --reprocess"
        ) from error


def values_of_store(
    fields: Mapping[str, FieldInfo],
    named: Mapping[str, object],
    stored: Mapping[str, object],
    free: Mapping[str, object],
) -> dict[str, object]:
    """Return the values of a section's settings: the user's for settings in `free`, the store's for all others.

    Args:
        fields: the settings of the section.
        named: the user's values, which count where a setting is free.
        stored: the store's values; those of settings that are no longer known are left out.
        free: True for a setting, or a whole section, that decides no record.
    """
    values: dict[str, object] = {}
    for name, field in fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        before = [known.value for known in field.metadata if isinstance(known, Before)]
        if free.get(name) is True:
            values |= {name: named[name]} if name in named else {}
        elif inner:  # a section; options of an implementation are one setting
            below = values_of_store(inner, _section(named, name), _section(stored, name), _section(free, name))
            values |= {name: below} if below else {}
        elif name in stored:
            values[name] = _with_free(stored[name], named.get(name), free.get(name))
        elif before:
            values[name] = before[0]
    return values


def _with_free(stored: object, named: object, free: object) -> object:
    """Return the store's value of a setting; if it holds options, those in `free` have the user's values."""
    if not (isinstance(stored, Mapping) and isinstance(free, Mapping)):
        return stored
    kept = {name: value for name, value in stored.items() if name not in free}
    return kept | {name: value for name, value in _mapping(named).items() if name in free}


def _section(values: Mapping[str, object], name: str) -> Mapping[str, object]:
    return _mapping(values.get(name))


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _paths_of_store(store_dir: Path, stored: Mapping[str, object]) -> dict[str, object]:
    """Return the paths in a store's config.yaml of files whose contents decide its records."""
    try:
        values = read_yaml(store_dir / CONFIG_NAME)
    except ConfigError:  # then the digests differ, and the message names the file
        return {}
    split: Settings = {"split": {name: _section(values, "split").get(name) for name in ("official_dir", "file")}}
    known = dict(dotted(values))
    stages = (put(name, known[name]) for name in StageSettings.path_names(stored) if name in known)
    paths = reduce(merged, stages, split)
    return paths | ({"weights_dir": values.get("weights_dir")} if "models" in stored else {})
