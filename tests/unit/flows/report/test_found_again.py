"""The sample of crops in which the face is searched again, and what the report says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.report import found_again as module
from flows.report.found_again import FoundAgain, found_again
from flows.report.page import read_report, write_report
from flows.report.text import summary_markdown
from manifests.errors import StageMissing
from manifests.videos_table import read_table
from storage.files.layout import CONFIG_NAME, REPORT_HTML_NAME, REPORT_JSON_NAME, VIDEOS_NAME
from tasks.media import FaceDetection, FrameBatch
from tests.helpers.reports import EIGHT_ROWS, write_store
from tests.helpers.scripted import face


class EverySecond:
    """A detector that finds a face in every second crop, beginning with the first."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        self.seen += [image.tobytes() for image in frames.data]
        return [[face(1, 1, 9)] * (len(self.seen) % 2)]


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> EverySecond:
    made = EverySecond()
    monkeypatch.setattr(module, "MTCNNDetector", lambda: made)
    return made


def test_a_sample_of_each_kind_that_is_always_the_same(eight: Path, detector: EverySecond) -> None:
    rows = [row for row in read_table(eight / VIDEOS_NAME) if row.status == "stored"]
    num_records = sum(row.num_records for row in rows if row.entry is not None and row.entry.label == "real")
    (real,) = found_again(eight, rows, ("real",), 4)
    assert (real.kind, real.num_crops, real.num_found, real.share) == ("real", 4, 2, 0.5)
    sample = list(detector.seen)
    found_again(eight, rows[::-1], ("real", "none of this kind"), 4)
    assert detector.seen[4:] == sample
    (all_of_them,) = found_again(eight, rows, ("real",), 1000)
    assert all_of_them.num_crops == num_records
    assert found_again(eight, rows, ("real",), 0) == ()


def test_the_report_shows_it(tmp_path: Path, detector: EverySecond) -> None:
    store_dir = write_store(tmp_path / "store", EIGHT_ROWS)
    assert write_report(store_dir).found_again == ()  # the run's settings are not known
    (store_dir / CONFIG_NAME).write_text("report: {crops_checked: 2}\n")
    report = write_report(store_dir)
    assert report.found_again[0] == FoundAgain(kind="real", num_crops=2, num_found=1, share=0.5)
    assert [one.kind for one in report.found_again] == ["real", "Deepfakes", "NeuralTextures"]
    assert json.loads((store_dir / REPORT_JSON_NAME).read_text())["found_again"][0]["share"] == 0.5
    assert "Faces found again" in (store_dir / REPORT_HTML_NAME).read_text()
    assert "crops in which MTCNN finds a face again: real 50.0% of 2, Deepfakes 50.0% of 2" in summary_markdown(report)
    assert read_report(store_dir) == report


def test_without_mtcnn_the_report_is_written_all_the_same(eight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise StageMissing("detector mtcnn: got no package facenet_pytorch")

    monkeypatch.setattr(module, "MTCNNDetector", missing)
    rows = [row for row in read_table(eight / VIDEOS_NAME) if row.status == "stored"]
    assert found_again(eight, rows, ("real",), 4) == ()
