"""Compare our MTCNN, in full search and following, with facenet-pytorch's own class, frame by frame.

    python -m benchmarks.detect [--clips DIR] [--sizes 1 0.8] [--frames 30] [--min-face 20] [--device cpu] [--tiny]
                                [--json FILE]

Each clip gives uniformly spaced frames, at its own size or shrunk. On a CPU the three searches (facenet-pytorch, full,
follow) take turns on one thread; their CPU time is measured, and that of decoding the same frames. Agreement with
facenet-pytorch's boxes is the IoU of the main face (the largest that scores at least 0.97) and the numbers of missing
and of additional boxes.
Newcomers: a mirrored copy of the main face is added to a frame, at some share of its size. The following search has
seen the frame without the copy; counted is how often it finds the box that a full search finds.

Without clips, and with `--tiny`, the public-domain portrait moves over noise. On a GPU speed is measured by batch size.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from facenet_pytorch import MTCNN
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import write_figures
from benchmarks.helpers.portrait import portrait
from tasks.decode import DECODERS
from tasks.decode.sampling import frame_indices
from tasks.detect.mtcnn.detector import MTCNNDetector
from tasks.media import FRAMES_PER_BATCH, FrameBatch

MAIN_SCORE = 0.97
SAME_IOU = 0.9  # below it a box is another one
GOOD_IOU = 0.98
ROUNDS = 3
GPU_BATCHES = (1, 4, 16, 64)
TINY_FRAMES = 6
NEWCOMER_SIZES = (0.4, 0.5, 0.6, 0.8, 1.0)  # shares of the main face's size
NEWCOMER_EVERY = 3  # a newcomer is added to every third frame
NEWCOMER_MARGIN = 0.4  # margin that is copied with the face, share of the face's box, on each side
PLACES_TO_TRY = 50

Boxes = npt.NDArray[np.float32]
Images = npt.NDArray[np.uint8]
Found = list[tuple[Boxes, Boxes]]  # of each frame: boxes (N,4), scores (N,)


def batch_of(images: Images) -> FrameBatch:
    """Return images as a batch."""
    numbers = np.arange(len(images), dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


def made_up(num_frames: int, height: int = 360, width: int = 640) -> Images:
    """Return frames of blurred noise with the portrait of Eileen Collins, which moves and grows."""
    face = portrait()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    images = np.stack([np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), dtype=np.uint8)] * num_frames)
    for number, image in enumerate(images):
        side = height * 2 // 3 + number % 20
        left = 10 * (number % 20)
        image[20 : 20 + side, left : left + side] = cv2.resize(face, (side, side))
    return images


def clips_of(
    folder: Path | None, num_frames: int, sizes: Sequence[float]
) -> Iterator[tuple[str, Images, float | None]]:
    """Yield each clip's name, frames, and the CPU seconds of decoding them, at each size."""
    for name, images, decode_cpu_s in whole_clips_of(folder, num_frames):
        for size in sizes:
            if size == 1:
                yield name, images, decode_cpu_s
            else:
                shrunk = [cv2.resize(image, None, fx=size, fy=size, interpolation=cv2.INTER_AREA) for image in images]
                yield f"{name} × {size:g}", np.stack(shrunk).astype(np.uint8, copy=False), None


def whole_clips_of(folder: Path | None, num_frames: int) -> Iterator[tuple[str, Images, float | None]]:
    """Yield each clip's name, frames, and the CPU seconds of decoding them."""
    for path in sorted(folder.rglob("*.mp4")) if folder else []:
        start = time.process_time()
        with DECODERS["pyav"]().open(path) as reader:
            frames = reader.read(frame_indices("uniform", reader.num_frames, count=num_frames, stride=1))
        yield path.stem, frames.data, time.process_time() - start
    if folder is None:
        yield "portrait", made_up(num_frames), None


def stock_boxes(detector: MTCNN, images: Images) -> Found:
    """Return the boxes of facenet-pytorch's class in images, one by one."""
    found: Found = []
    for image in images:
        boxes, scores = detector.detect(image)
        none = boxes is None
        found.append((np.zeros((0, 4), np.float32), np.zeros(0, np.float32)) if none else _arrays(boxes, scores))
    return found


def _arrays(boxes: Any, scores: Any) -> tuple[Boxes, Boxes]:
    return np.asarray(boxes, dtype=np.float32), np.asarray(scores, dtype=np.float32)


def our_boxes(detector: MTCNNDetector, images: Images) -> Found:
    """Return our boxes, in batches as in preprocessing."""
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
    main, missed, num_more = [], list[float](), 0
    for (boxes, _), (others, scores) in zip(found, expected, strict=True):
        pairs = ious(others, boxes)
        best = pairs.max(axis=1, initial=0)
        missed += scores[best < SAME_IOU].tolist()
        num_more += int((pairs.max(axis=0, initial=0) < SAME_IOU).sum())
        sure = np.flatnonzero(scores >= MAIN_SCORE)
        if len(sure):
            main.append(float(best[sure[0]]))
    return {
        "frames_with_a_main_face": len(main),
        "min_iou": min(main, default=None),
        "share_of_good_iou": float(np.mean(np.array(main) >= GOOD_IOU)) if main else None,
        "boxes": sum(len(boxes) for boxes, _ in expected),
        "missing": len(missed),
        "surest_missing": max(missed, default=None),
        "more": num_more,
    }


