"""Parsing of HTTP responses: ranges, lengths, validators, waiting times. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

_CONTENT_RANGE = re.compile(r"bytes (?P<first>\d+)-(?P<last>\d+)/(?P<total>\d+|\*)")
_UNSATISFIED_RANGE = re.compile(r"bytes \*/(?P<total>\d+)")


def shown(url: str) -> str:
    """Return a URL as it may be printed and logged: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "(not a URL)"
    return f"{parts.scheme}://{host}{port}{parts.path}"


def content_range(header: str | None) -> tuple[int, int | None] | None:
    """Read the header Content-Range of a 206 answer.

    Returns:
        Position of the first byte, from 0, and length of the whole file, bytes, None where the server does not say. Or
        None for anything but one range of bytes.
    """
    match = _CONTENT_RANGE.fullmatch((header or "").strip())
    if match is None:
        return None
    first, last = int(match["first"]), int(match["last"])
    total = None if match["total"] == "*" else int(match["total"])
    if last < first or (total is not None and last >= total):
        return None
    return first, total


def unsatisfied_total(header: str | None) -> int | None:
    """Read the whole file's length, bytes, from the Content-Range of a 416 answer."""
    match = _UNSATISFIED_RANGE.fullmatch((header or "").strip())
    return int(match["total"]) if match else None


def content_length(headers: Mapping[str, str]) -> int | None:
    """Return the length of the answer's body, bytes; None if the server does not tell."""
    length = headers.get("content-length", "").strip()
    return int(length) if length.isdecimal() else None


def says_where_it_ends(headers: Mapping[str, str]) -> bool:
    """Return whether a body that was cut off can be told from a complete one."""
    return content_length(headers) is not None or "chunked" in headers.get("transfer-encoding", "").lower()


def validator(headers: Mapping[str, str]) -> str | None:
    """Return the validator that a file is still the same: its strong ETag, else the date of its last modification.

    A weak ETag proves equal meaning, not equal bytes; RFC 9110, 13.1.5, excludes it from If-Range.
    """
    etag = headers.get("etag", "").strip()
    if etag and not etag.startswith("W/"):
        return etag
    return headers.get("last-modified", "").strip() or None


def contradicts(known: str, headers: Mapping[str, str]) -> bool:
    """Return whether an answer is about another file than the one that gave the validator `known`."""
    now = headers.get("etag" if known.startswith('"') else "last-modified", "").strip()
    return bool(now) and now != known


def retry_after_seconds(header: str | None, now: datetime | None = None) -> float | None:
    """Read the header Retry-After, given as seconds or as a date; None if it is absent or neither."""
    text = (header or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
