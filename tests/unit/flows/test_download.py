"""The settings, plan, survey and command line of a download; tests/e2e runs the flows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tasks.download.disk_space
from flows.cli.parser import _parser
from flows.config.download import SERVER_VARIABLE, ArchiveConfig, DownloadConfig, require_terms
from flows.config.preprocess import validate
from flows.run.download_plan import Survey, plan_archives, plan_ffpp, require_room_for, survey
from manifests.datasets.ffpp_server import MANIPULATIONS, PAPER_MANIPULATIONS
from manifests.errors import ConfigError, DatasetError
from tasks.download.connections import FetchFailed
from tasks.download.disk_space import DISK_MARGIN_BYTES
from tasks.download.fetcher import Fetcher, Wanted
from tasks.download.file_kind import Content
from tasks.download.partial_file import Partial
from tests.helpers.servers import WEB_PAGE, WebServer, answers, mp4_like, running

ROOT = Path(__file__).resolve().parents[3]
PAIRS = [["000", "003"], ["071", "054"]]
ORIGINALS = "original_sequences/youtube/c23/videos"
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)


@pytest.fixture
def web() -> Iterator[WebServer]:
    """A server of FaceForensics++ with the originals and Deepfakes of two pairs."""
    names = [f"{ORIGINALS}/{name}" for pair in PAIRS for name in pair]
    names += [f"manipulated_sequences/Deepfakes/c23/videos/{a}_{b}" for a, b in PAIRS + [pair[::-1] for pair in PAIRS]]
    files = {f"/ff/v3/{name}.mp4": mp4_like(1000, seed) for seed, name in enumerate(names)}
    with running(WebServer(files=files | {"/ff/v3/misc/filelist.json": json.dumps(PAIRS).encode()})) as web:
        yield web


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    with Fetcher(max_tries=2, pause=lambda _: None) as fetcher:
        yield fetcher


@pytest.fixture
def configure(web: WebServer, tmp_path: Path) -> Callable[..., DownloadConfig]:
    def make(**settings: Any) -> DownloadConfig:
        base = {
            "out": tmp_path / "ffpp",
            "server": f"{web.url}/ff",
            "accept_terms": True,
            "manipulations": ["Deepfakes"],
        }
        return validate(DownloadConfig, base | settings, as_options=True)

    return make


Configure = Callable[..., DownloadConfig]


def run(*words: object) -> int:
    """Run a command as the command line does, but let its exceptions pass."""
    options = _parser().parse_args(["download", *map(str, words)])
    return int(options.run(options))


# Settings


def test_defaults_are_the_papers_dataset(tmp_path: Path) -> None:
    config = DownloadConfig(out=tmp_path)
    assert config.choice.manipulations == PAPER_MANIPULATIONS
    assert (config.choice.compressions, config.choice.originals, config.choice.masks) == (("c23",), True, False)
    assert (config.accept_terms, config.connections) == (False, 4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"connections": 8}, "--connections: got 8, expected 1 to 4; the servers drop clients that open 8 or more"),
        ({"connections": 0}, "--connections: got 0, expected 1 to 4"),
        ({"manipulations": ["DeepFakes"]}, "--manipulations: got 'DeepFakes', expected one of Deepfakes, Face2Face"),
        ({"compressions": ["c0"]}, "--compressions: got 'c0', expected one of raw, c23, c40"),
        ({"compressions": []}, "--compressions: got"),
        ({"limit": 0}, "--limit: got 0, expected greater than or equal to 1"),
        ({"server": "ftp://me:secret@host"}, "--server: expected an address such as http://host/path/"),
        ({"server": "http://me:secret@"}, "--server: expected an address"),
        ({"server": "http://host:secret/"}, "--server: expected an address"),
        ({"server": "http://host/?token=secret"}, "--server: expected an address"),
        ({"accept_term": True}, "--accept-term: got an unknown setting, expected one of accept_terms, "),
    ],
)
def test_wrong_settings_are_named_and_secrets_are_not(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        validate(DownloadConfig, {"out": tmp_path} | settings, as_options=True)
    assert str(refusal.value).startswith(message)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("header", ["no colon", ": secret", "Na me: secret", "Name: a\nb", "Name: secrét", "Näme: x"])
def test_wrong_headers_are_refused(header: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--headers: expected") as refusal:
        validate(ArchiveConfig, {"out": tmp_path, "sources": ["x"], "headers": [header]}, as_options=True)
    assert header not in str(refusal.value)


def test_headers_and_secrets() -> None:
    config = validate(
        ArchiveConfig,
        {"out": "out", "sources": ["http://h/?secret"], "headers": ["Cookie: a=secret; b=1", "X-Key:secret"]},
        as_options=True,
    )
    assert config.header_values() == {"Cookie": "a=secret; b=1", "X-Key": "secret"}
    assert "secret" not in repr(config) + config.model_dump_json()
    assert "secret" not in repr(DownloadConfig(out=Path("out"), server="http://secret/"))


@pytest.mark.parametrize("server", ["http://h/ff", "http://h/ff/", "http://h/ff/v3", "http://h/ff/v3/"])
def test_the_servers_address_may_end_in_any_way(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = validate(DownloadConfig, {"out": "out", "server": server}, as_options=True)
    assert config.base_url == "http://h/ff/v3/"
    monkeypatch.setenv(SERVER_VARIABLE, server)
    assert DownloadConfig(out=Path("out")).base_url == "http://h/ff/v3/"


def test_without_terms_or_address_nothing_happens(web: WebServer, configure: Configure, fetcher: Fetcher) -> None:
    with pytest.raises(ConfigError, match=r"terms of use of FaceForensics\+\+.*access was granted to you"):
        plan_ffpp(configure(accept_terms=False), fetcher)
    with pytest.raises(ConfigError, match=f"--server: got nothing, .* export {SERVER_VARIABLE}"):
        require_terms(configure(server=None))
    assert web.requests == []


def test_a_wrong_address_in_the_environment_is_not_shown(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SERVER_VARIABLE, "secret")
    with pytest.raises(ConfigError, match="--server: expected an address") as refusal:
        require_terms(configure(server=None))
    assert "secret" not in str(refusal.value)


# Plan and survey


def test_the_plan_is_the_official_tree(configure: Configure, fetcher: Fetcher, web: WebServer) -> None:
    config = configure(limit=2)
    plan = plan_ffpp(config, fetcher)
    assert [wanted.path.relative_to(config.out).as_posix() for wanted in plan] == [
        f"{ORIGINALS}/000.mp4",
        f"{ORIGINALS}/003.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/003_000.mp4",
    ]
    assert plan[0].url == f"{web.url}/ff/v3/{ORIGINALS}/000.mp4"


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (answers(403), ConfigError, "access is not granted.*expected the address that came with your access"),
        (answers(404), ConfigError, "there is no such file.*expected the address"),
        (answers(200, WEB_PAGE), ConfigError, "got no list from"),
        (answers(200, b'{"error": 1}'), DatasetError, "expected a list of pairs"),
        (answers(503), FetchFailed, "503"),
    ],
)
def test_a_server_that_gives_no_list(
    web: WebServer, configure: Configure, fetcher: Fetcher, answer: Any, error: type[Exception], message: str
) -> None:
    web.faults["/ff/v3/misc/filelist.json"] = [answer, answer]
    with pytest.raises(error, match=message):
        plan_ffpp(configure(), fetcher)


def test_the_survey_says_what_is_there_and_how_long_the_rest_is(
    web: WebServer, configure: Configure, fetcher: Fetcher
) -> None:
    config = configure()
    plan = plan_ffpp(config, fetcher)
    plan[0].path.parent.mkdir(parents=True)
    plan[0].path.write_bytes(b"whole, since it has its name")
    plan[1].path.touch()
    partial = Partial(plan[2].path)
    partial.restart('"tag"', 1000)
    partial.path.write_bytes(bytes(300))
    del web.files[f"/ff/v3/{ORIGINALS}/054.mp4"]
    calls: list[None] = []
    found = survey(fetcher, plan, 4, lambda: calls.append(None))
    assert (found.num_planned, found.num_already_there, len(found.missing)) == (8, 1, 7)
    assert (found.num_bytes, found.num_unknown, found.num_bytes_partly_there) == (6000, 0, 300)
    assert list(found.problems) == [plan[3].path]
    assert "404" in found.problems[plan[3].path]
    assert found.num_bytes_needed == 5700
    assert len(calls) == 7
    assert len(web.asked(f"/ff/v3/{ORIGINALS}/000.mp4", "HEAD")) == 0


def wanted(name: str, num_bytes: int | None) -> Wanted:
    return Wanted(url="http://h/" + name, path=Path("/none") / name, content=Content.ARCHIVE, num_bytes=num_bytes)


def test_files_of_unknown_length_count_as_the_mean_of_the_others() -> None:
    sizes = (100, 300, None, None)
    found = Survey(
        missing=tuple(wanted(str(n), size) for n, size in enumerate(sizes)), num_already_there=0, problems={}
    )
    assert (found.num_bytes, found.num_unknown, found.num_bytes_needed) == (400, 2, 800)
    nothing_known = Survey(missing=(wanted("a", None),), num_already_there=0, problems={})
    assert nothing_known.num_bytes_needed == 0


def test_the_disk_must_hold_it(configure: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = Survey(missing=(wanted("a", 1000),), num_already_there=0, problems={})
    archive = validate(ArchiveConfig, {"out": tmp_path, "sources": ["http://h/a"]}, as_options=True)
    monkeypatch.setattr(tasks.download.disk_space, "free_bytes", lambda _: DISK_MARGIN_BYTES + 1999)
    require_room_for(found, configure())
    require_room_for(found, archive.model_copy(update={"extract": False}))
    with pytest.raises(ConfigError, match="free some, choose less, or choose another disk"):
        require_room_for(found, archive)


def test_a_server_that_answers_no_question_is_not_asked_a_thousand_times(fetcher: Fetcher) -> None:
    plan = [
        Wanted(url=f"http://127.0.0.1:9/{n}", path=Path("/none") / str(n), content=Content.VIDEO) for n in range(50)
    ]
    found = survey(fetcher, plan, 1)
    problems = list(found.problems.values())
    assert len(problems) == 50
    assert sum("refused" in problem for problem in problems) == 8
    assert "not asked" in problems[-1]


# Archives


def archives(tmp_path: Path, *sources: object, **settings: Any) -> tuple[Wanted, ...]:
    values = {"out": tmp_path / "out", "sources": list(map(str, sources))} | settings
    return plan_archives(validate(ArchiveConfig, values, as_options=True))


def test_local_archives_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"x")
    (found,) = archives(tmp_path, tmp_path / "a.zip", sha256=["AB" * 32])
    assert (found.url, found.path, found.sha256) == ("", tmp_path / "a.zip", "ab" * 32)


def test_addresses_that_end_alike_get_different_names(tmp_path: Path) -> None:
    urls = ["http://h/x/a.zip", "http://h/y/a.zip", "http://h/get?id=1", "http://h/get?id=2", "https://h/%2E%2E%2Fa b/"]
    found = archives(tmp_path, *urls)
    names = [wanted.path.name.partition("-")[2] for wanted in found]
    assert names == ["a.zip", "a.zip", "get", "get", "a_b"]
    assert len({wanted.path for wanted in found}) == 5
    assert {wanted.path.parent for wanted in found} == {tmp_path / "out" / "archives"}
    again = archives(tmp_path, "http://me:password@h/x/a.zip")
    assert again[0].path == found[0].path, "a login is not part of a file's identity"


@pytest.mark.parametrize(
    ("sources", "settings", "message"),
    [
        (["none.zip"], {}, "source: got none.zip, expected a file that is not empty"),
        (["ftp://me:secret@h/a.zip"], {}, "source: expected an address"),
        (["http://h/a.zip", "http://h/a.zip"], {}, "a.zip twice"),
        (["http://h/a.zip"], {"sha256": ["ab"]}, "--sha256: got 'ab', expected 64 hex digits"),
        (
            ["http://h/a.zip", "http://h/b.zip"],
            {"sha256": ["ab" * 32]},
            "--sha256: got 1, expected one for each of the 2",
        ),
    ],
)
def test_wrong_sources(sources: list[str], settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message) as refusal:
        archives(tmp_path, *sources, **settings)
    assert "secret" not in str(refusal.value)


# The command line


def test_help_needs_nothing_heavy() -> None:
    program = "import sys; from flows.cli import download; list(download.commands()); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"httpx", "prefect", "pydantic", "rich", "cv2", "torch"} & set(ran.stdout.split())


def test_a_dry_run_says_what_it_comes_to_and_writes_nothing(web: WebServer, tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "ffpp"
    words = ("ffpp", out, "--server", f"{web.url}/ff/", "--accept-terms", "--manipulations", "Deepfakes", "--dry-run")
    assert run(*words) == 0
    printed = capsys.readouterr()
    assert "8 files = 0 already there + 8 to fetch + 0 not available\nTo fetch: 0.0 MB\nFree on the disk" in printed.out
    assert "127.0.0.1" not in printed.out
    assert not out.exists()
    assert {request.method for request in web.requests[1:]} == {"HEAD"}
    assert run(*words, "--masks") == 1
    printed = capsys.readouterr()
    assert "12 files = 0 already there + 8 to fetch + 4 not available" in printed.out
    assert printed.err.count("failed: not available") == 4


def test_words_that_stand_for_several_manipulations(web: WebServer, tmp_path: Path, capsys: Output) -> None:
    web.files["/ff/v3/misc/deepfake_detection_filenames.json"] = json.dumps(
        {"actors": ["01__talking"], "DeepFakesDetection": ["01_02__talking__ABCDEFGH"]}
    ).encode()
    words = ("ffpp", tmp_path / "ffpp", "--server", f"{web.url}/ff", "--accept-terms", "--dry-run", "--manipulations")
    run(*words, "all")
    youtube = len(MANIPULATIONS) - 1
    assert f"{4 + 4 * youtube + 2} files = 0 already there + 8 to fetch" in capsys.readouterr().out
    assert run(*words, "none") == 0
    assert "4 files = 0 already there + 4 to fetch" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="expected all or none alone"):
        run(*words, "all", "Deepfakes")


def test_a_dry_run_that_does_not_fit_the_disk(web: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.download.disk_space, "free_bytes", lambda _: 500_000_000)
    with pytest.raises(ConfigError, match=r"got 500\.0 MB free, expected 1\.0 GB"):
        run("ffpp", tmp_path / "ffpp", "--server", f"{web.url}/ff", "--accept-terms", "--dry-run", "--limit", 2)


def zip_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return buffer.getvalue()


def test_a_dry_run_of_archives(web: WebServer, tmp_path: Path, capsys: Output) -> None:
    web.files["/a.zip"] = zip_of({"a.mp4": bytes(5_000_000)})
    local = tmp_path / "b.zip"
    local.write_bytes(zip_of({"b.mp4": bytes(2_000_000), "c.mp4": b"x"}))
    assert run("archive", f"{web.url}/a.zip", local, tmp_path / "out", "--dry-run") == 0
    printed = capsys.readouterr().out
    assert "1 files = 0 already there + 1 to fetch + 0 not available\nTo fetch: 5.0 MB" in printed
    assert f"{local}: 2 files to write, 2.0 MB; 0 already there" in printed
    assert not (tmp_path / "out").exists()
