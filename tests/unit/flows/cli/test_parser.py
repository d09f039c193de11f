"""The command line: its output on stdout and stderr, and its exit statuses."""

from __future__ import annotations

import logging
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import flows.cli.parser
import flows.cli.setup
from flows.cli.parser import QUIET_PREFECT, main
from flows.config.preprocess import load_config
from manifests.errors import AccountingError, NothingStored, StoreChanged
from manifests.videos_table import read_table
from storage.upkeep.ledger import Ledger
from tasks.models.weights import WEIGHTS

ROOT = Path(__file__).resolve().parents[4]
VideoMaker = Callable[..., Path]
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo the environment variables that a command sets."""
    for name, value in QUIET_PREFECT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def dataset(tmp_path: Path, make_video: VideoMaker) -> Path:
    """Two originals, one fake, and two files that are not videos."""
    originals = tmp_path / "ffpp/original_sequences/youtube/c23/videos"
    make_video(originals / "000.mp4", 3)
    make_video(originals / "003.mp4", 3)
    make_video(tmp_path / "ffpp/manipulated_sequences/Deepfakes/c23/videos/000_003.mp4", 3)
    (originals / "notes.mp4").touch()
    (originals / "004.mp4").touch()
    return tmp_path / "ffpp"


@pytest.fixture
def empty_store(tmp_path: Path) -> Path:
    """A complete store without a video."""
    config = load_config(None, [], {"dataset": {"root": "/data"}, "out": tmp_path / "store"})
    ledger = Ledger(config.out, config.store_settings(), config.config_digest)
    ledger.begin([])
    ledger.finish([])
    return config.out


def run(*words: object) -> int:
    """Run a command without changing pytest's log handlers."""
    logger = logging.getLogger()
    before, logger.handlers = logger.handlers, []
    try:
        return main([str(word) for word in words])
    finally:
        logger.handlers = before


def refused(capsys: Output, *words: object, status: int = 2) -> str:
    """Run a command that fails for a user's mistake; return its one line on stderr."""
    assert run(*words) == status
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.strip().splitlines()
    return line


def preprocess(root: Path, out: Path, *words: object) -> tuple[object, ...]:
    return "preprocess", "ffpp", root, "--out", out, *words


