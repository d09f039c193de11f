"""How far a run is, for whoever watches: a bar in the terminal, an artifact in Prefect's UI."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from flows.run.bars import terminal_bar
from manifests.row import ManifestRow

# Each update of an artifact is a request to the server.
SECONDS_BETWEEN_UPDATES = 2.0
SECONDS_BETWEEN_LINES = 30.0


class RunProgress:
    """Counts videos as they are done; a context manager around the work, used inside a flow run.

    Args:
        num_videos: how many there are to do.
    """

    def __init__(self, num_videos: int) -> None:
        self._num_videos = num_videos
        self._num_done = 0
        self._num_rejected = 0
        self._lock = threading.Lock()
        self._last_update_seconds = self._last_line_seconds = time.monotonic()
        self._artifact_id: UUID | None = None
        self._bar = terminal_bar()
        self._bar_task = self._bar.add_task("processing", total=num_videos)

    def count(self, row: ManifestRow) -> None:
        """Take note of a finished video; called from the threads that carry the shards."""
        with self._lock:
            self._num_done += 1
            self._num_rejected += row.status == "rejected"
        rejected = f", {self._num_rejected} rejected" if self._num_rejected else ""
        self._bar.update(self._bar_task, completed=self._num_done, description=f"processing{rejected}")

    def publish(self) -> None:
        """Bring the artifact up to date, unless that was done a moment ago; called from the flow's own thread."""
        now = time.monotonic()
        if self._artifact_id is None or now - self._last_update_seconds < SECONDS_BETWEEN_UPDATES:
            return
        self._last_update_seconds = now
        self._say(now)
        update_progress_artifact(artifact_id=self._artifact_id, progress=self._percent())

    def _say(self, now: float) -> None:
        """Write a line every now and then where no bar is shown: in a log, under nohup or Slurm."""
        if self._bar.disable and now - self._last_line_seconds >= SECONDS_BETWEEN_LINES:
            self._last_line_seconds = now
            sys.stderr.write(f"{self._num_done}/{self._num_videos} videos, {self._num_rejected} rejected\n")

    def _percent(self) -> float:
        return 100.0 * self._num_done / max(self._num_videos, 1)

    def __enter__(self) -> Self:
        created = create_progress_artifact(
            progress=0.0, key="preprocess-progress", description=f"{self._num_videos} videos to process"
        )
        self._artifact_id = created if isinstance(created, UUID) else None
        self._bar.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()
        if exc is None and self._artifact_id is not None:
            update_progress_artifact(artifact_id=self._artifact_id, progress=self._percent())
