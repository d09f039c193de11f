"""The plan of a download: its files, their lengths, and whether they fit on the disk. Nothing here imports Prefect."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flows.config.download import ArchiveConfig, DownloadConfig, require_terms, require_web
from manifests.datasets.ffpp_server import lists_needed, paths_on_server
from manifests.errors import ConfigError
from tasks.download.connections import FetchFailed, FetchReason
from tasks.download.disk_space import require_room
from tasks.download.fetcher import Fetcher, Wanted, is_there, require_sha256
from tasks.download.file_kind import Content
from tasks.download.partial_file import Partial
from tasks.download.responses import shown

MAX_LIST_BYTES = 16 * 1024 * 1024  # the server's lists have some tens of kilobytes
ARCHIVES_DIR = "archives"  # below the output folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """The planned files on the disk, the missing ones, and their lengths."""

    missing: tuple[Wanted, ...]
    """Files to fetch, with their lengths where the server gives them."""

    num_already_there: int
    """Files that are complete on the disk."""

    problems: Mapping[Path, str]
    """Messages about missing files that the server does not offer, by path."""

    @property
    def num_planned(self) -> int:
        """Number of planned files."""
        return len(self.missing) + self.num_already_there

    @property
    def num_unknown(self) -> int:
        """Number of missing files that the server offers without a length."""
        return sum(wanted.num_bytes is None and wanted.path not in self.problems for wanted in self.missing)

    @property
    def num_bytes(self) -> int:
        """Sum of the known lengths of the missing files, bytes."""
        return sum(wanted.num_bytes or 0 for wanted in self.missing)

    @property
    def num_bytes_partly_there(self) -> int:
        """Bytes of the missing files that partial files of earlier runs hold."""
        return sum(Partial(wanted.path).num_bytes for wanted in self.missing)

    @property
    def num_bytes_needed(self) -> int:
        """Bytes to fetch, where files of unknown length count as the mean of the others."""
        num_known = sum(wanted.num_bytes is not None for wanted in self.missing)
        estimate = self.num_bytes // num_known * self.num_unknown if num_known else 0
        return max(0, self.num_bytes + estimate - self.num_bytes_partly_there)


def plan_ffpp(config: DownloadConfig, fetcher: Fetcher) -> tuple[Wanted, ...]:
    """Return the chosen files of FaceForensics++, by the server's lists.

    Raises:
        ConfigError: the terms are not accepted, the choice is empty, or the address is wrong or denies access.
        DatasetError: a list has an unexpected form.
        FetchFailed: the server does not answer.
    """
    require_terms(config)
    lists = {path: _read_list(config.base_url + path, fetcher) for path in lists_needed(config.choice)}
    return tuple(
        Wanted(url=config.base_url + path, path=config.out / path, content=Content.VIDEO)
        for path in paths_on_server(config.choice, lists)
    )


def plan_archives(config: ArchiveConfig) -> tuple[Wanted, ...]:
    """Return the archives to have: a URL is fetched into the output folder, a local file stays in its place.

    Raises:
        ConfigError: a source is neither a file nor a web address, or the checksums do not match the sources in number.
    """
    sources = [source.get_secret_value() for source in config.sources]
    if len(config.sha256) not in (0, len(sources)):
        raise ConfigError(
            f"--sha256: got {len(config.sha256)}, expected one for each of the {len(sources)} sources, in their order"
        )
    checksums: list[str | None] = [require_sha256(text) for text in config.sha256] or [None] * len(sources)
    wanted = [_archive(source, sha256, config.out) for source, sha256 in zip(sources, checksums, strict=True)]
    paths = [archive.path.resolve() for archive in wanted]
    twice = next((path for path in paths if paths.count(path) > 1), None)
    if twice is not None:
        raise ConfigError(f"sources: got {twice.name} twice, expected each once")
    return tuple(wanted)


def survey(
    fetcher: Fetcher, plan: Sequence[Wanted], connections: int, on_size: Callable[[], None] = lambda: None
) -> Survey:
    """Return which planned files are on the disk, and how long the others are.

    Args:
        fetcher: asks the server for lengths.
        plan: the planned files.
        connections: number of requests at once.
        on_size: called after each answer.
    """
    missing = [wanted for wanted in plan if not is_there(wanted.path)]

    def ask(wanted: Wanted) -> tuple[Wanted, str]:
        size = fetcher.size(wanted.url)
        on_size()
        return replace(wanted, num_bytes=size.num_bytes), size.problem

    with ThreadPoolExecutor(connections) as threads:
        try:
            answers = list(threads.map(ask, missing))
        except BaseException:
            fetcher.stop()  # otherwise the end of this block would wait for all requests
            raise
    return Survey(
        missing=tuple(wanted for wanted, _ in answers),
        num_already_there=len(plan) - len(missing),
        problems={wanted.path: problem for wanted, problem in answers if problem},
    )


def require_room_for(found: Survey, config: DownloadConfig | ArchiveConfig) -> None:
    """Raise unless the missing files fit on the disk.

    An archive is kept beside the files extracted from it, and videos hardly compress: it counts twice where it is
    extracted.

    Raises:
        ConfigError: the files do not fit.
    """
    is_extracted = isinstance(config, ArchiveConfig) and config.extract
    require_room(config.out, found.num_bytes_needed + (found.num_bytes if is_extracted else 0))


def _archive(source: str, sha256: str | None, out: Path) -> Wanted:
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", source):
        path = Path(source).expanduser()
        if not is_there(path):
            raise ConfigError(f"source: got {source}, expected a file that is not empty, or an http(s) address")
        return Wanted(url="", path=path, content=Content.ARCHIVE, sha256=sha256)
    try:
        require_web(source)
    except ValueError as error:
        raise ConfigError(f"source: {error}") from error
    parts = urlsplit(source)
    # Two addresses may end in the same name, so the file name contains a digest of the address.
    identity = hashlib.sha256(f"{parts.hostname}:{parts.port}{parts.path}?{parts.query}".encode()).hexdigest()[:8]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", unquote(parts.path).rstrip("/").rpartition("/")[2])[-100:] or "archive"
    return Wanted(url=source, path=out / ARCHIVES_DIR / f"{identity}-{name}", content=Content.ARCHIVE, sha256=sha256)


def _read_list(url: str, fetcher: Fetcher) -> object:
    """Return a list of the server, parsed from JSON."""
    try:
        body = fetcher.read(url, MAX_LIST_BYTES)
    except FetchFailed as failure:
        if failure.reason in (FetchReason.DENIED, FetchReason.NOT_FOUND, FetchReason.ADDRESS):
            raise ConfigError(
                f"--server: {failure.detail}; expected the address that came with your access to FaceForensics++"
            ) from failure
        raise
    try:
        return json.loads(body)
    except ValueError as error:
        raise ConfigError(
            f"--server: got no list from {shown(url)}; "
            "expected the address that came with your access to FaceForensics++"
        ) from error
