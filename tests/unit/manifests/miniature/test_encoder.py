"""The encoder: real H.264 whose bytes follow from the frames alone."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from manifests.miniature.encoder import GROUP_OF_PICTURES, VideoWriter

NUM_FRAMES = 40


def moving_square(index: int) -> np.ndarray:
    rgb = np.full((96, 128, 3), (200, 120, 60), np.uint8)
    rgb[20:60, 10 + index : 50 + index] = (30, 60, 160)
    return rgb


def write_square(path: Path) -> Path:
    with VideoWriter(path, (128, 96)) as writer:
        for index in range(NUM_FRAMES):
            writer.write_rgb(moving_square(index))
    return path


@pytest.fixture(scope="module")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_square(tmp_path_factory.mktemp("encoder") / "square.mp4")


def test_every_frame_comes_back_in_its_place(square: Path) -> None:
    with av.open(str(square)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == Fraction(25)
        assert (stream.width, stream.height, stream.frames) == (128, 96, NUM_FRAMES)
        frames = list(container.decode(stream))
    assert [frame.time for frame in frames] == [index / 25 for index in range(NUM_FRAMES)]
    for index, frame in enumerate(frames):
        rgb = frame.to_ndarray(format="rgb24").astype(int)
        # The square moves by a pixel a frame: its borders say which frame this is.
        dark = np.flatnonzero(rgb[40, :, 0] < 115)
        assert (dark[0], dark[-1]) == (10 + index, 49 + index)
        assert np.abs(rgb - moving_square(index)).mean() < 4


def test_groups_of_pictures_are_long_and_hold_b_frames(square: Path) -> None:
    with av.open(str(square)) as container:
        kinds = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
    assert kinds.count("I") == 1
    assert kinds.count("B") > NUM_FRAMES // 3
    assert GROUP_OF_PICTURES == 250


def test_the_same_frames_give_the_same_bytes_without_times_or_versions(square: Path, tmp_path: Path) -> None:
    assert write_square(tmp_path / "again.mp4").read_bytes() == square.read_bytes()
    with av.open(str(square)) as container:
        assert "creation_time" not in container.metadata
        assert "encoder" not in container.metadata


def test_masks_come_back_black_and_white(tmp_path: Path) -> None:
    mask = np.zeros((96, 128), np.uint8)
    mask[30:70, 40:90] = 255
    with VideoWriter(tmp_path / "mask.mp4", (128, 96)) as writer:
        for _ in range(10):
            writer.write_grey(mask)
    with av.open(str(tmp_path / "mask.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == 10
    for rgb in decoded:
        assert np.ptp(rgb.astype(int), axis=-1).max() <= 2  # grey
        np.testing.assert_array_equal(rgb[..., 0] > 127, mask > 127)
        assert rgb[40:60, 50:80].min() > 250
        assert rgb[:20].max() < 5


def test_an_error_on_the_way_is_the_one_that_is_told(tmp_path: Path) -> None:
    def break_off(path: Path, num_frames: int) -> None:
        with VideoWriter(path, (128, 96)) as writer:
            for index in range(num_frames):
                writer.write_rgb(moving_square(index))
            raise LookupError(f"after {num_frames}")

    for num_frames in (0, 1, 30):
        with pytest.raises(LookupError, match=f"after {num_frames}"):
            break_off(tmp_path / "half.mp4", num_frames)
