"""The fetcher against a real server that misbehaves: a file lands whole under its name, or not at all."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

import tasks.download.fetcher
from manifests.errors import ConfigError
from tasks.download.connections import FetchFailed, FetchReason
from tasks.download.fetcher import (
    GIVE_UP_AFTER,
    LONGEST_RETRY_AFTER_SECONDS,
    Fetched,
    require_sha256,
    wait_seconds,
)
from tasks.download.partial_file import Partial
from tests.helpers.fetching import NAME, VIDEO, Client
from tests.helpers.servers import (
    WEB_PAGE,
    Answer,
    WebServer,
    answers,
    chunked,
    claims_length,
    drops_after,
    hangs,
    ignores_range,
    mp4_like,
    sends_part,
    without_length,
)

OTHER_VIDEO = mp4_like(300_000, seed=1)


def test_a_file_lands_whole_and_is_not_fetched_twice(web: WebServer, client: Client) -> None:
    path = client.folder / "000.mp4"
    assert client.fetch(web.url + NAME) == Fetched(path=path, status="fetched", num_bytes=len(VIDEO))
    assert path.read_bytes() == VIDEO
    assert client.num_bytes == len(VIDEO)
    assert client.fetch(web.url + NAME).status == "already_there"
    assert len(web.requests) == 1
    assert web.requests[0].headers["accept-encoding"] == "identity"
    assert client.files == ["000.mp4"]


def test_an_empty_file_under_the_name_counts_as_none(web: WebServer, client: Client) -> None:
    client.folder.mkdir()
    (client.folder / "000.mp4").touch()
    assert client.fetch(web.url + NAME).status == "fetched"


RETRIED: dict[str, tuple[list[Answer], int]] = {
    # name: faults, and how many bytes the last request may not ask for again
    "dropped half-way": ([drops_after(100_000)], 100_000),
    "dropped three times": ([drops_after(100_000), drops_after(50_000), drops_after(1)], 150_001),
    "dropped before the body": ([drops_after(0)], 0),
    "429": ([answers(429, b"slow down")], 0),
    "503": ([answers(503), answers(503)], 0),
    "500 with a page": ([answers(500, WEB_PAGE)], 0),
    "hanging": ([hangs], 0),
    "length too long": ([claims_length(400_000)], 300_000),
    "range ignored": ([drops_after(100_000), ignores_range], 100_000),
    "an earlier part": ([drops_after(100_000), sends_part(99_999)], 0),
    "a later part": ([drops_after(100_000), sends_part(100_001)], 0),
    "a part that nobody asked for": ([sends_part(10)], 0),
    "refused rest": ([drops_after(100_000), answers(416, b"", Content_Range="bytes */5")], 0),
}


@pytest.mark.parametrize(("faults", "resumed_at"), RETRIED.values(), ids=RETRIED)
def test_what_may_work_later_is_tried_again(
    web: WebServer, client: Client, faults: list[Answer], resumed_at: int
) -> None:
    web.faults[NAME] = list(faults)
    assert client.fetch(web.url + NAME).status == "fetched"
    assert (client.folder / "000.mp4").read_bytes() == VIDEO
    assert client.num_bytes == len(VIDEO), "bytes that were thrown away are not counted"
    assert client.files == ["000.mp4"]
    assert len(client.waits) == len([fault for fault in faults if fault is not ignores_range])
    asked_for = web.requests[-1].headers.get("range")
    assert asked_for == (f"bytes={resumed_at}-" if resumed_at else None)


def test_a_server_that_never_gets_better_is_left_alone(web: WebServer, client: Client) -> None:
    web.faults[NAME] = [answers(503)] * 9
    outcome = client.fetch(web.url + NAME)
    assert (outcome.status, outcome.reason) == ("failed", FetchReason.SERVER)
    assert "503" in outcome.detail
    assert "tried 4 times" in outcome.detail
    assert len(web.requests) == 4
    first, second, third = client.waits
    assert 0.5 <= first <= 1 <= second <= 2 <= third <= 4


def test_the_server_says_when_to_come_back(web: WebServer, client: Client) -> None:
    web.faults[NAME] = [answers(503, Retry_After="17"), answers(429, Retry_After="86400")]
    assert client.fetch(web.url + NAME).status == "fetched"
    assert client.waits == [17, LONGEST_RETRY_AFTER_SECONDS]


def test_waits_double_up_to_a_minute() -> None:
    assert [wait_seconds(tries, None) <= limit for tries, limit in ((1, 1), (2, 2), (3, 4), (20, 60))] == [True] * 4
    assert wait_seconds(20, None) >= 30
    assert len({wait_seconds(5, None) for _ in range(10)}) > 1


def test_a_large_file_may_break_off_more_often_than_it_may_fail(
    web: WebServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks.download.fetcher, "PROGRESS_BYTES", 20_000)
    web.faults[NAME] = [drops_after(20_000)] * 12
    assert client.fetch(web.url + NAME).status == "fetched"
    assert (client.folder / "000.mp4").read_bytes() == VIDEO
    # A download that restarts from zero each time makes no progress.
    web.files["/001.mp4"], web.validators = VIDEO, ()
    web.faults["/001.mp4"] = [drops_after(20_000)] * 12
    assert client.fetch(web.url + "/001.mp4").reason == FetchReason.CONNECTION
    assert len(web.faults["/001.mp4"]) == 12 - 4
    # What counts is the furthest that it ever came.
    web.faults["/001.mp4"] = [drops_after(5_000), drops_after(25_000)] * 6
    client.folder.joinpath(".download-001.mp4").unlink()
    assert client.fetch(web.url + "/001.mp4").reason == FetchReason.CONNECTION
    assert len(web.faults["/001.mp4"]) == 12 - 5


@pytest.mark.parametrize("validators", [("ETag", "Last-Modified"), ("ETag",), ("Last-Modified",)])
def test_a_later_run_goes_on_where_an_earlier_one_ended(
    web: WebServer, tmp_path: Path, validators: tuple[str, ...]
) -> None:
    web.validators = validators
    web.faults[NAME] = [drops_after(100_000)] + [answers(503)] * 3
    with (first := Client(tmp_path)).fetcher:
        assert first.fetch(web.url + NAME).status == "failed"
    assert first.files == [".download-000.mp4", ".resume-000.mp4"]
    with (second := Client(tmp_path)).fetcher:
        assert second.fetch(web.url + NAME).status == "fetched"
    assert web.requests[-1].headers["range"] == "bytes=100000-"
    assert web.requests[-1].headers["if-range"].startswith('"' if "ETag" in validators else "Wed, 21 Oct 2015")
    assert second.num_bytes == len(VIDEO) - 100_000
    assert (tmp_path / "000.mp4").read_bytes() == VIDEO
    assert second.files == ["000.mp4"]


def test_without_a_validator_nothing_is_resumed(web: WebServer, client: Client) -> None:
    web.validators = ()
    web.faults[NAME] = [drops_after(100_000)]
    assert client.fetch(web.url + NAME).status == "fetched"
    assert "range" not in web.requests[-1].headers
    assert client.num_bytes == len(VIDEO)


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_fetched_from_its_beginning(
    web: WebServer, client: Client, heeds_if_range: bool
) -> None:
    def dropped_and_changed(handler: Any, body: bytes) -> None:
        drops_after(100_000)(handler, body)
        web.files[NAME] = OTHER_VIDEO

    def rest_of_another_file(handler: Any, body: bytes) -> None:
        del handler.headers["If-Range"]
        handler.serve(body)

    web.faults[NAME] = [dropped_and_changed] + ([] if heeds_if_range else [rest_of_another_file])
    assert client.fetch(web.url + NAME).status == "fetched"
    assert (client.folder / "000.mp4").read_bytes() == OTHER_VIDEO
    assert client.num_bytes == len(OTHER_VIDEO)


def test_a_whole_file_without_its_name_only_gets_its_name(web: WebServer, client: Client) -> None:
    """As a run leaves it that is killed between the last byte and the rename."""
    web.faults[NAME] = [drops_after(100_000)] + [answers(503)] * 3
    client.fetch(web.url + NAME)
    (client.folder / ".download-000.mp4").write_bytes(VIDEO)
    num_requests = len(web.requests)
    assert client.fetch(web.url + NAME).status == "fetched"
    assert len(web.requests) == num_requests
    assert client.files == ["000.mp4"]


def test_nothing_behind_the_last_byte_means_that_all_is_there(web: WebServer, client: Client) -> None:
    partial = Partial(client.folder / "000.mp4")
    partial.restart(str(next(iter(validators_of(web).values()))), None)
    partial.path.write_bytes(VIDEO)
    assert client.fetch(web.url + NAME).status == "fetched"
    assert [request.headers["range"] for request in web.requests] == [f"bytes={len(VIDEO)}-"]


def validators_of(web: WebServer) -> dict[str, str]:
    digest = hashlib.sha256(web.files[NAME]).hexdigest()
    return {"ETag": f'"{digest[:16]}"'}


@pytest.mark.parametrize("note", ["", "{", "[]", '{"validator": 3, "total": null}', '{"validator": "x"}'])
def test_a_broken_note_costs_a_fresh_start(web: WebServer, client: Client, note: str) -> None:
    client.folder.mkdir()
    (client.folder / ".download-000.mp4").write_bytes(b"of something else")
    (client.folder / ".resume-000.mp4").write_text(note)
    assert client.fetch(web.url + NAME).status == "fetched"
    assert (client.folder / "000.mp4").read_bytes() == VIDEO


REFUSED: dict[str, tuple[Answer, FetchReason, str]] = {
    "401": (answers(401), FetchReason.DENIED, "access is not granted"),
    "403": (answers(403, WEB_PAGE), FetchReason.DENIED, "access is not granted"),
    "404": (answers(404), FetchReason.NOT_FOUND, "no such file"),
    "410": (answers(410), FetchReason.NOT_FOUND, "no such file"),
    "400": (answers(400), FetchReason.SERVER, "answered 400"),
    "204": (answers(204), FetchReason.SERVER, "answered 204"),
    "a web page": (
        answers(200, WEB_PAGE, Content_Type="text/html; charset=utf-8"),
        FetchReason.WRONG_CONTENT,
        "got a web page (sent as text/html), expected an MP4 video",
    ),
    "a page a little longer than a look": (
        answers(200, WEB_PAGE + b" " * 600),
        FetchReason.WRONG_CONTENT,
        "a web page",
    ),
    "a long web page": (answers(200, WEB_PAGE + b" " * 9999), FetchReason.WRONG_CONTENT, "got a web page"),
    "a page that claims to be a video": (
        answers(200, b"\n <html>", Content_Type="video/mp4"),
        FetchReason.WRONG_CONTENT,
        "got a web page (sent as video/mp4)",
    ),
    "an error as JSON": (answers(200, b'{"error": "quota"}'), FetchReason.WRONG_CONTENT, "got JSON"),
    "nothing": (answers(200), FetchReason.WRONG_CONTENT, "got nothing"),
    "an end that nothing marks": (without_length, FetchReason.SERVER, "a part could pass for all of it"),
}


@pytest.mark.parametrize(("fault", "reason", "message"), REFUSED.values(), ids=REFUSED)
def test_what_will_not_work_later_is_not_tried_again(
    web: WebServer, client: Client, fault: Answer, reason: FetchReason, message: str
) -> None:
    web.faults[NAME] = [fault]
    outcome = client.fetch(web.url + NAME)
    assert (outcome.status, outcome.reason, outcome.num_bytes) == ("failed", reason, 0)
    assert message in outcome.detail
    assert len(web.requests) == 1
    assert client.files == []
    assert client.num_bytes == 0


def test_chunks_mark_their_end(web: WebServer, client: Client) -> None:
    web.faults[NAME] = [chunked]
    assert client.fetch(web.url + NAME).status == "fetched"
    assert (client.folder / "000.mp4").read_bytes() == VIDEO


def test_an_end_that_nothing_marks_is_found_by_a_known_length(web: WebServer, client: Client) -> None:
    web.faults[NAME] = [without_length]
    assert client.fetch(web.url + NAME, num_bytes=len(VIDEO)).status == "fetched"
    assert (client.folder / "000.mp4").read_bytes() == VIDEO
    assert len(web.requests) == 2


def test_a_length_that_contradicts_the_known_one_is_not_believed(web: WebServer, client: Client) -> None:
    web.faults[NAME] = [answers(200, VIDEO[:1000])]
    assert client.fetch(web.url + NAME, num_bytes=len(VIDEO)).status == "fetched"
    assert (client.folder / "000.mp4").read_bytes() == VIDEO
    outcome = client.fetch(web.url + NAME, num_bytes=7, path=client.folder / "other.mp4")
    assert outcome.reason == FetchReason.SERVER
    assert "promises 300,000 bytes, and 7 when asked before" in outcome.detail
    web.faults[NAME] = [chunked] * 4
    outcome = client.fetch(web.url + NAME, num_bytes=7, path=client.folder / "other.mp4")
    assert "got 300,000 bytes, expected 7" in outcome.detail


def test_checksums(web: WebServer, client: Client) -> None:
    right, wrong = hashlib.sha256(VIDEO).hexdigest(), "0" * 64
    outcome = client.fetch(web.url + NAME, sha256=wrong)
    assert (outcome.reason, client.files, client.num_bytes) == (FetchReason.CHECKSUM, [], 0)
    assert right in outcome.detail
    assert wrong in outcome.detail
    assert client.fetch(web.url + NAME, sha256=right.upper()).status == "fetched"
    assert client.fetch(web.url + NAME, sha256=right).status == "already_there"
    assert "delete the file" in client.fetch(web.url + NAME, sha256=wrong).detail
    assert client.files == ["000.mp4"], "what is there already is not ours to delete"


def test_require_sha256() -> None:
    assert require_sha256(" " + "AB" * 32) == "ab" * 32
    for wrong in ("", "ab", "g" * 64):
        with pytest.raises(ConfigError, match="expected 64 hex digits"):
            require_sha256(wrong)


def test_a_server_that_fails_again_and_again_is_given_up(web: WebServer, client: Client) -> None:
    names = [f"/{number}.mp4" for number in range(GIVE_UP_AFTER + 3)]
    for name in names:
        web.faults[name] = [answers(403)]
    outcomes = [client.fetch(web.url + name) for name in names]
    assert [outcome.reason for outcome in outcomes].count(FetchReason.DENIED) == GIVE_UP_AFTER
    assert {outcome.reason for outcome in outcomes[GIVE_UP_AFTER:]} == {FetchReason.NOT_TRIED}
    assert "not tried, since those before it failed" in outcomes[-1].detail
    assert "403" in outcomes[-1].detail
    assert len(web.requests) == GIVE_UP_AFTER


def test_missing_files_say_nothing_about_the_others(web: WebServer, client: Client) -> None:
    for number in range(GIVE_UP_AFTER + 1):
        assert client.fetch(f"{web.url}/{number}.mp4").reason == FetchReason.NOT_FOUND
    assert client.fetch(web.url + NAME).status == "fetched"


def test_one_success_restores_trust(web: WebServer, client: Client) -> None:
    for _ in range(2):
        for number in range(GIVE_UP_AFTER - 1):
            web.faults[f"/{number}.mp4"] = [answers(403)]
            assert client.fetch(f"{web.url}/{number}.mp4").reason == FetchReason.DENIED
        assert client.fetch(web.url + NAME).status == "fetched"
        (client.folder / "000.mp4").unlink()


def test_a_place_that_cannot_be_written_to(web: WebServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    (client.folder / "000.mp4").mkdir(parents=True)
    assert client.fetch(web.url + NAME).reason == FetchReason.DISK
    web.files["/001.mp4"] = VIDEO
    assert client.fetch(web.url + "/001.mp4").status == "fetched"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Partial, "open_at", full)
    outcome = client.fetch(web.url + "/001.mp4", path=client.folder / "002.mp4")
    assert outcome.detail == f"{client.folder}/002.mp4: No space left on device"
    # With a full disk there is no use in going on.
    assert client.fetch(web.url + "/001.mp4", path=client.folder / "003.mp4").reason == FetchReason.NOT_TRIED


@pytest.mark.parametrize("head_status", [200, 400, 403, 404, 405, 501])
def test_sizes_are_asked_for_by_head_or_by_one_byte(web: WebServer, client: Client, head_status: int) -> None:
    web.head_status = head_status
    size = client.fetcher.size(web.url + NAME)
    assert (size.num_bytes, size.problem) == (len(VIDEO), "")
    assert [request.headers.get("range") for request in web.asked(NAME)] == ["bytes=0-0"] * (head_status != 200)


def test_sizes_that_nobody_knows(web: WebServer, client: Client) -> None:
    web.head_status = 405
    web.faults[NAME] = [chunked]
    size = client.fetcher.size(web.url + NAME)
    assert (size.num_bytes, size.problem) == (None, "")
    missing = client.fetcher.size(web.url + "/none.mp4")
    assert missing.num_bytes is None
    assert "404" in missing.problem


def test_short_files_are_read(web: WebServer, client: Client) -> None:
    web.files["/list.json"] = b"[1]"
    web.faults["/list.json"] = [answers(503)]
    assert client.fetcher.read(web.url + "/list.json", 100) == b"[1]"
    with pytest.raises(FetchFailed, match="more than 2 bytes"):
        client.fetcher.read(web.url + "/list.json", 2)
