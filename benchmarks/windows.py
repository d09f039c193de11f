"""Check that memory and cost per frame do not grow with a video's length: every frame, `frames.mode=all`.

    python -m benchmarks.windows [--frames 300 1000 …] [--decoders pyav decord] [--json FILE]

Each video is a synthetic 720p clip, processed in a process of its own by the real stages, except for a detector that
returns a fixed box. It measures decoding (twice: to search and to crop), cropping and storing.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import answer_of, module_command, write_figures
from manifests.entry import VideoEntry
from manifests.probe.probe import probe
from tasks.align.square import SquareAligner
from tasks.decode import DECODERS
from tasks.detect.detector import FaceDetector
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.media import FaceDetection, FrameBatch
from tasks.settings import StageSettings
from tasks.video.finder import FaceFinder
from tasks.video.job import VideoJob
from tasks.video.stages import Stages
from tasks.video.video import process_video

WIDTH, HEIGHT = 1280, 720


class InstantDetector(FaceDetector):
    """A detector that returns one face in the middle of every frame."""

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        """Return one face of 300 pixels for each of the T frames."""
        box = np.array([490, 210, 790, 510], dtype=np.float32)
        face = FaceDetection(box_xyxy=box, score=1.0, landmarks=np.full((5, 2), 360, dtype=np.float32))
        return [[face] for _ in range(len(frames))]


def make_clip(path: Path, num_frames: int) -> None:
    """Encode a picture that moves sideways, H.264 with B-frames, one key frame in 250."""
    picture = np.random.default_rng(0).integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    picture = picture.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 4 * number, axis=1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def measure(decoder: str, num_frames: int) -> None:
    """Process one clip here, and write the figures to standard output as JSON."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(module_command("windows", "--make", f"{scratch}/clip.mp4", num_frames), check=True)
        entry = VideoEntry(
            video_id="clip", path="clip.mp4", dataset="clip", label="real", target_id="0", group_id="0", split="train"
        )
        settings = StageSettings.model_validate({"frames": {"mode": "all"}})
        job = VideoJob(root=Path(scratch), entry=probe(Path(scratch), entry), config_digest="0" * 64)
        stages = Stages(
            settings=settings,
            decoder=DECODERS[decoder](),
            finder=FaceFinder(InstantDetector(), DetectorLandmarks()),
            aligner=SquareAligner(),
        )
        start = time.process_time()
        result = process_video(job, stages)
        cpu_seconds = time.process_time() - start
    figures = {
        "decoder": decoder,
        "frames": num_frames,
        "records": len(result.records),
        "cpu_seconds": cpu_seconds,
        "cpu_ms_per_frame": cpu_seconds * 1000 / num_frames,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    sys.stdout.write(json.dumps(figures))


def main() -> None:
    """Measure each length in a process of its own, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 300, 900], help="lengths of the videos")
    parser.add_argument("--decoders", nargs="+", default=list(DECODERS), choices=DECODERS, help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make_clip(Path(options.make[0]), int(options.make[1]))
    elif options.child:
        measure(options.child[0], int(options.child[1]))
    else:
        table = Table("decoder", "frames", "records", "CPU-s", "CPU-ms a frame", "peak MiB")
        table.title = f"every frame of a {WIDTH}×{HEIGHT} video"
        found = []
        for decoder in options.decoders:
            for num_frames in options.frames:
                figures = answer_of("windows", "--child", decoder, num_frames)
                found.append(figures)
                table.add_row(
                    *(f"{value:.1f}" if isinstance(value, float) else str(value) for value in figures.values())
                )
        Console().print(table)
        write_figures(options.json, found)


if __name__ == "__main__":
    main()
