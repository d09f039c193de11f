"""What must hold before a run begins: asked by the command line before it starts Prefect, and by the flow itself."""

from __future__ import annotations

from tempfile import TemporaryFile

from flows.config import PreprocessConfig, require_same_configuration
from flows.sources import index_sources
from manifests.errors import ConfigError
from manifests.splits import assign
from tasks.workers import resolve_devices


def preflight(config: PreprocessConfig) -> tuple[str, ...]:
    """Find a person's mistakes before anything is written.

    Returns:
        The devices that the networks will run on.

    Raises:
        DatasetError: the dataset's folder does not hold the dataset.
        SplitError: the ratios or the official lists cannot be used.
        StoreError: the store is broken, or was made with another configuration.
        ConfigError: a device is not there, or the store's folder cannot be written to.
    """
    indexed = index_sources(config.dataset, config.test_datasets, probing=False)
    if config.out.resolve() in {source.root.resolve() for source in (config.dataset, *config.test_datasets)}:
        raise ConfigError(f"out: got {config.out}, expected another folder than the dataset's")
    split = config.split
    # Ratios say at once whether they are usable, lists only when they are compared with the videos' names.
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
    require_same_configuration(config)
    devices = resolve_devices(config.detect.device)
    try:
        config.out.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=config.out):
            pass
    except OSError as error:
        raise ConfigError(
            f"out: got {config.out} ({error.strerror}), expected a folder that can be written to"
        ) from error
    return devices
