"""Totals of a store: the `Report`, counted from the store's index and the rows of its manifest.

No file is read here. Every list has a fixed order (splits as in SPLITS, kinds as in the registry of datasets, the rest
by name), so equal stores give equal reports.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

from typing_extensions import TypedDict  # pydantic refuses that of typing before Python 3.12

from flows.config.preprocess import dotted
from flows.report.difference import Difference
from flows.report.found_again import FoundAgain
from flows.report.rejections import Rejection, count_rejections, rejections_of
from manifests.datasets import DATASETS
from manifests.datasets.ignored import Ignored
from manifests.entry import REAL, SPLITS
from manifests.leakage.audit import LeakageReport, audit
from manifests.row import TIMED_STAGES, ManifestRow
from manifests.splits.policies import POLICIES_WITH_RATIOS
from storage.index import ShardEntry, StoreIndex


class Totals(TypedDict):
    """Counts over a whole store."""

    num_indexed: int
    """Files found in the datasets: stored, rejected and pending together."""

    num_stored: int
    """Videos with records."""

    num_rejected: int
    """Files and videos that cannot be stored, each with its reason."""

    num_pending: int
    """Videos still to be processed; 0 in a complete store."""

    num_records: int
    """Records of the stored videos."""

    num_interpolated: int
    """Stored frames whose face box comes from neighbouring frames."""

    num_masks: int
    """Stored frames with a mask."""

    num_dropped: int
    """Clips of stored videos that were left out because the face was found in too few of their frames."""

    frames_wanted: int
    """Frames that were to be decoded, rejected videos included."""

    frames_got: int
    """Frames that were decoded, rejected videos included."""

    num_faces: int
    """Faces that were detected in them."""

    num_shards: int
    """Files in `shards/`."""

    num_superseded: int
    """Records in these files that later records have replaced."""

    num_bytes: int
    """Size of these files together."""

    bytes_per_record: int
    """`num_bytes` over `num_records`, rounded; 0 without records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Stored videos of one kind in one split."""

    kind: str
    """`real` or the manipulation."""

    split: str
    """`train`, `val` or `test`."""

    num_videos: int
    """Stored videos."""

    num_records: int
    """Records of these videos."""

    share: float | None
    """Share of the kind's stored videos, 0..1; None if the kind has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSummary:
    """Stored videos of one split."""

    split: str
    """`train`, `val` or `test`."""

    num_videos: int
    """Stored videos."""

    num_records: int
    """Records of these videos."""

    num_groups: int
    """Leakage groups with a video in this split, stored or not."""

    share: float | None
    """Share of the stored videos, 0..1, datasets for testing only left out; None if nothing is stored."""

    wanted_share: float | None
    """The same share as `split.ratios` asks for it; None if the split policy has no ratios."""

    difference: float | None
    """`share` − `wanted_share`; None if one of them is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """Time that one stage took, rejected videos included."""

    stage: str
    """A name in TIMED_STAGES."""

    seconds: float
    """Wall-clock seconds, summed over videos; a run takes less, since videos are processed in parallel."""

    num_videos: int
    """Videos that reached this stage."""

    mean_seconds: float | None
    """Seconds per video; None if no video reached the stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardSummary:
    """One shard."""

    name: str
    """File name in `shards/`."""

    num_records: int
    """Records that no later one has replaced."""

    num_videos: int
    """Videos whose outcome the shard holds, stored and rejected."""

    num_bytes: int
    """Size of the file."""

    sha256: str
    """SHA-256 of the file, hexadecimal."""

    @classmethod
    def of(cls, shard: ShardEntry) -> ShardSummary:
        """Return the summary of a shard in a store's index."""
        return cls(
            name=shard.name,
            num_records=shard.num_live_records,
            num_videos=shard.num_videos,
            num_bytes=shard.num_bytes,
            sha256=shard.sha256,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The report of a store; `report.json` has these fields, and the page shows them in this order."""

    complete: bool
    """Whether the last run finished: no video is pending."""

    datasets: tuple[str, ...]
    """Names of the datasets, sorted."""

    totals: Totals
    """Counts over the whole store."""

    kinds: tuple[str, ...]
    """`real` and the manipulations that were indexed, in the order of the datasets."""

    split_policy: str | None
    """Policy by which videos were assigned to splits; None if the configuration does not name one."""

    test_datasets: tuple[str, ...]
    """Datasets that are used for testing only, sorted."""

    leakage_allowed: bool
    """Whether a run stored the split with `--allow-leakage`: it may share what its policy promises to keep apart."""

    leakage: LeakageReport
    """What the splits share, and where real and fake videos differ in more than the forgery; stored videos only."""

    cells: tuple[Cell, ...]
    """Stored videos by kind, and within each kind by split."""

    splits: tuple[SplitSummary, ...]
    """Train, val, test."""

    num_groups: int
    """Leakage groups of all videos with a split."""

    groups_crossing: dict[str, tuple[str, ...]]
    """group_id → splits, for each leakage group in more than one split; empty if the split is sound."""

    rejection_counts: dict[str, dict[str, int]]
    """Stage → reason → rejected videos, in the order of the stages."""

    rejections: tuple[Rejection, ...]
    """Rejected videos by stage, reason and video_id."""

    ignored: tuple[Ignored, ...]
    """Files in the datasets' folders that are no videos, by folder and reason; `auxiliary` belongs to the dataset."""

    several_tracks: dict[str, int]
    """video_id → number of face tracks, for each stored video with more than one."""

    found_again: tuple[FoundAgain, ...] = ()
    """Share of a sample of crops of each kind in which MTCNN finds a face; empty if none were checked."""

    notes: dict[str, str]
    """video_id → note, for each stored video that has one."""

    stages: tuple[StageTime, ...]
    """Times in the order of TIMED_STAGES."""

    configuration: dict[str, object]
    """Dotted name → value of each setting that affects the bytes of records."""

    format_version: int
    """Number of the store's format (FORMAT_VERSION)."""

    config_digest: str
    """Digest of `configuration`, hexadecimal."""

    store_sha256: str
    """Digest of all records, hexadecimal: equal stores have the same."""

    shards: tuple[ShardSummary, ...]
    """Shards in the order of the index."""

    versions: dict[str, tuple[str, ...]]
    """Package or model file → its versions among those that made the shards, sorted."""

    difference: Difference | None
    """Changes of the last run that changed something; None in a store's first version."""

    @property
    def num_stored(self) -> int:
        """Videos with records."""
        return self.totals["num_stored"]

    def is_of(self, index: StoreIndex) -> bool:
        """Whether this is the report of the store with this index: completeness, settings and shards agree."""
        shards = tuple(map(ShardSummary.of, index.shards))
        return (self.complete, self.config_digest, self.shards) == (index.complete, index.config_digest, shards)


def compute_report(
    index: StoreIndex,
    rows: Sequence[ManifestRow],
    versions: dict[str, tuple[str, ...]],
    difference: Difference | None = None,
    ignored: tuple[Ignored, ...] = (),
) -> Report:
    """Return the report of a store.

    Args:
        index: the store's index.
        rows: rows of the manifest, ordered by video_id.
        versions: package or model file → versions among those that made the shards.
        difference: changes of the last run that changed something.
        ignored: files in the datasets' folders that are no videos.
    """
    stored = [row for row in rows if row.status == "stored"]
    groups = _splits_of_groups(rows)
    kinds = _kinds(rows)
    rejections = rejections_of(rows)
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
        groups_crossing={group_id: splits for group_id, splits in groups.items() if len(splits) > 1},
        rejection_counts=count_rejections(rejections),
        rejections=rejections,
        ignored=ignored,
        several_tracks={row.video_id: row.num_tracks for row in stored if row.num_tracks > 1},
        notes={row.video_id: row.detail for row in stored if row.detail},
        stages=_stage_times(rows),
        configuration=dict(dotted(index.config)),
        format_version=index.format_version,
        config_digest=index.config_digest,
        store_sha256=index.store_sha256,
        shards=tuple(map(ShardSummary.of, index.shards)),
        versions=versions,
        difference=difference,
    )


