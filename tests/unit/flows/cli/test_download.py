"""The outcome that `download archive` prints: its account, its advice and its exit status."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

import flows.cli.download
import flows.download
from flows.cli.parser import main
from flows.download import DownloadIncomplete

DONE: dict[str, Any] = {
    **{"num_planned": 1, "num_fetched": 0, "num_already_there": 1, "num_failed": 0, "num_bytes_fetched": 0},
    **{"failures": [], "num_files_written": 2, "num_files_already_there": 3},
}


def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, account: dict[str, Any], *words: str) -> int:
    """Run the command on an archive of videos, with a flow that returns this account."""

    def finished(_config: object) -> dict[str, Any]:
        if account["num_failed"]:
            raise DownloadIncomplete(account)  # type: ignore[arg-type]  # an account by its fields
        return account

    monkeypatch.setattr(flows.cli.download, "_start_prefect", lambda: None)
    monkeypatch.setattr(flows.download, "download_archive", finished)
    (tmp_path / "out").mkdir()
    with zipfile.ZipFile(tmp_path / "videos.zip", "w") as archive:
        archive.writestr("real/a.mp4", b"a")
    return main(["download", "archive", str(tmp_path / "videos.zip"), str(tmp_path / "out"), *words])


def test_what_was_extracted_and_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download(tmp_path, monkeypatch, DONE) == 0
    said = capsys.readouterr().out
    assert "1 archives = 0 fetched + 1 already there + 0 failed; " in said
    assert f"{tmp_path}/out: 2 files written, 3 were there already" in said
    assert said.endswith(f"Next: faceshards index {tmp_path}/out\n")
    assert "no longer needed" not in said, "the archive is the user's own file"


@pytest.mark.parametrize("words", [(), ("--no-extract",)])
def test_a_failure_is_named_and_is_the_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    failed = DONE | {"num_failed": 1, "failures": [{"reason": "corrupt", "detail": "videos.zip: got a bad checksum"}]}
    assert download(tmp_path, monkeypatch, failed, *words) == 1
    said = capsys.readouterr()
    assert "1 failed; " in said.out
    assert "videos.zip: got a bad checksum" in said.err
    assert "run the same command again to try only what is missing" in said.err
    assert ("not complete" in said.out) == (not words)


def test_a_package_that_is_not_installed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start() -> None:
        raise ModuleNotFoundError("No module named 'prefect'", name="prefect")

    monkeypatch.setattr(flows.cli.download, "_start_prefect", start)
    (tmp_path / "videos.zip").write_bytes(b"PK")
    assert main(["download", "archive", str(tmp_path / "videos.zip"), str(tmp_path / "out")]) == 2
    assert "got an installation without the package prefect, expected the extra" in capsys.readouterr().err
