"""A web server on loopback that serves files from memory, with the faults of real dataset servers."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

Answer = Callable[["Handler", bytes], None]

# Small enough that a body that is cut off reaches the client in parts.
CHUNK_BYTES = 16 * 1024
WEB_PAGE = b"<!DOCTYPE html><html><head><title>Please log in</title></head></html>"


def mp4_like(num_bytes: int, seed: int = 0) -> bytes:
    """Return bytes that begin like an MP4 video."""
    block = hashlib.sha256(str(seed).encode()).digest()
    return (b"\x00\x00\x00\x18ftypisom" + block * (num_bytes // 32 + 1))[:num_bytes]


@dataclass
class Request:
    """A request that the server received."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class WebServer:
    """The files that are served, the faults that come first, and the requests received."""

    files: dict[str, bytes] = field(default_factory=dict)
    # by path, such as `/v3/misc/filelist.json`

    faults: dict[str, list[Answer]] = field(default_factory=lambda: defaultdict(list))
    # by path: one is taken away by each GET and answers it; afterwards the file is served as it should be

    head_status: int = 200
    # answer to every HEAD for a file that exists

    validators: tuple[str, ...] = ("ETag", "Last-Modified")
    # which of them are sent

    requests: list[Request] = field(default_factory=list)
    url: str = ""
    num_open: int = 0
    peak_open: int = 0
    num_opened: int = 0
    # connections: now, most at the same time, altogether

    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        """Return the requests for a path."""
        return [request for request in self.requests if (request.path, request.method) == (path, method)]


class Handler(BaseHTTPRequestHandler):
    """The handler of one connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are written one after the other
    web: WebServer  # set on the subclass of each server

    def setup(self) -> None:
        super().setup()
        with self.web.lock:
            self.web.num_open += 1
            self.web.num_opened += 1
            self.web.peak_open = max(self.web.peak_open, self.web.num_open)

    def finish(self) -> None:
        with self.web.lock:
            self.web.num_open -= 1
        super().finish()

    def handle(self) -> None:
        try:
            super().handle()
        except ConnectionError:
            self.close_connection = True  # the client went away, as clients do

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self._note()
        body = self.web.files.get(self.path.partition("?")[0])
        status = 404 if body is None else self.web.head_status
        self.start(status, {"Content-Length": len(body or b"") if status == 200 else 0})

    def do_GET(self) -> None:
        self._note()
        path = self.path.partition("?")[0]
        body = self.web.files.get(path, b"")
        with self.web.lock:
            fault = self.web.faults[path].pop(0) if self.web.faults.get(path) else None
        if fault is not None:
            fault(self, body)
        elif path not in self.web.files:
            self.reply(404, b"not here")
        else:
            self.serve(body)

    def serve(self, body: bytes) -> None:
        """Answer without a fault: the whole file, or the requested range if the file has not changed."""
        position = self.position()
        if position is None or self.headers.get("If-Range") not in (None, *self.validators(body).values()):
            self.reply(200, body)
        elif position >= len(body):
            self.reply(416, b"", {"Content-Range": f"bytes */{len(body)}"})
        else:
            end = len(body) if self.headers["Range"].endswith("-") else position + 1
            part = body[position:end]
            self.reply(206, part, {"Content-Range": f"bytes {position}-{end - 1}/{len(body)}"}, whole=body)

    def position(self) -> int | None:
        """Return the first byte of the requested range; None without a range."""
        match = re.fullmatch(r"bytes=(\d+)-\d*", self.headers.get("Range", ""))
        return int(match[1]) if match else None

    def validators(self, body: bytes) -> dict[str, str]:
        """Return the ETag and the date of a file, which follow from its bytes."""
        digest = hashlib.sha256(body).hexdigest()
        found = {
            "ETag": f'"{digest[:16]}"',
            "Last-Modified": f"Wed, 21 Oct 2015 07:{int(digest[:2], 16) % 60:02d}:{int(digest[2:4], 16) % 60:02d} GMT",
        }
        return {name: found[name] for name in self.web.validators}

    def reply(
        self, status: int, body: bytes, headers: dict[str, Any] | None = None, *, whole: bytes | None = None
    ) -> None:
        """Send a complete response."""
        known = self.validators(body if whole is None else whole) if status in (200, 206) else {}
        self.start(status, {"Content-Length": len(body), **known, **(headers or {})})
        self.wfile.write(body)

    def start(self, status: int, headers: dict[str, Any]) -> None:
        """Send the status and the headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()

    def break_off(self) -> None:
        """Close the connection before the response is complete."""
        self.wfile.flush()
        self.close_connection = True

    def _note(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        with self.web.lock:
            self.web.requests.append(Request(self.command, self.path, headers))


def drops_after(num_bytes: int) -> Answer:
    """Announce the full length, send this many bytes, close the connection."""

    def answer(handler: Handler, body: bytes) -> None:
        position = handler.position() or 0
        headers: dict[str, Any] = {"Content-Length": len(body) - position, **handler.validators(body)}
        if position:
            headers["Content-Range"] = f"bytes {position}-{len(body) - 1}/{len(body)}"
        handler.start(206 if position else 200, headers)
        handler.wfile.write(body[position : position + num_bytes])
        handler.break_off()

    return answer


def answers(status: int, body: bytes = b"", **headers: str) -> Answer:
    """Respond with this status and body, and with headers such as `Retry_After="3"`."""

    def answer(handler: Handler, _body: bytes) -> None:
        handler.reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})

    return answer


