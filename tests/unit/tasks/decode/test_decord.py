"""Decoder decord: what it cannot decode is told in the same words in every run, with the way out."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from manifests.errors import VideoRejected
from tasks.decode.decord import DecordDecoder
from tasks.decode.pyav import PyAvDecoder
from tasks.media import Reason, Stage

NUM_FRAMES = 12
WAY_OUT = "; use decode.backend=auto, in another store (--out) or for all of this one (--reprocess)"


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SVT_LOG", "0")  # the encoder of AV1 writes to the terminal


def encode(path: Path, codec: str, num_streams: int = 1, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream(codec, Fraction(25), options=options) for _ in range(num_streams)]
        for stream in streams:
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for stream in streams:
            for number in range(NUM_FRAMES):
                picture = np.full((96, 128, 3), 20 * number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "num_streams", "options", "got"),
    [
        ("c.mp4", "libsvtav1", 1, {"preset": "12"}, "got AV1, which decord 0.6.0 does not know"),
        (
            "c.avi",
            "libx264",
            1,
            {"bf": "3", "b_strategy": "0"},
            "got AVI with B-frames, expected a video that decord",
        ),
        (
            "c.avi",
            "mpeg4",
            1,
            {"bf": "2", "b_strategy": "0"},
            "got AVI with B-frames, expected a video that decord",
        ),
        ("c.mkv", "libx264", 2, {}, "got 2 video streams, expected a video that decord"),
        ("c.ts", "libx264", 1, {}, "from decord 0.6.0, expected a video that it can decode"),
    ],
)
def test_what_it_cannot_decode_names_the_way_out(
    tmp_path: Path, name: str, codec: str, num_streams: int, options: dict[str, str], got: str
) -> None:
    path = encode(tmp_path / name, codec, num_streams, **options)
    said = set()
    for number in range(4):  # its threads decide what it answers, and so does the name
        copy = tmp_path / str(number) / name
        copy.parent.mkdir()
        shutil.copy(path, copy)
        with pytest.raises(VideoRejected) as rejection, DecordDecoder().open(copy) as reader:
            reader.read(np.arange(reader.num_frames, dtype=np.int64))
        reason = Reason.DECODE_ERROR if "from decord" in got else Reason.UNSUPPORTED
        assert (rejection.value.stage, rejection.value.reason) == (Stage.DECODE, reason)
        said.add(rejection.value.detail)
    (detail,) = said
    assert detail.startswith(f"{name}: got ")
    assert got in detail
    assert detail.endswith(WAY_OUT)
    with PyAvDecoder().open(path) as reader:
        levels = reader.read(np.arange(NUM_FRAMES, dtype=np.int64)).data.mean(axis=(1, 2, 3))
    assert np.abs(levels - 20 * np.arange(NUM_FRAMES)).max() < 6


def test_another_number_of_frames_is_refused_before_any_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import decord

    path = encode(tmp_path / "c.mp4", "libx264")
    monkeypatch.setattr(decord.VideoReader, "__len__", lambda _: NUM_FRAMES + 1)
    with pytest.raises(VideoRejected, match=r"got 13 frames from decord 0\.6\.0, expected 12") as rejection:
        DecordDecoder().open(path)
    assert rejection.value.reason == Reason.FRAME_COUNT_MISMATCH
