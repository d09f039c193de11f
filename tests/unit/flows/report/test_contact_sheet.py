"""The contact sheet: which crops it shows, and how."""

from __future__ import annotations

import base64
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from flows.report.contact_sheet import (
    FRAMES_OF_MANY,
    MAX_FRAMES,
    MAX_VIDEOS,
    THUMBNAIL_PX,
    choose_videos,
    contact_sheet,
)
from storage.format.images import decode_rgb
from tests.helpers.reports import EIGHT_ROWS, GREY, stored, write_store


def test_few_videos_show_every_frame_and_where_it_comes_from(eight: Path) -> None:
    sheet = contact_sheet(eight, EIGHT_ROWS, ("real", "Deepfakes", "NeuralTextures"))
    assert [video.row.video_id.split("/", 1)[1] for video in sheet] == [
        "real/c23/001",
        "Deepfakes/c23/001_003",
        "NeuralTextures/c23/001_002",
        "real/c23/004",
        "real/c23/005",
    ]
    fake = sheet[2]
    assert [frame.frame_index for frame in fake.frames] == [0, 10, 20, 30]
    assert [frame.interpolated for frame in fake.frames] == [True, False, False, False]
    assert [frame.mask_share for frame in fake.frames] == [None, 0.5, 0.5, 0.5]
    # The interpolated frame has no score of its own: 0.625, 0.75 and 0.875 are left.
    assert (fake.score_min, fake.score_mean) == (0.625, 0.75)


def test_mask_tints_what_it_covers_and_nothing_else(eight: Path) -> None:
    frame = contact_sheet(eight, EIGHT_ROWS, ("real", "Deepfakes", "NeuralTextures"))[2].frames[3]
    assert frame.mask_uri is not None
    crop, tinted = (decode_rgb(base64.b64decode(uri.partition(",")[2])) for uri in (frame.crop_uri, frame.mask_uri))
    assert np.abs(crop[8:].astype(int) - GREY).max() <= 2  # above are the landmarks, all in the corner
    assert crop[0, 0, 1] > 200 > 60 > crop[0, 0, 0]
    inside, outside = tinted[2:-2, 2:4].astype(int), tinted[:, -4:].astype(int)
    # Red of 255 and green of 0 at 35 %: 172 and 83, less what JPEG takes.
    assert (inside[..., 0] - inside[..., 1]).mean() == pytest.approx(172 - 83, abs=12)
    assert np.abs(outside - GREY).max() <= 12


def test_many_videos_show_every_split_and_kind() -> None:
    kinds = ("real", "Deepfakes", "FaceSwap")
    rows = [stored(f"{number:03d}", "train", kind) for kind in kinds for number in range(200)]
    rows += [stored(f"rare-{split}", split, kind) for kind in kinds for split in ("val", "test")]
    chosen = choose_videos(rows, kinds)
    shuffled = random.Random(1).sample(rows, len(rows))
    assert choose_videos(shuffled, kinds) == chosen
    assert len({row.video_id for row in chosen}) == len(chosen) == MAX_VIDEOS
    places = Counter((row.entry.split, row.entry.manipulation) for row in chosen if row.entry is not None)
    assert len(places) == 9
    assert max(places.values()) - min(places["train", kind] for kind in (None, "Deepfakes", "FaceSwap")) <= 1
    names = [row.video_id for row in chosen if row.video_id.startswith("ffpp/real") and "rare" not in row.video_id]
    assert (names[0], names[-1]) == ("ffpp/real/c23/000", "ffpp/real/c23/199")


def test_frames_shown_are_spread_and_bounded(tmp_path: Path) -> None:
    rows = [stored(f"{number}", "train", num_records=20) for number in range(9)]
    sheet = contact_sheet(write_store(tmp_path / "many", rows), rows, ("real",))
    assert {len(video.frames) for video in sheet} == {FRAMES_OF_MANY}
    assert [frame.frame_index for frame in sheet[0].frames] == [0, 20, 40, 60, 80, 100, 120, 140, 160, 190]
    long = [stored("long", "train", num_records=MAX_FRAMES + 50)]
    (video,) = contact_sheet(write_store(tmp_path / "long", long), long, ("real",))
    assert (video.num_frames, len(video.frames)) == (MAX_FRAMES + 50, MAX_FRAMES)


def test_pictures_are_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.helpers.reports.CROP_PX", 300)
    rows = [stored("1", "train", num_masks=4)]
    (video,) = contact_sheet(write_store(tmp_path, rows), rows, ("real",))
    assert decode_rgb(base64.b64decode(video.frames[0].crop_uri.partition(",")[2])).shape[:2] == (THUMBNAIL_PX,) * 2
