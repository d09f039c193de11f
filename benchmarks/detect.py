"""Our MTCNN, searching in full and following, against facenet-pytorch's own class, frame by frame.

    python benchmarks/detect.py [--clips DIR] [--frames 30] [--min-face 20] [--device cpu] [--tiny] [--json FILE]

Each clip gives uniformly spaced frames. On a CPU the three take turns on one thread, each counted in CPU time of the
process, and beside them the decoding of the same frames. Agreement is that of boxes with facenet-pytorch's: of the main
face, the largest that scores at least 0.97, by IoU; and how many boxes of any kind are missing, or there in addition.
Without clips, and with `--tiny`, the public-domain portrait moves over noise. On a GPU speed is told by batch size.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from facenet_pytorch import MTCNN
from rich.console import Console
from rich.table import Table
from skimage import data

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # Python puts benchmarks/ there instead when this file is run by its path

from benchmarks.costs import write_figures  # noqa: E402
from tasks.decoders import DECODERS  # noqa: E402
from tasks.detectors.mtcnn import MTCNNDetector  # noqa: E402
from tasks.media import FrameBatch  # noqa: E402
from tasks.sampling import frame_indices  # noqa: E402
from tasks.settings import FRAMES_PER_BATCH  # noqa: E402

MAIN_SCORE = 0.97
SAME_IOU = 0.9  # below it a box is another one
GOOD_IOU = 0.98
ROUNDS = 3
GPU_BATCHES = (1, 4, 16, 64)
TINY_FRAMES = 6

Boxes = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Found = list[tuple[Boxes, Boxes]]  # of each frame: boxes (N,4), scores (N,)


def batch_of(images: Images) -> FrameBatch:
    """Return images as a batch."""
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


def made_up(num_frames: int, height: int = 360, width: int = 640) -> Images:
    """Return frames of blurred noise with the portrait of Eileen Collins, which moves and grows."""
    portrait = np.asarray(data.astronaut())  # type: ignore[no-untyped-call]
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    images = np.stack([np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), dtype=np.uint8)] * num_frames)
    for number, image in enumerate(images):
        side = height * 2 // 3 + number % 20
        left = 10 * (number % 20)
        image[20 : 20 + side, left : left + side] = cv2.resize(portrait, (side, side))
    return images


def clips_of(folder: Path | None, num_frames: int) -> Iterator[tuple[str, Images, float | None]]:
    """Yield each clip's name, frames, and the CPU seconds of decoding them."""
    for path in sorted(folder.rglob("*.mp4")) if folder else []:
        start = time.process_time()
        with DECODERS["pyav"]().open(path) as reader:
            frames = reader.read(frame_indices("uniform", reader.num_frames, count=num_frames, stride=1))
        yield path.stem, frames.data, time.process_time() - start
    if folder is None:
        yield "portrait", made_up(num_frames), None


def stock_boxes(detector: MTCNN, images: Images) -> Found:
    """Return what facenet-pytorch's class finds in images, one by one."""
    found: Found = []
    for image in images:
        boxes, scores = detector.detect(image)
        none = boxes is None
        found.append((np.zeros((0, 4), np.float32), np.zeros(0, np.float32)) if none else _arrays(boxes, scores))
    return found


def _arrays(boxes: Any, scores: Any) -> tuple[Boxes, Boxes]:
    return np.asarray(boxes, dtype=np.float32), np.asarray(scores, dtype=np.float32)


def our_boxes(detector: MTCNNDetector, images: Images) -> Found:
    """Return what ours finds, in batches as in preprocessing."""
    found: Found = []
    for first in range(0, len(images), FRAMES_PER_BATCH):
        for faces in detector.detect(batch_of(images[first : first + FRAMES_PER_BATCH])):
            boxes = np.array([face.box_xyxy for face in faces], dtype=np.float32).reshape(-1, 4)
            found.append((boxes, np.array([face.score for face in faces], dtype=np.float32)))
    return found


def ious(boxes: Boxes, others: Boxes) -> Boxes:
    """Return the IoU (N,M) of each pair."""
    starts = np.maximum(boxes[:, None, :2], others[None, :, :2])
    stops = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.maximum(0, stops - starts).prod(axis=2)
    areas = [(group[:, 2:] - group[:, :2]).prod(axis=1) for group in (boxes, others)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared), dtype=np.float32)


def agreement(found: Found, expected: Found) -> dict[str, Any]:
    """Compare with facenet-pytorch's boxes."""
    main, num_missing, num_more = [], 0, 0
    for (boxes, _), (others, scores) in zip(found, expected, strict=True):
        pairs = ious(others, boxes)
        best = pairs.max(axis=1, initial=0)
        num_missing += int((best < SAME_IOU).sum())
        num_more += int((pairs.max(axis=0, initial=0) < SAME_IOU).sum())
        sure = np.flatnonzero(scores >= MAIN_SCORE)
        if len(sure):
            main.append(float(best[sure[0]]))
    return {
        "frames_with_a_main_face": len(main),
        "min_iou": min(main, default=None),
        "share_of_good_iou": float(np.mean(np.array(main) >= GOOD_IOU)) if main else None,
        "boxes": sum(len(boxes) for boxes, _ in expected),
        "missing": num_missing,
        "more": num_more,
    }


