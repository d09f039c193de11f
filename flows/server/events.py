"""Custom events that a flow sends to the Prefect server, for automations to act on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

from prefect.events import emit_event

from flows.report.totals import Report

logger = logging.getLogger(__name__)

# docs/deployment.md shows an automation that is triggered by it.
REJECTIONS_HIGH: Final = "faceshards.rejections-high"


def warn_of_rejections(report: Report, store_dir: Path, max_share: float) -> bool:
    """Send `faceshards.rejections-high` and log a warning if more of the indexed videos were rejected than allowed.

    Inside a flow run Prefect relates the event to the run and its deployment.

    Args:
        report: the store's report.
        store_dir: the store's folder; its name is the event's resource.
        max_share: share of the indexed videos, 0..1, that may be rejected.

    Returns:
        Whether the event was sent.
    """
    num_indexed, num_rejected = report.totals["num_indexed"], report.totals["num_rejected"]
    share = num_rejected / num_indexed if num_indexed else 0.0
    if share <= max_share:
        return False
    logger.warning(
        "%s: got %d of %d videos rejected (%.1f %%), expected at most %.1f %%; report.html says why",
        *(store_dir, num_rejected, num_indexed, 100 * share, 100 * max_share),
    )
    emit_event(
        REJECTIONS_HIGH,
        resource={
            "prefect.resource.id": f"faceshards.store.{store_dir.name}",
            "prefect.resource.name": str(store_dir),
        },
        payload={
            "num_indexed": num_indexed,
            "num_rejected": num_rejected,
            "rejected_share": share,
            "max_rejected_share": max_share,
        },
    )
    return True
