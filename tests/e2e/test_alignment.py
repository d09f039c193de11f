"""68 landmarks, LRW alignment and clips; pairs that share their geometry; masks derived from originals."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.preprocess import preprocess_ffpp
from manifests.rejected import Reason
from manifests.row import ManifestRow
from manifests.videos_table import read_table
from storage.files.layout import GEOMETRY_DIR
from storage.format.record import Record
from storage.store import RecordStore
from storage.verify import verify_store

pytestmark = [pytest.mark.e2e, pytest.mark.long, pytest.mark.usefixtures("prefect_server")]

Configure = Callable[..., Any]
LRW = ("landmark.kind=dlib", "crop.kind=lrw", "crop.size_px=150", "detect.every=8", "frames.mode=clips")


def rows_of(out: Path) -> dict[str, ManifestRow]:
    return {row.video_id: row for row in read_table(out / "videos.parquet")}


def records_of(out: Path) -> dict[str, list[Record]]:
    by_video: dict[str, list[Record]] = {}
    for split in ("train", "val", "test"):
        with RecordStore(out, split=split) as store:
            for record in store:
                by_video.setdefault(record.video_id, []).append(record)
    return by_video


def test_clips_of_aligned_faces(miniature: Path, tmp_path: Path, configure: Configure) -> None:
    out = tmp_path / "store"
    totals = preprocess_ffpp(configure(miniature, out, *LRW, "frames.clip_seconds=0.4", "frames.clip_frames=5"))
    assert totals["num_stored"] == totals["num_indexed"] == 20
    assert verify_store(out).problems == ()
    for records in records_of(out).values():
        for record in records:
            assert record.crops.shape == (5, 150, 150, 3)
            assert record.landmarks.shape == (5, 68, 2)
            assert 0 < record.pts_seconds[-1] - record.pts_seconds[0] < 0.4
        for earlier, later in pairwise(records):
            assert earlier.frame_indices[-1] < later.frame_indices[0]
    assert "landmarks" in (out / "report.html").read_text()
    assert (
        preprocess_ffpp(configure(miniature, out, *LRW, "frames.clip_seconds=0.4", "frames.clip_frames=5"))[
            "videos_processed"
        ]
        == 0
    )


def test_pairs_share_frames_and_geometry(miniature: Path, tmp_path: Path, configure: Configure) -> None:
    out = tmp_path / "store"
    preprocess_ffpp(configure(miniature, out, "track.reuse_geometry=true"))
    records, rows = records_of(out), rows_of(out)
    fakes = [row for row in rows.values() if row.entry is not None and row.entry.label == "fake"]
    assert len(fakes) == 16
    for row in fakes:
        assert row.entry is not None
        original = f"ffpp/youtube/c23/{row.entry.target_id}"
        of_original = {int(record.frame_indices[0]): record for record in records[original]}
        for record in records[row.video_id]:
            twin = of_original[int(record.frame_indices[0])]
            assert record.geometry_from == original
            assert record.track_choice == "original"
            np.testing.assert_array_equal(record.matrices, twin.matrices)
            np.testing.assert_array_equal(record.boxes_xyxy, twin.boxes_xyxy)
    assert not (out / GEOMETRY_DIR).exists()
    assert verify_store(out).problems == ()


def test_masks_derived_from_originals_are_those_of_the_dataset(
    dataset: Path, tmp_path: Path, configure: Configure
) -> None:
    with_masks, derived = tmp_path / "with", tmp_path / "derived"
    preprocess_ffpp(configure(dataset, with_masks, "track.reuse_geometry=true"))
    for folder in (dataset / "manipulated_sequences").glob("*/masks"):
        shutil.rmtree(folder)
    preprocess_ffpp(configure(dataset, derived, "track.reuse_geometry=true", "masks=difference"))
    true, found = records_of(with_masks), records_of(derived)
    shares, num_without = [], 0
    for video_id, records in true.items():
        for ours, theirs in zip(found[video_id], records, strict=True):
            if theirs.masks is None or ours.masks is None:
                num_without += theirs.masks is not None  # nothing differs that compression does not explain
                assert ours.mask_source is None
                continue
            assert (theirs.mask_source, ours.mask_source) == ("dataset", "difference")
            both = (ours.masks > 127) & (theirs.masks > 127)
            either = (ours.masks > 127) | (theirs.masks > 127)
            shares.append(both.sum() / either.sum())
    assert len(shares) + num_without == sum(row.num_masks for row in rows_of(with_masks).values()) > 40
    assert num_without < 5
    assert np.mean(shares) > 0.6


@pytest.mark.samples
def test_the_real_clips_and_the_odd_ones(samples_dir: Path, tmp_path: Path, configure: Configure) -> None:
    root, out = tmp_path / "own", tmp_path / "store"
    (root / "real").mkdir(parents=True)
    (root / "fake").mkdir()
    for path in (samples_dir / "edge_cases").iterdir():
        shutil.copy(path, root / "real")
    shutil.copy(samples_dir / "ffpp_c23/original_sequences/youtube/c23/videos/634.mp4", root / "real")
    preprocess_ffpp(
        configure(root, out, *LRW, "dataset.name=folder", "frames.clip_seconds=3", "detect.max_side_px=800")
    )
    rows, records = rows_of(out), records_of(out)
    assert rows["folder/real/no_face"].reason is Reason.NO_FACE
    (short,) = records["folder/real/single_face"]  # 2.4 s: the last frame is shown again
    assert short.frame_indices[-1] == short.frame_indices[-2] == 71
    leaves = rows["folder/real/face_noface"]  # a cut after 2.4 of 6.4 s, to a scene without a face
    assert (leaves.status, leaves.num_dropped) == ("stored", 0)
    (before_cut,) = records["folder/real/face_noface"]
    assert before_cut.frame_indices[-1] == before_cut.frame_indices[-2] == 71
    assert not before_cut.interpolated.any()
    assert [record.num_frames for record in records["folder/real/634"]] == [10, 10, 10, 10]
    assert verify_store(out).problems == ()


@pytest.mark.samples
def test_a_number_of_faces_is_looked_for(samples_dir: Path, tmp_path: Path, configure: Configure) -> None:
    root, out = tmp_path / "own", tmp_path / "store"
    shutil.copytree(samples_dir / "edge_cases", root / "real")
    (root / "fake").mkdir()
    preprocess_ffpp(configure(root, out, "dataset.name=folder", "frames.at_least=12", "frames.max_visits=48"))
    rows, records = rows_of(out), records_of(out)
    # With lower thresholds something may look like a face once.
    assert rows["folder/real/no_face"].reason in (Reason.NO_FACE, Reason.TOO_FEW_FACES)
    for name in ("single_face", "face_noface"):
        assert len(records[f"folder/real/{name}"]) == 12
        assert not any(record.interpolated.any() for record in records[f"folder/real/{name}"])
