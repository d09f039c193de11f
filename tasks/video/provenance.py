"""Which versions and model files made the bytes."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from manifests.files import sha256_of
from storage.files.layout import RECORDS_VERSION, RECORDS_VERSION_KEY
from tasks.landmarks.dlib import MODEL_NAME, MODEL_SHA256
from tasks.models.weights import WEIGHTS
from tasks.settings import StageSettings
from tasks.video.stages import users_of_models

# Distributions whose arithmetic reaches the records.
PACKAGES = (
    *("faceshards", "av", "decord", "face-alignment", "facenet-pytorch", "numpy", "opencv-python"),
    *("scikit-image", "scipy", "torch", "torchvision"),
)
# Those of an extra, where it is installed.
OPTIONAL_PACKAGES = ("dlib-bin", "face-recognition-models")

# Model files as their makers publish them, by name: hex SHA-256.
PUBLISHED = {name: weights.sha256 for name, weights in WEIGHTS.items()} | {MODEL_NAME: MODEL_SHA256}


@cache
def made_with(settings: StageSettings) -> dict[str, str]:
    """Return what made the bytes of records: their version, those of Python and of packages, digests of model files.

    Args:
        settings: which stages a shard's videos went through.

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
    return versions | {f"model/{name}": digest for name, digest in model_digests(settings).items()}


def model_digests(settings: StageSettings) -> dict[str, str]:
    """Return the hex SHA-256 of every model file that the stages load and that is there, by name, sorted."""
    files = (stage.model_files(settings.weights_dir) for stage in users_of_models(settings))
    paths = {name: path for found in files for name, path in found.items()}
    return {name: _digest(path, path.stat().st_mtime_ns) for name, path in sorted(paths.items())}


def foreign_models(settings: StageSettings) -> dict[str, str]:
    """Return those of `model_digests` that are not the published files': they decide records as a setting does."""
    return {name: digest for name, digest in model_digests(settings).items() if digest != PUBLISHED.get(name)}


@cache
def _digest(path: Path, _mtime_ns: int) -> str:
    return sha256_of(path)
