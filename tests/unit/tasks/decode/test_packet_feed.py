"""Feed of packets: damage of every kind is found, and the frames are named; sound files are read."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from manifests.errors import VideoRejected
from tasks.decode.packet_feed import all_frames, named_frames
from tasks.decode.pyav import PyAvDecoder
from tasks.media import Reason, Stage
from tests.helpers.odd_videos import making

NUM_FRAMES = 24
TS_PACKET_BYTES = 188
HURT = 13  # the packet that is damaged
X265 = "log-level=none:bframes=0"

# name → suffix, encoder, pixel format, options: each has another sign of damage
CODINGS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "H.264, CABAC": ("mp4", "libx264", "yuv420p", {"bf": "0"}),
    "H.264, CAVLC": ("mkv", "libx264", "yuv420p", {"profile": "baseline"}),
    "MPEG-4 part 2": ("avi", "mpeg4", "yuv420p", {}),
    "MPEG-2": ("ts", "mpeg2video", "yuv420p", {}),
    "Sorenson H.263": ("flv", "flv", "yuv420p", {}),
    "MS-MPEG-4": ("avi", "msmpeg4", "yuv420p", {"b": "1000k"}),
    "MJPEG": ("avi", "mjpeg", "yuvj420p", {}),
    "FFV1": ("mkv", "ffv1", "yuv420p", {"level": "3", "slicecrc": "1"}),
    "HEVC with checksums": ("mp4", "libx265", "yuv420p", {"x265-params": f"{X265}:hash=1"}),
}


def encode(path: Path, codec: str, pixel_format: str, options: dict[str, Any], first_pts: int = 0) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    times = range(first_pts, first_pts + NUM_FRAMES)
    return making.encode(
        path,
        codec,
        pixel_format,
        numbers=times,
        times=times,
        picture=lambda number: np.roll(noise, number, 1),
        **options,
    )


def damage(path: Path, number: int) -> None:
    """Turn the bits of a few bytes in the middle of one packet, but for JPEG, in which ones are markers."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        content, middle = path.read_bytes(), bytes(packet)[packet.size // 2 : packet.size // 2 + 16]
    assert content.count(middle) == 1
    path.write_bytes(content.replace(middle, bytes(0 if "mjpeg" in path.stem else byte ^ 0xFF for byte in middle)))


def read_all(path: Path) -> npt.NDArray[np.uint8]:
    with PyAvDecoder().open(path) as reader:
        return reader.read(np.arange(reader.num_frames, dtype=np.int64)).data


@pytest.mark.parametrize("coding", CODINGS)
def test_damage_names_the_frame(tmp_path: Path, coding: str) -> None:
    suffix, codec, pixel_format, options = CODINGS[coding]
    path = encode(tmp_path / f"{codec}.{suffix}", codec, pixel_format, options)
    assert np.array_equal(read_all(path), read_all(path))
    damage(path, HURT)
    said = set()
    for _ in range(2):
        with pytest.raises(VideoRejected) as rejection:
            read_all(path)
        assert (rejection.value.stage, rejection.value.reason) == (Stage.DECODE, Reason.DECODE_ERROR)
        said.add(rejection.value.detail)
    (detail,) = said
    # In HEVC the checksums of the frames that refer to it differ as well.
    named = f"frames {HURT}-{NUM_FRAMES - 1}" if "HEVC" in coding else f"frame {HURT}"
    assert (
        detail == f"{path.name}: got damage in {named} of {NUM_FRAMES}, expected whole frames; copy or convert it again"
    )


def test_damage_in_frames_that_are_not_decoded_is_not_looked_at(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", "libx264", "yuv420p", {"g": "1"})
    whole, others = read_all(path), np.array([0, HURT - 1, HURT + 1], dtype=np.int64)
    damage(path, HURT)
    with PyAvDecoder().open(path) as reader:
        assert np.array_equal(reader.read(others).data, whole[others])
    with PyAvDecoder().open(path) as reader, pytest.raises(VideoRejected, match=f"damage in frame {HURT} of"):
        reader.read(np.array([HURT], dtype=np.int64))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_every_run_has_the_same_result(tmp_path: Path, is_damaged: bool) -> None:
    """Runs in several threads, each in windows, so that some skip packets and some continue."""
    path = encode(tmp_path / "clip.mp4", "libx264", "yuv420p", {"g": "8", "bf": "2"})
    whole = read_all(path)
    if is_damaged:
        damage(path, HURT)

    def outcome(window: int) -> bytes | str:
        wanted = np.arange(0, NUM_FRAMES, 2, dtype=np.int64)
        try:
            with PyAvDecoder().open(path) as reader:
                windows = (wanted[start : start + window] for start in range(0, len(wanted), window))
                return b"".join(reader.read(numbers).data.tobytes() for numbers in windows)
        except VideoRejected as rejection:
            return rejection.detail

    with ThreadPoolExecutor(4) as threads:
        outcomes = set(threads.map(outcome, [1, 5, 12] * 4))
    assert len(outcomes) == 1
    assert isinstance(next(iter(outcomes)), str) is is_damaged
    assert is_damaged or outcomes == {whole[::2].tobytes()}


def test_joined_segments_of_a_transport_stream_are_read(tmp_path: Path) -> None:
    """Each begins with a key frame and restarts its packet counter, which FFmpeg takes for a loss."""
    parts = [encode(tmp_path / f"{start}.ts", "libx264", "yuv420p", {}, start) for start in (0, NUM_FRAMES)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert np.array_equal(read_all(joined), np.concatenate([read_all(part) for part in parts]))


def test_a_lost_packet_of_a_transport_stream_is_damage(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.ts", "libx265", "yuv420p", {"x265-params": X265})
    content = path.read_bytes()
    lost = len(content) // TS_PACKET_BYTES // 2 * TS_PACKET_BYTES
    path.write_bytes(content[:lost] + content[lost + TS_PACKET_BYTES :])
    with pytest.raises(VideoRejected, match=r"got damage in frame"):
        read_all(path)


def test_two_recordings_in_one_file_are_refused(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.ts", "libx264", "yuv420p", {})
    path.write_bytes(2 * path.read_bytes())
    with pytest.raises(VideoRejected, match=r"got times that go back from \d\.\d to \d\.\d s at frame 24"):
        read_all(path)


def test_the_log_is_off_before_and_after(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = encode(tmp_path / "clip.avi", "mjpeg", "yuvj420p", {})
    damage(path, HURT)
    with caplog.at_level(logging.DEBUG):
        assert sum(1 for _ in all_frames(path)) > 0
    assert av.logging.get_level() is None
    assert not caplog.records


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([4], "frame 4"),
        ([3, 4, 5, 9], "frames 3-5, 9"),
        ([1, 3, 5, 7, 9, 11, 13], "frames 1, 3, 5, 7, 9 and 2 more places"),
    ],
)
def test_frames_are_named_in_ranges(numbers: list[int], text: str) -> None:
    assert named_frames(numbers) == text
