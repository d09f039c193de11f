"""The Prefect task that turns a group of videos into one shard; no other file of `tasks/` imports Prefect.

A task per frame or per video would cost more than the work (1,000 empty tasks: 200 s on a process runner). Arrays never
cross a task's boundary: the input is a plan, the output is the shard's index entry and the videos' rows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from manifests.entry import VideoEntry
from manifests.errors import StoreBusy
from manifests.files import PARTIAL_PREFIX
from manifests.row import ManifestRow
from manifests.videos_table import row_from_plain, row_to_plain
from storage.files.layout import GEOMETRY_DIR, SHARDS_DIR, shard_name
from storage.index import ShardEntry
from storage.shard import ShardReader, ShardWriter, describe_shard
from tasks.video.job import VideoJob
from tasks.video.provenance import made_with
from tasks.video.video import VideoResult
from tasks.workers.kept_pools import pool_for_shard
from tasks.workers.pool import WorkerSettings

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardPlan:
    """Plan of one shard: its videos, and how they are processed."""

    roots: Mapping[str, Path]
    """The folder of each dataset, by `VideoEntry.dataset`."""

    store_dir: Path
    """The store's folder."""

    split: str
    """Split of every video in it."""

    number: int
    """Number within the split."""

    entries: tuple[VideoEntry, ...]
    """Videos, ordered by video_id like the shard's keys."""

    originals: Mapping[str, VideoEntry]
    """video_id of a fake → its original, if the dataset has it."""

    choice_masks: Mapping[str, str]
    """video_id of a real video → path of the mask of one of its fakes."""

    relatives: Mapping[str, str]
    """video_id → hex digest of what its records depend on in other videos."""

    asked_originals: frozenset[str]
    """video_ids of originals whose geometry fakes may need, in this shard or another."""

    config_digest: str
    """Hex digest of the settings that decide the records' bytes."""

    workers: WorkerSettings
    """Workers that process the videos."""

    @property
    def name(self) -> str:
        """File name of the shard."""
        return shard_name(self.split, self.number)

    def job(self, entry: VideoEntry, pool: str = "") -> VideoJob:
        """Return the job of one of its videos.

        Args:
            entry: the video.
            pool: name of the pool that processes it. Each pool has its own geometry folder, since the files left by a
                lost machine would look like those of an original that kills its workers.
        """
        original = self.originals.get(entry.video_id)
        return VideoJob(
            root=self.roots[entry.dataset],
            entry=entry,
            config_digest=self.config_digest,
            choice_mask=self.choice_masks.get(entry.video_id),
            relatives_digest=self.relatives.get(entry.video_id),
            original=None if original is None else self.job(original, pool),
            geometry_dir=self.store_dir / GEOMETRY_DIR / pool if entry.video_id in self.asked_originals else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardReport:
    """Result of a finished shard."""

    shard: ShardEntry
    """Its entry in the store's index."""

    rows: tuple[ManifestRow, ...]
    """One per video of the plan, stored or rejected."""


# No retries and no caching: only the store on disk tells which work is done.
@task(name="process-shard", task_run_name="{plan.name}", cache_policy=NO_CACHE, persist_result=False)
def process_shard(plan: ShardPlan, on_video: Callable[[ManifestRow], None] | None = None) -> ShardReport:
    """Turn the plan's videos into one shard, which appears under its name only when it is complete and synced.

    A shard whose worker is lost is submitted again. It may be finished by then, or the first worker may still be
    running without a connection: the first one to finish writes the shard, and the other returns the same report.

    Args:
        plan: the videos, and how they are processed.
        on_video: called in this process with each video's row when it is done.

    Raises:
        StoreBusy: work left by another run has written a shard of other videos under this name.
    """
    shards_dir = plan.store_dir / SHARDS_DIR
    if (made := _made_before(plan)) is not None:
        return made
    for attempt in shards_dir.glob(f"{PARTIAL_PREFIX}{Path(plan.name).stem}-*"):
        attempt.unlink(missing_ok=True)
    rows: list[ManifestRow] = []
    with (
        pool_for_shard(plan.workers) as pool,
        ShardWriter(shards_dir, plan.split, plan.number, plan.config_digest) as writer,
    ):
        for result in pool.process([plan.job(entry, pool.name) for entry in plan.entries]):
            for key, value in result.records:
                writer.put(key, value)
            rows.append(_finished_row(result, plan.name))
            if rows[-1].status == "rejected":
                logger.warning("%s rejected: %s, %s", rows[-1].video_id, rows[-1].reason, rows[-1].detail)
            if on_video is not None:
                on_video(rows[-1])
        if (made := _made_before(plan)) is not None:
            return made
        shard = writer.finish([row_to_plain(row) for row in rows], made_with(plan.workers.stages))
    logger.info("%s: %d records of %d videos", plan.name, shard.num_records, len(rows))
    return ShardReport(shard=shard, rows=tuple(rows))


def _made_before(plan: ShardPlan) -> ShardReport | None:
    """Return the report of another attempt at this shard; None if there is none. Shards of earlier runs differ in name.

    Raises:
        StoreBusy: a shard of other videos has its name.
    """
    path = plan.store_dir / SHARDS_DIR / plan.name
    if not path.exists():
        return None
    with ShardReader(path) as reader:
        meta = reader.meta
    found = [(row["video_id"], row["content_digest"]) for row in meta.videos]
    if (meta.config_digest, found) != (plan.config_digest, [(e.video_id, e.content_digest) for e in plan.entries]):
        raise StoreBusy(
            f"shard {path}: got a shard of other videos since this run began, expected none; end the processes that "
            "another run has left, and run again"
        )
    return ShardReport(shard=describe_shard(path), rows=tuple(row_from_plain(dict(row)) for row in meta.videos))


def _finished_row(result: VideoResult, shard: str) -> ManifestRow:
    """Return the row of a video after its shard is complete: a stored video has the name of its shard."""
    if result.row.status == "rejected":
        return replace(result.row, shard=shard)
    return replace(result.row, status="stored", num_records=len(result.records), shard=shard)
