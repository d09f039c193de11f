"""Provenance of records: the settings, package versions and model files that decide their bytes."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from manifests.errors import ConfigError
from manifests.files import sha256_of
from storage.files.layout import RECORDS_VERSION, RECORDS_VERSION_KEY
from tasks.implementation import Choice, with_paths
from tasks.models.weights import WEIGHTS
from tasks.settings import StageSettings

# Settings of stages that change no record's bytes: they may differ from run to run over one store.
CHANGE_NO_RECORD: Final[Mapping[str, bool | Mapping[str, bool]]] = {
    "decode": {"timeout_s": True},
    "detect": {"device": True},
    "weights_dir": True,
}

# Distributions whose arithmetic reaches the records.
PACKAGES = (
    *("faceshards", "av", "decord", "face-alignment", "facenet-pytorch", "numpy", "opencv-python"),
    *("scikit-image", "scipy", "torch", "torchvision"),
)
# Distributions of an extra, used if it is installed.
OPTIONAL_PACKAGES = ("dlib-bin", "face-recognition-models")


@cache
def made_with(settings: StageSettings) -> dict[str, str]:
    """Return the provenance of records: records version, versions of Python and packages, digests of model files.

    Args:
        settings: the stages of the shard's videos.

    Returns:
        RECORDS_VERSION by its key, versions by distribution name, hex SHA-256 by `model/<name>`.
    """
    versions = {RECORDS_VERSION_KEY: str(RECORDS_VERSION), "python": platform.python_version()}
    versions |= {name: version(name) for name in PACKAGES}
    for name in OPTIONAL_PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    versions |= dict(origin for origin in settings.implementations().values() if origin is not None)
    return versions | {f"model/{name}": digest for name, digest in model_digests(settings).items()}


def model_digests(settings: StageSettings) -> dict[str, str]:
    """Return the hex SHA-256 of every existing model file that the stages load, by name, sorted."""
    files = (one.model_files(settings.weights_dir) for one in settings.implementations())
    paths = {name: path for found in files for name, path in found.items()}
    return {name: _digest(path, path.stat().st_mtime_ns) for name, path in sorted(paths.items())}


def foreign_models(settings: StageSettings) -> dict[str, str]:
    """Return the `model_digests` of files that are not the published ones; they decide records like settings."""
    published = {name: weights.sha256 for name, weights in WEIGHTS.items()}
    for one in settings.implementations():
        published |= one.published
    return {name: digest for name, digest in model_digests(settings).items() if digest != published.get(name)}


def record_settings(settings: StageSettings) -> dict[str, object]:
    """Return the settings that decide the bytes of records, as plain values: the same in every run.

    A path is replaced by the digest of its contents. Model files are included if they are not the published ones.

    Raises:
        ConfigError: a file that a setting names cannot be used.
    """

    def digested(name: str, path: Path) -> Path:
        choice = getattr(settings, name.partition(".")[0])
        if not isinstance(choice, Choice):
            return path
        try:
            return Path((choice.path_digest(name.rpartition(".")[2]) or sha256_of)(path))
        except OSError as error:
            raise ConfigError(f"{name}: got {path} ({error.strerror}), expected a file that can be read") from error

    values: dict[str, object] = with_paths(settings, digested).model_dump(mode="json", exclude=CHANGE_NO_RECORD)
    if foreign := foreign_models(settings):
        values["models"] = foreign
    return values


@cache
def _digest(path: Path, _mtime_ns: int) -> str:
    return sha256_of(path)
