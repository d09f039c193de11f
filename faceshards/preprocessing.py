"""Function `preprocess`, the counterpart of the command `faceshards preprocess`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.cli.parser import QUIET_PREFECT
from flows.cli.preprocess import run_flow
from flows.config.preprocess import load_config, merged


def preprocess(
    root: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    layout: str = "auto",
    preset: str | None = None,
    config: str | os.PathLike[str] | None = None,
    **settings: object,
) -> dict[str, Any]:
    """Turn a dataset on disk into a store, or complete the store that is already there.

    Settings are combined as on the command line: the preset, then the YAML file, then `settings`; later ones win. The
    README lists all settings.

    Call it from the main thread. A script needs `if __name__ == "__main__":`, because worker processes import it.

    Args:
        root: the dataset's folder.
        out: the store's folder.
        layout: layout of `root`, a name in `manifests.datasets.DATASETS`; `auto` recognises it.
        preset: name of a preset, such as `m2tr`.
        config: YAML file with settings, such as a store's `config.yaml`.
        settings: sections as in the YAML file: `frames={"count": 8}, crop={"size_px": 320}, reprocess=True`.

    Returns:
        `videos_processed` and `videos_changed` by this call, and the totals of the store's report.

    Raises:
        UserError: the dataset's folder, the split or a setting is wrong.
        StoreError: the store is being written to, is broken, or was made with another configuration.
        NothingStored: every video was rejected.
        AccountingError: the totals do not add up.
    """
    for name, value in QUIET_PREFECT.items():
        os.environ.setdefault(name, value)
    own: Mapping[str, Any] = {"dataset": {"name": layout, "root": Path(root)}, "out": Path(out)}
    return run_flow(load_config(Path(config) if config is not None else None, (), merged(own, settings), preset))
