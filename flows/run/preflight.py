"""Checks before a run begins, made by the command line before it starts Prefect, or else by the flow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.util import find_spec
from tempfile import TemporaryFile

from flows.config.preprocess import PreprocessConfig, RunnerSettings
from flows.config.store_config import StoreConfig, store_config
from flows.run.bars import bytes_bar, shown
from flows.run.sources import Source, index_sources, survey_sources
from flows.server.prefect_settings import prefect_settings
from manifests.errors import ConfigError, StageMissing
from manifests.splits.policies import assign
from tasks.models.weights import WEIGHTS, fetch, find
from tasks.settings import StageSettings
from tasks.workers.devices import resolve_devices

EXTRAS = {"dask": "prefect_dask", "ray": "prefect_ray"}  # runner.kind, and extra of that name → its module


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The result of the checks before a run."""

    config: StoreConfig
    """The configuration of the run over this store."""

    devices: tuple[str, ...]
    """Devices that the networks run on."""

    sources: tuple[Source, ...]
    """The datasets, by the names in their folders."""


_sources_read: ContextVar[tuple[Source, ...] | None] = ContextVar("_sources_read", default=None)


@contextmanager
def sources_read(sources: tuple[Source, ...]) -> Iterator[None]:
    """Give the file names that a command has read to the flow run that it starts in this block."""
    token = _sources_read.set(sources)
    try:
        yield
    finally:
        _sources_read.reset(token)


def preflight(wanted: PreprocessConfig) -> Prepared:
    """Find the user's mistakes before anything is written.

    Args:
        wanted: what the user asks for.

    Returns:
        The configuration, completed from the store, the devices that the networks will run on, and the datasets.

    Raises:
        DatasetError: the dataset's folder does not hold the dataset, or has no videos of one of its classes.
        SplitError: the ratios or the official lists cannot be used.
        StoreError: the store is broken, or was made with another configuration.
        ConfigError: a device or the runner is missing, a mean face cannot be used, or the store's folder cannot be
            written to.
        StageMissing: a package or a weight file is missing, and cannot be fetched.
    """
    of_store = store_config(wanted)  # also reads the files that settings name: model files, a mean face
    config = of_store.run
    sources = _sources_read.get() or survey_sources(config.dataset, config.test_datasets)
    for source in sources:
        source.survey.require_both_labels()
    indexed = index_sources(sources, probing=False)
    if config.out.resolve() in {source.root.resolve() for source in (config.dataset, *config.test_datasets)}:
        raise ConfigError(f"out: got {config.out}, expected another folder than the dataset's")
    split = config.split
    # The ratios alone are enough for their check; lists are checked against the names of the videos.
    by_list = split.policy in ("official", "file")
    assign(
        [row.entry for row in indexed.rows if by_list and row.entry is not None],
        split.policy,
        split.ratios,
        split.seed,
        split.official_dir,
        split.file,
        test_datasets=indexed.test_datasets,
        allow_leakage=True,
    )
    require_runner(config.runner)
    devices = devices_of_run(config)
    require_models(config)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=config.out):
            pass
    except OSError as error:
        raise ConfigError(
            f"out: got {config.out} ({error.strerror}), expected a folder that can be written to"
        ) from error
    return Prepared(config=of_store, devices=devices, sources=sources)


def require_runner(settings: RunnerSettings) -> None:
    """Check that the task runner can start.

    Raises:
        ConfigError: an extra is not installed, there is no server, or the runner does not use the given address.
    """
    if settings.address and settings.kind not in EXTRAS:
        raise ConfigError(
            f"runner.address: got {settings.address} for runner.kind {settings.kind}, expected none; "
            f"choose runner.kind {' or '.join(EXTRAS)}"
        )
    if settings.kind in EXTRAS and find_spec(EXTRAS[settings.kind]) is None:
        raise ConfigError(
            f"runner.kind: got {settings.kind}, expected {EXTRAS[settings.kind]} to be installed; "
            f"pip install 'faceshards[{settings.kind}]'"
        )
    if settings.kind != "thread" and not prefect_settings().api.url:
        raise ConfigError(
            f"runner.kind: got {settings.kind} without PREFECT_API_URL, expected a Prefect server, since Prefect's "
            "embedded one fails under it; run `prefect server start`, export PREFECT_API_URL, or choose thread"
        )


def devices_of_run(config: PreprocessConfig) -> tuple[str, ...]:
    """Return the devices of this machine; those of a cluster are found by its workers.

    Raises:
        ConfigError: a device is missing, or a device number is given for several machines.
    """
    if config.runner.kind != "thread" and ":" in config.detect.device:
        raise ConfigError(
            f"detect.device: got {config.detect.device} for runner.kind {config.runner.kind}, expected auto, cpu or "
            "cuda; choose the GPUs of each worker with its CUDA_VISIBLE_DEVICES"
        )
    return (config.detect.device,) if config.runner.address else resolve_devices(config.detect.device)


def require_models(config: StageSettings) -> None:
    """Check every package and weight file that the stages load; fetch missing published weight files.

    Raises:
        StageMissing: one is missing, and cannot be fetched.
    """
    stages = config.implementations()
    names = dict.fromkeys(name for stage in stages for name in stage.weights)
    missing = [name for name in names if find(name, config.weights_dir) is None]
    for number, name in enumerate(missing, start=1):
        try:
            with shown(bytes_bar(transient=True), f"fetching {name}", WEIGHTS[name].num_bytes) as on_bytes:
                fetch(name, config.weights_dir, on_bytes)
        except StageMissing as error:
            others = f"; also missing: {', '.join(missing[number:])}" if missing[number:] else ""
            raise StageMissing(f"{error}{others}") from error
    for stage in stages:
        stage.require_models(config.weights_dir)
