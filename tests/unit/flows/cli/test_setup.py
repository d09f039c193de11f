"""`faceshards weights …`: its output and its exit status."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from flows.cli.parser import _parser
from manifests.errors import ConfigError
from tasks.models.weights import WEIGHTS, WEIGHTS_VARIABLE, WeightFile
from tests.helpers.servers import WebServer, running
from training.models import PAPER_WEIGHTS

Output = pytest.CaptureFixture[str]


def saved(value: float) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.full((1000,), value)}, file)
    return file.getvalue()


FILES = {"one": saved(1.0), "two": saved(2.0)}


@pytest.fixture(autouse=True)
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WebServer]:
    """Two weight files on a server; neither is on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(WEIGHTS_VARIABLE, raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    with running(WebServer(files={f"/{name}.pth": data for name, data in FILES.items()})) as web:
        for name in list(WEIGHTS):
            monkeypatch.delitem(WEIGHTS, name)
        for name, data in FILES.items():
            published = WeightFile(
                name=name,
                file_name=f"{name}.pth",
                url=f"{web.url}/{name}.pth",
                num_bytes=len(data) if name == "one" else None,
                sha256=hashlib.sha256(data).hexdigest(),
                licence=f"licence of {name}",
                used_by=f"landmark.kind={name}",
            )
            monkeypatch.setitem(WEIGHTS, name, published)
        yield web


def weights(*words: object) -> int:
    options = _parser().parse_args(["weights", *map(str, words)])
    return int(options.run(options))


def row_of(name: str, printed: str) -> list[str]:
    """Return the cells of a table's row, without the frame."""
    (line,) = [line for line in printed.splitlines() if f" {name} " in line and f" {name}.pth " in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_fetch_all_then_nothing(web: WebServer, tmp_path: Path, capsys: Output) -> None:
    folder = tmp_path / "[bold] w"
    told = (
        f"one: 0.0 MB from {web.url}/one.pth; licence: licence of one\n"
        f"two: unknown size from {web.url}/two.pth; licence: licence of two\n"
    )
    for said in (told, ""):
        assert weights("fetch", "--weights-dir", folder) == 0
        assert capsys.readouterr() == (f"one: {folder / 'one.pth'}\ntwo: {folder / 'two.pth'}\n", said)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        f"{name}.pth": data for name, data in FILES.items()
    }
    assert len(web.requests) == 2


def test_fetch_shows_a_bar_to_a_person(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert weights("fetch", "one", "--weights-dir", tmp_path) == 0
    said = capsys.readouterr()
    assert said.out == f"one: {tmp_path / 'one.pth'}\n"
    assert "fetching one.pth" in said.err


def test_fetch_goes_to_the_variables_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output) -> None:
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "variable"))
    assert weights("fetch", "two", "two") == 0
    assert capsys.readouterr().out == f"two: {tmp_path / 'variable' / 'two.pth'}\n"


def test_the_name_of_a_recipe_stands_for_its_backbone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output
) -> None:
    monkeypatch.setitem(PAPER_WEIGHTS, "m2tr", "two")
    assert weights("fetch", "m2tr", "m2tr-code", "two", "--weights-dir", tmp_path) == 0
    assert capsys.readouterr().out == f"two: {tmp_path / 'two.pth'}\n"
    with pytest.raises(ConfigError, match="weights: got 'm2tr-small', expected one of one, two"):
        weights("fetch", "m2tr-small")


def test_fetch_goes_on_after_a_failure(web: WebServer, tmp_path: Path, capsys: Output) -> None:
    del web.files["/one.pth"]
    assert weights("fetch", "--weights-dir", tmp_path) == 1
    said = capsys.readouterr()
    assert said.out == f"two: {tmp_path / 'two.pth'}\n"
    assert f"\nfailed: weights one: got no one.pth in {tmp_path}, " in said.err
    assert "404" in said.err
    assert "faceshards weights fetch one --weights-dir DIR" in said.err


def test_list_says_what_is_where(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "one.pth").write_bytes(bytes(2_000_000))
    assert weights("list", "--weights-dir", tmp_path) == 0
    printed = capsys.readouterr().out
    assert row_of("one", printed)[:3] == ["one", "one.pth", "2.0"]
    assert row_of("one", printed)[4:] == ["landmark.kind=one", "licence of one"]
    assert row_of("two", printed)[2:4] == ["unknown size", "missing"]
    folders = f"{tmp_path}, {tmp_path / 'torch' / 'hub' / 'checkpoints'}"
    assert printed.endswith(f"Looked in, in this order: {folders}\n")


def test_list_loses_nothing_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Output
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    folder = tmp_path / ("a-long-name-" * 8)
    folder.mkdir()
    (folder / "one.pth").write_bytes(FILES["one"])
    assert weights("list", "one", "--weights-dir", folder) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    assert str(folder) in "".join(row[4].strip() for row in rows)


def test_verify_each_kind(tmp_path: Path, capsys: Output) -> None:
    assert weights("verify", "--weights-dir", tmp_path) == 1
    assert capsys.readouterr().out == "one: missing\ntwo: missing\n"
    one, two = tmp_path / "one.pth", tmp_path / "two.pth"
    one.write_bytes(FILES["one"])
    two.write_bytes(FILES["one"])
    assert weights("verify", "--weights-dir", tmp_path) == 1
    right, wrong = (hashlib.sha256(FILES[name]).hexdigest() for name in ("two", "one"))
    assert capsys.readouterr().out == (
        f"one: ok ({one})\ntwo: differs: got SHA-256 {wrong}, expected {right} ({two})\n"
    )
    assert weights("verify", "one", "--weights-dir", tmp_path) == 0


@pytest.mark.parametrize("action", ["fetch", "list", "verify"])
def test_a_name_that_is_none(action: str) -> None:
    with pytest.raises(ConfigError, match="weights: got 'three', expected one of one, two"):
        weights(action, "three")


def test_an_action_is_needed(capsys: Output) -> None:
    with pytest.raises(SystemExit):
        weights()
    assert "ACTION" in capsys.readouterr().err
