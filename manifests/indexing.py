"""From a dataset's folder to manifest rows: every file is probed, known from earlier, or rejected with a reason."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

from manifests.dataset import Dataset
from manifests.entry import VideoEntry
from manifests.probe import is_unchanged, probe_all
from manifests.rejected import Rejected
from manifests.row import ManifestRow


def index_dataset(
    dataset: Dataset,
    root: Path,
    *,
    manipulations: Collection[str] | None = None,
    compressions: Collection[str] | None = None,
    known: Mapping[str, VideoEntry] | None = None,
    on_video: Callable[[int, int], None] | None = None,
) -> list[ManifestRow]:
    """Return a `pending` row for each usable video and a `rejected` one for each other file, ordered by video_id.

    Args:
        dataset: how the folder is laid out.
        root: the dataset's folder.
        manipulations: only these forgeries, and the real videos of groups that have one of them or none at all.
        compressions: only these compressions.
        known: entries of an earlier run by video_id: unchanged files are not probed again, and keep their split.
        on_video: called with (videos probed, videos to probe) after each.

    Raises:
        DatasetError: the folder does not hold the dataset.
    """
    known = known or {}
    found = list(dataset.survey(root))
    entries = _selected([item for item in found if isinstance(item, VideoEntry)], manipulations, compressions)
    rows = [_row(item) for item in found if isinstance(item, Rejected)]
    to_probe: list[VideoEntry] = []
    for entry in entries:
        earlier = known.get(entry.video_id)
        if earlier is not None and earlier.is_probed and is_unchanged(root, entry, earlier):
            rows.append(_row(replace(earlier, group_id=entry.group_id)))
        else:
            to_probe.append(replace(entry, split=earlier.split if earlier else None))
    for number, (entry, probed) in enumerate(zip(to_probe, probe_all(root, to_probe), strict=True), start=1):
        if isinstance(probed, Rejected):
            rows.append(_row(entry).as_rejected(probed))
        else:
            rows.append(_row(probed))
        if on_video is not None:
            on_video(number, len(to_probe))
    return sorted(rows, key=lambda row: row.video_id)


def _selected(
    entries: list[VideoEntry], manipulations: Collection[str] | None, compressions: Collection[str] | None
) -> list[VideoEntry]:
    """Keep what was asked for; leakage groups have been made from everything that lies on disk."""
    if compressions is not None:
        entries = [entry for entry in entries if entry.compression in compressions]
    if manipulations is None:
        return entries
    with_fakes = {entry.group_id for entry in entries if entry.label == "fake"}
    with_selected = {entry.group_id for entry in entries if entry.manipulation in manipulations}
    return [
        entry
        for entry in entries
        if entry.manipulation in manipulations
        or (entry.label == "real" and (entry.group_id in with_selected or entry.group_id not in with_fakes))
    ]


def _row(item: VideoEntry | Rejected) -> ManifestRow:
    if isinstance(item, VideoEntry):
        return ManifestRow(video_id=item.video_id, path=item.path, entry=item)
    return ManifestRow(video_id=item.video_id, path=item.video_id).as_rejected(item)
