"""Proxies that the environment names: never used for this machine, and set aside where httpx cannot use them.

httpx prepares every proxy of the environment when a client is made. So one that it cannot use (a SOCKS proxy without
the package socksio, a scheme that it does not know) fails even requests that would not use a proxy. Such a variable is
removed from the environment, and `fault_for` returns what is wrong with it for addresses that need it.
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from ipaddress import IPv6Address
from typing import Final
from urllib.request import getproxies_environment, proxy_bypass

import httpx

from tasks.download.responses import shown

THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")
SET_ASIDE: Final = "FACESHARDS_PROXIES_SET_ASIDE"  # in the environment, so that processes of the run inherit it
MAX_PORT: Final = 65535


def prepare_proxies(*local_hosts: str) -> None:
    """Exempt this machine from the proxies of the environment, and set aside the proxies that httpx cannot use.

    Args:
        local_hosts: further names of this machine, such as that of a local server.
    """
    faults = _set_aside()
    for scheme, url in getproxies_environment().items():
        fault = _fault(scheme, url) if scheme in ("http", "https", "all") else None
        if fault is not None:
            faults[scheme] = fault
            for name in [name for name in os.environ if name.lower() == f"{scheme}_proxy"]:
                del os.environ[name]
    if faults:
        os.environ[SET_ASIDE] = json.dumps(faults)
    left = getproxies_environment()
    entries = [entry.strip() for entry in left.pop("no", "").split(",")]
    if not (left or faults) or "*" in entries:
        return
    kept = dict.fromkeys(_for_httpx(entry) for entry in (*entries, *THIS_MACHINE, *local_hosts))
    for name in ("NO_PROXY", "no_proxy"):  # libraries differ in which of them counts
        os.environ[name] = ",".join(entry for entry in kept if entry)


def fault_for(url: httpx.URL) -> str | None:
    """Return what is wrong with the proxy that the user's environment names for an address; None: nothing."""
    faults = _set_aside()
    fault = faults.get(url.scheme) or (None if url.scheme in getproxies_environment() else faults.get("all"))
    return None if fault is None or proxy_bypass(url.host) else fault


def _set_aside() -> dict[str, str]:
    """Return what is wrong with the proxies that were set aside, by scheme."""
    faults: dict[str, str] = json.loads(os.environ.get(SET_ASIDE, "{}"))
    return faults


def _fault(scheme: str, url: str) -> str | None:
    """Return why httpx cannot use a proxy; None if it can."""
    url = url if "://" in url else f"http://{url.strip()}"  # as httpx reads it
    found = f"{scheme.upper()}_PROXY: got {shown(url)}, expected"
    way_out = "correct the variable, or unset it"
    try:
        proxy = httpx.Proxy(url).url
    except (ValueError, httpx.InvalidURL):
        return f"{found} http://HOST:PORT, https://HOST:PORT or socks5://HOST:PORT; {way_out}"
    if not proxy.host.strip() or (proxy.port or 0) > MAX_PORT:
        return f"{found} an address with a host and a port up to {MAX_PORT}; {way_out}"
    if proxy.scheme.startswith("socks") and find_spec("socksio") is None:
        return f"{found} the package socksio to be installed, which SOCKS needs; run: pip install socksio"
    return None


def _for_httpx(entry: str) -> str:
    """Return an entry of NO_PROXY in a form that httpx can read; empty if there is none, as for a range of IPv6."""
    address = entry.strip("[]")
    try:
        return str(IPv6Address(address))
    except ValueError:
        pass
    try:
        httpx.URL(f"all://*{entry}")
    except httpx.InvalidURL:
        return ""
    return entry
