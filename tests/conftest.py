"""Fixtures of all tests: the real clips, and synthetic video whose frames can be computed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

import training  # noqa: F401 - as `flows` does: sets how threads wait, before torch is imported

SHARED = Path(__file__).resolve().parents[2] / "shared"

# Examples are timed by the wall clock, and slower where their lines are counted.
settings.register_profile("coverage", deadline=None)
if "COVERAGE" in os.environ:
    settings.load_profile("coverage")

VideoMaker = Callable[..., Path]
FrameNumberReader = Callable[[npt.NDArray[np.uint8]], int]

NUM_BITS = 8  # frame numbers up to 255 stand in the picture as eight black or white bars


@pytest.fixture(autouse=True, scope="session")
def denormals_kept() -> Iterator[None]:
    """Keep denormal numbers: training flushes them, and threads that it starts would flush them in later tests."""
    with pytest.MonkeyPatch.context() as patch:
        if "torch" in sys.modules:  # all modules of tests have been imported by now
            patch.setattr(sys.modules["torch"], "set_flush_denormal", lambda _mode: True)
        yield


@pytest.fixture(scope="session")
def samples_dir() -> Path:
    """The real clips; research terms keep them out of the repository."""
    folder = SHARED / "samples"
    if not folder.is_dir():
        pytest.skip(f"needs the real clips in {folder}, which are under research terms and not in the repository")
    return folder


@pytest.fixture(scope="session")
def numbered_frame() -> Callable[[int, int, int], npt.NDArray[np.uint8]]:
    """Make the (H,W,3) uint8 RGB picture that shows a frame's number as eight vertical bars, lowest bit left."""

    def make(number: int, width: int, height: int) -> npt.NDArray[np.uint8]:
        picture = np.zeros((height, width, 3), dtype=np.uint8)
        for bit in range(NUM_BITS):
            if number >> bit & 1:
                picture[:, bit * width // NUM_BITS : (bit + 1) * width // NUM_BITS] = 255
        return picture

    return make


@pytest.fixture(scope="session")
def frame_number() -> FrameNumberReader:
    """Read the number back from a decoded (H,W,3) picture."""

    def read(picture: npt.NDArray[np.uint8]) -> int:
        bars = np.array_split(picture.mean(axis=(0, 2)), NUM_BITS)
        return sum(1 << bit for bit, bar in enumerate(bars) if bar.mean() > 127)

    return read


@pytest.fixture(scope="session")
def make_video(numbered_frame: Callable[[int, int, int], npt.NDArray[np.uint8]]) -> VideoMaker:
    """Encode a real H.264 file with B-frames whose frame n shows n."""

    def make(
        path: Path,
        num_frames: int = 24,
        *,
        width: int = 320,
        height: int = 240,
        fps: Fraction = Fraction(25),
        pictures: npt.NDArray[np.uint8] | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "g": "12", "bf": "2"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(num_frames):
                picture = numbered_frame(number, width, height) if pictures is None else pictures[number]
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture(scope="session")
def make_audio() -> Callable[[Path], Path]:
    """Encode a tenth of a second of silence, without pictures, into a container that may hold them."""

    def make(path: Path) -> Path:
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=44100)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 4410), dtype=np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make
