"""Splits of a run's videos: train, val and test, by the policy of the configuration."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from flows.config.preprocess import SplitSettings
from manifests.entry import VideoEntry
from manifests.errors import SplitError
from manifests.leakage.audit import audit
from manifests.leakage.text import broken_promises
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from manifests.splits.policies import assign


def with_splits(
    rows: Iterable[ManifestRow],
    settings: SplitSettings,
    stored: Iterable[VideoEntry] = (),
    test_datasets: Collection[str] = (),
) -> list[ManifestRow]:
    """Return the rows with the splits of their entries; a video that the policy leaves out is rejected.

    Args:
        rows: the files on disk.
        settings: how to split.
        stored: entries of the store, with their splits. Videos that are no longer on disk still bind their groups.
        test_datasets: datasets that are for testing only.

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
    broken = () if settings.allow_leakage else broken_promises(audit(assigned), settings.policy)
    if broken:
        raise SplitError("\n".join(broken))
    by_id = {entry.video_id: entry for entry in assigned}
    return [_with_split(row, by_id.get(row.video_id)) if row.video_id in usable else row for row in listed]


def _with_split(row: ManifestRow, assigned: VideoEntry | None) -> ManifestRow:
    if assigned is None:
        return row
    if assigned.split is not None:
        return replace(row, entry=assigned)
    detail = f"split lists: got no split for {assigned.path} (target {assigned.target_id}), expected a list to name it"
    return row.as_rejected(
        Rejected(video_id=row.video_id, stage=Stage.SPLIT, reason=Reason.NOT_IN_SPLIT_LISTS, detail=detail)
    )
