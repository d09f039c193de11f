"""Fetcher of files from a web server: complete files or none, resumed after lost connections.

The outcome of a file is `fetched`, `already_there`, or `failed` with a reason. A file that exists under its name and is
not empty is already there and is not requested again: only complete, checked files get their name.

1 resume    `tasks/download/partial_file.py` holds the bytes of an earlier try or run; only the rest is requested
            (Range), and only if the server still has the same file (If-Range). A server that ignores this sends the
            whole file
2 receive   to a hidden name; a web page instead of a video is recognised by its first bytes
3 check     length against the server's, first bytes against the expected kind, SHA-256 if it is known
4 publish   synced to disk, then renamed

Broken connections, time-outs, 429 and 5xx are retried, after a wait that doubles each time or that the server sets.
"""

from __future__ import annotations

import errno
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Literal, Self, TypeVar

import httpx

from manifests.datasets.file_kind import SNIFF_BYTES
from manifests.errors import ConfigError
from manifests.files import sha256_of
from tasks.download import responses
from tasks.download.connections import Connections, ConnectionSettings, FetchFailed, FetchReason, Transient
from tasks.download.file_kind import Content, refusal
from tasks.download.partial_file import Partial
from tasks.download.responses import shown

Result = TypeVar("Result")

# With waits of 1, 2, 4, … 60 s, these tries bridge two minutes without a server.
DEFAULT_MAX_TRIES = 8
MAX_TRIES_FOR_SIZE = 3
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1.0, 60.0
LONGEST_RETRY_AFTER_SECONDS = 120.0  # if a server asks for a longer wait, the file fails and the run goes on
# A try that received this much resets the number of tries, since downloads of large files may break off often.
PROGRESS_BYTES = 1024 * 1024
# After this many failed files in a row the server is given up: the remaining files would fail as well, slowly.
GIVE_UP_AFTER = 8

# Failures that would affect the next file as well. A file that is missing or broken tells nothing about the others.
_HOPELESS = frozenset(FetchReason) - {FetchReason.NOT_FOUND, FetchReason.CHECKSUM, FetchReason.NOT_TRIED}
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A file to fetch."""

    url: str
    """Address, http or https. It may contain a secret, so it is never shown in full."""

    path: Path
    """Path of the complete file."""

    content: Content
    """Kind of file that its first bytes must show."""

    num_bytes: int | None = None
    """Its length in bytes, if it is known already; a file of another length is refused."""

    sha256: str | None = None
    """Hex SHA-256, or its first digits, if it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Outcome of fetching a file."""

    path: Path
    """Path that it has or should have."""

    status: Literal["fetched", "already_there", "failed"]
    """Outcome; each wanted file has exactly one of the three."""

    num_bytes: int = 0
    """Its length in bytes; 0 if it failed."""

    reason: FetchReason | None = None
    """Reason of the failure, for programs."""

    detail: str = ""
    """Reason of the failure, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSize:
    """Length of a file according to its server."""

    num_bytes: int | None
    """Length in bytes; None if the server does not tell."""

    problem: str = ""
    """Message about a file that the server does not offer; empty if it does."""


