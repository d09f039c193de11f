"""Limits before decoding: hostile videos end in a rejection or in their true numbers, with little memory and time."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

import manifests.probe.container
import manifests.probe.opening
from manifests.entry import VideoEntry
from manifests.probe.probe import probe_all
from manifests.rejected import Reason, Rejected, Stage
from tests.helpers.odd_videos.hostile import SMALL, encoded, text

# Resident memory that probing one of the files may add, KiB: FFmpeg's decoder and PyAV take 20 MiB at the first one.
MOST_KIB = 100 * 1024

NUM_FRAMES = dict.fromkeys(SMALL, 12) | {"MKV, a day between two frames": 8, "MP4, 10^9 s between two frames": 3}
REASONS = {
    "PNG of 60,000 × 60,000": Reason.TOO_LARGE,
    "PNG of 16,000 × 16,000": Reason.TOO_LARGE,
    "GIF of 65,535 × 65,535": Reason.TOO_LARGE,
    "GIF of 16,000 × 16,000": Reason.TOO_LARGE,
    "MP4, 2^32-1 samples": Reason.DECODE_ERROR,
    "MP4, 2^32-1 samples at one rate": Reason.DECODE_ERROR,
    "MP4, time scale of 1": Reason.TRUNCATED,
    "MKV, cluster of 2^56-2 bytes": Reason.TRUNCATED,
    "HLS named MP4": Reason.NOT_A_VIDEO,
    "concat named MP4": Reason.NOT_A_VIDEO,
    "DASH named MP4": Reason.NOT_A_VIDEO,
    "SDP named MP4": Reason.NOT_A_VIDEO,
}


def entry_at(path: str) -> VideoEntry:
    return VideoEntry(video_id="a", path=path, dataset="ffpp", label="real", target_id="a", group_id="a")


def probed(path: Path) -> VideoEntry | Rejected:
    (found,) = probe_all(path.parent, [entry_at(path.name)])
    return found


@pytest.mark.parametrize("name", SMALL)
def test_promises_of_headers_cost_nothing(tmp_path: Path, name: str) -> None:
    path = SMALL[name](tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = probed(path)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    got = found.reason if isinstance(found, Rejected) else found.num_frames
    assert got == REASONS.get(name, NUM_FRAMES[name])
    assert grown < MOST_KIB


def test_the_numbers_of_a_picture_are_named(tmp_path: Path) -> None:
    found = probed(SMALL["PNG of 16,000 × 16,000"](tmp_path))

    assert isinstance(found, Rejected)
    assert found.detail == (
        "png.mov: got a picture of 16000×16000 = 256,000,000 pixels, expected at most 142,606,336; scale it down"
    )


def test_a_video_that_grows_is_limited_at_every_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (manifests.probe.container, manifests.probe.opening):
        monkeypatch.setattr(module, "MAX_PIXELS", 100_000)
    parts = [encoded(tmp_path / f"{side}.h264", (side, side)).read_bytes() for side in (320, 160)]
    path = tmp_path / "shrinks.h264"
    path.write_bytes(b"".join(parts))

    found = probed(path)
    assert isinstance(found, Rejected)
    assert found.reason == Reason.TOO_LARGE


def test_packets_are_counted_only_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests.probe.opening, "MAX_PACKETS", 11)
    found = probed(encoded(tmp_path / "a.mp4"))

    assert isinstance(found, Rejected)
    assert (found.stage, found.reason) == (Stage.PROBE, Reason.TOO_LARGE)
    assert found.detail == "a.mp4: got more than 11 packets, expected fewer; cut it into parts"


def test_frames_are_decoded_for_counting_only_for_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests.probe.opening, "COUNTING_SECONDS", -1.0)
    found = probed(encoded(tmp_path / "a.mpg", codec="mpeg2video"))

    assert isinstance(found, Rejected)
    assert found.reason == Reason.DECODE_TIMEOUT


@pytest.mark.parametrize("name", ["a.ffconcat", "a.mkv", "a.m3u8"])
def test_no_list_leads_to_another_file(tmp_path: Path, name: str) -> None:
    found = probed(text(name, "ffconcat version 1.0\nfile other.ts\n")(tmp_path))

    assert isinstance(found, Rejected)
    assert found.reason == Reason.NOT_A_VIDEO
    assert "leads to other files" in found.detail


def test_a_name_is_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    encoded(Path("a.mp4").absolute())
    Path("a.mp4").rename("concat:a.mp4")

    (found,) = probe_all(Path(), [entry_at("concat:a.mp4")])
    assert isinstance(found, VideoEntry)
    assert found.num_frames == 12


def test_pipes_and_devices_are_no_videos(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "zero.mp4").symlink_to("/dev/zero")

    for name in ("pipe", "zero"):
        found = probed(tmp_path / f"{name}.mp4")
        assert isinstance(found, Rejected)
        assert found.reason == Reason.UNREADABLE
