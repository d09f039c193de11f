"""Measure which share of damaged files the decoder `pyav` rejects, for each coding and container.

    python -m benchmarks.damage [--clip FILE] [--trials 40] [--json FILE] [--tiny]

One or three bits of a file's coded pictures are changed at random, and all frames are read. A file is visibly damaged
if a frame differs from the sound one by more than 2 of 255 levels on average, or if frames are missing. Without
`--clip`, the pictures are waves that move, with noise.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import write_figures
from benchmarks.helpers.odd_videos import paint
from manifests.errors import VideoRejected
from manifests.probe.container import all_frames, open_video
from manifests.rejected import Stage
from tasks.decode.pyav import PyAvDecoder

Pictures = list[npt.NDArray[np.uint8]]

HEIGHT, WIDTH = 180, 320
NUM_FRAMES = 48
VISIBLE_LEVELS = 2.0  # mean difference of a frame, 0..255
X265 = "log-level=none"

# name in the table → suffix, encoder, pixel format, options
CODINGS: dict[str, tuple[str, str, str, dict[str, str]]] = {
    "H.264 (CABAC), MP4": ("mp4", "libx264", "yuv420p", {"preset": "veryfast", "crf": "20"}),
    "H.264 (CAVLC), MP4": ("mp4", "libx264", "yuv420p", {"profile": "baseline", "preset": "veryfast", "crf": "20"}),
    "H.264, MPEG-TS": ("ts", "libx264", "yuv420p", {"preset": "veryfast", "crf": "20"}),
    "H.264, FLV": ("flv", "libx264", "yuv420p", {"preset": "veryfast", "crf": "20"}),
    "HEVC, MP4": ("mp4", "libx265", "yuv420p", {"preset": "ultrafast", "x265-params": X265}),
    "HEVC with checksums, MP4": ("mp4", "libx265", "yuv420p", {"preset": "ultrafast", "x265-params": f"{X265}:hash=1"}),
    "AV1, MP4": ("mp4", "libsvtav1", "yuv420p", {"preset": "10", "crf": "35", "svtav1-params": "lp=1"}),
    "MPEG-4 part 2, AVI": ("avi", "mpeg4", "yuv420p", {"b": "2000k", "bf": "2"}),
    "MPEG-2, MPEG-TS": ("ts", "mpeg2video", "yuv420p", {"b": "2000k", "bf": "2"}),
    "MPEG-2, MPEG": ("mpg", "mpeg2video", "yuv420p", {"b": "2000k", "bf": "2"}),
    "Sorenson H.263, FLV": ("flv", "flv", "yuv420p", {"b": "1000k"}),
    "MJPEG, AVI": ("avi", "mjpeg", "yuvj420p", {"b": "4000k"}),
    "FFV1, MKV": ("mkv", "ffv1", "yuv420p", {"level": "3", "slicecrc": "1"}),
    "ProRes, MOV": ("mov", "prores", "yuv422p10le", {}),
    "MS-MPEG-4, AVI": ("avi", "msmpeg4", "yuv420p", {"b": "1000k"}),
    "WMV 8, ASF": ("wmv", "wmv2", "yuv420p", {"b": "1000k"}),
    "VP8, WebM": ("webm", "libvpx", "yuv420p", {"b": "600k", "deadline": "realtime", "cpu-used": "8"}),
    "VP9, WebM": ("webm", "libvpx-vp9", "yuv420p", {"b": "600k", "deadline": "realtime", "cpu-used": "8"}),
    "HuffYUV, AVI": ("avi", "huffyuv", "yuv422p", {}),
}
TINY = ("H.264 (CABAC), MP4", "VP8, WebM")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Outcome for one coding."""

    num_trials: int
    """Damaged files."""

    num_visible: int
    """Those that are visibly damaged."""

    num_found: int
    """Visibly damaged files that are rejected."""

    num_rejected_unseen: int
    """Rejected files in which no damage is visible."""


