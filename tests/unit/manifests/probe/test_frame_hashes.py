"""Hashes of frames: the right pictures, in any container, and never an error."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import av
import imagehash
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from manifests.probe.container import coded_stream, open_video
from manifests.probe.frame_hashes import BITS_PER_WORD, NO_WORD, POSITIONS, hash_frames, hash_picture, words_of
from manifests.rejected import Stage

Picture = npt.NDArray[np.uint8]
VideoMaker = Callable[..., Path]

HEIGHT, WIDTH = 120, 160
GOP = 12  # frames between key frames, as `make_video` encodes
FEW_BITS = 6


def scene(seed: int, height: int = HEIGHT, width: int = WIDTH) -> Picture:
    """A (H,W,3) picture of soft blobs: `seed` says which."""
    cells = np.random.default_rng(seed).integers(0, 256, (6, 8), dtype=np.uint8)
    grey = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def four_scenes(num_frames: int = 4 * GOP) -> Picture:
    """Frames of four scenes, one after another; each begins with a key frame."""
    return np.stack([scene(4 * number // num_frames) for number in range(num_frames)])


def hashes_of(path: Path) -> tuple[int | None, ...]:
    with open_video(path, Stage.PROBE) as (container, stream):
        num_frames = len(coded_stream(container, stream, Stage.PROBE).times)
        return words_of(hash_frames(container, stream, num_frames))


def by_an_independent_tool(picture: Picture) -> int:
    """Hash a picture that no codec has seen and Pillow has scaled."""
    return int(str(imagehash.phash(Image.fromarray(picture))), 16)


def bits_apart(found: int | None, wanted: int | None) -> int:
    return BITS_PER_WORD if found is None or wanted is None else (found ^ wanted).bit_count()


def assert_alike(found: tuple[int | None, ...], wanted: tuple[int | None, ...]) -> None:
    distances = [bits_apart(*words) for words in zip(found, wanted, strict=True)]
    assert max(distances) <= FEW_BITS, distances


def encode(path: Path, pictures: Picture, codec: str, pix_fmt: str, **options: str) -> Path:
    """Encode pictures with a key frame every 12, in the container that the suffix names."""
    muxer = {"live": "1"} if path.suffix == ".mkv" else {}  # no index of key frames
    with av.open(str(path), "w", options=muxer) as container:
        stream = cast("av.VideoStream", container.add_stream(codec, rate=25, options={"g": str(GOP), **options}))
        stream.height, stream.width, stream.pix_fmt = *pictures.shape[1:3], pix_fmt
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def remux(source: Path, path: Path, change: Callable[[Any], None]) -> Path:
    """Copy a file packet by packet, each changed."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.size:
                change(packet)
                packet.stream = stream
                new.mux(packet)
    return path


def test_the_key_frame_before_each_position(tmp_path: Path, make_video: VideoMaker) -> None:
    """Of 48 frames 6, 18, 30 and 42 are asked for, in the middle of the four scenes."""
    path = make_video(tmp_path / "a.mp4", 4 * GOP, width=WIDTH, height=HEIGHT, pictures=four_scenes())
    wanted = tuple(by_an_independent_tool(scene(number)) for number in range(4))
    assert min(bits_apart(*pair) for pair in combinations(wanted, 2)) > 2 * FEW_BITS
    assert_alike(hashes_of(path), wanted)


def test_it_is_the_key_frame_and_not_the_frame_itself(tmp_path: Path, make_video: VideoMaker) -> None:
    """Frame 30 shows something else than the key frame at 24."""
    pictures = four_scenes()
    pictures[2 * GOP : 2 * GOP + 3] = scene(9)
    path = encode(tmp_path / "a.mp4", pictures, "libx264", "yuv420p", sc_threshold="0")
    assert_alike(hashes_of(path), tuple(by_an_independent_tool(scene(number)) for number in (0, 1, 9, 3)))


