"""What a run has to do: pure functions from manifest rows to splits and shard plans."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from flows.config.preprocess import PreprocessConfig, SplitSettings
from flows.run.relatives import Relatives
from flows.run.task_runs import in_chunks
from manifests.entry import SPLITS, VideoEntry
from manifests.errors import SplitError
from manifests.leakage.audit import audit, broken_promises
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from manifests.splits.policies import assign
from storage.upkeep.ledger import measured_anew
from tasks.process import ShardPlan
from tasks.workers.pool import WorkerSettings


def with_splits(
    rows: Iterable[ManifestRow],
    settings: SplitSettings,
    stored: Iterable[VideoEntry] = (),
    test_datasets: Collection[str] = (),
) -> list[ManifestRow]:
    """Return the rows with the splits of their entries; a video that the policy leaves out is rejected.

    Args:
        rows: what lies on disk.
        settings: how to split.
        stored: entries of the store, with their splits: those that are no longer on disk still bind their groups.
        test_datasets: datasets that are for testing only.

    Raises:
        SplitError: the policy's promise would be broken, or a list cannot be read.
    """
    listed = list(rows)
    entries = [row.entry for row in listed if row.entry is not None and row.status != "rejected"]
    # What cannot be used today was assigned all the same, and binds its group until it comes back.
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
        allow_leakage=True,  # what is shared is counted first, so that the message can say what it is
    )
    broken = () if settings.allow_leakage else broken_promises(audit(assigned), settings.policy)
    if broken:
        raise SplitError("\n".join(broken))
    by_id = {entry.video_id: entry for entry in assigned}
    return [_with_split(row, by_id.get(row.video_id)) if row.video_id in usable else row for row in listed]


def renamed(rows: Iterable[ManifestRow], stored: Iterable[VideoEntry]) -> set[str]:
    """Return the video_ids of stored videos whose file goes by another video_id today.

    A label that was corrected in a list gives a file a new identity: what was stored under the old one is wrong.
    """
    found = {(row.entry.dataset, row.entry.path): row.video_id for row in rows if row.entry is not None}
    return {
        entry.video_id for entry in stored if found.get((entry.dataset, entry.path), entry.video_id) != entry.video_id
    }


def vanished(rows: Iterable[ManifestRow], stored: Iterable[VideoEntry], roots: Mapping[str, Path]) -> set[str]:
    """Return the video_ids of stored videos whose files are gone from a dataset that this run looks at.

    What a run was only told to leave aside, such as a compression, is still there.
    """
    found = {row.video_id for row in rows}
    missing = (entry for entry in stored if entry.video_id not in found and entry.dataset in roots)
    return {entry.video_id for entry in missing if not (roots[entry.dataset] / entry.path).exists()}


def _with_split(row: ManifestRow, assigned: VideoEntry | None) -> ManifestRow:
    if assigned is None:
        return row
    if assigned.split is not None:
        return replace(row, entry=assigned)
    detail = f"split lists: got no split for {assigned.path} (target {assigned.target_id}), expected a list to name it"
    return row.as_rejected(
        Rejected(video_id=row.video_id, stage=Stage.SPLIT, reason=Reason.NOT_IN_SPLIT_LISTS, detail=detail)
    )


def plan_shards(
    entries: Sequence[VideoEntry],
    config: PreprocessConfig,
    roots: Mapping[str, Path],
    devices: tuple[str, ...],
    next_number: Callable[[str], int],
    relatives: Relatives,
    config_digest: str,
) -> list[ShardPlan]:
    """Return the shards that the entries will make, train first.

    A group's videos stand together, so that a fake and its original lie in one shard wherever its size allows. The
    plan depends on the entries alone: a run that was killed is planned the same way again, less what is finished.

    Args:
        entries: probed videos with a split that are missing in the store.
        config: the run's configuration.
        roots: the folder of each dataset.
        devices: what `tasks.workers.pool.resolve_devices` gave.
        next_number: the number of each split's first new shard.
        relatives: what the videos on disk know of each other.
        config_digest: of the settings by which the store knows its records.
    """
    asked = relatives.asked_by(entries)
    workers = WorkerSettings(devices=devices, num_workers=config.runner.num_workers, stages=config.stages)
    plans: list[ShardPlan] = []
    for split in SPLITS:
        members = sorted((entry for entry in entries if entry.split == split), key=lambda e: (e.group_id, e.video_id))
        for number, videos in enumerate(in_chunks(members, config.shard.videos), start=next_number(split)):
            family = relatives.of(videos)
            plans.append(
                ShardPlan(
                    roots=roots,
                    store_dir=config.out,
                    split=split,
                    number=number,
                    entries=tuple(sorted(videos, key=_key_order)),
                    originals=family.originals,
                    choice_masks={name: fake.mask_path for name, fake in family.masked.items() if fake.mask_path},
                    relatives=family.digests,
                    asked_originals=asked & {*(entry.video_id for entry in videos), *family.names},
                    config_digest=config_digest,
                    workers=workers,
                )
            )
    return plans


def outcome(indexed: Iterable[ManifestRow], processed: Mapping[str, ManifestRow]) -> list[ManifestRow]:
    """Return every file's final row: rejected while indexing, or what its shard says.

    Videos that are stored and no longer on disk keep their rows: records are not lost because a disk is not mounted.
    """
    rows = {row.video_id: _final(row, processed.get(row.video_id)) for row in indexed}
    vanished = {video_id: row for video_id, row in processed.items() if video_id not in rows and row.status == "stored"}
    return [row for _, row in sorted({**rows, **vanished}.items())]


def _final(indexed: ManifestRow, processed: ManifestRow | None) -> ManifestRow:
    """Return one file's final row. A stored video that cannot be read today is like one that is not mounted."""
    if processed is None or (indexed.status == "rejected" and not keeps_records(indexed, processed)):
        return indexed
    return measured_anew(processed, indexed.entry)


def keeps_records(indexed: ManifestRow, processed: ManifestRow | None) -> bool:
    """Whether a rejection while indexing says nothing against records that were made when the file could be read."""
    return indexed.reason is Reason.UNREADABLE and processed is not None and processed.status == "stored"


def _key_order(entry: VideoEntry) -> str:
    """Sort as the keys of the records do, in which a `/` follows the video_id."""
    return f"{entry.video_id}/"