def ignores_range(handler: Handler, body: bytes) -> None:
    """Send the whole file, also where a range was requested."""
    handler.reply(200, body)


def hangs(handler: Handler, body: bytes) -> None:
    """Send headers, and no body until the server is closed."""
    handler.start(200, {"Content-Length": len(body)})
    handler.wfile.flush()
    handler.web.closing.wait()
    handler.break_off()


def without_length(handler: Handler, body: bytes) -> None:
    """Send half of the file without a length or an end marker."""
    handler.start(200, {"Connection": "close"})
    handler.wfile.write(body[: len(body) // 2])
    handler.break_off()


def chunked(handler: Handler, body: bytes) -> None:
    """Send the file in chunks with an end marker, without a length."""
    handler.start(200, {"Transfer-Encoding": "chunked"})
    for start in range(0, len(body), CHUNK_BYTES):
        part = body[start : start + CHUNK_BYTES]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
    handler.wfile.write(b"0\r\n\r\n")


def claims_length(num_bytes: int) -> Answer:
    """Announce this length, send the file, close the connection."""

    def answer(handler: Handler, body: bytes) -> None:
        handler.start(200, {"Content-Length": num_bytes, **handler.validators(body)})
        handler.wfile.write(body)
        handler.break_off()

    return answer


def sends_part(first: int) -> Answer:
    """Send another range than the requested one, with the right headers for it."""

    def answer(handler: Handler, body: bytes) -> None:
        handler.reply(206, body[first:], {"Content-Range": f"bytes {first}-{len(body) - 1}/{len(body)}"}, whole=body)

    return answer


def as_ffpp_server(root: Path, pairs: list[list[str]]) -> dict[str, bytes]:
    """Return the files that a server of FaceForensics++ would serve for a dataset on disk."""
    files = {f"/v3/{path.relative_to(root).as_posix()}": path.read_bytes() for path in root.rglob("*.mp4")}
    return files | {"/v3/misc/filelist.json": json.dumps(pairs).encode()}


@contextmanager
def running(web: WebServer) -> Iterator[WebServer]:
    """Serve on a free port of loopback until the block ends, then join all threads."""

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # so that closing waits for them

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Ignore clients that close their connection."""

    server = Server(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"web": web, "timeout": 20}))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield web
    finally:
        web.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
