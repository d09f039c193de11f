"""Progress of a run: bar, log lines and artifact, and how often the server is asked."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

import flows.run.progress
from flows.run.progress import SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_UPDATES, DownloadProgress, RunProgress
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow
from tasks.download.connections import FetchReason
from tasks.download.fetcher import Fetched

Output = pytest.CaptureFixture[str]

ARTIFACT_ID = UUID(int=7)
DONE = ManifestRow(video_id="a", path="a.mp4")
REJECTED = DONE.as_rejected(Rejected(video_id="a", stage=Stage.DETECT, reason=Reason.NO_FACE, detail="seen"))


class Server:
    """Records the requests to Prefect's server, and is the clock."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.percents: list[float] = []
        self.now_seconds = 100.0

    def clock(self) -> float:
        return self.now_seconds

    def create(self, *, progress: float, key: str, description: str) -> UUID:
        self.created.append(f"{key}: {description}")
        self.percents.append(progress)
        return ARTIFACT_ID

    def update(self, *, artifact_id: UUID, progress: float) -> None:
        assert artifact_id == ARTIFACT_ID
        self.percents.append(progress)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()
    monkeypatch.setattr(flows.run.progress, "create_progress_artifact", server.create)
    monkeypatch.setattr(flows.run.progress, "update_progress_artifact", server.update)
    return server


def descriptions(progress: RunProgress) -> list[tuple[str, float, float | None]]:
    return [(task.description, task.completed, task.total) for task in progress._bar.tasks]


def test_the_artifact_follows_the_videos(server: Server) -> None:
    with RunProgress(8, server.clock) as progress:
        assert server.created == ["preprocess-progress: 8 videos to process"]
        for _ in range(2):
            progress.count(DONE)
        server.now_seconds += SECONDS_BETWEEN_UPDATES
        progress.publish()
        progress.count(REJECTED)
        server.now_seconds += SECONDS_BETWEEN_UPDATES
        progress.publish()
        for _ in range(5):
            progress.count(DONE)
    assert server.percents == [0.0, 25.0, 37.5, 100.0]


def test_the_server_is_not_asked_more_often_than_it_likes(server: Server) -> None:
    with RunProgress(100, server.clock) as progress:
        for _ in range(40):
            progress.count(DONE)
            server.now_seconds += SECONDS_BETWEEN_UPDATES / 10
            progress.publish()
        assert len(server.percents) == 1 + 4


def test_a_run_that_fails_leaves_the_artifact_where_it_was(server: Server) -> None:
    def failing_run() -> None:
        with RunProgress(4, server.clock) as progress:
            progress.count(DONE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing_run()
    assert server.percents == [0.0]


def test_nothing_is_published_before_the_run_begins(server: Server) -> None:
    progress = RunProgress(4, server.clock)
    server.now_seconds += 10 * SECONDS_BETWEEN_UPDATES
    progress.publish()
    assert server.percents == []


def test_the_bar_counts_the_rejected(server: Server) -> None:
    with RunProgress(3, server.clock) as progress:
        progress.count(DONE)
        assert descriptions(progress) == [("processing", 1, 3)]
        progress.count(REJECTED)
        progress.count(REJECTED)
        assert descriptions(progress) == [("processing, 2 rejected", 3, 3)]


def test_a_run_of_nothing_divides_by_nothing(server: Server) -> None:
    with RunProgress(0, server.clock) as progress:
        server.now_seconds += SECONDS_BETWEEN_UPDATES
        progress.publish()
    assert all(0 <= percent <= 100 for percent in server.percents)


def test_shards_count_at_once(server: Server) -> None:
    def count_many(progress: RunProgress) -> None:
        for _ in range(50):
            progress.count(REJECTED)

    with RunProgress(200, server.clock) as progress:
        threads = [threading.Thread(target=count_many, args=[progress]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.percents[-1] == 100.0
    assert progress._num_failed == 200


def outcome(status: Any) -> Fetched:
    return Fetched(path=Path("a"), status=status, reason=FetchReason.SERVER if status == "failed" else None)


def test_a_download_shows_rate_and_remaining_time(server: Server, capsys: Output) -> None:
    with DownloadProgress(4, 200_000_000, num_bytes_there=20_000_000, clock=server.clock) as progress:
        assert server.created == ["download-progress: 4 files to fetch"]
        for _ in range(10):
            server.now_seconds += 1
            progress.count_bytes(4_000_000)
        progress.count_file(outcome("fetched"))
        progress.count_file(outcome("failed"))
        line = "fetching 2/4 files, 1 failed, 60.0 MB of 200.0 MB, 4.0 MB/s, 35 s left"
        assert progress._line() == line
        progress.publish()
        assert server.percents == [0.0, 30.0]
        assert capsys.readouterr().err == ""
        server.now_seconds += SECONDS_BETWEEN_LINES
        progress.publish()
        assert capsys.readouterr().err.startswith("fetching 2/4 files, 1 failed, 60.0 MB of 200.0 MB")


def test_the_rate_is_that_of_the_last_half_minute(server: Server) -> None:
    progress = DownloadProgress(1, 1_000_000_000, clock=server.clock)
    for num_bytes in [10_000_000] * 60 + [1_000_000] * 60:
        server.now_seconds += 1
        progress.count_bytes(num_bytes)
    assert ", 1.0 MB/s, 340 s left" in progress._line()


def test_without_all_lengths_no_remaining_time_is_invented(server: Server) -> None:
    with DownloadProgress(4, None, clock=server.clock) as progress:
        for _ in range(5):
            server.now_seconds += 1
            progress.count_bytes(1_000_000)
        progress.count_file(outcome("fetched"))
        assert progress._line() == "fetching 1/4 files, 5.0 MB, 1.0 MB/s"
        progress.publish()
        assert server.percents == [0.0, 25.0]


def test_bytes_that_are_thrown_away_are_taken_back(server: Server) -> None:
    progress = DownloadProgress(1, 10_000_000, clock=server.clock)
    for num_bytes in (3_000_000, -3_000_000, 1_000_000):
        server.now_seconds += 1
        progress.count_bytes(num_bytes)
    assert "1.0 MB of 10.0 MB" in progress._line()


def test_an_extraction_has_no_artifact(server: Server) -> None:
    with DownloadProgress(1, None, what="extracting", has_artifact=False, clock=server.clock) as progress:
        server.now_seconds += SECONDS_BETWEEN_UPDATES
        progress.count_file(outcome("fetched"))
        progress.publish()
    assert (server.created, server.percents) == ([], [])
