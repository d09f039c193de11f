"""Progress of a flow run: a bar on a terminal, a line every half minute in a log, an artifact in Prefect's UI."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Self
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from rich.progress import Progress

from flows.run.bars import bytes_bar, items_bar
from manifests.row import ManifestRow
from tasks.download.disk_space import gigabytes
from tasks.download.fetcher import Fetched

# Each update of an artifact is a request to the server.
SECONDS_BETWEEN_UPDATES = 2.0
SECONDS_BETWEEN_LINES = 30.0


class FlowProgress(ABC):
    """Counter of finished work, shown as progress; a context manager around the work, used inside a flow run.

    Args:
        bar: shown where stderr is a terminal; elsewhere (in a log, under nohup or Slurm) lines are written.
        total: items or bytes to do; None: unknown.
        artifact: key and description of the artifact; None for none.
        clock: returns seconds.
        completed: items or bytes of `total` that earlier runs have done.
    """

    def __init__(
        self,
        bar: Progress,
        total: int | None,
        artifact: tuple[str, str] | None,
        clock: Callable[[], float],
        completed: int = 0,
    ) -> None:
        self._bar = bar
        self._lock = threading.Lock()
        self._num_done = self._num_failed = 0
        self._artifact = artifact
        self._artifact_id: UUID | None = None
        self._clock = clock
        self._last_update_seconds = self._last_line_seconds = clock()
        self._task = bar.add_task(self._description(), total=total, completed=completed)

    @abstractmethod
    def _description(self) -> str:
        """Return the text beside the bar."""

    @abstractmethod
    def _line(self) -> str:
        """Return the progress as one line of a log."""

    @abstractmethod
    def _percent(self) -> float:
        """Return the progress, 0 to 100."""

    def publish(self) -> None:
        """Update artifact and log, unless they were updated a moment ago; called from the flow's own thread."""
        now = self._clock()
        if self._bar.disable and now - self._last_line_seconds >= SECONDS_BETWEEN_LINES:
            self._last_line_seconds = now
            sys.stderr.write(f"{self._line()}\n")
        if self._artifact_id is not None and now - self._last_update_seconds >= SECONDS_BETWEEN_UPDATES:
            self._last_update_seconds = now
            update_progress_artifact(artifact_id=self._artifact_id, progress=self._percent())

    def _count(self, *, failed: bool, advance: int = 0) -> None:
        """Count an item that is done, and move the bar on; called from many threads."""
        with self._lock:
            self._num_done += 1
            self._num_failed += failed
            self._bar.update(self._task, description=self._description(), advance=advance)

    def __enter__(self) -> Self:
        if self._artifact is not None:
            key, description = self._artifact
            created = create_progress_artifact(progress=0.0, key=key, description=description)
            self._artifact_id = created if isinstance(created, UUID) else None
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.stop()
        if kind is None and self._artifact_id is not None:
            update_progress_artifact(artifact_id=self._artifact_id, progress=self._percent())


class RunProgress(FlowProgress):
    """Progress of a preprocessing run, by videos.

    Args:
        num_videos: videos to process.
        clock: returns seconds.
    """

    def __init__(self, num_videos: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._num_videos = num_videos
        artifact = ("preprocess-progress", f"{num_videos} videos to process")
        super().__init__(items_bar("videos"), num_videos, artifact, clock)

    def count(self, row: ManifestRow) -> None:
        """Count a finished video; called from the threads of the shards."""
        self._count(failed=row.status == "rejected", advance=1)

    def _description(self) -> str:
        return f"processing, {self._num_failed} rejected" if self._num_failed else "processing"

    def _line(self) -> str:
        return f"{self._num_done}/{self._num_videos} videos, {self._num_failed} rejected"

    def _percent(self) -> float:
        return 100.0 * self._num_done / max(self._num_videos, 1)


class DownloadProgress(FlowProgress):
    """Progress of a download, by files and bytes, with the remaining time if the lengths of all files are known.

    Args:
        num_files: files to do.
        num_bytes: their length together; None: unknown.
        num_bytes_there: how much of that partial files of earlier runs have.
        what: what is being done, one word.
        has_artifact: whether Prefect shows it.
        clock: returns seconds.
    """

    def __init__(
        self,
        num_files: int,
        num_bytes: int | None,
        *,
        num_bytes_there: int = 0,
        what: str = "fetching",
        has_artifact: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._num_files, self._what = num_files, what
        artifact = ("download-progress", f"{num_files} files to fetch") if has_artifact else None
        super().__init__(bytes_bar(clock=clock), num_bytes, artifact, clock, num_bytes_there)

    def count_bytes(self, num_bytes: int) -> None:
        """Count received bytes, or, where negative, discarded ones; called from many threads."""
        self._bar.advance(self._task, num_bytes)

    def count_file(self, outcome: Fetched) -> None:
        """Count a file that was fetched or failed; called from many threads."""
        self._count(failed=outcome.status == "failed")

    def _description(self) -> str:
        failed = f", {self._num_failed} failed" if self._num_failed else ""
        return f"{self._what} {self._num_done:,}/{self._num_files:,} files{failed}"

    def _line(self) -> str:
        task = self._bar.tasks[self._task]
        of_all = f" of {gigabytes(task.total)}" if task.total else ""
        rate = f", {gigabytes(task.speed)}/s" if task.speed else ""
        left = f", {task.time_remaining:.0f} s left" if task.total and task.time_remaining is not None else ""
        return f"{self._description()}, {gigabytes(task.completed)}{of_all}{rate}{left}"

    def _percent(self) -> float:
        task = self._bar.tasks[self._task]
        return task.percentage if task.total else 100.0 * self._num_done / max(self._num_files, 1)