@pytest.mark.parametrize("command", [[], ["preprocess"], ["sample"]], ids=["all", "preprocess", "sample"])
def test_help_comes_at_once(command: list[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run = subprocess.run(
        [sys.executable, "-m", "flows", *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5
    assert run.stdout.startswith("usage: faceshards")
    assert run.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion_knows_commands_and_options(capsys: Output, shell: str) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run("--print-completion", shell)
    said = capsys.readouterr().out
    assert all(word in said for word in ("preprocess", "rollback", "allow-leakage", "celeb_df"))


def test_completion_knows_which_arguments_are_paths(capsys: Output) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run("--print-completion", "bash")
    said = capsys.readouterr().out
    for option in ("preprocess___out", "preprocess___test", "index___report", "predict_pos_1"):
        assert f"_shtab_faceshards_{option}_COMPGEN=_shtab_compgen_files" in said


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["ro"], ["rollback"]),
        (["preprocess", "cel"], ["celeb_df"]),
        (["preprocess", "ffpp", "root", "--al"], ["--allow-leakage"]),
        (["weights", "ve"], ["verify"]),
    ],
)
def test_bash_completes(capsys: Output, tmp_path: Path, words: list[str], completed: list[str]) -> None:
    with pytest.raises(SystemExit):
        run("--print-completion", "bash")
    (tmp_path / "completion").write_text(capsys.readouterr().out)
    command = (
        f"source completion; COMP_WORDS=(faceshards {' '.join(words)}); COMP_CWORD={len(words)}; "
        '_shtab_faceshards; echo "${COMPREPLY[@]}"'
    )
    ran = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == completed


def test_help_on_a_terminal_says_the_same_in_colour(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for is_terminal in (False, True):
        monkeypatch.setattr("sys.stdout.isatty", lambda is_terminal=is_terminal: is_terminal)
        monkeypatch.setenv("FORCE_COLOR" if is_terminal else "NO_COLOR", "1")
        monkeypatch.delenv("NO_COLOR" if is_terminal else "FORCE_COLOR", raising=False)
        with pytest.raises(SystemExit):
            run("download", "ffpp", "--help")
        said.append(capsys.readouterr().out)
    plain, coloured = said
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured).lower().split() == plain.lower().split()


def test_help_names_the_commands(capsys: Output) -> None:
    with pytest.raises(SystemExit, match=r"^0$"):
        run("--help")
    said = capsys.readouterr().out
    assert all(f"\n    {command} " in said for command in ("preprocess", "index", "sample", "report", "deploy"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["nothing"], "invalid choice: 'nothing'"),
        (["preproces"], "; did you mean 'preprocess'?"),
        (["download", "archives"], "; did you mean 'archive'?"),
        (["preprocess", "celebdf", "root", "--out", "out"], "; did you mean 'celeb_df'?"),
        (["preprocess", "ffpp", "root"], "the following arguments are required: --out"),
        (["preprocess", "nothing", "root", "--out", "out"], "invalid choice: 'nothing' (choose from 'auto', 'ffpp'"),
        (
            ["preprocess", "ffpp", "root", "--out", "out", "--sett", "a=1"],
            "unrecognized arguments: --sett a=1; did you mean '--set'?",
        ),
        (["report", "out", "more"], "unrecognized arguments: more\n"),
        (["index", "root", "--layout", "nothing"], "invalid choice: 'nothing' (choose from 'ffpp'"),
        (["sample", "root", "--pairs", "many"], "invalid int value: 'many'"),
        (["sample", "root", "--seconds", "2"], "expected 2 arguments"),
        (["preprocess", "auto", "root", "--out", ""], "--out: got '', expected a path; the current folder is ."),
    ],
)
def test_wrong_words_are_told_with_the_usage(capsys: Output, words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        run(*words)
    said = capsys.readouterr().err
    assert said.startswith("usage: faceshards")
    assert message in said


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["frames.count"], "--set: got 'frames.count', expected NAME=VALUE such as frames.count=8"),
        (["frames.count=0"], "frames.count: got 0, expected greater than or equal to 1"),
        (["nothing=1"], "nothing: got an unknown setting, expected one of crop.kind, "),
        (["detect.kind=mtccn"], "detect.kind: got 'mtccn', expected one of mtcnn, s3fd; did you mean 'mtcnn'?"),
        (["frame.count=1"], "frame: got an unknown setting, expected one of crop.kind, "),
        (["split.ratios=[1, 1, 1]"], "split.ratios: got (1.0, 1.0, 1.0), expected three shares"),
        (["split.policy=official"], "split.official_dir: got none, expected the folder"),
        (["detect.device=cuda:99"], "detect.device: got 'cuda:99', expected one of auto, cpu"),
        (["[red]"], "--set: got '[red]', expected NAME=VALUE"),
    ],
)
def test_wrong_settings_are_told_before_anything_is_written(
    capsys: Output, dataset: Path, tmp_path: Path, settings: list[str], message: str
) -> None:
    words = [word for setting in settings for word in ("--set", setting)]
    said = refused(capsys, *preprocess(dataset, tmp_path / "out", *words))
    assert said.startswith(f"error: {message}")
    assert not (tmp_path / "out").exists()


