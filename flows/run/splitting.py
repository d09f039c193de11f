"""Splits of a run's videos: train, val and test, by the policy of the configuration."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from flows.config.preprocess import SplitSettings
from manifests.entry import VideoEntry
from manifests.errors import SplitError
from manifests.leakage.audit import audit
from manifests.leakage.text import PROMISES, broken_promises
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from manifests.splits.policies import assign, crossing_groups, with_common_groups

logger = logging.getLogger(__name__)


def with_splits(
    rows: Iterable[ManifestRow],
    settings: SplitSettings,
    stored: Iterable[VideoEntry] = (),
    test_datasets: Collection[str] = (),
    earlier: Iterable[VideoEntry] = (),
) -> list[ManifestRow]:
    """Return the rows with the splits of their entries; a video that the policy leaves out is rejected.

    Splits of earlier runs stay, even if they break the promise, because a later version knows more of the footage:
    that is a warning.

    Args:
        rows: the files on disk.
        settings: how to split.
        stored: entries of the store, with their splits. Videos that are no longer on disk still bind their groups.
        test_datasets: datasets that are for testing only.
        earlier: every video of earlier runs, with its split and the group that was known then.

    Raises:
        SplitError: the policy's promise would be broken, or a list cannot be read.
    """
    listed = list(rows)
    entries = [row.entry for row in listed if row.entry is not None and row.status != "rejected"]
    # Files that are unusable today keep their splits, which bind their groups until they come back.
    known = {entry.video_id: entry for entry in stored}
    known |= {row.video_id: row.entry for row in listed if row.entry and row.entry.split and row.video_id not in known}
    usable = {entry.video_id for entry in entries}
    entries += [entry for video_id, entry in sorted(known.items()) if video_id not in usable]
    assigned = assign(
        entries,
        settings.policy,
        settings.ratios,
        settings.seed,
        settings.official_dir,
        settings.file,
        test_datasets=test_datasets,
        allow_leakage=True,  # videos in two splits are counted below, for the message
    )
    if not settings.allow_leakage:
        require_promise(assigned, earlier, settings.policy)
    by_id = {entry.video_id: entry for entry in assigned}
    return [_with_split(row, by_id.get(row.video_id)) if row.video_id in usable else row for row in listed]


def require_promise(assigned: Sequence[VideoEntry], earlier: Iterable[VideoEntry], policy: str) -> None:
    """Raise if the splits break the policy's promise; warn if those of earlier runs alone break it as much.

    Args:
        assigned: every video, with its split.
        earlier: every video of earlier runs, with its split and the group that was known then.
        policy: the split policy.

    Raises:
        SplitError: new videos would break the promise.
    """
    report = audit(assigned)
    broken = broken_promises(report, policy)
    if not broken:
        return
    before = audit(with_common_groups(earlier)).by_kind
    if any(
        found.num_shared > before[found.kind].num_shared for found in report.shared if found.kind in PROMISES[policy]
    ):
        raise SplitError("\n".join(broken))
    crossing = "; ".join(f"{group_id} in {', '.join(splits)}" for group_id, splits in crossing_groups(assigned).items())
    logger.warning(
        "leakage groups that an earlier version of faceshards put into several splits: %s. Their splits stay, so that "
        "results can be compared; split again with --reprocess",
        crossing,
    )


def _with_split(row: ManifestRow, assigned: VideoEntry | None) -> ManifestRow:
    if assigned is None:
        return row
    if assigned.split is not None:
        return replace(row, entry=assigned)
    detail = f"split lists: got no split for {assigned.path} (target {assigned.target_id}), expected a list to name it"
    return row.as_rejected(
        Rejected(video_id=row.video_id, stage=Stage.SPLIT, reason=Reason.NOT_IN_SPLIT_LISTS, detail=detail)
    )
