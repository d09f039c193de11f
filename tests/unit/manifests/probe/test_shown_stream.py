"""Choice of the video stream: of several, the one that a player shows, for every reader."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

from manifests.entry import VideoEntry
from manifests.probe.container import open_video
from manifests.probe.probe import probe
from manifests.rejected import Stage
from tasks.decode.pyav import PyAvDecoder

SMALL, LARGE = (64, 48), (128, 96)
Described = tuple[
    tuple[int, int], int, int, Disposition
]  # (W,H), frames in two seconds, grey level, what it is marked as
NONE, DEFAULT = Disposition(0), Disposition.default


def with_streams(path: Path, *streams: Described, codec: str = "mpeg4") -> Path:
    """Write a file with several video streams of two seconds each, of plain grey pictures."""
    with av.open(str(path), "w") as container:
        added: list[Any] = []
        for (width, height), num_frames, _, marks in streams:
            stream: Any = container.add_stream(codec, rate=Fraction(max(num_frames, 2), 2))
            stream.width, stream.height, stream.pix_fmt, stream.disposition = width, height, "yuv420p", marks
            stream.codec_context.gop_size = 12
            added.append(stream)
        for stream, ((width, height), num_frames, grey, _) in zip(added, streams, strict=True):
            picture = np.full((height, width, 3), grey, np.uint8)
            for _ in range(num_frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts", "avi"])
@pytest.mark.parametrize(
    ("streams", "shown"),
    [
        ([(SMALL, 20, 60, DEFAULT), (LARGE, 50, 200, NONE)], 1),  # a preview first, which the muxer marks by itself
        ([(LARGE, 50, 60, NONE), (SMALL, 50, 200, NONE)], 0),
        ([(SMALL, 20, 60, NONE), (SMALL, 50, 200, NONE)], 1),
        ([(LARGE, 1, 60, NONE), (SMALL, 50, 200, NONE)], 1),  # a still as large as a poster
        ([(LARGE, 50, 60, NONE), (LARGE, 50, 200, NONE)], 0),
    ],
    ids=["preview", "preview last", "fewer frames", "still", "alike"],
)
def test_probe_and_decoder_see_the_stream_that_is_shown(
    tmp_path: Path, suffix: str, streams: list[Described], shown: int
) -> None:
    path = with_streams(tmp_path / f"c.{suffix}", *streams)
    (width, height), num_frames, grey, _ = streams[shown]
    entry = VideoEntry(video_id="c", path=path.name, dataset="own", label="real", target_id="c", group_id="c")
    found = probe(tmp_path, entry)
    assert (found.width, found.height, found.num_frames) == (width, height, num_frames)
    with PyAvDecoder().open(path) as reader:
        frames = reader.read(np.array([0, num_frames - 1], dtype=np.int64))
    assert frames.data.shape == (2, height, width, 3)
    assert abs(int(frames.data.mean()) - grey) < 5
    assert abs(frames.pts_seconds[1] - frames.pts_seconds[0] - 2 * (num_frames - 1) / num_frames) < 0.01


@pytest.mark.parametrize(
    ("marks", "shown"),
    [
        ((NONE, DEFAULT), 1),  # on purpose: no muxer marks a later stream by itself
        ((DEFAULT, DEFAULT), 0),
        ((Disposition.attached_pic, NONE), 1),
        ((Disposition.still_image, NONE), 1),
        ((Disposition.non_diegetic, NONE), 1),
        ((NONE, Disposition.dependent), 0),
    ],
)
def test_marks_of_streams_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, marks: tuple[Disposition, Disposition], shown: int
) -> None:
    path = with_streams(tmp_path / "c.mkv", (LARGE, 10, 60, NONE), (SMALL, 10, 200, NONE))
    monkeypatch.setattr(av.VideoStream, "disposition", property(lambda stream: marks[stream.index]), raising=False)
    with open_video(path, Stage.PROBE) as (_, stream):
        assert stream.index == shown
