"""What became of every indexed video, counted: the `Report` of a store, from its index and manifest rows alone.

Nothing here reads a file. Orders are fixed (splits as in SPLITS, kinds as in the datasets' registry, the rest by name),
so equal stores give equal reports.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from typing import Any

from flows.config.preprocess import dotted
from flows.report.difference import Difference
from manifests.datasets import DATASETS
from manifests.entry import REAL, SPLITS
from manifests.leakage.audit import LeakageReport, audit
from manifests.rejected import Reason, Stage
from manifests.row import TIMED_STAGES, ManifestRow
from manifests.splits.policies import POLICIES_WITH_RATIOS
from storage.index import StoreIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The stored videos of one kind in one split."""

    kind: str
    """`real` or the manipulation."""

    split: str
    """`train`, `val` or `test`."""

    num_videos: int
    """Stored videos."""

    num_records: int
    """Their records."""

    share: float | None
    """Of the kind's stored videos, 0..1; None where the kind has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSummary:
    """One split as a whole."""

    split: str
    """`train`, `val` or `test`."""

    num_videos: int
    """Stored videos."""

    num_records: int
    """Their records."""

    num_groups: int
    """Leakage groups with a video in this split, stored or not."""

    share: float | None
    """Of all stored videos but those of datasets for testing only, 0..1; None where there are none."""

    wanted_share: float | None
    """What `split.ratios` asks for; None where the policy does not aim at ratios."""

    difference: float | None
    """Share − wanted_share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One rejected video."""

    video_id: str
    """Identity, or the path of a file that could not be placed."""

    path: str
    """POSIX path relative to the dataset root."""

    stage: str
    """Where it was dropped."""

    reason: str
    """Why, for programs."""

    detail: str
    """Why, for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """What one stage cost, rejected videos included."""

    stage: str
    """A name in TIMED_STAGES."""

    seconds: float
    """Wall seconds, sum over videos; workers run side by side, so a run takes less."""

    num_videos: int
    """Videos that came to this stage."""

    mean_seconds: float | None
    """Per such video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """One file of the store."""

    name: str
    """File name in `shards/`."""

    num_records: int
    """Records that count."""

    num_videos: int
    """Outcomes that it holds: videos stored and rejected."""

    num_bytes: int
    """Size of the file."""

    sha256: str
    """Hex digest of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is shown, in the order in which it is shown; `asdict` gives `report.json`."""

    complete: bool
    """Whether every video of the last run has its outcome."""

    datasets: tuple[str, ...]
    """Names, sorted."""

    totals: dict[str, int]
    """Counts of the whole store, see `_totals`."""

    kinds: tuple[str, ...]
    """`real` and the manipulations that were indexed, in the datasets' own order."""

    split_policy: str | None
    """How videos were split; None where the configuration does not say."""

    test_datasets: tuple[str, ...]
    """Datasets for testing only, sorted."""

    leakage_allowed: bool
    """Whether a run was told to store a split even if it breaks its policy's promise."""

    leakage: LeakageReport
    """What the splits share, and where real and fake videos differ in more than the forgery; of the stored videos."""

    cells: tuple[Cell, ...]
    """Kind by kind, each with the three splits."""

    splits: tuple[SplitSummary, ...]
    """Train, val, test."""

    num_groups: int
    """Leakage groups of the videos that have a split."""

    groups_crossing: dict[str, tuple[str, ...]]
    """group_id → splits, of every group in more than one split: must be empty."""

    rejection_counts: dict[str, dict[str, int]]
    """Stage → reason → videos, in the order of the stages."""

    rejections: tuple[Rejection, ...]
    """Ordered by stage, reason, video_id."""

    several_tracks: dict[str, int]
    """video_id → face tracks, of every stored video with more than one."""

    notes: dict[str, str]
    """video_id → remark, of every stored video that has one."""

    stages: tuple[StageTime, ...]
    """In the order of TIMED_STAGES."""

    configuration: dict[str, Any]
    """Dotted name → value of each setting that decides the records' bytes."""

    format_version: int
    """Of index, shards and records together."""

    config_digest: str
    """Hex digest of these settings."""

    store_sha256: str
    """Hex digest over all records: equal for equal stores."""

    shards: tuple[ShardSummary, ...]
    """In the store's order."""

    versions: dict[str, tuple[str, ...]]
    """Distribution → versions that made the shards, sorted."""

    difference: Difference | None
    """What the last run that changed something changed; None for the store's first."""

    @property
    def num_stored(self) -> int:
        """Videos with records."""
        return self.totals["num_stored"]


