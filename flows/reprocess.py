"""The flow `reprocess`, for schedules: it updates a store to its dataset and settings.

It is `preprocess-ffpp` with one difference: a store made with other settings is recomputed, not refused, since a
schedule cannot ask the user. The earlier store stays a version, which `faceshards rollback` restores. One deployment
updates one store.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from flows.config.preprocess import PreprocessConfig
from flows.config.store_config import store_config
from flows.preprocess import preprocess_ffpp, run_name
from manifests.errors import StoreChanged


@flow(name="reprocess", flow_run_name=lambda: f"reprocess-{run_name()}", persist_result=False)
def reprocess(config: PreprocessConfig) -> dict[str, Any]:
    """Process new and changed files; write nothing if there are none.

    Args:
        config: as of `preprocess-ffpp`; with `reprocess` the store is recomputed even if its settings are the same.

    Returns:
        The result of `preprocess-ffpp`.

    Raises:
        DatasetError: a dataset's folder is missing, such as that of an unmounted disk; nothing was changed.
        UserError, StoreError, NothingStored, AccountingError: as in `preprocess-ffpp`.
    """
    return preprocess_ffpp(config.model_copy(update={"reprocess": config.reprocess or has_other_settings(config)}))


def has_other_settings(config: PreprocessConfig) -> bool:
    """Return whether the output folder holds a store that was made with other settings than the named ones."""
    try:
        store_config(config)
    except StoreChanged:
        return True
    return False
