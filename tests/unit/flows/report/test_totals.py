"""Totals of a store: numbers that are known beforehand."""

from __future__ import annotations

from pathlib import Path

from flows.report.page import build_report
from flows.report.totals import compute_report
from manifests.rejected import Reason, Stage
from storage.files.layout import SHARDS_DIR
from storage.index import StoreIndex
from tests.helpers.reports import rejected, stored, write_store

EMPTY_INDEX = StoreIndex(faceshards_version="1", complete=True, config_digest="c", config={}, shards=())


def test_totals_add_up(eight: Path) -> None:
    totals = build_report(eight).totals
    assert totals["num_indexed"] == 8 == totals["num_stored"] + totals["num_rejected"] + totals["num_pending"]
    assert (totals["num_stored"], totals["num_rejected"]) == (5, 3)
    assert (totals["num_records"], totals["frames_wanted"], totals["frames_got"]) == (20, 20, 20)
    assert (totals["num_interpolated"], totals["num_masks"], totals["num_shards"]) == (1, 3, 3)
    assert totals["num_bytes"] == sum(path.stat().st_size for path in (eight / SHARDS_DIR).iterdir())
    assert totals["bytes_per_record"] == round(totals["num_bytes"] / 20)


def test_kinds_stand_in_the_order_of_the_dataset_and_splits_in_theirs(eight: Path) -> None:
    report = build_report(eight)
    assert report.kinds == ("real", "Deepfakes", "NeuralTextures")
    counted = [(cell.kind, cell.split, cell.num_videos, cell.num_records) for cell in report.cells]
    assert counted[:4] == [
        ("real", "train", 1, 4),
        ("real", "val", 1, 4),
        ("real", "test", 1, 4),
        ("Deepfakes", "train", 1, 4),
    ]
    assert sum(cell.num_records for cell in report.cells) == report.totals["num_records"]


def test_shares_stand_beside_what_was_wanted(eight: Path) -> None:
    found = [(split.share, split.wanted_share, split.difference) for split in build_report(eight).splits]
    assert found == [(0.6, 0.5, 0.1), (0.2, 0.25, -0.05), (0.2, 0.25, -0.05)]


def test_lists_have_no_wanted_share(tmp_path: Path) -> None:
    config = {"split": {"policy": "official", "ratios": [0.7, 0.15, 0.15]}}
    report = build_report(write_store(tmp_path, [stored("1", "train")], config=config))
    assert [(split.share, split.wanted_share, split.difference) for split in report.splits] == [
        (1.0, None, None),
        (0.0, None, None),
        (0.0, None, None),
    ]


def test_crossing_groups_are_named() -> None:
    rows = [stored("1", "train", group_id="g"), stored("2", "test", group_id="g"), stored("3", "val")]
    report = compute_report(EMPTY_INDEX, rows, {})
    assert report.groups_crossing == {"g": ("train", "test")}
    assert ([split.num_groups for split in report.splits], report.num_groups) == ([1, 1, 1], 2)


def test_rejections_stand_by_stage_reason_and_name(eight: Path) -> None:
    report = build_report(eight)
    assert report.rejection_counts == {"probe": {"empty_file": 1}, "detect": {"no_face": 2}}
    assert [rejection.video_id for rejection in report.rejections] == ["zero.mp4", "also.mp4", "late.mp4"]


def test_an_earlier_stage_comes_first_whatever_the_reason() -> None:
    rows = [rejected("a", Stage.DETECT, Reason.NO_FACE), rejected("b", Stage.DECODE, Reason.CRASHED)]
    assert [rejection.video_id for rejection in compute_report(EMPTY_INDEX, rows, {}).rejections] == ["b", "a"]


def test_times_are_summed_and_averaged_over_the_videos_that_came_so_far(eight: Path) -> None:
    times = {time.stage: (time.seconds, time.num_videos, time.mean_seconds) for time in build_report(eight).stages}
    assert times == {
        "decode": (5.0, 5, 1.0),
        "detect": (10.0, 5, 2.0),
        "track": (0.0, 0, None),
        "align": (0.0, 0, None),
        "encode": (0.0, 0, None),
    }


def test_remarks_configuration_and_versions(eight: Path) -> None:
    report = build_report(eight)
    assert report.several_tracks == {"ffpp/real/c23/001": 3}
    assert report.notes == {"ffpp/Deepfakes/c23/001_003": "mask not used: <b>broken</b>"}
    assert report.configuration["frames.count"] == 4
    assert report.configuration["split.ratios"] == [0.5, 0.25, 0.25]
    assert report.versions == {"numpy": ("2.0", "2.1", "2.2"), "torch": ("2.12",)}