def account(
    index: StoreIndex,
    rows: Sequence[ManifestRow],
    versions: dict[str, tuple[str, ...]],
    difference: Difference | None = None,
) -> Report:
    """Count what a store holds.

    Args:
        index: the store's index.
        rows: every indexed file, ordered by video_id.
        versions: distribution → versions that made the shards.
        difference: what the last run that changed something changed.
    """
    stored = [row for row in rows if row.status == "stored"]
    groups = _splits_of_groups(rows)
    kinds = _kinds(rows)
    rejections = _rejections(rows)
    return Report(
        complete=index.complete,
        datasets=tuple(sorted({row.entry.dataset for row in rows if row.entry is not None})),
        totals=_totals(index, rows, stored),
        kinds=kinds,
        split_policy=index.config.get("split", {}).get("policy"),
        test_datasets=index.test_datasets,
        leakage_allowed=index.leakage_allowed,
        leakage=audit(row.entry for row in stored if row.entry is not None),
        cells=_cells(kinds, stored),
        splits=_splits(index, stored, groups),
        num_groups=len(groups),
        groups_crossing={
            group_id: tuple(split for split in SPLITS if split in found)
            for group_id, found in sorted(groups.items())
            if len(found) > 1
        },
        rejection_counts=_rejection_counts(rejections),
        rejections=rejections,
        several_tracks={row.video_id: row.num_tracks for row in stored if row.num_tracks > 1},
        notes={row.video_id: row.detail for row in stored if row.detail},
        stages=_stage_times(rows),
        configuration=dict(dotted(index.config)),
        format_version=index.format_version,
        config_digest=index.config_digest,
        store_sha256=index.store_sha256,
        shards=tuple(
            ShardSummary(
                name=shard.name,
                num_records=shard.num_live_records,
                num_videos=shard.num_videos,
                num_bytes=shard.num_bytes,
                sha256=shard.sha256,
            )
            for shard in index.shards
        ),
        versions=versions,
        difference=difference,
    )


def _totals(index: StoreIndex, rows: Sequence[ManifestRow], stored: Sequence[ManifestRow]) -> dict[str, int]:
    """Count the whole store: videos by status, then records and what is in them, then bytes."""
    by_status = Counter(row.status for row in rows)
    num_records = sum(index.num_records.values())
    num_bytes = sum(shard.num_bytes for shard in index.shards)
    return {
        "num_indexed": len(rows),
        "num_stored": by_status["stored"],
        "num_rejected": by_status["rejected"],
        "num_pending": by_status["pending"],
        "num_records": num_records,
        "num_interpolated": sum(row.num_interpolated for row in stored),
        "num_masks": sum(row.num_masks for row in stored),
        "num_dropped": sum(row.num_dropped for row in stored),
        "frames_wanted": sum(row.frames_wanted for row in rows),
        "frames_got": sum(row.frames_got for row in rows),
        "num_faces": sum(row.num_faces for row in rows),
        "num_shards": len(index.shards),
        "num_superseded": sum(shard.num_superseded_records for shard in index.shards),
        "num_bytes": num_bytes,
        "bytes_per_record": round(num_bytes / num_records) if num_records else 0,
    }


