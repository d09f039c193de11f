"""Whole downloads, from a server with faults to a tree that can be indexed."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.config.download import ArchiveConfig, DownloadConfig
from flows.config.preprocess import validate
from flows.download import DownloadIncomplete, download_archive, download_ffpp
from manifests.datasets.ffpp import FaceForensicsPP
from manifests.datasets.ignored import IgnoredReason, num_files_of
from manifests.indexing import survey_dataset
from tasks.download.connections import MAX_CONNECTIONS
from tests.helpers.processes import command_line, wait_for
from tests.helpers.servers import WEB_PAGE, WebServer, answers, as_ffpp_server, drops_after, hangs, running

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("prefect_server")]

PAIRS = [["000", "001"], ["002", "003"]]
NUM_VIDEOS, NUM_MASKS = 20, 16
ORIGINALS = "original_sequences/youtube/c23/videos"
STALLED_AT = 2000  # bytes
SECRET = "s3cret"


@pytest.fixture
def web(miniature: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server of FaceForensics++ that holds the miniature dataset."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with running(WebServer(files=as_ffpp_server(miniature, PAIRS))) as web:
        yield web


def configure(web: WebServer, out: Path, **settings: Any) -> DownloadConfig:
    server = web.url.replace("http://", f"http://me:{SECRET}@")
    base = {"out": out, "server": server, "accept_terms": True, "masks": True, "max_tries": 3}
    return validate(DownloadConfig, base | settings, as_options=True)


def tree(root: Path) -> dict[str, bytes]:
    """Return every file except the lock."""
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def videos_of(root: Path) -> dict[str, bytes]:
    return {name: body for name, body in tree(root).items() if name.endswith(".mp4")}


def test_the_tree_arrives_whole_from_a_server_that_misbehaves(web: WebServer, miniature: Path, tmp_path: Path) -> None:
    videos = [f"/v3/{name}" for name in sorted(videos_of(miniature))]
    web.faults[videos[0]] = [drops_after(1000)]
    web.faults[videos[1]] = [answers(503, Retry_After="0")]
    web.faults[videos[2]] = [answers(429, Retry_After="1")]
    out = tmp_path / "ffpp"
    account = download_ffpp(configure(web, out))
    num_bytes = sum(map(len, videos_of(miniature).values()))
    assert account == {
        "num_planned": NUM_VIDEOS + NUM_MASKS,
        "num_fetched": NUM_VIDEOS + NUM_MASKS,
        "num_already_there": 0,
        "num_failed": 0,
        "num_bytes_fetched": num_bytes,
        "failures": [],
    }
    assert tree(out) == videos_of(miniature)
    assert web.peak_open <= MAX_CONNECTIONS
    survey = survey_dataset(FaceForensicsPP(), out)
    assert (len(survey.entries), survey.rejected) == (NUM_VIDEOS, ())
    assert num_files_of(survey.ignored)[IgnoredReason.AUXILIARY] == NUM_MASKS
    asked_again = [request for request in web.requests if request.headers.get("range") == "bytes=1000-"]
    assert [request.path for request in asked_again] == [videos[0]]

    num_requests = len(web.requests)
    again = download_ffpp(configure(web, out))
    assert (again["num_fetched"], again["num_already_there"]) == (0, NUM_VIDEOS + NUM_MASKS)
    assert [request.path for request in web.requests[num_requests:]] == ["/v3/misc/filelist.json"]


def test_files_that_fail_cost_themselves_and_nothing_else(web: WebServer, miniature: Path, tmp_path: Path) -> None:
    page, gone, out = f"{ORIGINALS}/000.mp4", f"{ORIGINALS}/001.mp4", tmp_path / "ffpp"
    web.faults[f"/v3/{page}"] = [answers(200, WEB_PAGE, Content_Type="text/html")]
    body = web.files.pop(f"/v3/{gone}")
    with pytest.raises(DownloadIncomplete, match="got 2 of 36 failed") as incomplete:
        download_ffpp(configure(web, out))
    account = incomplete.value.account
    assert (account["num_fetched"], account["num_failed"]) == (NUM_VIDEOS + NUM_MASKS - 2, 2)
    reasons = {Path(failure["path"]).name: failure["reason"] for failure in account["failures"]}
    assert reasons == {"000.mp4": "wrong_content", "001.mp4": "not_found"}
    assert SECRET not in json.dumps(account)
    assert not set(tree(out)) & {page, gone}
    assert len(tree(out)) == NUM_VIDEOS + NUM_MASKS - 2

    web.files[f"/v3/{gone}"] = body
    assert download_ffpp(configure(web, out))["num_fetched"] == 2
    assert tree(out) == videos_of(miniature)


def test_no_secret_reaches_prefects_database(web: WebServer, tmp_path: Path, prefect_server: str) -> None:
    from prefect.client.orchestration import get_client

    download_ffpp(configure(web, tmp_path / "hush-hush", limit=1, manipulations=[]))
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.name == "ffpp-hush-hush"]
    assert len(runs) == 1
    assert runs[0].parameters["config"]["limit"] == 1
    assert SECRET not in json.dumps(runs[0].parameters)
    assert "127.0.0.1" not in json.dumps(runs[0].parameters)


def test_ctrl_c_ends_at_once_and_the_next_run_goes_on(
    web: WebServer, miniature: Path, tmp_path: Path, prefect_server: str
) -> None:
    # Two of a task's files each: the second one of these is another task's first.
    held, hanging, out = f"/v3/{ORIGINALS}/000.mp4", f"/v3/{ORIGINALS}/002.mp4", tmp_path / "ffpp"

    def stalls(handler: Any, body: bytes) -> None:
        handler.start(200, {"Content-Length": len(body), **handler.validators(body)})
        handler.wfile.write(body[:STALLED_AT])
        handler.wfile.flush()
        handler.web.closing.wait(30)
        handler.break_off()

    web.faults |= {held: [stalls], hanging: [hangs]}
    words = ["download", "ffpp", str(out), "--accept-terms", "--masks"]
    environment = os.environ | {"PREFECT_API_URL": prefect_server, "FACESHARDS_FFPP_SERVER": web.url}
    partial = out / ORIGINALS / ".download-000.mp4"
    with command_line(*words, environment=environment) as run:
        wait_for(lambda: partial.exists() and partial.stat().st_size == STALLED_AT and web.asked(hanging), 60)
        os.killpg(run.pid, signal.SIGINT)
        started = time.monotonic()
        told, _ = run.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert run.returncode == 130, told
    assert "Traceback" not in told
    assert partial.stat().st_size == STALLED_AT

    account = download_ffpp(configure(web, out))
    assert account["num_failed"] == 0
    assert web.asked(held)[-1].headers["range"] == f"bytes={STALLED_AT}-"
    assert tree(out) == videos_of(miniature)


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def test_archives_are_fetched_and_extracted(web: WebServer, tmp_path: Path) -> None:
    real, fakes = {"Celeb-real/id0_0000.mp4": b"real" * 500}, {"Celeb-synthesis/id0_id1_0000.mp4": b"fake" * 500}
    more = {"Celeb-real/id1_0000.mp4": b"more" * 500}
    packed = tmp_path / "fakes.tar.gz"
    with tarfile.open(packed, "w:gz") as bundle:
        for name, body in fakes.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            bundle.addfile(info, io.BytesIO(body))
    web.files |= {"/real.zip": zip_of(real), "/broken.zip": zip_of(more).replace(b"more" * 500, b"less" * 500)}
    sources = [f"{web.url}/real.zip?token={SECRET}", str(packed), f"{web.url}/broken.zip"]
    out = tmp_path / "celeb_df"
    config = validate(ArchiveConfig, {"out": out, "sources": sources, "headers": ["X-Token: x"]}, as_options=True)
    with pytest.raises(DownloadIncomplete, match="got 1 of 3 failed") as incomplete:
        download_archive(config)
    account = incomplete.value.account
    assert (account["num_fetched"], account["num_already_there"], account["num_failed"]) == (1, 1, 1)
    assert (account["num_files_written"], account["num_files_already_there"]) == (2, 0)
    assert "broken data (Bad CRC-32" in account["failures"][0]["detail"]
    assert SECRET not in json.dumps(account)
    assert videos_of(out) == real | fakes
    assert {request.headers.get("x-token") for request in web.requests} == {"x"}

    # The broken one was thrown away; nothing else is fetched or written again.
    web.files["/broken.zip"] = zip_of(more)
    account = download_archive(config)
    assert (account["num_fetched"], account["num_already_there"]) == (1, 2)
    assert (account["num_files_written"], account["num_files_already_there"]) == (1, 2)
    assert videos_of(out) == real | fakes | more
    assert len(list((out / "archives").iterdir())) == 2
