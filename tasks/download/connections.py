"""Connections to a web server: their number, redirects, failures and cancellation.

Servers of research datasets drop clients that open 8 or more connections. All requests of a run share one limit.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import Any
from weakref import WeakSet

import httpx

from manifests.errors import ConfigError, FaceshardsError
from tasks.download.proxies import fault_for, prepare_proxies
from tasks.download.responses import content_length, retry_after_seconds, shown

MAX_CONNECTIONS = 4  # half of the 8 at which FaceForensics++'s servers drop a client
MAX_REDIRECTS = 10
# A small error page is read to its end, which keeps the connection for the next request; a larger one is not read.
DRAIN_BYTES = 64 * 1024
CLOSING_SECONDS = 5.0  # how long `close` waits for requests that have been told to stop

_OPENED = frozenset({"connection.connect_tcp.complete", "connection.start_tls.complete"})  # events of httpcore's trace
_NEVER = frozenset({HTTPStatus.NOT_IMPLEMENTED, HTTPStatus.HTTP_VERSION_NOT_SUPPORTED})
_TRY_AGAIN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


class FetchReason(StrEnum):
    """Reason why a file could not be fetched. The set is closed: scripts may match on these words."""

    DENIED = "denied"  # 401, 403: no access
    NOT_FOUND = "not_found"  # 404, 410
    SERVER = "server"  # it answered with an error, or with something wrong, in all tries
    CONNECTION = "connection"  # no answer, or a broken connection, in all tries
    ADDRESS = "address"  # not a URL that can be fetched, or no host of this name
    WRONG_CONTENT = "wrong_content"  # a web page instead of a video, and the like
    CHECKSUM = "checksum"  # the bytes do not match the checksum
    DISK = "disk"  # the disk is full, or the folder cannot be written to
    NOT_TRIED = "not_tried"  # the run was interrupted, or gave up the server, before this file


class FetchFailed(FaceshardsError):
    """A file could not be fetched.

    Args:
        reason: the reason, from the closed set.
        detail: the reason for a person: one line, without credentials.
        status: HTTP status of the server's answer, if it gave one.
    """

    def __init__(self, reason: FetchReason, detail: str, status: int | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.status = status


class Transient(FetchFailed):
    """A failure that may be temporary: another try may succeed.

    Args:
        retry_after_seconds: how long the server asks to wait; None if it does not.
    """

    def __init__(
        self, reason: FetchReason, detail: str, status: int | None = None, retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(reason, detail, status)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSettings:
    """Settings of the connections to a server."""

    connections: int = MAX_CONNECTIONS
    """Largest number of connections at a time."""

    connect_timeout_s: float = 10.0
    """Time limit for making a connection, seconds; Ctrl-C may have to wait for as long."""

    read_timeout_s: float = 60.0
    """Time limit without a single byte, seconds."""

    headers: Mapping[str, str] = field(default_factory=dict)
    """HTTP headers, sent to the host that a URL names, but never to a host that it redirects to."""

    def __post_init__(self) -> None:
        """Refuse a number of connections at which servers drop the client."""
        if not 1 <= self.connections <= MAX_CONNECTIONS:
            raise ConfigError(
                f"connections: got {self.connections}, expected 1 to {MAX_CONNECTIONS}; "
                "the servers drop clients that open 8 or more"
            )


class Connections:
    """All connections of a run; may be used from several threads.

    Args:
        settings: number of connections, and time limits.
    """

    def __init__(self, settings: ConnectionSettings) -> None:
        # These loggers write whole URLs, which may contain secrets.
        for name in ("httpx", "httpcore"):
            logging.getLogger(name).setLevel(logging.WARNING)
        self._settings = settings
        self._permits = threading.BoundedSemaphore(settings.connections)
        self._lock = threading.Lock()
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self.stopped = threading.Event()
        prepare_proxies()
        self._client = httpx.Client(
            # Idle connections stay open: an expired one is replaced before the server sees it close, so both count.
            limits=httpx.Limits(
                max_connections=settings.connections,
                max_keepalive_connections=settings.connections,
                keepalive_expiry=None,
            ),
            timeout=httpx.Timeout(settings.read_timeout_s, connect=settings.connect_timeout_s, pool=None),
        )

    @contextmanager
    def open(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """Send a request and follow its redirects; yields an answer whose body can be read inside the block.

        Args:
            method: GET or HEAD.
            url: http or https.
            headers: headers in addition to those of the settings; with `Range`, an answer 416 is yielded as well.

        Raises:
            Transient: there was no answer, it broke off, or it asks to try again.
            FetchFailed: the answer will be the same next time, or `stop` was called.
        """
        with self._permits:
            try:
                response = self._follow(method, url, headers)
                try:
                    self._require_success(response, url, may_be_416="Range" in headers)
                    yield response
                    _drain(response)
                finally:
                    response.close()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                self.raise_if_stopped()
                raise _failure(error, url) from error

    def raise_if_stopped(self) -> None:
        """Raise if `stop` was called.

        Raises:
            FetchFailed: `stop` was called.
        """
        if self.stopped.is_set():
            raise FetchFailed(FetchReason.NOT_TRIED, "interrupted")

    def stop(self) -> None:
        """Make all requests fail at once, also those that wait for a byte, and prevent new ones."""
        self.stopped.set()
        with self._lock:
            for opened in self._sockets:
                _shut(opened)

    def close(self) -> None:
        """Stop, wait until the connections are no longer used, and close them."""
        self.stop()
        num_free = sum(self._permits.acquire(timeout=CLOSING_SECONDS) for _ in range(self._settings.connections))
        self._client.close()
        if num_free:
            self._permits.release(num_free)  # waiting threads then find that `stop` was called

    def _follow(self, method: str, url: str, headers: Mapping[str, str]) -> httpx.Response:
        """Send the request, and send it again to wherever it is redirected."""
        here = start = httpx.URL(url)
        for _ in range(MAX_REDIRECTS):
            self.raise_if_stopped()
            if here.scheme not in ("http", "https") or not here.host:
                came_from = "" if here is start else f", redirected from {shown(url)}"
                raise FetchFailed(
                    FetchReason.ADDRESS, f"address: got {shown(str(here))}{came_from}, expected http:// or https://"
                )
            if (fault := fault_for(here)) is not None:
                raise FetchFailed(FetchReason.CONNECTION, fault)
            own = self._settings.headers if _origin(here) == _origin(start) else {}
            # The bytes must be those on the server: a compressed transfer would change lengths and ranges.
            sent = {**own, **headers, "Accept-Encoding": "identity"}
            request = self._client.build_request(method, here, headers=sent, extensions={"trace": self._note_socket})
            response = self._client.send(request, stream=True)
            if not response.has_redirect_location:
                return response
            _drain(response)
            here = here.join(response.headers["location"])
        raise FetchFailed(FetchReason.SERVER, f"{shown(url)}: got more than {MAX_REDIRECTS} redirects, expected a file")

    def _note_socket(self, event: str, info: Mapping[str, Any]) -> None:
        """Record every connection that httpcore opens, so that `stop` finds it; after `stop`, shut it at once."""
        if event not in _OPENED:
            return
        opened = info["return_value"].get_extra_info("socket")
        with self._lock:
            self._sockets.add(opened)
            if self.stopped.is_set():
                _shut(opened)

    def _require_success(self, response: httpx.Response, url: str, *, may_be_416: bool) -> None:
        """Raise unless the answer contains the requested bytes."""
        status = response.status_code
        if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
            return
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and may_be_416:
            return
        wait_seconds = retry_after_seconds(response.headers.get("retry-after"))
        _drain(response)
        answer = f"{shown(url)}: the server answered {status} {response.reason_phrase}".rstrip()
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            detail = f"{answer}: access is not granted; check the address, and the login or token that it asks for"
            raise FetchFailed(FetchReason.DENIED, detail, status)
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise FetchFailed(FetchReason.NOT_FOUND, f"{answer}: there is no such file", status)
        if status in _TRY_AGAIN or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in _NEVER):
            raise Transient(FetchReason.SERVER, answer, status, wait_seconds)
        raise FetchFailed(FetchReason.SERVER, answer, status)


def _shut(opened: socket.socket) -> None:
    """Shut a connection while it is read; to its reader, it looks closed by the server."""
    with contextlib.suppress(OSError):  # already closed
        # Not the TLS socket's own method, which would destroy the socket while it is read.
        socket.socket.shutdown(opened, socket.SHUT_RDWR)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _drain(response: httpx.Response) -> None:
    """Read a short body to its end, so that its connection can be used again, and close the answer."""
    length = content_length(response.headers)
    is_short = response.request.method == "HEAD" or (length is not None and length <= DRAIN_BYTES)
    if is_short and not response.is_closed:
        response.read()
    response.close()


def _failure(error: httpx.HTTPError | httpx.InvalidURL, url: str) -> FetchFailed:
    """Return the message for an error of httpx."""
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        # The message of httpx may quote the URL or a header, which may contain a secret.
        return FetchFailed(FetchReason.ADDRESS, f"{shown(url)}: this address or a header for it cannot be sent")
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
            return FetchFailed(
                FetchReason.ADDRESS, f"{shown(url)}: there is no host of this name; check the address, and the network"
            )
        if isinstance(cause, ssl.SSLCertVerificationError):
            detail = f"{shown(url)}: its certificate cannot be trusted ({cause.verify_message})"
            return FetchFailed(FetchReason.ADDRESS, detail)
    if isinstance(error, httpx.TimeoutException):
        return Transient(FetchReason.CONNECTION, f"{shown(url)}: no answer in time")
    return Transient(FetchReason.CONNECTION, f"{shown(url)}: {str(error) or type(error).__name__}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