def pictures(clip: Path | None, num_frames: int) -> Iterator[av.VideoFrame]:
    """Yield the frames of a clip, or painted ones."""
    if clip is not None:
        with av.open(str(clip)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number == num_frames:
                    return
                yield av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24", width=WIDTH, height=HEIGHT))
        return
    noise = np.random.default_rng(0).integers(0, 60, (HEIGHT, WIDTH, 1), dtype=np.uint8).repeat(3, 2)
    for number in range(num_frames):
        yield av.VideoFrame.from_ndarray(paint(number, HEIGHT, WIDTH)[0] // 2 + np.roll(noise, number, 1))


def encode(path: Path, name: str, clip: Path | None, num_frames: int) -> Path:
    """Encode the pictures; the file must be sound."""
    suffix, codec, pixel_format, options = CODINGS[name]
    path = path.with_suffix(f".{suffix}")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        for number, frame in enumerate(pictures(clip, num_frames)):
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rgb_of(frame: av.VideoFrame) -> npt.NDArray[np.uint8]:
    """Return (H,W,3) uint8 RGB."""
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)


def seen(path: Path) -> Pictures:
    """Return all frames that FFmpeg returns, whatever their damage; a packet that it refuses is left out."""
    found: Pictures = []
    with open_video(path, Stage.DECODE) as (container, stream):
        for packet in container.demux(stream):
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                continue
            found += map(rgb_of, frames)
            if not packet.size:
                break
    return found


def is_visible(sound: Pictures, damaged: Pictures) -> bool:
    """Whether a frame is missing or differs visibly."""
    if len(sound) != len(damaged):
        return True
    return any(
        one.shape != other.shape or np.abs(one.astype(np.int16) - other).mean() > VISIBLE_LEVELS
        for one, other in zip(sound, damaged, strict=True)
    )


def is_rejected(path: Path) -> bool:
    """Whether the decoder rejects the file when all frames are read."""
    try:
        with PyAvDecoder().open(path) as reader:
            reader.read(np.arange(reader.num_frames, dtype=np.int64))
    except VideoRejected:
        return True
    return False


def measure(path: Path, num_trials: int) -> Found:
    """Damage a file in several ways.

    Raises:
        SystemExit: the undamaged file is rejected.
    """
    if is_rejected(path):
        raise SystemExit(f"{path.name}: got a rejection, expected that the sound file is read")
    with open_video(path, Stage.DECODE) as (container, stream):
        sound = [rgb_of(frame) for frame in all_frames(container, stream)]
    with open_video(path, Stage.DECODE) as (container, stream):
        spans = [(packet.pos or 0, packet.size) for packet in container.demux(stream) if packet.size]
    content, chance, outcomes = path.read_bytes(), random.Random(0), []
    for _ in range(num_trials):
        damaged = bytearray(content)
        for _ in range(chance.choice((1, 3))):
            start, size = chance.choice(spans)
            damaged[min(start + chance.randrange(size), len(content) - 1)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        outcomes.append((is_visible(sound, seen(path)), is_rejected(path)))
    return Found(
        num_trials=num_trials,
        num_visible=sum(visible for visible, _ in outcomes),
        num_found=sum(visible and rejected for visible, rejected in outcomes),
        num_rejected_unseen=sum(rejected and not visible for visible, rejected in outcomes),
    )


def main() -> None:
    """Measure every coding and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clip", type=Path, help="video whose first frames are encoded")
    parser.add_argument("--trials", type=int, default=40, help="damaged files of each coding")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--tiny", action="store_true", help="two codings, a few files: to test this program")
    options = parser.parse_args()
    table = Table("coding", "visibly damaged", "rejected", "rejected without visible damage")
    figures = {}
    for name in TINY if options.tiny else CODINGS:
        with tempfile.TemporaryDirectory() as folder:
            path = encode(Path(folder, "clip"), name, options.clip, 12 if options.tiny else NUM_FRAMES)
            found = measure(path, 5 if options.tiny else options.trials)
        figures[name] = asdict(found)
        visible = f"{found.num_visible} of {found.num_trials}"
        table.add_row(name, visible, str(found.num_found), str(found.num_rejected_unseen))
    Console().print(table)
    if options.json:
        write_figures(options.json, figures)


if __name__ == "__main__":
    main()
