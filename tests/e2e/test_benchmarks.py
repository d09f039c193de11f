"""The benchmarks run, and their figures add up: each on a handful of small videos, as `--tiny` has it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# On a busy machine the imports of a dozen processes alone take minutes.
pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]
Run = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a benchmark with `--tiny` in a process of its own, and return what it writes as JSON."""

    def measured(name: str, *options: str, **environment: str) -> Any:
        path = tmp_path / f"{name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", "--tiny", "--json", str(path), *options]
        everything = os.environ | {"TMPDIR": str(tmp_path)} | environment
        done = subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(path.read_text(encoding="utf-8"))

    return measured


def numbers_in(value: Any) -> list[float]:
    """Every number below a value of JSON."""
    if isinstance(value, dict):
        return numbers_in(list(value.values()))
    if isinstance(value, list):
        return [number for item in value for number in numbers_in(item)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_end_to_end_compares_like_with_like(run: Run) -> None:
    figures = run("end_to_end", "--no-prefect")
    assert (figures["num_videos"], figures["num_frames"]) == (2, 8)
    variants = figures["variants"]
    assert {"stock", "ours", figures["floor"]} <= set(variants)
    readers = [row for row in variants.values() if "num_frames" in row]
    assert len(readers) >= 1
    assert {row["num_frames"] for row in readers} == {8}
    assert variants["ours"]["num_stored"] == 2
    assert variants["ours"]["num_crops"] == variants["stock"]["num_crops"] == 8
    for name, row in variants.items():
        assert row["cpu_seconds_per_video"] == pytest.approx(sum(row["cpu_seconds"].values()) / 2)
        assert row["times_the_floor"] >= 1
        ratio = variants["stock"]["cpu_seconds_per_video"] / row["cpu_seconds_per_video"]
        assert row["times_faster_than_stock"] == pytest.approx(ratio), name
    stages = {"index", "decode", "detect", "track", "align", "encode", "write", "tables", "report"}
    assert stages <= set(variants["ours"]["cpu_seconds"])
    for boxes in figures["boxes"].values():
        assert boxes["num_compared"] + boxes["num_interpolated"] + boxes["num_without_stock_box"] == 8
        assert boxes["share_same"] == 1
        assert boxes["min_iou"] > 0.98
    assert [row["num_stored"] for row in figures["side_by_side"]] == [2]
    assert min(numbers_in(figures["side_by_side"])) > 0


def test_our_decoders_give_the_frames_that_were_asked_for(run: Run) -> None:
    rows = run("decode")
    ours = [row for row in rows if row["reader"].startswith("ours")]
    assert len(ours) >= 6  # decoders × rules
    for row in ours:
        assert row["num_exact"] == row["num_wanted"] > 0, row
        assert row["num_wrong"] == 0
        assert row["cpu_ms"] > 0


def test_our_detector_finds_the_boxes_of_facenet_pytorch(run: Run) -> None:
    figures = run("detect")
    assert figures["clips"]
    for clip in figures["clips"].values():
        assert len(clip["cpu"]) >= 3
        for name, row in clip["cpu"].items():
            assert (row["missing"], row["more"], row["share_of_good_iou"]) == (0, 0, 1), name
            assert row["min_iou"] >= 0.98
            assert row["times"] > 0
            assert row["boxes"] >= row["frames_with_a_main_face"] > 0
        for size, (num_found, num_there) in clip["newcomers"].items():
            assert num_found == num_there > 0 or float(size) < 0.6


def test_damage_is_counted(run: Run) -> None:
    for figures in run("damage").values():
        assert figures["num_trials"] == 5
        assert figures["num_found"] <= figures["num_visible"] <= 5 - figures["num_rejected_unseen"]


def test_every_way_to_keep_records_gives_the_same_bytes(run: Run) -> None:
    figures = run("store")
    assert [row["num_records"] for row in figures["writes"]] == [100] * len(figures["writes"])
    assert all(row["identical"] for row in figures["reads"])
    assert {row["what"] for row in figures["reads"]} >= {"RecordStore", "one file a record"}
    differences = {row["format"]: row["largest_difference"] for row in figures["formats"]}
    assert differences["png"] == differences["webp"] == 0
    assert 0 < differences["jpeg"] < 64
    assert min(numbers_in([figures["writes"], figures["reads"]])) > 0


def test_every_simulated_video_arrives(run: Run, prefect_server: str) -> None:
    figures = run("scale", PREFECT_API_URL=prefect_server)
    for row, num_videos in zip(figures["stores"], (40, 80), strict=True):
        for count in ("num_videos", "num_indexed", "num_planned", "num_stored"):
            assert row[count] == num_videos, count
        assert row["num_records"] == 4 * num_videos
        assert row["num_missing_when_reopened"] == 0
        assert -(-num_videos // 32) <= row["num_shards"] <= -(-num_videos // 32) + 2
        assert set(row["wall_seconds"]) == set(row["cpu_seconds"]) == set(row["peak_mib"]) - {"start"}
    assert [(row["server"], row["num_done"]) for row in figures["prefect"]] == [("given", 2)]
