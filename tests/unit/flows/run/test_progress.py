"""Progress: what a watcher sees of a run, and how seldom the server is asked."""

from __future__ import annotations

import threading
from uuid import UUID

import pytest

import flows.run.progress
from flows.run.progress import SECONDS_BETWEEN_UPDATES, RunProgress
from manifests.rejected import Reason, Rejected, Stage
from manifests.row import ManifestRow

ARTIFACT_ID = UUID(int=7)
DONE = ManifestRow(video_id="a", path="a.mp4")
REJECTED = DONE.as_rejected(Rejected(video_id="a", stage=Stage.DETECT, reason=Reason.NO_FACE, detail="seen"))


class Server:
    """Keeps what Prefect's server would be told, and the time that it is told."""

    def __init__(self) -> None:
        self.created: list[str] = []
        self.percents: list[float] = []
        self.now_seconds = 100.0

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
    monkeypatch.setattr("flows.run.progress.time.monotonic", lambda: server.now_seconds)
    return server


def descriptions(progress: RunProgress) -> list[tuple[str, float, float | None]]:
    return [(task.description, task.completed, task.total) for task in progress._bar.tasks]


def test_the_artifact_follows_the_videos(server: Server) -> None:
    with RunProgress(8) as progress:
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
    with RunProgress(100) as progress:
        for _ in range(40):
            progress.count(DONE)
            server.now_seconds += SECONDS_BETWEEN_UPDATES / 10
            progress.publish()
        assert len(server.percents) == 1 + 4


def test_a_run_that_fails_leaves_the_artifact_where_it_was(server: Server) -> None:
    def failing_run() -> None:
        with RunProgress(4) as progress:
            progress.count(DONE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failing_run()
    assert server.percents == [0.0]


def test_nothing_is_published_before_the_run_begins(server: Server) -> None:
    progress = RunProgress(4)
    server.now_seconds += 10 * SECONDS_BETWEEN_UPDATES
    progress.publish()
    assert server.percents == []


def test_the_bar_counts_the_rejected(server: Server) -> None:
    with RunProgress(3) as progress:
        progress.count(DONE)
        assert descriptions(progress) == [("processing", 1, 3)]
        progress.count(REJECTED)
        progress.count(REJECTED)
        assert descriptions(progress) == [("processing, 2 rejected", 3, 3)]


def test_a_run_of_nothing_divides_by_nothing(server: Server) -> None:
    with RunProgress(0) as progress:
        server.now_seconds += SECONDS_BETWEEN_UPDATES
        progress.publish()
    assert all(0 <= percent <= 100 for percent in server.percents)


def test_shards_count_at_once(server: Server) -> None:
    def count_many(progress: RunProgress) -> None:
        for _ in range(50):
            progress.count(REJECTED)

    with RunProgress(200) as progress:
        threads = [threading.Thread(target=count_many, args=[progress]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.percents[-1] == 100.0
    assert progress._num_rejected == 200
