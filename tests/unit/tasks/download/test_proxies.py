"""Loopback is never proxied, and a proxy that httpx cannot use fails only addresses that need it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.request import proxy_bypass

import httpx
import pytest

from tasks.download.connections import Connections, ConnectionSettings, FetchFailed
from tasks.download.proxies import SET_ASIDE, fault_for, prepare_proxies

LOCAL = ("http://127.0.0.1:4200/api", "http://localhost:8123", "http://[::1]:4200")


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Begin without proxies, and put the environment back."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


def is_proxied(client: httpx.Client, url: str) -> bool:
    return client._transport_for_url(httpx.URL(url)) is not client._transport


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
@pytest.mark.parametrize(
    ("proxy", "exempt"),
    [
        ("http://127.0.0.1:9", None),
        ("127.0.0.1:9", ""),
        ("http://user:word@proxy:3128", "corp.example,10.0.0.0/8"),
        ("http://127.0.0.1:9", "[::1],fd00::/8, .lab , ünï.de"),
    ],
)
def test_loopback_is_exempt_and_other_addresses_are_not(name: str, proxy: str, exempt: str | None) -> None:
    os.environ[name] = proxy
    if exempt is not None:
        os.environ["NO_PROXY"] = exempt
    prepare_proxies("node7")
    with httpx.Client(verify=False) as client:
        assert [is_proxied(client, url) for url in (*LOCAL, "http://node7:4200")] == [False] * 4
        assert is_proxied(client, "http://example.com")
        assert not (exempt and "corp" in exempt and is_proxied(client, "http://www.corp.example"))
    assert all(proxy_bypass(host) for host in ("127.0.0.1:4200", "localhost", "::1:4200", "node7:80"))
    assert os.environ["NO_PROXY"] == os.environ["no_proxy"]
    assert SET_ASIDE not in os.environ


def test_an_exemption_of_everything_stays() -> None:
    os.environ |= {"HTTP_PROXY": "http://proxy:1", "NO_PROXY": "*"}
    prepare_proxies()
    assert os.environ["NO_PROXY"] == "*"
    assert "no_proxy" not in os.environ


def test_without_a_proxy_the_environment_stays() -> None:
    before = dict(os.environ)
    prepare_proxies()
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    ("name", "proxy", "told"),
    [
        ("ALL_PROXY", "socks5://u:secret@h:1080", "ALL_PROXY: got socks5://h:1080, expected the package socksio"),
        ("all_proxy", "socks5h://h:1080", "expected the package socksio to be installed, which SOCKS needs; run: pip"),
        ("all_proxy", "socks://127.0.0.1:7890/", "ALL_PROXY: got socks://127.0.0.1:7890/, expected http://HOST:PORT"),
        ("HTTP_PROXY", "ftp://x", "HTTP_PROXY: got ftp://x, expected http://HOST:PORT"),
        ("http_proxy", "h:port", "correct the variable, or unset it"),
        ("HTTP_PROXY", "http://h:99999", "a port up to 65535"),
        ("HTTP_PROXY", "http://", "an address with a host"),
        ("Http_Proxy", " ", "an address with a host"),
    ],
)
def test_a_proxy_that_cannot_be_used_fails_only_addresses_that_need_it(
    monkeypatch: pytest.MonkeyPatch, name: str, proxy: str, told: str
) -> None:
    monkeypatch.setattr("tasks.download.proxies.find_spec", lambda _: None)
    os.environ[name] = proxy
    os.environ["no_proxy"] = "mirror.lab"
    for _ in range(2):  # the second time in a process that inherited the environment
        prepare_proxies()
        assert name not in os.environ
        fault = fault_for(httpx.URL("http://example.com/file"))
        assert fault is not None
        assert told in fault
        assert "secret" not in fault
        assert [fault_for(httpx.URL(url)) for url in (*LOCAL[:2], "http://mirror.lab/file")] == [None] * 3


def test_a_download_names_the_proxy_that_it_cannot_use() -> None:
    os.environ["ALL_PROXY"] = "socks4://h:1080"
    connections = Connections(ConnectionSettings())
    with pytest.raises(FetchFailed, match=r"ALL_PROXY: got socks4:"), connections.open("GET", "http://e.com", {}):
        pass
    connections.close()


def test_a_broken_proxy_for_all_does_not_count_where_there_is_one_for_the_scheme() -> None:
    os.environ |= {"all_proxy": "socks://127.0.0.1:7890", "https_proxy": "http://127.0.0.1:7890"}  # GNOME sets both
    prepare_proxies()
    assert fault_for(httpx.URL("https://example.com")) is None
    assert fault_for(httpx.URL("http://example.com")) is not None
    with httpx.Client(verify=False) as client:
        assert is_proxied(client, "https://example.com")
