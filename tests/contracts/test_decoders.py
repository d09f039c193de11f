"""One contract over every decoder: the frames asked for, upright RGB, exact times, or a rejection."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.helpers.odd_videos import damaged_clips, hiding, remux
from manifests.errors import VideoRejected
from tasks.decode import DECODERS
from tasks.decode.decoder import Decoder
from tasks.decode.pyav import PyAvDecoder
from tasks.decode.sampling import frame_indices
from tasks.media import Reason, Stage
from tasks.settings import DecodeSettings

VideoMaker = Callable[..., Path]
FrameNumberReader = Callable[[npt.NDArray[np.uint8]], int]


NUM_FRAMES = 48  # of the clips encoded here
HEIGHT, WIDTH = 96, 128
QUIET = "log-level=none"  # for x265, which writes to the terminal

# name → file, encoder, pixel format, options: what a plan of which packets to decode can get wrong
CODINGS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "B-pyramid": ("c.mp4", "libx264", "yuv420p", {"g": "24", "bf": "8", "b_strategy": "0", "refs": "16"}),
    "unreferenced B": ("c.mp4", "libx264", "yuv420p", {"g": "24", "bf": "3", "b-pyramid": "none"}),
    "one group": ("c.mp4", "libx264", "yuv420p", {"g": "250", "sc_threshold": "0"}),
    "open groups": ("c.mp4", "libx264", "yuv420p", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "intra refresh": ("c.mp4", "libx264", "yuv420p", {"g": "12", "intra-refresh": "1"}),
    "slices": ("c.mp4", "libx264", "yuv420p", {"g": "12", "slices": "4"}),
    "key frames only": ("c.mp4", "libx264", "yuv420p", {"g": "1"}),
    "4:4:4": ("c.mp4", "libx264", "yuv444p", {"g": "24", "bf": "3"}),
    "x265, open groups": ("c.mp4", "libx265", "yuv420p", {"g": "12", "x265-params": QUIET}),
    "x265, closed groups": ("c.mp4", "libx265", "yuv420p", {"g": "12", "x265-params": f"{QUIET}:open-gop=0:bframes=4"}),
    "x265, temporal layers": ("c.mp4", "libx265", "yuv420p", {"x265-params": f"{QUIET}:temporal-layers=2:bframes=7"}),
    "MPEG-4 part 2": ("c.mp4", "mpeg4", "yuv420p", {"g": "12", "bf": "2"}),
    "VP9": ("c.webm", "libvpx-vp9", "yuv420p", {"g": "12", "cpu-used": "8", "lag-in-frames": "10"}),
    "MJPEG": ("c.avi", "mjpeg", "yuvj420p", {}),
}

# The upper left of the display matrix, x' and y' from x and from y (ISO/IEC 14496-12, 8.3.2) → what a player does
TURNS: dict[tuple[int, int, int, int], Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    (0, 1, -1, 0): lambda pictures: np.rot90(pictures, -1, (1, 2)),
    (-1, 0, 0, -1): lambda pictures: np.rot90(pictures, 2, (1, 2)),
    (0, -1, 1, 0): lambda pictures: np.rot90(pictures, 1, (1, 2)),
}
MIRRORS: dict[tuple[int, int, int, int], Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.uint8]]] = {
    (-1, 0, 0, 1): lambda pictures: pictures[:, :, ::-1],
    (1, 0, 0, -1): lambda pictures: pictures[:, ::-1],
    (0, 1, 1, 0): lambda pictures: pictures.transpose(0, 2, 1, 3),
}


def encode(
    path: Path, codec: str, pixel_format: str = "yuv420p", *, num_frames: int = NUM_FRAMES, **options: Any
) -> Path:
    """Encode noise that moves over a gradient, with one change of scene: a wrong frame or reference shows."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        for number in range(num_frames):
            picture = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
            picture[:] = np.arange(WIDTH)[None, :, None] + 3 * number
            picture[16:80, number : number + 64] = noise
            picture = 255 - picture if number > num_frames * 2 // 3 else picture
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def every_frame(path: Path) -> npt.NDArray[np.uint8]:
    """The (T,H,W,3) truth: every frame, decoded one after another from the first, as it lies in the file."""
    with av.open(str(path)) as container:
        container.streams.video[0].thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(np.uint8)


