"""The flow `reprocess`: for a schedule. It brings a store up to date with its dataset, settings and code.

It is `preprocess-ffpp` with one thing decided: where the settings have changed, the store is made anew, since nobody is
there to ask. What it was stays a version: `faceshards rollback`. One deployment keeps one store.
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
    """Process what is new or has changed on disk; where nothing has, write nothing.

    Args:
        config: as of `preprocess-ffpp`; `reprocess` asks to make the store anew even with the settings that it has.

    Returns:
        What `preprocess-ffpp` returns.

    Raises:
        DatasetError: a dataset's folder is not there, such as that of a disk that is not mounted; nothing was changed.
        UserError, StoreError, NothingStored, AccountingError: as in `preprocess-ffpp`.
    """
    return preprocess_ffpp(config.model_copy(update={"reprocess": config.reprocess or has_other_settings(config)}))


def has_other_settings(config: PreprocessConfig) -> bool:
    """Whether a store lies in the output folder that was made with other settings than the named ones."""
    try:
        store_config(config)
    except StoreChanged:
        return True
    return False
