"""The arithmetic of the benchmarks, on figures that are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.end_to_end import by_stage, compare_boxes, iou, lay_out_copies
from benchmarks.helpers import prefect_costs
from benchmarks.helpers.costs import Cost
from flows.cli.parser import _parser


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
        ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
        ([0, 0, 10, 10], [2, 2, 4, 4], 0.04),
        ([0, 0, 10, 10], [20, 20, 30, 30], 0.0),
    ],
)
def test_intersection_over_union(one: list[float], other: list[float], expected: float) -> None:
    assert iou(one, other) == iou(other, one) == pytest.approx(expected)


def test_a_box_is_held_against_the_one_that_fits_it_best() -> None:
    face, passer_by = [0.0, 0.0, 100.0, 100.0], [300.0, 0.0, 900.0, 600.0]
    ours = {"a.mp4": {"0": face, "5": None, "9": face}, "b.mp4": {"0": face}}
    stock = {"a.mp4": {"0": [passer_by, face], "5": [face], "9": [[0.0, 0.0, 100.0, 50.0]]}, "b.mp4": {"0": []}}
    assert compare_boxes(ours, stock) == {
        "num_frames": 4,
        "num_interpolated": 1,
        "num_without_stock_box": 1,
        "num_compared": 2,
        "share_same": 0.5,
        "min_iou": 0.5,
        "mean_iou": 0.75,
    }


def test_stages_take_the_place_of_their_sum() -> None:
    class Detect:
        stage, seconds = "detect", 3.0

    steps = {"index": 1.0, "split, plan": 2.0, "videos": 5.0, "write": 4.0}
    expected = {"index": 1.0, "split, plan": 2.0, "detect": 3.0, "pack": 2.0, "write": 4.0}
    assert by_stage(steps, [Detect()]) == expected
    assert sum(expected.values()) == sum(steps.values())


def test_clips_take_turns_under_other_names(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4", "masks/c.mp4"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "clips" / name).write_text(name)
    assert lay_out_copies(tmp_path / "clips", tmp_path / "copies", 3) == 3
    links = sorted((tmp_path / "copies").rglob("*.mp4"))
    assert [(link.name, link.read_text()) for link in links] == [
        ("000.mp4", "a.mp4"),
        ("001.mp4", "b.mp4"),
        ("002.mp4", "a.mp4"),
    ]


def test_prefects_share_is_start_and_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def measure(_name: str, command: list[str], _environment: dict[str, str]) -> Cost:
        commands.append(command)
        return Cost(wall_seconds=50.0, cpu_seconds=40.0, output="")

    def in_child(num_shards: int, _environment: dict[str, str]) -> dict[str, Any]:
        return {"num_shards": num_shards, "flow_seconds": 2 * num_shards, "process_cpu_seconds": 7 + 0.5 * num_shards}

    monkeypatch.setattr(prefect_costs, "measure", measure)
    monkeypatch.setattr(prefect_costs, "in_child", in_child)
    plain = {"wall_seconds": 30.0, "cpu_seconds": 34.0, "workers_cpu_seconds_per_video": 0.1}
    found = prefect_costs.measure_share(tmp_path / "data", tmp_path, ["frames.count=4"], plain, (10, 100))
    assert (found["added_wall_seconds"], found["added_cpu_seconds"]) == (20, 6)
    assert (found["wall_seconds_per_shard"], found["cpu_seconds_per_shard"]) == pytest.approx((2, 0.5))
    # 6 s to start and 188 shards of half a second, beside 6,000 videos of a tenth.
    assert found["extrapolated"]["num_shards"] == 188
    assert found["extrapolated"]["cpu_share"] == pytest.approx(100 / 700)
    whole_run = next(command for command in commands if "flows" in command)
    assert _parser().parse_args(whole_run[3:]).set == ["runner.workers=1", "frames.count=4"]
