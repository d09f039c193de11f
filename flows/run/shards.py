"""Shards of a run: the videos that are missing in the store, grouped into files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flows.config.preprocess import PreprocessConfig
from flows.run.relatives import Relatives
from flows.run.task_runs import in_chunks
from manifests.entry import SPLITS, VideoEntry
from tasks.process import ShardPlan
from tasks.workers.pool import WorkerSettings


def plan_shards(
    entries: Sequence[VideoEntry],
    config: PreprocessConfig,
    roots: Mapping[str, Path],
    devices: tuple[str, ...],
    next_number: Callable[[str], int],
    relatives: Relatives,
    config_digest: str,
) -> list[ShardPlan]:
    """Group videos into shards, train first.

    Videos of a group are adjacent, so that a fake and its original are in one shard if its size allows. The
    plan depends on the entries alone: a run that was killed is planned the same way again, less what is finished.

    Args:
        entries: probed videos with a split that are missing in the store.
        config: the run's configuration.
        roots: the folder of each dataset.
        devices: what `tasks.workers.devices.resolve_devices` gave.
        next_number: number of the first new shard of each split.
        relatives: originals and mask footage of the videos on disk.
        config_digest: digest of the settings that the store's records are made with.
    """
    asked = relatives.asked_by(entries)
    workers = WorkerSettings(
        devices=devices,
        num_workers=config.runner.num_workers,
        stages=config.stages,
        memory_per_worker=config.limits.memory_per_worker,
    )
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
                    # As the keys of the records, in which a `/` follows the video_id.
                    entries=tuple(sorted(videos, key=lambda entry: f"{entry.video_id}/")),
                    originals=family.originals,
                    choice_masks={name: fake.mask_path for name, fake in family.masked.items() if fake.mask_path},
                    relatives=family.digests,
                    asked_originals=asked & {*(entry.video_id for entry in videos), *family.names},
                    config_digest=config_digest,
                    workers=workers,
                )
            )
    return plans
