"""A shard as a task: made once, however often and by however many it is tried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tasks.process
from manifests.entry import VideoEntry
from manifests.errors import StoreBusy, StoreError
from manifests.row import ManifestRow
from storage.shard import ShardReader, ShardWriter
from tasks.process import ShardPlan, ShardReport, process_shard
from tasks.settings import StageSettings
from tasks.video.job import VideoJob
from tasks.video.video import VideoResult
from tasks.workers.pool import WorkerSettings


def entry_of(name: str) -> VideoEntry:
    return VideoEntry(
        video_id=f"ffpp/youtube/c23/{name}",
        path=f"{name}.mp4",
        dataset="ffpp",
        label="real",
        target_id=name,
        group_id=name,
        split="train",
        num_frames=10,
        sha256=name[0] * 64,
    )


def plan_of(store_dir: Path, *names: str) -> ShardPlan:
    return ShardPlan(
        roots={"ffpp": Path("/data")},
        store_dir=store_dir,
        split="train",
        number=3,
        entries=tuple(map(entry_of, names)),
        originals={},
        choice_masks={},
        relatives={},
        asked_originals=frozenset(entry_of(name).video_id for name in names),
        config_digest="c" * 64,
        workers=WorkerSettings(devices=("cpu",), num_workers=1, stages=StageSettings()),
    )


class Pool:
    """Stands for worker processes: one record a video, whose bytes the test chooses."""

    name = "pool-of-this-test"

    def __init__(self, value: bytes = b"record") -> None:
        self.value = value
        self.jobs: list[VideoJob] = []

    def process(self, jobs: Sequence[VideoJob]) -> Iterator[VideoResult]:
        for job in jobs:
            self.jobs.append(job)
            video_id = job.entry.video_id
            row = ManifestRow(video_id=video_id, path=job.entry.path, entry=job.entry, config_digest=job.config_digest)
            yield VideoResult(row=row, records=((f"{video_id}/0/00000", self.value),))


def made(plan: ShardPlan, pool: Any, monkeypatch: pytest.MonkeyPatch) -> ShardReport:
    @contextmanager
    def lent(_settings: WorkerSettings) -> Iterator[Any]:
        yield pool

    monkeypatch.setattr(tasks.process, "pool_for_shard", lent)
    return process_shard.fn(plan)


def test_a_shard_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, "a", "b")
    first = made(plan, Pool(), monkeypatch)
    again = Pool(b"of another attempt")
    assert made(plan, again, monkeypatch) == first
    assert again.jobs == []
    with ShardReader(tmp_path / "shards" / plan.name) as reader:
        assert [bytes(view) for _, view in reader.views()] == [b"record", b"record"]


def test_each_pool_has_its_own_notes_about_originals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool()
    made(plan_of(tmp_path, "a"), pool, monkeypatch)
    assert [job.geometry_dir for job in pool.jobs] == [tmp_path / ".geometry" / pool.name]


def test_what_a_lost_worker_left_goes_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for name in (".partial-train-00003-of_a_dead_one.lmdb", ".partial-train-00004-of_a_neighbour.lmdb"):
        (shards / name).write_bytes(b"half")
    plan = plan_of(tmp_path, "a")
    made(plan, Pool(), monkeypatch)
    assert sorted(path.name for path in shards.iterdir()) == [".partial-train-00004-of_a_neighbour.lmdb", plan.name]


def test_a_worker_that_is_cut_off_cannot_replace_what_another_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first attempt is at its last video, a second one makes the whole shard."""
    plan = plan_of(tmp_path, "a")

    class Overtaken(Pool):
        def process(self, jobs: Sequence[VideoJob]) -> Iterator[VideoResult]:
            for result in super().process(jobs):
                self.others = made(plan, Pool(b"of the second"), monkeypatch)
                yield result

    first = Overtaken(b"of the first")
    assert made(plan, first, monkeypatch) == first.others
    with ShardReader(tmp_path / "shards" / plan.name) as reader:
        assert [bytes(view) for _, view in reader.views()] == [b"of the second"]
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [plan.name]


def test_a_worker_whose_attempt_was_given_up_cannot_finish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its half-written file was removed: by the next attempt, or by the next run."""
    plan = plan_of(tmp_path, "a")

    class GivenUp(Pool):
        def process(self, jobs: Sequence[VideoJob]) -> Iterator[VideoResult]:
            yield from super().process(jobs)
            for path in (tmp_path / "shards").glob(".partial-*"):
                path.unlink()

    with pytest.raises(StoreError, match=r"^shard .*train-00003.lmdb: got .*No such file"):
        made(plan, GivenUp(), monkeypatch)
    assert list((tmp_path / "shards").iterdir()) == []


def test_a_shard_of_other_videos_under_its_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(tmp_path, "a")
    made(plan, Pool(), monkeypatch)
    for other in (plan_of(tmp_path, "b"), plan_of(tmp_path, "a", "b"), replace(plan, config_digest="d" * 64)):
        with pytest.raises(StoreBusy, match=r"train-00003.lmdb: got a shard of other videos since this run began"):
            made(other, Pool(), monkeypatch)


def test_a_finished_shard_without_its_writer_is_read_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worker was lost between the shard's last byte and its report."""
    plan = plan_of(tmp_path, "a")
    report = made(plan, Pool(), monkeypatch)
    (tmp_path / "shards" / plan.name).unlink()

    class Lost(ShardWriter):
        def finish(self, videos: Any, made_with: Any) -> Any:
            super().finish(videos, made_with)
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(tasks.process, "ShardWriter", Lost)
        with pytest.raises(KeyboardInterrupt):
            made(plan, Pool(), patched)
    again = made(plan, Pool(), monkeypatch)
    assert (again.shard.records_sha256, again.rows) == (report.shard.records_sha256, report.rows)