@pytest.mark.parametrize("place", [Fraction(0), Fraction(1, 2), Fraction(1)])
def test_other_positions(tmp_path: Path, make_video: VideoMaker, place: Fraction) -> None:
    path = make_video(tmp_path / "a.mp4", 4 * GOP, width=WIDTH, height=HEIGHT, pictures=four_scenes())
    with open_video(path, Stage.PROBE) as (container, stream):
        found = words_of(hash_frames(container, stream, 4 * GOP, [place] * 4))
    assert_alike(found, (by_an_independent_tool(scene(min(3, int(4 * place)))),) * 4)


def test_what_was_decoded_before_does_not_matter(tmp_path: Path, make_video: VideoMaker) -> None:
    path = make_video(tmp_path / "a.mp4", 4 * GOP, width=WIDTH, height=HEIGHT, pictures=four_scenes())
    with open_video(path, Stage.PROBE) as (container, stream):
        fresh = hash_frames(container, stream, 4 * GOP)
        container.seek(0)
        assert next(container.decode(stream)).pts == 0
        assert hash_frames(container, stream, 4 * GOP) == fresh


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"),
    [
        ("a.mp4", "libx264", "yuv444p"),
        ("a.mov", "libx265", "yuv420p10le"),
        ("no_index.mkv", "libx264", "yuv420p"),
        ("a.ts", "libx264", "yuv420p"),
        ("a.avi", "mpeg4", "yuv420p"),
        ("a.webm", "libvpx", "yuv420p"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str, pix_fmt: str) -> None:
    options = {
        "libx265": {"x265-params": f"log-level=none:keyint={GOP}:min-keyint={GOP}"},
        "libvpx": {"deadline": "realtime", "cpu-used": "8", "threads": "1"},
    }
    path = encode(tmp_path / name, four_scenes(), codec, pix_fmt, **options.get(codec, {}))
    assert_alike(hashes_of(path), tuple(by_an_independent_tool(scene(number)) for number in range(4)))


def test_a_variable_rate(tmp_path: Path, make_video: VideoMaker) -> None:
    """The last scene's frames last five times as long, as 56 would: of 92, frames 11, 34, 57 and 80 are asked for."""
    even = make_video(tmp_path / "even.mp4", 4 * GOP, width=WIDTH, height=HEIGHT, pictures=four_scenes())

    def slower(packet: Any) -> None:
        start = int(Fraction(3 * GOP, 25) / packet.time_base)
        packet.pts += 4 * max(0, packet.pts - start)
        packet.dts += 4 * max(0, packet.dts - start)

    uneven = remux(even, tmp_path / "uneven.mp4", slower)
    assert_alike(hashes_of(uneven), tuple(by_an_independent_tool(scene(number)) for number in (0, 2, 3, 3)))


def test_one_frame(tmp_path: Path, make_video: VideoMaker) -> None:
    path = make_video(tmp_path / "a.mp4", 1, width=WIDTH, height=HEIGHT, pictures=scene(7)[None])
    assert_alike(hashes_of(path), (by_an_independent_tool(scene(7)),) * 4)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_uniform_pictures_hash_to_nothing(tmp_path: Path, make_video: VideoMaker, level: int) -> None:
    pictures = four_scenes()
    pictures[2 * GOP :] = level
    path = make_video(tmp_path / "a.mp4", 4 * GOP, width=WIDTH, height=HEIGHT, pictures=pictures)
    found = hashes_of(path)
    assert found[2:] == (None, None)
    assert_alike((*found[:2], 0, 0), (by_an_independent_tool(scene(0)), by_an_independent_tool(scene(1)), 0, 0))


def test_little_contrast_is_no_contrast() -> None:
    stripes = np.tile(np.array([100, 105], dtype=np.uint8), (32, 16))  # standard deviation 2.5
    assert hash_picture(stripes) == NO_WORD
    assert hash_picture(stripes + np.uint8(2) * (stripes == 105)) != NO_WORD  # 3.5


def without_frame(path: Path, number: int) -> Path:
    """Overwrite the coded bytes of a key frame with zeros."""
    with av.open(str(path)) as container:
        keys = [packet for packet in container.demux(video=0) if packet.is_keyframe and packet.size]
        start, size = keys[number].pos or 0, keys[number].size
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    return path


def test_a_picture_that_cannot_be_decoded_is_an_empty_word(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", four_scenes(4), "mjpeg", "yuvj420p")
    whole = hashes_of(path)
    assert None not in whole
    assert hashes_of(without_frame(path, 2)) == (*whole[:2], None, whole[3])


def test_a_key_frame_that_is_none_any_more_gives_way_to_the_one_before(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", four_scenes(), "libx264", "yuv420p")
    first, second, _, fourth = hashes_of(path)
    assert hashes_of(without_frame(path, 2)) == (first, second, second, fourth)


def test_a_first_key_frame_that_is_hidden_gives_way_to_the_first_shown_frame(tmp_path: Path) -> None:
    pictures = np.stack([scene(0), scene(0), *[scene(1)] * 8])
    plain = encode(tmp_path / "plain.mp4", pictures, "libx264", "yuv420p", sc_threshold="0")

    def earlier(packet: Any) -> None:
        ticks = int(Fraction(2, 25) / packet.time_base)
        packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks

    cut = remux(plain, tmp_path / "cut.mp4", earlier)
    with open_video(cut, Stage.PROBE) as (container, stream):
        packets = coded_stream(container, stream, Stage.PROBE).packets
        assert sorted(packet.is_shown for packet in packets) == [False] * 2 + [True] * 8
    assert_alike(hashes_of(cut), (by_an_independent_tool(scene(1)),) * 4)


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_turned_video_is_hashed_as_it_is_shown(tmp_path: Path, make_video: VideoMaker, quarter_turns: int) -> None:
    upright = scene(3)
    lying = np.ascontiguousarray(np.rot90(upright, quarter_turns))  # a player turns it back, clockwise
    height, width = lying.shape[:2]
    path = make_video(tmp_path / "a.mp4", 1, width=width, height=height, pictures=lying[None])
    content = bytearray(path.read_bytes())
    # ISO/IEC 14496-12, tkhd: version and flags, times, ids, duration, layer, volume, then the matrix
    matrix_at = content.index(b"tkhd") + 4 + 4 + 5 * 4 + 2 * 4 + 4 * 2
    cosine, sine = {1: (0, 1), 2: (-1, 0), 3: (0, -1)}[quarter_turns]
    for place, value in enumerate((cosine, sine, 0, -sine, cosine)):
        content[matrix_at + 4 * place : matrix_at + 4 * place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    assert_alike(hashes_of(path), (by_an_independent_tool(upright),) * 4)


def test_words_are_read_back() -> None:
    assert words_of(f"{1:016x}{NO_WORD}{'f' * 16}{0:016x}") == (1, None, 2**64 - 1, 0)


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 80, "-", f"{'0' * 47}{NO_WORD}-", "G" * 64, "F" * 64])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="probe the video again"):
        words_of(text)


@pytest.mark.samples
def test_old_x264_streams_are_decoded_right_behind_a_seek(samples_dir: Path) -> None:
    """FaceForensics++'s own 4:4:4 streams decode to garbage where their first frame has not been seen."""
    path = samples_dir / "ffpp_c23/original_sequences/youtube/c23/videos/519.mp4"
    with av.open(str(path)) as container:
        keys = {frame.time: frame for frame in container.decode(video=0) if frame.key_frame}
    duration = 30.04  # seconds, 751 frames
    wanted = []
    for share in POSITIONS:
        frame = keys[max(time for time in keys if time is not None and time <= share * duration)]
        wanted.append(by_an_independent_tool(cast("Picture", frame.to_ndarray(format="rgb24"))))
    assert len(set(wanted)) > 1
    assert_alike(hashes_of(path), tuple(wanted))
    with open_video(path, Stage.PROBE) as (container, stream):  # no position before the second key frame
        late = words_of(hash_frames(container, stream, 751, POSITIONS[3:] * 4))
    assert_alike(late, (wanted[3],) * 4)