def _kinds(rows: Iterable[ManifestRow]) -> tuple[str, ...]:
    """The kinds that were indexed, in the order of the datasets; those of no known dataset come last."""
    found = {row.entry.kind for row in rows if row.entry is not None}
    known = dict.fromkeys((REAL, *(name for dataset in DATASETS.values() for name in dataset.manipulations)))
    return (*(kind for kind in known if kind in found), *sorted(found - known.keys()))


def _cells(kinds: Sequence[str], stored: Iterable[ManifestRow]) -> tuple[Cell, ...]:
    num_videos: Counter[tuple[str, str | None]] = Counter()
    num_records: Counter[tuple[str, str | None]] = Counter()
    for row in stored:
        if row.entry is not None:
            place = row.entry.kind, row.entry.split
            num_videos[place] += 1
            num_records[place] += row.num_records
    of_kind = {kind: sum(num_videos[kind, split] for split in SPLITS) for kind in kinds}
    return tuple(
        Cell(
            kind=kind,
            split=split,
            num_videos=num_videos[kind, split],
            num_records=num_records[kind, split],
            share=_share(num_videos[kind, split], of_kind[kind]),
        )
        for kind in kinds
        for split in SPLITS
    )


def _splits(
    index: StoreIndex, stored: Sequence[ManifestRow], groups: Mapping[str, set[str]]
) -> tuple[SplitSummary, ...]:
    settings = index.config.get("split", {})
    aims_at_ratios = settings.get("policy") in POLICIES_WITH_RATIOS
    wanted = dict(zip(SPLITS, settings["ratios"], strict=True)) if aims_at_ratios else {}
    num_videos = Counter(row.entry.split for row in stored if row.entry is not None)
    divided = Counter(row.entry.split for row in stored if row.entry and row.entry.dataset not in index.test_datasets)
    shares = {split: _share(divided[split], divided.total()) for split in SPLITS}
    return tuple(
        SplitSummary(
            split=split,
            num_videos=num_videos[split],
            num_records=index.num_records[split],
            num_groups=sum(split in found for found in groups.values()),
            share=shares[split],
            wanted_share=wanted.get(split),
            difference=_difference(shares[split], wanted.get(split)),
        )
        for split in SPLITS
    )


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def _difference(share: float | None, wanted: float | None) -> float | None:
    return None if share is None or wanted is None else round(share - wanted, 6)


def _splits_of_groups(rows: Iterable[ManifestRow]) -> dict[str, set[str]]:
    """The splits in which each leakage group was seen; rejected videos count, so that the promise is the stricter."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.entry is not None and row.entry.split is not None:
            found[row.entry.group_id].add(row.entry.split)
    return found


def _rejections(rows: Iterable[ManifestRow]) -> tuple[Rejection, ...]:
    stages, reasons = list(Stage), list(Reason)
    explained = [(row, row.stage, row.reason) for row in rows if row.stage is not None and row.reason is not None]
    explained.sort(key=lambda found: (stages.index(found[1]), reasons.index(found[2]), found[0].video_id))
    return tuple(
        Rejection(video_id=row.video_id, path=row.path, stage=stage.value, reason=reason.value, detail=row.detail or "")
        for row, stage, reason in explained
    )


def _rejection_counts(rejections: Iterable[Rejection]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for rejection in rejections:
        counts[rejection.stage][rejection.reason] += 1
    return {stage: dict(by_reason) for stage, by_reason in counts.items()}


def _stage_times(rows: Iterable[ManifestRow]) -> tuple[StageTime, ...]:
    spent: dict[str, list[float]] = {stage: [] for stage in TIMED_STAGES}
    for row in rows:
        for stage, seconds in row.seconds.items():
            spent[stage].append(seconds)
    return tuple(
        StageTime(
            stage=stage,
            seconds=round(fsum(seconds), 4),
            num_videos=len(seconds),
            mean_seconds=round(fsum(seconds) / len(seconds), 4) if seconds else None,
        )
        for stage, seconds in spent.items()
    )