def measure(images: Images, min_face_px: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure all on one clip; the fastest of some rounds, in turn, counts."""
    stock = MTCNN(keep_all=True, min_face_size=min_face_px, device="cpu")
    full = MTCNNDetector(min_face_px=min_face_px)
    following = MTCNNDetector(min_face_px=min_face_px, follow=True)
    runs: dict[str, Callable[[], Found]] = {
        "facenet-pytorch": lambda: stock_boxes(stock, images),
        "ours, full": lambda: our_boxes(full, images),
        "ours, follow": lambda: our_boxes(following, images),
    }
    seconds = dict.fromkeys(runs, float("inf"))
    found: dict[str, Found] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            found[name] = run()
            seconds[name] = min(seconds[name], time.process_time() - start)
    expected = found["facenet-pytorch"]
    slowest = seconds["facenet-pytorch"]
    return {
        name: {
            "cpu_ms_per_frame": 1e3 * seconds[name] / len(images),
            "times": slowest / seconds[name],
            **agreement(found[name], expected),
        }
        for name in runs
    }


def measure_gpu(images: Images, min_face_px: int, device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Measure frames a second by how many go through the networks at once."""
    stock = MTCNN(keep_all=True, min_face_size=min_face_px, device=device)
    ours = MTCNNDetector(min_face_px=min_face_px, device=device)
    answer: dict[str, dict[str, float]] = {}
    for batch in GPU_BATCHES:
        some = np.resize(images, (batch, *images.shape[1:]))
        runs: dict[str, Callable[[], object]] = {
            "facenet-pytorch": lambda some=some: stock.detect(some),  # type: ignore[misc]
            "ours, full": lambda some=some: ours.detect(batch_of(some)),  # type: ignore[misc]
        }
        for name, run in runs.items():
            best = float("inf")
            for _ in range(rounds + 1):
                start = time.perf_counter()
                run()
                best = min(best, time.perf_counter() - start)
            answer.setdefault(name, {})[str(batch)] = batch / best
    return answer


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    for name, clip in figures["clips"].items():
        decode = f", decoded in {clip['decode_cpu_s']:.2f} CPU-s" if clip["decode_cpu_s"] is not None else ""
        title = f"{name}: {clip['num_frames']} frames of {clip['width']}×{clip['height']}{decode}"
        if "gpu" in clip:
            table = Table("who", *(f"{batch} together" for batch in GPU_BATCHES), title=f"{title}, frames/s")
            for who, speeds in clip["gpu"].items():
                table.add_row(who, *(f"{speed:.0f}" for speed in speeds.values()))
            console.print(table)
            continue
        columns = ("who", "CPU-ms a frame", "times", "min IoU", f"IoU ≥ {GOOD_IOU}", "boxes missing", "more")
        table = Table(*columns, title=title)
        for who, row in clip["cpu"].items():
            has_face = row["min_iou"] is not None
            good = [f"{row['min_iou']:.5f}", f"{row['share_of_good_iou']:.1%}"] if has_face else ["–", "–"]
            speed = [f"{row['cpu_ms_per_frame']:.1f}", f"{row['times']:.1f}"]
            table.add_row(who, *speed, *good, f"{row['missing']} of {row['boxes']}", str(row["more"]))
        console.print(table)


def main() -> None:
    """Measure, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder with .mp4 files; else the moving portrait")
    parser.add_argument("--frames", type=int, default=30, help="of each clip")
    parser.add_argument("--min-face", type=int, default=20, help="smallest face, pixels")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of which the fastest counts")
    parser.add_argument("--tiny", action="store_true", help="a few frames of the portrait, once: seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder = None if options.tiny else options.clips
    num_frames, rounds = (TINY_FRAMES, 1) if options.tiny else (options.frames, options.rounds)
    figures: dict[str, Any] = {"device": options.device, "min_face_px": options.min_face, "clips": {}}
    for name, images, decode_cpu_s in clips_of(folder, num_frames):
        clip: dict[str, Any] = dict(zip(("num_frames", "height", "width"), images.shape[:3], strict=True))
        clip["decode_cpu_s"] = decode_cpu_s
        if options.device.startswith("cuda"):
            clip["gpu"] = measure_gpu(images, options.min_face, options.device, rounds)
        else:
            clip["cpu"] = measure(images, options.min_face, rounds)
        figures["clips"][name] = clip
    show(figures)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