def measure(images: Images, min_face_px: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Measure all searches on one clip in turns, round after round; the fastest round of each counts."""
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


def measure_newcomers(images: Images, min_face_px: int) -> dict[str, list[int]]:
    """Return, by size, the number of newcomers that the following search found, and of all newcomers."""
    full = MTCNNDetector(min_face_px=min_face_px)
    following = MTCNNDetector(min_face_px=min_face_px, follow=True)
    rng = np.random.default_rng(0)
    found = {str(size): [0, 0] for size in NEWCOMER_SIZES}
    for image in images[::NEWCOMER_EVERY]:
        ((boxes, scores),) = our_boxes(full, image[None])
        for size in NEWCOMER_SIZES if len(scores) and scores[0] >= MAIN_SCORE else ():
            joined = join(image, boxes[0], size, rng)
            if joined is None:
                continue
            both = np.stack([image, joined])
            ((there, sureness),) = our_boxes(full, joined[None])
            seen = our_boxes(following, both)[1][0]
            is_new = (ious(there, boxes).max(axis=1, initial=0) < SAME_IOU / 2) & (sureness >= MAIN_SCORE)
            for box in there[is_new]:
                found[str(size)][0] += int(ious(box[None], seen).max(initial=0) >= GOOD_IOU)
                found[str(size)][1] += 1
    return found


def join(image: Images, box: Boxes, size: float, rng: np.random.Generator) -> Images | None:
    """Return the image with a mirrored copy of its face beside it, at a share of its size.

    None where there is no room for it.
    """
    margin = NEWCOMER_MARGIN * (box[2:] - box[:2])
    left, top = np.maximum(0, box[:2] - margin).astype(int)
    right, bottom = (box[2:] + margin).astype(int)
    face = image[top:bottom, left:right][:, ::-1]
    face = np.asarray(cv2.resize(face, None, fx=size, fy=size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    room_y, room_x = image.shape[0] - face.shape[0], image.shape[1] - face.shape[1]
    for _ in range(PLACES_TO_TRY if min(room_y, room_x) > 0 else 0):
        y, x = int(rng.integers(room_y)), int(rng.integers(room_x))
        if x >= right or x + face.shape[1] <= left or y >= bottom or y + face.shape[0] <= top:
            joined = image.copy()
            joined[y : y + face.shape[0], x : x + face.shape[1]] = face
            return joined
    return None


def measure_gpu(images: Images, min_face_px: int, device: str, rounds: int) -> dict[str, dict[str, float]]:
    """Measure frames per second by batch size."""
    stock = MTCNN(keep_all=True, min_face_size=min_face_px, device=device)
    ours = MTCNNDetector(min_face_px=min_face_px, device=device)
    answer: dict[str, dict[str, float]] = {}
    for batch in GPU_BATCHES:
        some = np.resize(images, (batch, *images.shape[1:]))
        runs: dict[str, Callable[[], object]] = {
            "facenet-pytorch": partial(stock.detect, some),
            "ours, full": partial(ours.detect, batch_of(some)),
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
    show_following(console, list(figures["clips"].values()))


def show_following(console: Console, clips: Sequence[dict[str, Any]]) -> None:
    """Print the results of the following search over all clips."""
    rows = [clip["cpu"]["ours, follow"] for clip in clips if "cpu" in clip]
    if len(rows) > 1:
        good = sum(row["frames_with_a_main_face"] * row["share_of_good_iou"] for row in rows if row["min_iou"])
        least = min((row["min_iou"] for row in rows if row["min_iou"]), default="–")
        surest = max((row["surest_missing"] for row in rows if row["surest_missing"]), default="–")
        table = Table("main faces", f"IoU ≥ {GOOD_IOU}", "min IoU", "boxes missing", "surest of them", "more")
        table.title = "following, all clips"
        num_faces, num_missing, num_boxes, num_more = (
            sum(row[name] for row in rows) for name in ("frames_with_a_main_face", "missing", "boxes", "more")
        )
        numbers = (num_faces, round(good), least, f"{num_missing} of {num_boxes}", surest, num_more)
        table.add_row(*(f"{number:.5f}" if isinstance(number, float) else str(number) for number in numbers))
        console.print(table)
    newcomers = [clip["newcomers"] for clip in clips if "newcomers" in clip]
    if newcomers:
        table = Table("size beside the main face's", *map(str, NEWCOMER_SIZES), title="newcomers that following finds")
        counts = [[sum(clip[str(size)][place] for clip in newcomers) for place in (0, 1)] for size in NEWCOMER_SIZES]
        table.add_row("found", *(f"{seen} of {there}" for seen, there in counts))
        console.print(table)


def main() -> None:
    """Measure, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, metavar="DIR", help="folder with .mp4 files; else the moving portrait")
    parser.add_argument(
        "--sizes", type=float, nargs="+", default=[1.0], metavar="S", help="scales of the frames, at most 1"
    )
    parser.add_argument("--frames", type=int, default=30, help="frames of each clip")
    parser.add_argument("--min-face", type=int, default=20, help="smallest face, pixels")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds, of which the fastest counts")
    parser.add_argument("--tiny", action="store_true", help="a few frames of the portrait, once: a check that it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    folder = None if options.tiny else options.clips
    num_frames, rounds = (TINY_FRAMES, 1) if options.tiny else (options.frames, options.rounds)
    figures: dict[str, Any] = {"device": options.device, "min_face_px": options.min_face, "clips": {}}
    for name, images, decode_cpu_s in clips_of(folder, num_frames, options.sizes):
        clip: dict[str, Any] = dict(zip(("num_frames", "height", "width"), images.shape[:3], strict=True))
        clip["decode_cpu_s"] = decode_cpu_s
        if options.device.startswith("cuda"):
            clip["gpu"] = measure_gpu(images, options.min_face, options.device, rounds)
        else:
            clip["cpu"] = measure(images, options.min_face, rounds)
            clip["newcomers"] = measure_newcomers(images, options.min_face)
        figures["clips"][name] = clip
    show(figures)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
