"""A fetcher that records its waits instead of sleeping, and the video that it fetches from `tests.helpers.servers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.download.connections import ConnectionSettings
from tasks.download.fetcher import Fetched, Fetcher, Wanted
from tasks.download.file_kind import Content
from tests.helpers.servers import mp4_like

VIDEO = mp4_like(300_000)
NAME = "/000.mp4"


class Client:
    """A fetcher that records its waits instead of sleeping, and counts the bytes it reports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.waits: list[float] = []
        self.num_bytes = 0
        self.fetcher = Fetcher(
            ConnectionSettings(connect_timeout_s=2, read_timeout_s=0.2),
            max_tries=4,
            on_bytes=self._count,
            pause=self.waits.append,
        )

    def _count(self, num_bytes: int) -> None:
        self.num_bytes += num_bytes

    def fetch(self, url: str, **how: Any) -> Fetched:
        return self.fetcher.fetch(self.wanted(url, **how))

    def wanted(self, url: str, **how: Any) -> Wanted:
        path = how.pop("path", self.folder / url.rpartition("/")[2].partition("?")[0])
        return Wanted(url=url, path=path, content=Content.VIDEO, **how)

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.is_file())
