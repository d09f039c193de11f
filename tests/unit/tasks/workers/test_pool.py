"""Worker processes: real ones, spawned and killed, whose decoder does what the name of the video says."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

import tasks.workers.kept_pools
import tasks.workers.pool
import tasks.workers.worker
from manifests.entry import VideoEntry
from manifests.errors import StageMissing, VideoRejected
from manifests.rejected import Reason, Stage
from tasks.align.square import SquareAligner
from tasks.decode.decoder import Decoder, VideoReader
from tasks.settings import StageSettings
from tasks.video.job import VideoJob
from tasks.video.stages import Stages
from tasks.workers import watchdog
from tasks.workers.kept_pools import shared_pool, worker_processes
from tasks.workers.pool import WorkerPool, WorkerSettings

ROOT = Path(__file__).resolve().parents[4]
PATIENT = StageSettings()
HASTY = StageSettings.model_validate({"decode": {"timeout_s": 0.3}})

PARENT = """
import sys
from pathlib import Path
import tasks.workers.pool
from tests.unit.tasks.workers import test_pool as scripted

if __name__ == "__main__":
    tasks.workers.pool.start_worker = scripted.start_scripted_worker
    list(scripted.new_pool().process([scripted.job(Path(sys.argv[1]), "hang-0")]))
"""


class ScriptedDecoder(Decoder):
    """Does what the file's name says, `end-3.mp4` for example, then says where; there need be no file."""

    def __init__(self, device: str) -> None:
        self._device = device

    def open(self, path: Path) -> VideoReader:
        action = path.stem.partition("-")[0]
        cast(Callable[[Path], None], getattr(self, action))(path)
        seen = f"{self._device} in {os.getpid()} with {os.environ['OMP_NUM_THREADS']} threads"
        raise VideoRejected(Stage.DECODE, Reason.DECODE_ERROR, seen)

    def end(self, path: Path) -> None:
        """Be done at once."""

    def note(self, path: Path) -> None:
        """Write down when it was this video's turn."""
        with (path.parent / "turns").open("a") as turns:
            turns.write(f"{path.stem} ")

    def slow(self, path: Path) -> None:
        time.sleep(0.5)

    def hang(self, path: Path) -> None:
        """Say that the work has begun, then never come back to Python."""
        path.with_suffix(".pid").write_text(str(os.getpid()))
        ctypes.PyDLL(None).sleep(60)

    def die(self, path: Path) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def grow(self, path: Path) -> None:
        os._exit(watchdog.EXIT_CODE)

    def die_once(self, path: Path) -> None:
        if not path.with_suffix(".died").exists():
            path.with_suffix(".died").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def bug(self, path: Path) -> None:
        raise ZeroDivisionError("by [zero]")

    def disk(self, path: Path) -> None:
        raise OSError(5, "Input/output error")

    def missing(self, path: Path) -> None:
        raise StageMissing("weights: got none")


def start_scripted_worker(
    settings: StageSettings, device: str, address: str | None = None, max_bytes: int | None = None
) -> None:
    """Start a worker as ever, and give it stages that need neither torch nor weights."""
    tasks.workers.worker.start_worker(settings, device, address, max_bytes)
    tasks.workers.worker._worker_stages = Stages(
        settings=settings,
        decoder=ScriptedDecoder(device),
        finder=cast(Any, None),
        aligner=SquareAligner(size_px=64, margin=1.0),
    )


def new_pool(num_workers: int = 1, devices: tuple[str, ...] = ("cpu",), stages: StageSettings = PATIENT) -> WorkerPool:
    return WorkerPool(WorkerSettings(devices=devices, num_workers=num_workers, stages=stages))


def job(root: Path, name: str) -> VideoJob:
    entry = VideoEntry(
        video_id=f"ffpp/youtube/c23/{name}",
        path=f"{name}.mp4",
        dataset="ffpp",
        label="real",
        target_id=name,
        group_id=name,
        split="train",
        num_frames=10,
        sha256="a" * 64,
    )
    return VideoJob(root=root, entry=entry, config_digest="c" * 64)


