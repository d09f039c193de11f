"""Reports and differences as text."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

from flows.report.page import build_report
from flows.report.text import rejection_rows, summary_markdown, summary_table
from tests.helpers.reports import EIGHT_ROWS, stored, write_store


def test_terminal_summary_takes_names_literally(tmp_path: Path) -> None:
    rows = [stored("1", "train", "[red]odd[/]"), *EIGHT_ROWS[5:]]
    console = Console(width=120, record=True, file=(tmp_path / "terminal").open("w", encoding="utf-8"))
    with console.file:
        console.print(summary_table(build_report(write_store(tmp_path / "store", rows))))
    text = console.export_text()
    assert "4 indexed = 1 stored + 3 rejected; 4 records" in text
    assert re.search(r"│ \[red]odd\[/] +│ +1 / 4 │ +0 / 0 │ +0 / 0 │ +1 / 4 │", text)
    assert "rejected: 1 empty_file (probe), 2 no_face (detect)" in text


def test_markdown_summary(eight: Path) -> None:
    text = summary_markdown(build_report(eight))
    assert "**8 indexed = 5 stored + 3 rejected; 20 records**" in text
    assert "| NeuralTextures | 1 / 4 | 0 / 0 | 0 / 0 | 1 / 4 |" in text
    assert "| all | 3 / 12 | 1 / 4 | 1 / 4 | 5 / 20 |" in text
    assert "| detect | no_face | 2 |" in text


def test_rejection_rows_say_how_many_are_left_out(eight: Path) -> None:
    report = build_report(eight)
    assert [tuple(row) for row in rejection_rows(report)] == [("video_id", "stage", "reason", "detail")] * 3
    assert tuple(rejection_rows(report)[0].values()) == ("zero.mp4", "probe", "empty_file", "seen")
    assert [row["detail"] for row in rejection_rows(report, limit=1)] == ["seen", "and 2 more: see report.json"]
