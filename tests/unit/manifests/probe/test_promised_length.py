"""Promised length: each container cut short is truncated, and every sound file is whole, however it was recorded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from manifests.entry import VideoEntry
from manifests.errors import VideoRejected
from manifests.probe.probe import probe
from manifests.probe.promised_length import require_whole
from manifests.rejected import Reason, Stage

NUM_FRAMES = 24
FRAGMENTS = "frag_keyframe+empty_moov"

# name → FFmpeg's format, encoder, options of the muxer
CONTAINERS: dict[str, tuple[str, str, dict[str, str]]] = {
    "MP4": ("mp4", "libx264", {}),
    "MP4, index first": ("mp4", "libx264", {"movflags": "faststart"}),
    "MP4 in fragments": ("mp4", "libx264", {"movflags": FRAGMENTS}),
    "MP4 with an index of segments": ("mp4", "libx264", {"movflags": "dash+global_sidx+frag_keyframe"}),
    "MOV": ("mov", "mpeg4", {}),
    "MKV": ("matroska", "libx264", {"cluster_size_limit": "2000"}),
    "WebM": ("webm", "libvpx-vp9", {}),
    "AVI": ("avi", "mpeg4", {}),
    "FLV": ("flv", "flv", {}),
    "Ogg": ("ogg", "libvpx", {}),
    "WMV": ("asf", "wmv2", {}),
    "MPEG-TS": ("mpegts", "mpeg2video", {}),
    "MPEG-TS of cameras": ("mpegts", "libx264", {"mpegts_m2ts_mode": "1"}),
    "MPEG-PS": ("mpeg", "mpeg2video", {}),
    "IVF": ("ivf", "libvpx", {}),
    "GIF": ("gif", "gif", {}),
    "VOB": ("vob", "mpeg2video", {}),
}
LIVE = ("MP4 in fragments", "MKV", "WebM", "AVI", "FLV", "Ogg", "WMV", "MPEG-TS", "MPEG-PS")


class Pipe(io.RawIOBase):
    """A file to which a recorder can only append: no length is written to it afterwards."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        """Say that it can be written to."""
        return True

    def write(self, data: Any) -> int:
        """Append."""
        self.content += data
        return len(data)


def made(name: str, file: Any) -> None:
    """Write noise, so that each frame is large."""
    form, codec, options = CONTAINERS[name]
    speed = {"deadline": "realtime", "cpu-used": "8", "threads": "1"} if codec.startswith("libvpx") else {}
    noise = np.random.default_rng(0)
    with av.open(file, "w", format=form, options=options) as container:
        stream: Any = container.add_stream(codec, rate=25, options={"g": "6", **speed})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb8" if name == "GIF" else "yuv420p"
        for _ in range(NUM_FRAMES):
            picture = noise.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def content_of(name: str, tmp_path: Path) -> bytes:
    path = tmp_path / "whole"
    made(name, str(path))
    return path.read_bytes()


def entry(path: Path) -> VideoEntry:
    return VideoEntry(video_id="c", path=path.name, dataset="own", label="real", target_id="c", group_id="c")


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_that_is_cut_is_truncated(tmp_path: Path, name: str) -> None:
    whole, path = content_of(name, tmp_path), tmp_path / "cut.bin"
    require_whole(tmp_path / "whole")
    for share in (0.35, 0.5, 0.85, 0.99):
        num_bytes = int(len(whole) * share) // 2048 * 2048 + 1001  # within a packet of every kind of MPEG stream
        path.write_bytes(whole[: min(num_bytes, len(whole) - 3)])
        with pytest.raises(
            VideoRejected, match=r"cut\.bin: got .* bytes, expected .* says; copy it again"
        ) as rejection:
            probe(tmp_path, entry(path))
        assert (rejection.value.stage, rejection.value.reason) == (Stage.PROBE, Reason.TRUNCATED)


@pytest.mark.parametrize("name", LIVE)
def test_a_live_recording_without_lengths_is_whole(tmp_path: Path, name: str) -> None:
    pipe, path = Pipe(), tmp_path / "live.bin"
    made(name, pipe)
    path.write_bytes(pipe.content)
    assert probe(tmp_path, entry(path)).num_frames == NUM_FRAMES


@pytest.mark.parametrize("name", ["MKV", "WebM", "FLV", "Ogg", "MP4 in fragments"])
def test_a_live_recording_is_cut_within_its_last_part(tmp_path: Path, name: str) -> None:
    pipe, path = Pipe(), tmp_path / "live.bin"
    made(name, pipe)
    path.write_bytes(pipe.content[: len(pipe.content) * 2 // 3 + 5])
    with pytest.raises(VideoRejected, match="copy it again") as rejection:
        require_whole(path)
    assert rejection.value.reason == Reason.TRUNCATED


@pytest.mark.parametrize("name", ["MP4", "MKV", "AVI", "FLV", "GIF", "MPEG-PS"])
@pytest.mark.parametrize("after", [b"\0" * 3000, b"ID3 some notes of a player" * 30], ids=["zeros", "notes"])
def test_what_follows_the_last_part_promises_nothing(tmp_path: Path, name: str, after: bytes) -> None:
    path = tmp_path / "longer.bin"
    path.write_bytes(content_of(name, tmp_path) + after)
    require_whole(path)


def test_a_gif_may_end_without_its_last_block(tmp_path: Path) -> None:
    path = tmp_path / "c.gif"
    path.write_bytes(content_of("GIF", tmp_path)[:-1])
    require_whole(path)


def test_an_avi_may_count_places_from_the_start_of_the_file(tmp_path: Path) -> None:
    """And an index that fits nowhere promises nothing."""
    content, path = bytearray(content_of("AVI", tmp_path)), tmp_path / "c.avi"
    movi, first = content.index(b"movi"), content.index(b"idx1") + 8
    for shift in (movi, 1000):
        changed = bytearray(content)
        for at in range(first + 8, len(content), 16):
            place = int.from_bytes(content[at : at + 4], "little") + shift
            changed[at : at + 4] = place.to_bytes(4, "little")
        path.write_bytes(changed)
        require_whole(path)


def test_pictures_without_an_index_are_truncated(tmp_path: Path) -> None:
    whole, path = content_of("MP4", tmp_path), tmp_path / "cut.mp4"
    path.write_bytes(whole[: whole.index(b"moov") - 4])
    with pytest.raises(VideoRejected, match=r"got pictures without an index \(moov\)") as rejection:
        require_whole(path)
    assert rejection.value.reason == Reason.TRUNCATED


def test_metadata_of_flv_promises_size_and_duration(tmp_path: Path) -> None:
    """A file that ends between two tags; a wrong size or a wrong duration alone proves nothing."""
    whole, path = content_of("FLV", tmp_path), tmp_path / "cut.flv"
    end, ends = 13, list[int]()
    while end < len(whole):
        end += 11 + int.from_bytes(whole[end + 1 : end + 4], "big") + 4
        ends.append(end)
    assert ends[-1] == len(whole)
    path.write_bytes(whole[: ends[len(ends) // 2]])
    with pytest.raises(VideoRejected, match=f"expected {len(whole):,} as its metadata says"):
        require_whole(path)
    path.write_bytes(path.read_bytes().replace(b"filesize", b"filesing"))
    require_whole(path)


def test_a_cluster_that_contradicts_its_checksum_is_damaged(tmp_path: Path) -> None:
    whole, path = bytearray(content_of("MKV", tmp_path)), tmp_path / "damaged.mkv"
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(VideoRejected, match=r"a cluster at byte .* that contradicts its checksum") as rejection:
        require_whole(path)
    assert rejection.value.reason == Reason.DECODE_ERROR


def test_a_file_of_countless_parts_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "parts.webm"
    head = bytes.fromhex("1a45dfa380 1853806701ffffffffffffff".replace(" ", ""))
    path.write_bytes(head + b"\xec\x80" * 1000 + b"\xec\x90")  # the last of many empty elements is cut
    with pytest.raises(VideoRejected, match="as its last element says"):
        require_whole(path)
    monkeypatch.setattr("manifests.probe.promised_length.MAX_READS", 50)
    require_whole(path)