def _totals(index: StoreIndex, rows: Sequence[ManifestRow], stored: Sequence[ManifestRow]) -> Totals:
    by_status = Counter(row.status for row in rows)
    num_records = sum(index.num_records.values())
    num_bytes = sum(shard.num_bytes for shard in index.shards)
    return Totals(
        num_indexed=len(rows),
        num_stored=by_status["stored"],
        num_rejected=by_status["rejected"],
        num_pending=by_status["pending"],
        num_records=num_records,
        num_interpolated=sum(row.num_interpolated for row in stored),
        num_masks=sum(row.num_masks for row in stored),
        num_dropped=sum(row.num_dropped for row in stored),
        frames_wanted=sum(row.frames_wanted for row in rows),
        frames_got=sum(row.frames_got for row in rows),
        num_faces=sum(row.num_faces for row in rows),
        num_shards=len(index.shards),
        num_superseded=sum(shard.num_superseded_records for shard in index.shards),
        num_bytes=num_bytes,
        bytes_per_record=round(num_bytes / num_records) if num_records else 0,
    )


def _kinds(rows: Iterable[ManifestRow]) -> tuple[str, ...]:
    """Return the kinds that were indexed, in the order of the datasets; kinds of unknown datasets come last."""
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
    index: StoreIndex, stored: Sequence[ManifestRow], groups: Mapping[str, tuple[str, ...]]
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


def _splits_of_groups(rows: Iterable[ManifestRow]) -> dict[str, tuple[str, ...]]:
    """Return group_id → splits with a video of that leakage group; rejected videos count, too (the stricter check)."""
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.entry is not None and row.entry.split is not None:
            found[row.entry.group_id].add(row.entry.split)
    return {group_id: tuple(split for split in SPLITS if split in splits) for group_id, splits in sorted(found.items())}


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