def test_wrong_places_are_told_before_anything_is_written(capsys: Output, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.mp4").touch()
    (tmp_path / "skeleton" / "original_sequences").mkdir(parents=True)
    out = tmp_path / "out"
    wrong_roots = {
        "nowhere": "nowhere, expected a folder; check the path",
        "a file": "a file, expected a folder; check the path",
        "empty": "empty (holding nothing), expected original_sequences/ or manipulated_sequences/",
        "holiday": "holiday (holding beach.mp4), expected original_sequences/ or manipulated_sequences/",
        "skeleton": "skeleton with no video in original_sequences, expected original_sequences/ or ",
        ".": f"; name {dataset} instead",
    }
    for name, message in wrong_roots.items():
        for command in (preprocess(tmp_path / name, out), ("index", tmp_path / name, "--layout", "ffpp")):
            said = refused(capsys, *command)
            assert said.startswith("error: FaceForensics++, official tree: got "), name
            assert message in said
    assert run("index", tmp_path) == 2
    assert capsys.readouterr().err.startswith(f"error: dataset root: got {tmp_path} (holding a file, ")
    said = refused(capsys, *preprocess(dataset, tmp_path / "a file"))
    assert said.endswith("expected a folder, and this is a file")
    said = refused(capsys, *preprocess(dataset, out, "--config", tmp_path / "none.yaml"))
    assert said.startswith(f"error: --config {tmp_path}/none.yaml: got ")
    assert not out.exists()


def test_another_configuration_is_refused_and_shown(capsys: Output, dataset: Path, empty_store: Path) -> None:
    assert run(*preprocess(dataset, empty_store, "--set", "frames.count=8")) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: store {empty_store}: got other settings")
    assert "\n  frames.count: 32 → 8\n" in said.err
    assert "Traceback" not in said.err


def test_index_tells_what_is_there_and_writes_it(capsys: Output, dataset: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.parquet"
    assert run("index", dataset, "--out", manifest) == 0
    said = capsys.readouterr()
    assert said.err.strip() == ""
    lines = [line.split() for line in said.out.replace("│", " ").splitlines()]
    # Two people are one group of three videos, and a group lies in one split.
    assert ["Deepfakes", "1", "(100.0%)", "0", "(0.0%)", "0", "(0.0%)"] in lines
    assert ["real", "2", "(100.0%)", "0", "(0.0%)", "0", "(0.0%)"] in lines
    assert "rejected ffpp/youtube/c23/004: empty_file, " in said.out
    assert "rejected original_sequences/youtube/c23/videos/notes.mp4: unrecognised_name, " in said.out
    assert said.out.rstrip().endswith(f"Manifest: {manifest}")
    rows = read_table(manifest)
    assert [(row.video_id.rpartition("/")[2], row.status) for row in rows] == [
        ("000_003", "pending"),
        ("000", "pending"),
        ("003", "pending"),
        ("004", "rejected"),
        ("notes.mp4", "rejected"),
    ]
    assert {row.entry.num_frames for row in rows[:3] if row.entry} == {3}


def test_index_without_a_file_writes_none(capsys: Output, dataset: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert run("index", dataset) == 0
    assert "Manifest:" not in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["no/such/folder.parquet", "folder"])
def test_a_manifest_that_cannot_be_written(capsys: Output, dataset: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    assert run("index", dataset, "--out", tmp_path / name) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.glob(".partial-*"))


@pytest.mark.parametrize("name", ["a[bold]b", "a[/b]b", "a:100:b"])
def test_paths_are_printed_as_they_are(capsys: Output, dataset: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    dataset.rename(folder / "ffpp")
    assert run("index", folder / "ffpp", "--out", folder / "manifest.parquet") == 0
    printed = capsys.readouterr().out.replace("\n", "")
    assert f"{folder}/manifest.parquet" in printed
    assert f"{folder}/nothing" in refused(capsys, "index", folder / "nothing")


def test_report_of_a_store(capsys: Output, empty_store: Path) -> None:
    assert run("report", empty_store) == 0
    assert capsys.readouterr().out.endswith(f"Report: {empty_store}/report.html\n")
    assert (empty_store / "report.html").is_file()


def test_report_of_what_is_no_store(capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    for name in ("nowhere", ".", "a file"):
        assert refused(capsys, "report", tmp_path / name).startswith(
            f"error: store {tmp_path / name}: got no index.json"
        )


def test_sample_takes_its_words_along(capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, dict[str, Any]]] = []

    def write_miniature(root: Path, **options: Any) -> SimpleNamespace:
        options.pop("on_video")("original_sequences/youtube/c23/videos/000.mp4")
        calls.append((root, options))
        return SimpleNamespace(num_videos=6, num_masks=4, num_bytes=2_340_000, num_written=10)

    monkeypatch.setattr("manifests.miniature.write_miniature", write_miniature)
    root = tmp_path / "sample"
    assert run("sample", root) == 0
    words = ["--layout", "celeb_df", "--pairs", "3", "--seconds", "1", "1.5", "--seed", "7"]
    assert run("sample", root, *words) == 0
    assert calls == [
        (root, {"layout": "ffpp", "num_pairs": 20, "seconds": (2.0, 4.0), "seed": 0}),
        (root, {"layout": "celeb_df", "num_pairs": 3, "seconds": (1.0, 1.5), "seed": 7}),
    ]
    assert f"{root}: 6 videos, 4 masks, 2.3 MB, made\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layout", "nothing"], "layout of the sample: got 'nothing', expected one of"),
        (["--pairs", "0"], "pairs of the sample: got 0, expected 1..500"),
        (["--seconds", "3", "1"], "seconds of the sample: got 3.0 to 1.0, expected the shortest length first"),
    ],
)
def test_a_sample_that_cannot_be(capsys: Output, tmp_path: Path, words: list[str], message: str) -> None:
    assert refused(capsys, "sample", tmp_path / "new", *words).startswith(f"error: {message}")
    assert not (tmp_path / "new").exists()