def selections(num_frames: int) -> Iterator[list[list[int]]]:
    """Yield ways to ask: all at once, the ends, and random frames by several calls."""
    yield [list(range(num_frames))]
    yield [[number] for number in sorted({0, num_frames - 1})]
    yield [[num_frames - 1]]
    noise = random.Random(0)
    for count in (2, 5, 12):
        wanted = sorted(noise.sample(range(num_frames), min(count, num_frames)))
        yield [wanted]
        yield [wanted[start : start + 3] for start in range(0, len(wanted), 3)]


def require_exact(decoder: Decoder, path: Path, truth: npt.NDArray[np.uint8]) -> None:
    for calls in selections(len(truth)):
        with decoder.open(path) as reader:
            assert reader.num_frames == len(truth)
            for wanted in calls:
                frames = reader.read(np.array(wanted, dtype=np.int64))
                wrong = [
                    number for row, number in enumerate(wanted) if not np.array_equal(frames.data[row], truth[number])
                ]
                assert wrong == [], calls


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return DECODERS[request.param].from_settings(DecodeSettings(backend=request.param))


@pytest.mark.parametrize(
    "wanted",
    [[0], [59], [0, 59], list(range(60)), [3, 14, 15, 26, 40, 58], [30, 31, 32]],
    ids=["first", "last", "ends", "all", "scattered", "middle"],
)
def test_exactly_the_frames_asked_for(
    tmp_path: Path, make_video: VideoMaker, frame_number: FrameNumberReader, decoder: Decoder, wanted: list[int]
) -> None:
    path = make_video(tmp_path / "numbered.mp4", 60)
    with decoder.open(path) as reader:
        assert reader.num_frames == 60
        frames = reader.read(np.array(wanted, dtype=np.int64))
    assert frames.data.shape == (len(wanted), 240, 320, 3)
    assert [frame_number(picture) for picture in frames.data] == wanted
    assert frames.frame_indices.tolist() == wanted
    assert frames.pts_seconds.tolist() == [number / 25 for number in wanted]


def test_batches_go_on_where_the_last_one_ended(
    tmp_path: Path, make_video: VideoMaker, frame_number: FrameNumberReader, decoder: Decoder
) -> None:
    path = make_video(tmp_path / "numbered.mp4", 60)
    wanted = frame_indices("uniform", 60, count=20, stride=1)
    with decoder.open(path) as reader:
        seen = [
            frame_number(picture)
            for start in range(0, 20, 6)
            for picture in reader.read(wanted[start : start + 6]).data
        ]
    assert seen == wanted.tolist()


def test_times_are_exact_at_broadcast_rates(tmp_path: Path, make_video: VideoMaker, decoder: Decoder) -> None:
    path = make_video(tmp_path / "ntsc.mp4", 40, fps=Fraction(30000, 1001))
    with decoder.open(path) as reader:
        frames = reader.read(np.array([0, 17, 39], dtype=np.int64))
    assert frames.pts_seconds.tolist() == [0.0, 17 * 1001 / 30000, 39 * 1001 / 30000]


def test_colours_are_rgb(tmp_path: Path, make_video: VideoMaker, decoder: Decoder) -> None:
    red = np.zeros((4, 240, 320, 3), dtype=np.uint8)
    red[..., 0] = 255
    path = make_video(tmp_path / "red.mp4", 4, pictures=red)
    with decoder.open(path) as reader:
        pixel = reader.read(np.array([2], dtype=np.int64)).data[0, 120, 160]
    assert pixel[0] > 240
    assert max(pixel[1:]) < 20


