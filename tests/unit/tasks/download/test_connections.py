"""Connections to a real server: how many, where they may lead, what they tell, and how they end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from manifests.errors import ConfigError
from tasks.download.connections import MAX_CONNECTIONS, ConnectionSettings, FetchFailed, FetchReason
from tasks.download.fetcher import Fetched, Fetcher, Wanted
from tasks.download.file_kind import Content
from tasks.download.partial_file import Partial
from tests.helpers.fetching import NAME, VIDEO, Client
from tests.helpers.servers import WebServer, answers, drops_after, hangs, mp4_like, running


def test_redirects_are_followed_and_secrets_stay_behind(web: WebServer, tmp_path: Path) -> None:
    with running(WebServer(files={"/there.mp4": VIDEO})) as elsewhere:
        web.faults[NAME] = [answers(302, b"", Location="/moved.mp4"), answers(302, b"", Location="/moved.mp4")]
        web.faults["/moved.mp4"] = [answers(307, b"moved", Location=f"{elsewhere.url}/there.mp4?signature=x")]
        settings = ConnectionSettings(headers={"Authorization": "Bearer secret", "Cookie": "secret=1"})
        with Fetcher(settings) as fetcher:
            wanted = Wanted(url=web.url + NAME, path=tmp_path / "000.mp4", content=Content.VIDEO)
            assert fetcher.fetch(wanted).status == "fetched"
        assert [request.headers["authorization"] for request in web.requests] == ["Bearer secret"] * 2
        assert not {"authorization", "cookie"} & set(elsewhere.requests[0].headers)


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd"])
def test_redirects_lead_to_web_servers_only(web: WebServer, client: Client, target: str) -> None:
    web.faults[NAME] = [answers(302, b"", Location=target)]
    outcome = client.fetch(web.url + NAME)
    assert outcome.reason == FetchReason.ADDRESS
    assert "redirected from" in outcome.detail


def test_redirects_that_go_in_circles_end(web: WebServer, client: Client) -> None:
    web.faults[NAME] = [answers(302, b"", Location=NAME)] * 20
    assert "more than 10 redirects" in client.fetch(web.url + NAME).detail


@pytest.mark.parametrize("url", ["ftp://host/a.mp4", "a.mp4", "http://[/a.mp4", "http://no-such-host.invalid/a.mp4"])
def test_addresses_that_lead_nowhere(client: Client, url: str) -> None:
    assert client.fetch(url).reason == FetchReason.ADDRESS
    assert client.waits == []


def test_a_server_that_is_not_there(client: Client) -> None:
    outcome = client.fetch("http://127.0.0.1:9/a.mp4")
    assert outcome.reason == FetchReason.CONNECTION
    assert len(client.waits) == 3


def test_no_secret_is_told(web: WebServer, client: Client, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret_url = web.url.replace("http://", "http://me:secret@") + NAME + "?token=secret#secret"
    web.faults[NAME] = [
        answers(403),
        answers(503),
        drops_after(5),
        answers(302, b"", Location="ftp://me:secret@h/?secret"),
    ]
    details = [client.fetch(secret_url).detail for _ in range(2)]
    details.append(client.fetch("http://me:secret@127.0.0.1:9/a.mp4?token=secret").detail)
    details.append(client.fetch("http://me:secret@127.0.0.1:secret/?secret").detail)
    assert "secret" not in "".join(details) + caplog.text
    assert web.requests[0].headers["authorization"].startswith("Basic ")
    with pytest.raises(FetchFailed) as failure:
        client.fetcher.read(secret_url.replace(NAME, "/none"), 10)
    assert "secret" not in str(failure.value)


def test_four_connections_at_most(web: WebServer, tmp_path: Path) -> None:
    names = [f"/{number:03d}.mp4" for number in range(40)]
    web.files |= {name: mp4_like(50_000, seed) for seed, name in enumerate(names)}
    with Fetcher(pause=lambda _: None) as fetcher, ThreadPoolExecutor(12) as threads:
        wanted = [Wanted(url=web.url + name, path=tmp_path / name[1:], content=Content.VIDEO) for name in names]
        assert {fetched.status for fetched in threads.map(fetcher.fetch, wanted)} == {"fetched"}
        sizes = list(threads.map(fetcher.size, [web.url + name for name in names]))
        web.head_status = 405
        sizes += list(threads.map(fetcher.size, [web.url + name for name in names]))
        missing = list(threads.map(fetcher.size, [f"{web.url}/none{number}" for number in range(8)]))
    assert {size.num_bytes for size in sizes} == {50_000}
    assert {size.num_bytes for size in missing} == {None}
    assert 1 < web.peak_open <= MAX_CONNECTIONS
    assert web.num_opened <= MAX_CONNECTIONS, "connections are used again"
    assert all((tmp_path / name[1:]).read_bytes() == web.files[name] for name in names)


def test_more_than_four_connections_are_refused() -> None:
    for number in (0, 5):
        with pytest.raises(ConfigError, match=f"got {number}, expected 1 to 4; the servers drop clients that open 8"):
            ConnectionSettings(connections=number)


def test_stop_ends_a_request_that_hangs(web: WebServer, tmp_path: Path) -> None:
    web.faults[NAME] = [drops_after(100_000), hangs]
    fetcher = Fetcher(ConnectionSettings(read_timeout_s=60), pause=lambda _: None)
    outcomes: list[Fetched] = []
    wanted = Wanted(url=web.url + NAME, path=tmp_path / "000.mp4", content=Content.VIDEO)
    thread = threading.Thread(target=lambda: outcomes.append(fetcher.fetch(wanted)))
    thread.start()
    wait_until(lambda: len(web.requests) == 2 and not web.faults[NAME])
    started = time.monotonic()
    fetcher.__exit__(None, None, None)
    thread.join(5)
    assert time.monotonic() - started < 2
    assert (outcomes[0].reason, outcomes[0].detail) == (FetchReason.NOT_TRIED, "interrupted")
    assert fetcher.fetch(wanted).reason == FetchReason.NOT_TRIED
    assert Partial(wanted.path).num_bytes in (0, 100_000)


def test_stop_reaches_those_who_wait_for_a_connection(web: WebServer, tmp_path: Path) -> None:
    names = [f"/{number}.mp4" for number in range(6)]
    web.files |= dict.fromkeys(names, VIDEO)
    web.faults |= {name: [hangs] for name in names}
    fetcher = Fetcher(ConnectionSettings(connections=1))
    wanted = [Wanted(url=web.url + name, path=tmp_path / name[1:], content=Content.VIDEO) for name in names]
    outcomes: list[Fetched] = []
    threads = [
        threading.Thread(target=lambda one=one: outcomes.append(fetcher.fetch(one)), daemon=True) for one in wanted
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(web.requests) == 1)
    fetcher.__exit__(None, None, None)
    wait_until(lambda: len(outcomes) == len(wanted))
    assert {outcome.reason for outcome in outcomes} == {FetchReason.NOT_TRIED}
    assert len(web.requests) == 1


def test_stop_ends_a_wait(web: WebServer, tmp_path: Path) -> None:
    web.faults[NAME] = [answers(503, Retry_After="100")]
    with Fetcher() as fetcher:
        threading.Timer(0.1, fetcher.stop).start()
        wanted = Wanted(url=web.url + NAME, path=tmp_path / "000.mp4", content=Content.VIDEO)
        assert fetcher.fetch(wanted).reason == FetchReason.NOT_TRIED


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
