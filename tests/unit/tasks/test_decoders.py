"""One contract over every decoder: the frames asked for, upright RGB, exact times, or a rejection."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from manifests.errors import VideoRejected
from tasks.decoder import Decoder
from tasks.decoders import DECODERS
from tasks.media import Reason, Stage
from tasks.sampling import frame_indices

VideoMaker = Callable[..., Path]
FrameNumberReader = Callable[[npt.NDArray[np.uint8]], int]


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return DECODERS[request.param]()


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
