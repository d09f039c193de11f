"""What a file is: by its name where it tells, otherwise by its first bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import cast

import av
import numpy as np
import pytest

from manifests.datasets.file_kind import SNIFF_BYTES, VIDEO_SUFFIXES, kind_of, reason_by_content, reason_by_name
from manifests.datasets.ignored import IgnoredReason

# Container of FFmpeg → codec; each file is made, and then recognised without its name.
CONTAINERS = {
    "mp4": "mpeg4",
    "mov": "mpeg4",
    "matroska": "mpeg4",
    "webm": "libvpx",
    "avi": "mpeg4",
    "asf": "msmpeg4v3",
    "mpegts": "mpeg2video",
    "vob": "mpeg2video",
    "mpeg2video": "mpeg2video",
    "flv": "flv1",
    "3gp": "mpeg4",
    "mxf": "mpeg2video",
    "nut": "mpeg4",
    "gif": "gif",
    "ogg": "libvpx",
    "h264": "libx264",
    "ivf": "libvpx",
    "yuv4mpegpipe": "rawvideo",
}


def encode(path: Path, container: str, codec: str, num_frames: int) -> None:
    """Write a video of noise."""
    noise = np.random.default_rng(0).integers(0, 255, (num_frames, 96, 128, 3), dtype=np.uint8)
    options = {"deadline": "realtime", "cpu-used": "8", "threads": "1"} if codec == "libvpx" else {}
    with av.open(str(path), "w", format=container) as file:
        stream = cast("av.VideoStream", file.add_stream(codec, rate=25, options=options))
        stream.width, stream.height = 128, 96
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for picture in noise:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        file.mux(stream.encode(None))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_video_of_any_container_is_one_without_its_suffix(container: str, tmp_path: Path) -> None:
    encode(tmp_path / "clip", container, CONTAINERS[container], num_frames=5)
    assert reason_by_content(tmp_path / "clip") is None


def test_a_gif_of_one_picture_is_a_picture(tmp_path: Path) -> None:
    encode(tmp_path / "still", "gif", "gif", num_frames=1)
    assert reason_by_content(tmp_path / "still") is IgnoredReason.PICTURE


@pytest.mark.parametrize(("head", "reason"), [
    (b"", IgnoredReason.EMPTY),
    (b"const x: number = 1;\n", IgnoredReason.TEXT),
    ("<?xml version='1.0'?><TS language='de'>Größe".encode(), IgnoredReason.TEXT),
    ("é".encode() * SNIFF_BYTES, IgnoredReason.TEXT),  # the last character is cut off
    (b"\x89PNG\r\n\x1a\n", IgnoredReason.PICTURE),
    (b"\xff\xd8\xff\xe0", IgnoredReason.PICTURE),
    (b"RIFF\0\0\0\0WEBPVP8 ", IgnoredReason.PICTURE),
    (b"\0\0\0\x1cftypavif", IgnoredReason.PICTURE),
    (b"\0\0\0\x1cftypM4A ", IgnoredReason.AUDIO),
    (b"RIFF\0\0\0\0WAVEfmt ", IgnoredReason.AUDIO),
    (b"OggS" + bytes(24) + b"\x01vorbis", IgnoredReason.AUDIO),
    (b"PK\x03\x04", IgnoredReason.ARCHIVE),
    (b"7z\xbc\xaf\x27\x1c", IgnoredReason.ARCHIVE),
    (bytes(range(256)), IgnoredReason.NOT_A_VIDEO),
    (b"GIF89a", IgnoredReason.PICTURE),  # cut short
    (b"G" + bytes(187) + b"G", IgnoredReason.NOT_A_VIDEO),
    (b"\0\0\0\x18ftypisom", None),
    (b"OggS" + bytes(24) + b"\x80theora", None),
    ((b"G" + bytes(187)) * 3, None),
    (bytes(4) + (b"G" + bytes(191)) * 3, None),
])  # fmt: skip
def test_the_first_bytes_tell(head: bytes, reason: IgnoredReason | None, tmp_path: Path) -> None:
    (tmp_path / "clip").write_bytes(head)
    assert reason_by_content(tmp_path / "clip") is reason


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    assert reason_by_content(tmp_path / "gone") is IgnoredReason.UNREADABLE
    os.mkfifo(tmp_path / "pipe")
    assert reason_by_content(tmp_path / "pipe") is IgnoredReason.UNREADABLE


@pytest.mark.parametrize(("name", "reason"), [
    ("a.mp4.crdownload", IgnoredReason.UNFINISHED),
    ("a.mp4.part", IgnoredReason.UNFINISHED),
    ("a.f137.mp4.part-Frag12", IgnoredReason.UNFINISHED),
    ("a.mp4.aria2", IgnoredReason.UNFINISHED),
    ("a.mp4.!ut", IgnoredReason.UNFINISHED),
    ("a.mp4.ytdl", IgnoredReason.UNFINISHED),
    ("a.mp4.tmp", IgnoredReason.UNFINISHED),
    (".partial-77-a.mp4", IgnoredReason.UNFINISHED),
    (".download-a.mp4", IgnoredReason.UNFINISHED),
    ("A.MP4.DOWNLOAD", IgnoredReason.UNFINISHED),
    ("a.zip", IgnoredReason.ARCHIVE),
    ("LAV-DF.zip.001", IgnoredReason.ARCHIVE),
    ("a.7z.001", IgnoredReason.ARCHIVE),
    ("a.z01", IgnoredReason.ARCHIVE),
    ("a.r00", IgnoredReason.ARCHIVE),
    ("a.tar.gz", IgnoredReason.ARCHIVE),
    ("a.mp4.gz", IgnoredReason.ARCHIVE),
    ("A.JPG", IgnoredReason.PICTURE),
    ("a.wav", IgnoredReason.AUDIO),
    ("a.srt", IgnoredReason.TEXT),
    ("a.npy", IgnoredReason.DATA),
    ("a.mp4~", IgnoredReason.BACKUP),
    ("a.mp4.bak", IgnoredReason.BACKUP),
    (".DS_Store", IgnoredReason.HIDDEN),
    ("._a.mp4", IgnoredReason.HIDDEN),
    ("Thumbs.db", IgnoredReason.HIDDEN),
    ("desktop.ini", IgnoredReason.HIDDEN),
    ("README", IgnoredReason.AUXILIARY),
    ("license.txt", IgnoredReason.AUXILIARY),
    ("SHA256SUMS", IgnoredReason.AUXILIARY),
    ("a.mp4.sha256", IgnoredReason.AUXILIARY),
    ("a.mp4.json", IgnoredReason.AUXILIARY),
    ("a", None),
    ("a.ts", None),
    ("a.gif", None),
    ("a.dat", None),
    ("a.mp4 ", None),
    ("a.mp4_1", None),
    ("readmelater.mp4x", None),
])  # fmt: skip
def test_names_tell(name: str, reason: IgnoredReason | None) -> None:
    _, dot, ending = name.rpartition(".")
    assert reason_by_name(name, f"{dot}{ending.lower()}") is reason


def test_suffixes_are_lower_case_and_belong_to_one_kind() -> None:
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in VIDEO_SUFFIXES)
    assert all(reason_by_name(f"a{suffix}", suffix) is None for suffix in VIDEO_SUFFIXES)


def test_kinds_have_names_for_messages() -> None:
    assert kind_of(b"OggS") == "audio"
    assert kind_of(b"plain words") == "something else"