def fates(pool: WorkerPool, root: Path, names: list[str]) -> dict[str, str]:
    """What became of each video, in the order of the results: reason and detail."""
    results = pool.process([job(root, name) for name in names])
    return {result.row.video_id.rpartition("/")[2]: f"{result.row.reason}: {result.row.detail}" for result in results}


def wait_until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"nothing happened within {seconds} s"
        time.sleep(0.02)
    return found


def is_running(process_id: int) -> bool:
    """Whether the process is there, and not as a zombie that nobody has asked for its exit status."""
    try:
        status = Path(f"/proc/{process_id}/status").read_text()
    except OSError:
        return False
    return re.search(r"^State:\s+[ZX]", status, re.MULTILINE) is None


def started_process(root: Path, name: str) -> int:
    """Wait for a hanging video's worker; return its process id."""
    path = root / f"{name}.pid"
    wait_until(lambda: path.exists() and path.read_text())
    return int(path.read_text())


@pytest.fixture(scope="module", autouse=True)
def _scripted() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tasks.workers.pool, "start_worker", start_scripted_worker)
        yield


@pytest.fixture(scope="module")
def pool(_scripted: None) -> Iterator[WorkerPool]:
    """Two workers that most tests share: each test must leave them usable."""
    pool = new_pool(2)
    yield pool
    pool.stop()


def test_results_come_in_the_order_of_the_jobs(pool: WorkerPool, tmp_path: Path) -> None:
    names = ["slow-0", "end-1", "slow-2", "end-3", "slow-4"]
    found = fates(pool, tmp_path, names)
    assert list(found) == names
    seen = [re.fullmatch(r"decode_error: cpu in (\d+) with 1 threads", detail) for detail in found.values()]
    workers = {match[1] for match in seen if match}
    assert all(seen)
    assert len(workers) <= 2
    assert str(os.getpid()) not in workers


def test_originals_are_begun_before_their_fakes(tmp_path: Path) -> None:
    """A fake may ask for its original's geometry, which is best found by the original itself. Results keep order."""
    fake, other, original = (job(tmp_path, f"note-{name}") for name in ("fake", "other", "real"))
    pool = new_pool()
    try:
        results = list(pool.process([replace(fake, original=original), other, original]))
    finally:
        pool.stop()
    assert [result.row.path for result in results] == ["note-fake.mp4", "note-other.mp4", "note-real.mp4"]
    assert (tmp_path / "turns").read_text().split() == ["note-other", "note-real", "note-fake"]


def test_no_job_no_result(pool: WorkerPool) -> None:
    assert list(pool.process([])) == []


def test_two_shards_share_the_workers(pool: WorkerPool, tmp_path: Path) -> None:
    first = pool.process([job(tmp_path, "slow-0"), job(tmp_path, "slow-1")])
    second = pool.process([job(tmp_path, "end-2"), job(tmp_path, "end-3")])
    rows = [result.row.path for pair in zip(first, second, strict=True) for result in pair]
    assert rows == ["slow-0.mp4", "end-2.mp4", "slow-1.mp4", "end-3.mp4"]


def test_a_video_that_takes_too_much_memory_is_rejected_at_once_and_no_other(pool: WorkerPool, tmp_path: Path) -> None:
    found = fates(pool, tmp_path, ["grow-1", "end-2"])

    reason, _, detail = found["grow-1"].partition(": ")
    assert reason == "too_large"
    assert "grow-1.mp4: got a worker process that grew by more than" in detail
    assert "(limits.memory_per_worker)" in detail
    assert found["end-2"].startswith("decode_error")


def test_a_video_that_kills_its_worker_twice_is_rejected_and_no_other(pool: WorkerPool, tmp_path: Path) -> None:
    found = fates(pool, tmp_path, ["end-0", "die-1", "end-2"])
    assert list(found) == ["end-0", "die-1", "end-2"]
    assert found["die-1"] == f"crashed: worker process died twice on die-1.mp4, the last time with exit code {-11}"
    assert {found[name].partition(":")[0] for name in ("end-0", "end-2")} == {"decode_error"}