def test_a_sample_spares_what_is_there(capsys: Output, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    said = refused(capsys, "sample", tmp_path)
    assert said.startswith(f"error: folder of the sample: got {tmp_path} (holding thesis.txt), expected a new or empty")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (AccountingError("accounts: got 3, expected 4"), 1, "failed: accounts: got 3, expected 4"),
        (StoreChanged("store [a]: got b"), 2, "error: store [a]: got b"),
        (KeyboardInterrupt(), 130, "interrupted; run the same command again to resume"),
    ],
)
def test_the_exit_status_says_whose_mistake_it_was(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, line: str
) -> None:
    def fail(_options: object) -> int:
        raise error

    monkeypatch.setattr(flows.cli.setup, "deploy", fail)
    assert refused(capsys, "deploy", status=status) == line


@pytest.mark.parametrize(("words", "level"), [([], logging.WARNING), (["-v"], logging.INFO)])
def test_verbose(monkeypatch: pytest.MonkeyPatch, words: list[str], level: int) -> None:
    monkeypatch.setattr(flows.cli.setup, "deploy", lambda _options: logging.getLogger().handlers[0].level)
    assert run(*words, "deploy") == level


@pytest.fixture
def flow_result(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Make the flow return or raise a given result, without a server."""
    import flows.preprocess
    import flows.server.embedded

    def set_result(result: Any) -> None:
        def preprocess_ffpp(_config: Any) -> Any:
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(flows.server.embedded, "start_embedded_server", lambda _: None)
        monkeypatch.setattr(flows.preprocess, "preprocess_ffpp", preprocess_ffpp)

    return set_result


def test_preprocess_ends_with_where_everything_is(
    capsys: Output, dataset: Path, empty_store: Path, flow_result: Callable[[Any], None]
) -> None:
    flow_result({"videos_processed": 0})
    status = run(*preprocess(dataset, empty_store))
    said = capsys.readouterr().out
    assert said.startswith("Nothing to do: every video is stored or rejected already.\n")
    assert said.endswith(f"Store:  {empty_store}\nReport: {empty_store}/report.html\n")
    # A store without a single video is not what was asked for.
    assert status == 1


def test_preprocess_fails_where_nothing_could_be_stored(
    capsys: Output, dataset: Path, empty_store: Path, flow_result: Callable[[Any], None]
) -> None:
    flow_result(NothingStored("/data: got no video"))
    assert run(*preprocess(dataset, empty_store)) == 1
    said = capsys.readouterr()
    assert "failed: /data: got no video\n" in said.err
    assert "Nothing to do" not in said.out
    assert said.out.endswith(f"Report: {empty_store}/report.html\n")


def test_preprocess_names_the_store_that_was_written(
    capsys: Output, dataset: Path, empty_store: Path, flow_result: Callable[[Any], None]
) -> None:
    flow_result({"videos_processed": 3})
    run(*preprocess(dataset, empty_store.parent / "other", "--set", f"out={empty_store}"))
    assert f"Store:  {empty_store}\n" in capsys.readouterr().out


def test_presets_are_listed_with_their_sources(capsys: Output) -> None:
    assert run("presets") == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("dfd-fcg", "preprocess: ", "m2tr-vtf", "train: ", "Source: ", "Expected: "):
        assert words in said


def test_missing_weights_are_told_before_anything_is_written(
    capsys: Output, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FACESHARDS_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
    nowhere = {name: replace(weights, url="http://127.0.0.1:9/x") for name, weights in WEIGHTS.items()}
    monkeypatch.setattr("tasks.models.weights.WEIGHTS", nowhere)
    monkeypatch.setattr("tasks.models.weights.MAX_TRIES", 1)
    command = preprocess(dataset, tmp_path / "out", "--preset", "dfd-fcg", "--weights-dir", tmp_path / "weights")
    said = refused(capsys, *command, status=1)
    assert not (tmp_path / "out").exists()
    for words in (
        "s3fd-619a316812.pth",
        str(tmp_path / "weights"),
        "faceshards weights fetch s3fd",
        "FACESHARDS_WEIGHTS",
    ):
        assert words in said
