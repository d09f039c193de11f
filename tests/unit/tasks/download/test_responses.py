"""How headers are read, and what may be shown of an address."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tasks.download.responses import (
    content_length,
    content_range,
    contradicts,
    retry_after_seconds,
    says_where_it_ends,
    shown,
    unsatisfied_total,
    validator,
)

NOW = datetime(2015, 10, 21, 7, 28, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://host/a/b.mp4", "http://host/a/b.mp4"),
        ("https://me:secret@host:8100/a?token=secret#secret", "https://host:8100/a"),
        ("http://[::1]:80/a", "http://[::1]:80/a"),
        ("http://host:secret/", "(not a URL)"),
        ("http://[secret/", "(not a URL)"),
    ],
)
def test_what_is_shown_of_an_address(url: str, expected: str) -> None:
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes 5-9/10", (5, 10)),
        (" bytes 0-0/* ", (0, None)),
        ("bytes 9-5/10", None),
        ("bytes 5-10/10", None),
        ("bytes */10", None),
        ("items 5-9/10", None),
        ("bytes 5-9", None),
        ("", None),
        (None, None),
    ],
)
def test_content_range(header: str | None, expected: tuple[int, int | None] | None) -> None:
    assert content_range(header) == expected


def test_unsatisfied_range() -> None:
    assert [unsatisfied_total(header) for header in ("bytes */10", "bytes 0-1/10", None)] == [10, None, None]


def test_lengths_and_ends() -> None:
    assert [content_length({"content-length": text}) for text in ("12", " 0 ", "-1", "x", "")] == [
        12,
        0,
        None,
        None,
        None,
    ]
    assert says_where_it_ends({"content-length": "1"})
    assert says_where_it_ends({"transfer-encoding": "gzip, Chunked"})
    assert not says_where_it_ends({"connection": "close"})


DATE = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"etag": '"a"', "last-modified": DATE}, '"a"'),
        ({"etag": 'W/"a"', "last-modified": DATE}, DATE),
        ({"etag": 'W/"a"'}, None),
        ({"last-modified": DATE}, DATE),
        ({}, None),
    ],
)
def test_only_what_promises_equal_bytes_is_a_validator(headers: dict[str, str], expected: str | None) -> None:
    assert validator(headers) == expected


@pytest.mark.parametrize(
    ("known", "headers", "expected"),
    [
        ('"a"', {"etag": '"a"', "last-modified": "another day"}, False),
        ('"a"', {"etag": '"b"'}, True),
        ('"a"', {"last-modified": DATE}, False),
        (DATE, {"etag": '"b"', "last-modified": DATE}, False),
        (DATE, {"last-modified": "another day"}, True),
        (DATE, {}, False),
    ],
)
def test_an_answer_contradicts_only_what_it_speaks_about(known: str, headers: dict[str, str], expected: bool) -> None:
    assert contradicts(known, headers) is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("17", 17),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2015 07:28:30", 30),
        ("Wed, 21 Oct 2015 07:00:00 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after(header: str | None, expected: float | None) -> None:
    assert retry_after_seconds(header, NOW) == expected