def test_a_video_whose_worker_dies_once_is_tried_again(pool: WorkerPool, tmp_path: Path) -> None:
    assert fates(pool, tmp_path, ["die_once-0"])["die_once-0"].startswith("decode_error: cpu in ")
    assert (tmp_path / "die_once-0.died").exists()


def test_a_decoder_that_hangs_is_ended_and_not_tried_again(tmp_path: Path) -> None:
    start = time.monotonic()
    pool = new_pool(2, stages=HASTY)
    try:
        found = fates(pool, tmp_path, ["hang-0", "end-1"])
    finally:
        pool.stop()
    assert found["hang-0"] == (
        "decode_timeout: hang-0.mp4: decoder did not answer within 0.3 s (decode.timeout_s) and was ended"
    )
    assert found["end-1"].startswith("decode_error")
    assert time.monotonic() - start < 30


def test_a_defect_of_ours_costs_one_video_and_says_which(pool: WorkerPool, tmp_path: Path) -> None:
    found = fates(pool, tmp_path, ["bug-0", "end-1"])
    assert found["bug-0"] == "crashed: unexpected ZeroDivisionError: by [zero]"
    assert found["end-1"].startswith("decode_error")


def test_a_file_that_the_disk_does_not_give_costs_one_video(pool: WorkerPool, tmp_path: Path) -> None:
    found = fates(pool, tmp_path, ["disk-0", "end-1"])
    assert found["disk-0"].startswith("unreadable: ")
    assert "Input/output error" in found["disk-0"]
    assert found["end-1"].startswith("decode_error")


def test_rejections_carry_the_video_and_its_configuration(pool: WorkerPool, tmp_path: Path) -> None:
    for name in ("die-0", "bug-1"):
        (result,) = pool.process([job(tmp_path, name)])
        assert result.row.entry == job(tmp_path, name).entry
        assert (result.row.config_digest, result.row.status, result.records) == ("c" * 64, "rejected", ())


def test_a_file_that_cannot_be_read_costs_one_video(pool: WorkerPool, tmp_path: Path) -> None:
    found = fates(pool, tmp_path, ["disk-0", "end-1"])
    assert found["disk-0"] == "unreadable: disk-0.mp4: Input/output error"
    assert found["end-1"].startswith("decode_error")


def test_what_no_other_video_would_survive_ends_the_run(pool: WorkerPool, tmp_path: Path) -> None:
    with pytest.raises(StageMissing, match=r"^weights: got none$"):
        list(pool.process([job(tmp_path, name) for name in ("missing-0", "slow-1", "slow-2")]))
    assert fates(pool, tmp_path, ["end-3"])["end-3"].startswith("decode_error")


def test_jobs_that_nobody_waits_for_are_called_off(pool: WorkerPool, tmp_path: Path) -> None:
    results = cast(Iterator[Any], pool.process([job(tmp_path, f"{name}-0") for name in ("end", "hang")]))
    assert next(results).row.path == "end-0.mp4"
    worker = started_process(tmp_path, "hang-0")
    results.close()  # type: ignore[attr-defined]  # a generator: the shard's writer failed
    wait_until(lambda: not is_running(worker))
    assert fates(pool, tmp_path, ["end-1"])["end-1"].startswith("decode_error")


def test_gpus_share_the_workers_and_each_has_one_process_with_networks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    stopped: list[str] = []

    class Service:
        def __init__(self, address: str, _settings: StageSettings, device: str) -> None:
            self.address = address
            started.append(device)

        def stop(self) -> None:
            stopped.append(self.address)

    monkeypatch.setattr(tasks.workers.pool, "NetworkService", Service)
    pool = new_pool(num_workers=5, devices=("cuda:0", "cuda:1"))
    try:
        found = fates(pool, tmp_path, [f"slow-{number}" for number in range(8)])
    finally:
        pool.stop()
    workers = [tuple(detail.split()[1:4]) for detail in found.values()]
    assert [device for device, *_ in workers] == ["cuda:0", "cuda:1"] * 4
    assert len(set(workers)) == 4  # two for each
    assert started == ["cuda:0", "cuda:1"]
    assert len(set(stopped)) == 2
    assert not Path(stopped[0]).parent.exists()


