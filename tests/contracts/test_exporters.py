"""One contract over every exporter, and over one of another distribution."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from manifests.errors import StoreError
from storage.exports import EXPORTERS
from storage.exports.exporter import Exporter
from storage.inspect import main
from storage.store import RecordStore
from tests.helpers.plugins import install
from tests.helpers.stores import write_forgeries

TOY = """
from storage.exports.exporter import Exporter

class KeyList(Exporter):
    title = "keys, a line each"

    def write(self, store, directory):
        (directory / "keys.txt").write_text("".join(f"{key}\\n" for key in store.keys()))
        return len(store)
"""
NAMES = [*EXPORTERS, "key_list"]


@pytest.fixture(scope="module")
def store_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store of three splits; not to be changed."""
    return write_forgeries(tmp_path_factory.mktemp("exporters") / "store")


@pytest.fixture(autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter of a laboratory's own, installed beside ours."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, {EXPORTERS.group: {"key_list": "labs_own:KeyList"}}, TOY, monkeypatch)
    monkeypatch.delitem(EXPORTERS.__dict__, "entry_points", raising=False)


@pytest.fixture(params=NAMES)
def exporter(request: pytest.FixtureRequest, toy: None) -> Exporter:
    return EXPORTERS[request.param]()


def test_every_record_is_exported(exporter: Exporter, store_dir: Path, tmp_path: Path) -> None:
    for split in (None, "test"):
        folder = tmp_path / "deep" / str(split)
        with RecordStore(store_dir, split=split) as store:
            assert exporter.export(store, folder) == len(store) > 0
            text = "".join(path.read_text() for path in folder.iterdir() if path.is_file())
            assert all(key in text for key in set(store.keys()))
    assert exporter.title


def test_only_an_empty_folder_is_written_to(exporter: Exporter, store_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("mine")
    (tmp_path / "file").touch()
    with RecordStore(store_dir) as store:
        for place, message in {
            "full": "got a folder with files in it",
            "file": "expected a folder to write to",
        }.items():
            with pytest.raises(StoreError, match=message):
                exporter.export(store, tmp_path / place)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_takes_it_by_name(
    name: str, store_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(store_dir), "--export", str(tmp_path / "out"), "--export-as", name, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"directory": str(tmp_path / "out"), "num_records": len(RecordStore(store_dir))}


def test_an_unknown_name_is_one_line_before_any_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "no store"), "--export", str(tmp_path / "out"), "--export-as", "zip"]) == 2
    assert capsys.readouterr().err == "--export-as: got 'zip', expected one of plain_files, key_list\n"
    assert not (tmp_path / "out").exists()


def test_names_longer_than_file_systems_take_are_exported(exporter: Exporter, tmp_path: Path) -> None:
    """A part of a video_id may have more than 255 bytes, since each byte of another script is escaped with three."""
    kinds = {"%E8" * 100: "Swap", "%E8" * 99 + "%E9": "Swap"}
    write_forgeries(tmp_path / "store", kinds=kinds, splits=("val",))
    with RecordStore(tmp_path / "store") as store:
        assert exporter.export(store, tmp_path / "out") == len(store) > 0
