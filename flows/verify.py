"""The flow `verify-store`: reads stores and reports their faults.

1 read      every byte, every image, of every store           storage/verify
2 publish   counts and faults, as artifacts                   Prefect
3 fail      if there is any fault, for schedules and automations
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from pydantic import Field

from flows.run.task_runs import enable_own_loggers
from manifests.errors import StoreCorrupt, StoreError
from storage.pages.markdown import table
from storage.verify import VerifyReport, verify_store
from tasks.implementation import Settings

logger = logging.getLogger(__name__)

MAX_LISTED = 1000  # rows of the table artifact; the log has all of them


class VerifyConfig(Settings):
    """Stores to verify."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of the stores to verify; nothing in them is changed."""


@flow(name="verify-store", flow_run_name="verify-{config.stores[0].name}", persist_result=False)
def verify_stores(config: VerifyConfig) -> dict[str, Any]:
    """Read whole stores and report their faults.

    Args:
        config: the stores.

    Returns:
        By store: `num_shards`, `num_records`, `num_images` that were read.

    Raises:
        StoreCorrupt: there are faults; the artifact and the log have all of them.
    """
    enable_own_loggers()
    reports = {str(store): report_on(store) for store in config.stores}
    publish(reports)
    require_sound(reports)
    return {
        store: {"num_shards": report.num_shards, "num_records": report.num_records, "num_images": report.num_images}
        for store, report in reports.items()
    }


def report_on(store: Path) -> VerifyReport:
    """Return the report on a store; for a store that cannot be read, it contains that problem."""
    try:
        return verify_store(store)
    except StoreError as error:
        return VerifyReport(num_shards=0, num_records=0, num_images=0, problems=(str(error),))


def publish(reports: Mapping[str, VerifyReport]) -> None:
    """Show the outcome in Prefect: a line for each store, and a row for each fault."""
    create_markdown_artifact(summary_markdown(reports), key="verify-summary", description=", ".join(reports))
    faults = fault_rows(reports)
    for row in faults:
        logger.error("%s: %s", row["store"], row["fault"])
    if faults:
        create_table_artifact(faults[:MAX_LISTED], key="verify-faults", description="Faults of stores")


def summary_markdown(reports: Mapping[str, VerifyReport]) -> str:
    """Return a table with the counts and the number of faults of each store."""
    rows = [
        (
            f"`{store}`",
            *(f"{count:,}" for count in (report.num_shards, report.num_records, report.num_images)),
            "none" if report.ok else f"**{len(report.problems):,}**",
        )
        for store, report in reports.items()
    ]
    return "\n".join(table(("store", "shards", "records", "images", "faults"), "lr", rows))


def fault_rows(reports: Mapping[str, VerifyReport]) -> list[dict[str, str]]:
    """Return one row for each fault: `store` and `fault`."""
    return [{"store": store, "fault": problem} for store, report in reports.items() for problem in report.problems]


def require_sound(reports: Mapping[str, VerifyReport]) -> None:
    """Raise if there is any fault.

    Raises:
        StoreCorrupt: with the first fault of each store, and how many more there are.
    """
    broken = [
        f"{store}: {report.problems[0]}" + (f" (and {more:,} more)" if (more := len(report.problems) - 1) else "")
        for store, report in reports.items()
        if not report.ok
    ]
    if broken:
        raise StoreCorrupt("\n".join(broken))