def test_stopping_ends_the_workers_and_frees_who_waits(tmp_path: Path) -> None:
    pool = new_pool()
    outcome: list[BaseException] = []

    def wait_for_results() -> None:
        try:
            list(pool.process([job(tmp_path, "hang-0"), job(tmp_path, "end-1")]))
        except CancelledError as error:
            outcome.append(error)

    waiting = threading.Thread(target=wait_for_results)
    waiting.start()
    worker = started_process(tmp_path, "hang-0")
    pool.stop()
    waiting.join(timeout=30)
    assert not waiting.is_alive()
    assert [type(error) for error in outcome] == [CancelledError]
    wait_until(lambda: not is_running(worker))
    with pytest.raises(CancelledError, match="end-2: the run was stopped"):
        list(pool.process([job(tmp_path, "end-2")]))


def test_stopping_what_never_began() -> None:
    pool = new_pool()
    pool.stop()
    pool.stop()


class RecordedPool:
    """Stands for a pool that takes its time to be made."""

    made: list[RecordedPool]
    stopped: list[RecordedPool]

    def __init__(self, _settings: WorkerSettings) -> None:
        time.sleep(0.1)
        self.made.append(self)

    def stop(self) -> None:
        self.stopped.append(self)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[RecordedPool]:
    RecordedPool.made, RecordedPool.stopped = [], []
    monkeypatch.setattr(tasks.workers.kept_pools, "WorkerPool", RecordedPool)
    return RecordedPool


def test_shards_of_one_run_share_a_pool_that_ends_with_it(recorded: type[RecordedPool]) -> None:
    one, two = (WorkerSettings(devices=("cpu",), num_workers=1, stages=stages) for stages in (PATIENT, HASTY))

    def interrupted_run() -> None:
        with worker_processes():
            for settings in (one, two, one, one):
                shared_pool(settings)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_run()
    assert len(recorded.made) == 2
    assert set(recorded.stopped) == set(recorded.made)
    with worker_processes():
        shared_pool(one)
    assert len(recorded.made) == len(recorded.stopped) == 3


def test_no_pool_is_made_for_a_shard_that_begins_while_its_run_is_stopped(recorded: type[RecordedPool]) -> None:
    with worker_processes():
        pass
    with pytest.raises(CancelledError, match="stopped"):
        shared_pool(WorkerSettings(devices=("cpu",), num_workers=1, stages=PATIENT))
    assert recorded.made == []


def test_shards_that_begin_together_share_a_pool(recorded: type[RecordedPool]) -> None:
    settings = WorkerSettings(devices=("cpu",), num_workers=1, stages=PATIENT)
    threads = [threading.Thread(target=shared_pool, args=[settings]) for _ in range(4)]
    with worker_processes():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(recorded.made) == len(recorded.stopped) == 1


def test_workers_outlive_the_thread_that_started_them(tmp_path: Path) -> None:
    pool = new_pool()
    try:
        first = threading.Thread(target=lambda: list(pool.process([job(tmp_path, "end-0")])))
        first.start()
        first.join()
        time.sleep(0.5)
        assert fates(pool, tmp_path, ["end-1"])["end-1"].startswith("decode_error")
    finally:
        pool.stop()


def test_a_worker_that_dies_while_nothing_is_to_be_done_is_replaced(tmp_path: Path) -> None:
    pool = new_pool()
    try:
        idle = int(fates(pool, tmp_path, ["end-0"])["end-0"].split()[3])
        os.kill(idle, signal.SIGKILL)
        wait_until(lambda: not is_running(idle))
        time.sleep(0.5)
        assert fates(pool, tmp_path, ["end-1"])["end-1"].startswith("decode_error")
    finally:
        pool.stop()


def test_workers_do_not_outlive_a_killed_run(tmp_path: Path) -> None:
    """The worker hangs in C: it would not notice that nobody listens any more."""
    run = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        worker = started_process(tmp_path, "hang-0")
        assert is_running(worker)
    finally:
        run.kill()
        run.wait()
    wait_until(lambda: not is_running(worker))