def test_a_broken_stream_is_a_rejection(tmp_path: Path, make_video: VideoMaker, decoder: Decoder) -> None:
    path = make_video(tmp_path / "broken.mp4", 60)
    data = bytearray(path.read_bytes())
    payload = data.index(b"mdat")
    data[payload + (len(data) - payload) // 2 :] = bytes(len(data) - payload - (len(data) - payload) // 2)
    path.write_bytes(data)
    with pytest.raises(VideoRejected, match=r"broken\.mp4") as rejection, decoder.open(path) as reader:
        reader.read(np.arange(60, dtype=np.int64))
    assert (rejection.value.stage, rejection.value.reason) == (Stage.DECODE, Reason.DECODE_ERROR)


def test_what_is_no_video_is_a_rejection(tmp_path: Path, decoder: Decoder) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(VideoRejected, match=r"text\.mp4"):
        decoder.open(tmp_path / "text.mp4")


@pytest.mark.parametrize("coding", CODINGS)
def test_every_coding_pixel_for_pixel(tmp_path: Path, decoder: Decoder, coding: str) -> None:
    name, codec, pixel_format, options = CODINGS[coding]
    path = encode(tmp_path / name, codec, pixel_format, **options)
    require_exact(decoder, path, every_frame(path))


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_pyav_reads_units_behind_start_codes(tmp_path: Path, codec: str) -> None:
    """MPEG-TS, which decord refuses."""
    options: dict[str, Any] = {"x265-params": QUIET} if codec == "libx265" else {}
    path = encode(tmp_path / "c.ts", codec, g="12", bf="3", **options)
    require_exact(PyAvDecoder(), path, every_frame(path))


@pytest.mark.parametrize("num_frames", [1, 2, 5])
def test_short_videos(tmp_path: Path, decoder: Decoder, num_frames: int) -> None:
    path = encode(tmp_path / "short.mp4", "libx264", num_frames=num_frames)
    require_exact(decoder, path, every_frame(path))


@pytest.mark.parametrize("num_hidden", [1, 5, 30])
def test_frames_that_an_edit_list_hides_are_not_counted(tmp_path: Path, decoder: Decoder, num_hidden: int) -> None:
    whole = encode(tmp_path / "whole.mp4", "libx264", g="12", bf="3")
    truth = every_frame(whole)
    hidden = hiding(whole, np.zeros((NUM_FRAMES, 0, 0, 3), np.float32), num_hidden, "groups of 12")
    require_exact(decoder, hidden.path, truth[num_hidden:])


def test_frames_that_were_left_out_have_no_number(tmp_path: Path, decoder: Decoder) -> None:
    """A variable rate: every third frame of the second half is there."""
    whole = encode(tmp_path / "whole.mp4", "libx264", g="1")
    kept = [number for number in range(NUM_FRAMES) if number < 24 or number % 3 == 0]
    path = remux(whole, tmp_path / "uneven.mp4", lambda number, _: number in kept)
    require_exact(decoder, path, every_frame(whole)[kept])
    with decoder.open(path) as reader:
        assert reader.pts_seconds.tolist() == [number / 25 for number in kept]


def with_matrix(path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """Write a display matrix into an MP4's first track header."""
    content = path.read_bytes()
    start = content.index(b"tkhd") + 44
    (xx, xy, yx, yy), unit = matrix, 1 << 16
    values = (xx * unit, xy * unit, 0, yx * unit, yy * unit, 0, 0, 0, 1 << 30)
    written = b"".join(value.to_bytes(4, "big", signed=True) for value in values)
    turned = path.with_name("turned.mp4")
    turned.write_bytes(content[:start] + written + content[start + len(written) :])
    return turned


@pytest.mark.parametrize("matrix", TURNS)
def test_frames_are_upright(tmp_path: Path, decoder: Decoder, matrix: tuple[int, int, int, int]) -> None:
    path = encode(tmp_path / "upright.mp4", "libx264", g="12")
    require_exact(decoder, with_matrix(path, matrix), TURNS[matrix](every_frame(path)))


@pytest.mark.parametrize("matrix", MIRRORS)
def test_pyav_mirrors_as_players_do(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    path = encode(tmp_path / "upright.mp4", "libx264", g="12")
    require_exact(PyAvDecoder(), with_matrix(path, matrix), MIRRORS[matrix](every_frame(path)))


def test_pyav_refuses_what_is_turned_by_no_quarter(tmp_path: Path) -> None:
    path = with_matrix(encode(tmp_path / "upright.mp4", "libx264"), (1, 1, -1, 1))
    with pytest.raises(VideoRejected, match="not rotated by a multiple of 90°"), PyAvDecoder().open(path) as reader:
        reader.read(np.array([0], dtype=np.int64))


def test_damaged_files_are_rejections(tmp_path: Path, decoder: Decoder) -> None:
    def read_32(path: Path) -> None:
        with decoder.open(path) as reader:
            reader.read(np.linspace(0, reader.num_frames - 1, 32, dtype=np.int64))

    for clip in damaged_clips(tmp_path):
        with pytest.raises(VideoRejected, match=clip.path.stem):
            read_32(clip.path)


@pytest.mark.parametrize("fault", ["times of two frames swapped", "no times: AVI with B-frames"])
def test_pyav_counts_where_times_do_not_tell_the_order(tmp_path: Path, fault: str) -> None:
    """The order is then that in which frames come out of the decoder."""
    if "AVI" in fault:
        path = encode(tmp_path / "c.avi", "libx264", bf="3")
    else:
        later = 10  # frames: room to swap in

        def swap(number: int, packet: Any) -> bool:
            packet.pts += (later + {20: 1, 21: -1}.get(number, 0)) * packet.duration
            return True

        path = remux(encode(tmp_path / "whole.mp4", "libx264", bf="0"), tmp_path / "c.mp4", swap)
    require_exact(PyAvDecoder(), path, every_frame(path))


def test_pyav_says_when_the_size_changes(tmp_path: Path) -> None:
    """Two streams of MPEG-TS, one behind the other."""
    small = encode(tmp_path / "small.ts", "libx264", num_frames=10)
    large = tmp_path / "large.ts"
    with av.open(str(large), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 2 * WIDTH, 2 * HEIGHT, "yuv420p"
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8))))
        container.mux(stream.encode())
    both = tmp_path / "both.ts"
    both.write_bytes(small.read_bytes() + large.read_bytes())
    with pytest.raises(VideoRejected, match="both"), PyAvDecoder().open(both) as reader:
        reader.read(np.arange(reader.num_frames, dtype=np.int64))