class Fetcher:
    """Fetcher of files over a limited number of connections; may be used from several threads; a context manager.

    Args:
        settings: settings of the connections.
        max_tries: number of tries for a file without progress.
        on_bytes: called with the number of bytes received; a negative number if bytes are discarded.
        pause: waits for a number of seconds, or until `stop` is called; replaced in tests.
    """

    def __init__(
        self,
        settings: ConnectionSettings | None = None,
        *,
        max_tries: int = DEFAULT_MAX_TRIES,
        on_bytes: Callable[[int], None] = lambda _: None,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._connections = Connections(settings or ConnectionSettings())
        self.stopped = self._connections.stopped
        self._max_tries = max_tries
        self.on_bytes = on_bytes
        self._pause = pause or self.stopped.wait
        self._lock = threading.Lock()
        self._failures_in_row = self._sizes_failed_in_row = 0
        self._given_up = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._connections.close()

    def stop(self) -> None:
        """End all work at once; partial files stay for the next run."""
        self._connections.stop()

    def fetch(self, wanted: Wanted) -> Fetched:
        """Fetch one file unless it exists already; a failure is returned, not raised."""
        try:
            if is_there(wanted.path):
                return self._already_there(wanted)
            self._require_not_given_up()
            partial = Partial(wanted.path)
            self._retry(lambda: self._receive(wanted, partial), self._max_tries, partial)
            num_bytes = partial.num_bytes
            self._finish(wanted, partial)
        except FetchFailed as failure:
            self._count_failure(failure)
            return Fetched(path=wanted.path, status="failed", reason=failure.reason, detail=failure.detail)
        except OSError as error:
            detail = f"{wanted.path}: {error.strerror or error}"
            self._count_failure(FetchFailed(FetchReason.DISK, detail), is_last=error.errno in _FULL)
            return Fetched(path=wanted.path, status="failed", reason=FetchReason.DISK, detail=detail)
        with self._lock:
            self._failures_in_row = 0
        return Fetched(path=wanted.path, status="fetched", num_bytes=num_bytes)

    def size(self, url: str) -> RemoteSize:
        """Ask for the length of a file: by HEAD, else by requesting one byte; with fewer tries than `fetch`."""
        if self._sizes_failed_in_row >= GIVE_UP_AFTER:
            return RemoteSize(num_bytes=None, problem="not asked, since the server gave no answer before")
        try:
            num_bytes = self._retry(lambda: self._ask_size(url), max_tries=min(MAX_TRIES_FOR_SIZE, self._max_tries))
        except FetchFailed as failure:
            with self._lock:
                self._sizes_failed_in_row += failure.reason in _HOPELESS
            return RemoteSize(num_bytes=None, problem=failure.detail)
        with self._lock:
            self._sizes_failed_in_row = 0
        return RemoteSize(num_bytes=num_bytes)

    def read(self, url: str, max_bytes: int) -> bytes:
        """Return a short file's bytes, such as those of a list.

        Raises:
            FetchFailed: there is no such file, no access or no server, or the file is longer than `max_bytes`.
        """
        return self._retry(lambda: self._read(url, max_bytes), max_tries=self._max_tries)

    def _retry(self, attempt: Callable[[], Result], max_tries: int, partial: Partial | None = None) -> Result:
        """Call a function until it succeeds, with longer waits each time.

        Raises:
            FetchFailed: it cannot succeed, or did not in `max_tries` tries without progress.
        """
        tries, mark = 0, partial.num_bytes if partial else 0
        while True:
            try:
                return attempt()
            except Transient as failure:
                reached = partial.num_bytes if partial else 0
                tries = 1 if reached - mark >= PROGRESS_BYTES else tries + 1
                mark = max(mark, reached)
                if tries >= max_tries:
                    detail = f"{failure.detail}; tried {tries} times"
                    raise FetchFailed(failure.reason, detail, failure.status) from failure
                self._pause(wait_seconds(tries, failure.retry_after_seconds))
                self._connections.raise_if_stopped()

    def _receive(self, wanted: Wanted, partial: Partial) -> None:
        """Fetch the missing part of a file in one request."""
        position = partial.resume_at
        if position and position == partial.total and wanted.num_bytes in (None, position):
            return  # the last run ended between the last byte and the rename
        headers = {"Range": f"bytes={position}-", "If-Range": partial.validator or ""} if position else {}
        with self._connections.open("GET", wanted.url, headers) as response:
            if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                self._require_end(response, partial, position)
            elif response.status_code == HTTPStatus.PARTIAL_CONTENT:
                self._require_fitting_range(response, partial, position)
                self._write(response, partial, position, wanted)
            else:
                self._begin(response, partial, wanted)
                self._write(response, partial, 0, wanted)
        self._require_length(partial, wanted)

    def _begin(self, response: httpx.Response, partial: Partial, wanted: Wanted) -> None:
        """Prepare for a whole file.

        Raises:
            FetchFailed: a file that was cut off could not be told from a complete one.
        """
        total = responses.content_length(response.headers)
        if not responses.says_where_it_ends(response.headers) and wanted.num_bytes is None and wanted.sha256 is None:
            raise FetchFailed(
                FetchReason.SERVER,
                f"{shown(wanted.url)}: the server says neither how long the file is nor where it ends, "
                "so a part could pass for all of it; give its checksum, or fetch it in another way",
            )
        self.on_bytes(-partial.num_bytes)
        partial.restart(responses.validator(response.headers), total)

    def _require_end(self, response: httpx.Response, partial: Partial, position: int) -> None:
        """Raise unless the bytes received so far are the whole file."""
        if responses.unsatisfied_total(response.headers.get("content-range")) != position:
            detail = f"{shown(str(response.request.url))}: the rest of the file is refused"
            raise self._from_the_beginning(partial, detail)
        partial.total = position

    def _require_fitting_range(self, response: httpx.Response, partial: Partial, position: int) -> None:
        """Raise unless the answer continues exactly where the received bytes end, in the same file."""
        first, total = responses.content_range(response.headers.get("content-range")) or (None, None)
        total = total or partial.total
        fits = position and first == position and total is not None
        changed = responses.contradicts(partial.validator or "", response.headers) or partial.total not in (None, total)
        if not fits or changed:
            detail = f"{shown(str(response.request.url))}: got another part, or another file, than was asked for"
            raise self._from_the_beginning(partial, detail)
        partial.total = total

    def _from_the_beginning(self, partial: Partial, detail: str) -> Transient:
        """Discard the bytes, and return the error after which the next try starts from the beginning."""
        self.on_bytes(-partial.num_bytes)
        partial.discard()
        return Transient(FetchReason.SERVER, detail)

    def _write(self, response: httpx.Response, partial: Partial, position: int, wanted: Wanted) -> None:
        """Append the answer's body to the partial file, after a check of the first bytes of a whole file."""
        head = b""
        with partial.open_at(position) as file:
            for chunk in response.iter_raw():
                file.write(chunk)
                self.on_bytes(len(chunk))
                if position == 0 and len(head) < SNIFF_BYTES:
                    head += chunk[:SNIFF_BYTES]
                    if len(head) >= SNIFF_BYTES:
                        self._require_content(head, wanted, partial, response.headers.get("content-type", ""))
                        self._require_same_length(partial, wanted)
                self._connections.raise_if_stopped()
        if position == 0 and len(head) < SNIFF_BYTES:
            self._require_content(head, wanted, partial, response.headers.get("content-type", ""))

    def _require_content(self, head: bytes, wanted: Wanted, partial: Partial, content_type: str = "") -> None:
        wrong = refusal(head[:SNIFF_BYTES], wanted.content, content_type)
        if wrong is not None:
            self.on_bytes(-partial.num_bytes)
            partial.discard()
            raise FetchFailed(FetchReason.WRONG_CONTENT, f"{shown(wanted.url)}: {wrong}")

    def _require_same_length(self, partial: Partial, wanted: Wanted) -> None:
        """Raise if the server has given two lengths, before gigabytes are fetched that would be discarded."""
        if None not in (partial.total, wanted.num_bytes) and partial.total != wanted.num_bytes:
            detail = (
                f"{shown(wanted.url)}: it promises {partial.total:,} bytes, and {wanted.num_bytes:,} when asked before"
            )
            raise self._from_the_beginning(partial, detail)

    def _require_length(self, partial: Partial, wanted: Wanted) -> None:
        """Raise unless the number of bytes is the length that the server gave, now and before."""
        got, promised = partial.num_bytes, partial.total
        if promised is not None and got < promised:
            detail = f"{shown(wanted.url)}: got {got:,} bytes of {promised:,}"
            raise Transient(FetchReason.CONNECTION, detail)
        for expected in (promised, wanted.num_bytes):
            if expected is not None and got != expected:
                detail = f"{shown(wanted.url)}: got {got:,} bytes, expected {expected:,}"
                raise self._from_the_beginning(partial, detail)

    def _finish(self, wanted: Wanted, partial: Partial) -> None:
        """Check the whole file and give it its name."""
        with partial.path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
        self._require_content(head, wanted, partial)
        if wanted.sha256 is not None and not (found := sha256_of(partial.path)).startswith(wanted.sha256.lower()):
            self.on_bytes(-partial.num_bytes)
            partial.discard()
            detail = f"{shown(wanted.url)}: got bytes with SHA-256 {found}, expected {wanted.sha256.lower()}"
            raise FetchFailed(FetchReason.CHECKSUM, detail)
        partial.finish()

    def _already_there(self, wanted: Wanted) -> Fetched:
        if wanted.sha256 is not None and not (found := sha256_of(wanted.path)).startswith(wanted.sha256.lower()):
            detail = f"{wanted.path}: got SHA-256 {found}, expected {wanted.sha256.lower()}; delete the file"
            return Fetched(path=wanted.path, status="failed", reason=FetchReason.CHECKSUM, detail=detail)
        Partial(wanted.path).forget()  # may be left by a run that was killed right after the rename
        return Fetched(path=wanted.path, status="already_there", num_bytes=wanted.path.stat().st_size)

    def _ask_size(self, url: str) -> int | None:
        length = None
        try:
            with self._connections.open("HEAD", url, {}) as response:
                length = responses.content_length(response.headers)
        except Transient:
            raise
        except FetchFailed as failure:
            if failure.status is None:
                raise
            # Some servers refuse HEAD, in various ways, and a signed address may be valid only for GET.
        if length:
            return length
        with self._connections.open("GET", url, {"Range": "bytes=0-0"}) as response:
            if response.status_code == HTTPStatus.PARTIAL_CONTENT:
                _, total = responses.content_range(response.headers.get("content-range")) or (None, None)
                return total
            return responses.content_length(response.headers) if response.status_code == HTTPStatus.OK else None

    def _read(self, url: str, max_bytes: int) -> bytes:
        body = b""
        with self._connections.open("GET", url, {}) as response:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > max_bytes:
                    detail = f"{shown(url)}: got more than {max_bytes:,} bytes, expected a short list"
                    raise FetchFailed(FetchReason.WRONG_CONTENT, detail)
        return body

    def _require_not_given_up(self) -> None:
        """Raise if the server has been given up, or the run was interrupted."""
        self._connections.raise_if_stopped()
        if self._given_up:
            raise FetchFailed(FetchReason.NOT_TRIED, f"not tried, since those before it failed: {self._given_up}")

    def _count_failure(self, failure: FetchFailed, *, is_last: bool = False) -> None:
        """Count a failed file; give up the server if the other files would fail for the same reason."""
        with self._lock:
            self._failures_in_row += failure.reason in _HOPELESS
            if is_last or self._failures_in_row >= GIVE_UP_AFTER:
                self._given_up = self._given_up or failure.detail


def is_there(path: Path) -> bool:
    """Return whether a file exists and is not empty; only complete files get their name."""
    return path.is_file() and path.stat().st_size > 0


def wait_seconds(tries: int, retry_after_seconds: float | None) -> float:
    """Return the time to wait before the next try, in seconds.

    It doubles with each try. Up to half of it is subtracted at random, so that connections that broke together are not
    retried together. It is at least the time that the server asks for, up to a limit.

    Args:
        tries: number of failed tries, from 1.
        retry_after_seconds: time that the server asked for.
    """
    backoff = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2.0 ** (tries - 1))
    asked = min(retry_after_seconds or 0.0, LONGEST_RETRY_AFTER_SECONDS)
    return max(asked, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries, hides nothing


def require_sha256(text: str) -> str:
    """Return a hex SHA-256 in lower case.

    Raises:
        ConfigError: the text is not a SHA-256.
    """
    digits = text.strip().lower()
    if len(digits) != 64 or not set(digits) <= set("0123456789abcdef"):
        raise ConfigError(f"--sha256: got {text!r}, expected 64 hex digits")
    return digits