def test_pyav_keeps_no_frame_that_it_has_handed_out(tmp_path: Path) -> None:
    """PyAV's frames can be tied into knots that only the garbage collector undoes: hundreds of MiB of them."""
    path = with_matrix(encode(tmp_path / "turned.mp4", "libx264", "yuv444p"), (0, 1, -1, 0))
    gc.collect()
    gc.disable()
    try:
        with PyAvDecoder().open(path) as reader:
            for number in range(NUM_FRAMES):
                reader.read(np.array([number], dtype=np.int64))
            alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
    finally:
        gc.enable()
    assert alive < NUM_FRAMES // 2  # what the decoder itself holds back is a handful


def test_going_back_is_a_programming_error(tmp_path: Path, decoder: Decoder) -> None:
    with decoder.open(encode(tmp_path / "c.mp4", "libx264")) as reader:
        reader.read(np.array([20], dtype=np.int64))
        for wanted in ([20], [3], [30, 25], [NUM_FRAMES]):
            with pytest.raises(ValueError, match="expected increasing numbers from 21 to 47"):
                reader.read(np.array(wanted, dtype=np.int64))


@pytest.mark.samples
@pytest.mark.parametrize(
    "clip",
    [
        "ffpp_c23/original_sequences/youtube/c23/videos/519.mp4",  # H.264 4:4:4, B-frames, GOP 250
        "ffpp_c23/manipulated_sequences/FaceSwap/c23/videos/634_660.mp4",
        "edge_cases/face_noface.mov",  # HEVC, variable frame rate
        "edge_cases/no_face.mp4",  # an edit list hides its first three frames
        "edge_cases/single_face.mp4",
    ],
)
def test_real_clips_pixel_for_pixel(samples_dir: Path, decoder: Decoder, clip: str) -> None:
    """The reference is FFmpeg through PyAV, decoding every frame from the start; the window begins in mid-video."""
    path = samples_dir / clip
    with decoder.open(path) as reader:
        wanted = frame_indices("uniform", reader.num_frames, count=9, stride=1)[3:]
        frames = reader.read(wanted)
        num_frames = reader.num_frames
    num_seen = 0
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            num_seen += 1
            for row in np.flatnonzero(wanted == number):
                assert np.array_equal(frames.data[row], frame.to_ndarray(format="rgb24")), number
                assert frames.pts_seconds[row] == frame.time
    assert num_seen == num_frames
