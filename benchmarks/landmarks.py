"""Measure the gain of batching in 2D-FAN and S3FD: face-alignment's loops and ours, on the same weights and boxes.

    python -m benchmarks.landmarks [--device cpu] [--faces 16] [--batch 1 2 4] [--weights-dir DIR] [--json FILE]

Both run in this process by turns, round after round, and the fastest round of each counts. The frames are 720p, with
the public-domain portrait in them and two boxes each. Without `--weights-dir` the weights are random: the speed is the
same, but the landmarks mean nothing, and agreement is measured on heatmaps flatter than real ones.

The decoding of S3FD's output into boxes is measured without the network, on synthetic output maps of a 720p frame: with
three faces, with one place in a hundred as a candidate, and with one in ten.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from face_alignment.api import FaceAlignment, LandmarksType
from face_alignment.detection.sfd.bbox import encode, nms
from face_alignment.detection.sfd.detect import get_predictions
from face_alignment.detection.sfd.net_s3fd import s3fd
from face_alignment.detection.sfd.sfd_detector import SFDDetector
from face_alignment.models import FAN
from face_alignment.utils import REFERENCE_SCALE
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import write_figures
from benchmarks.helpers.portrait import portrait
from tasks.detect.s3fd import MIN_CANDIDATE_SCORE, NMS_IOU, STRIDES_PX, VARIANCES, S3FDDetector, anchors
from tasks.landmarks.fan import NUM_STACKS, FANLandmarker
from tasks.media import FaceDetection, FrameBatch
from tasks.models.weights import WEIGHTS, load_state, require

WIDTH, HEIGHT = 1280, 720
FACES_PER_FRAME = 2
ROUNDS = 3
BATCHES = {"cpu": [1, 2, 4], "cuda": [1, 16, 64, 128]}
CANDIDATE_SHARES = (0.0, 0.01, 0.1)  # of S3FD's places; 0 stands for a picture with these faces:
FACES_XYXY = ((200, 150, 380, 390), (600, 300, 680, 410), (900, 100, 940, 150))
NO_FACE = -6.0  # added to a place's face logit, so that random weights find none
THRESHOLD = 0.5
FRAMES_DETECTED = {"cpu": 2, "cuda": 32}


def make_frames(num_frames: int) -> FrameBatch:
    """Return 720p frames with the portrait of Eileen Collins at two places, which move."""
    face = portrait()
    images = np.zeros((num_frames, HEIGHT, WIDTH, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        shift = 5 * (number % 20)
        image[100:612, 50 + shift : 562 + shift] = face
        image[150:662, 650 + shift : 1162 + shift] = face[:, ::-1]
    numbers = np.arange(num_frames, dtype=np.int64)
    return FrameBatch(data=images, frame_indices=numbers, pts_seconds=numbers / 25)


def make_faces(num_frames: int) -> list[list[FaceDetection]]:
    """Return a box around each portrait's face, off by up to 8 pixels."""
    rng = np.random.default_rng(0)
    none = np.empty((0, 2), dtype=np.float32)
    faces: list[list[FaceDetection]] = []
    for number in range(num_frames):
        shift = 5 * (number % 20)
        places = np.array([[225, 165, 325, 300], [987, 215, 1087, 350]]) + np.array([shift, 0, shift, 0])
        boxes = (places + rng.uniform(-8, 8, places.shape)).astype(np.float32)
        faces.append([FaceDetection(box_xyxy=box, score=1.0, landmarks=none) for box in boxes])
    return faces


@contextmanager
def weights_in(folder: Path | None) -> Iterator[Path]:
    """Yield the folder, or a temporary one with random weights."""
    if folder is not None:
        yield folder
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        torch.save(FAN(NUM_STACKS).state_dict(), Path(scratch, WEIGHTS["2dfan4"].file_name))
        detector = s3fd().state_dict()
        for name in detector:
            if name.endswith("_conf.bias"):
                detector[name][-1] += NO_FACE
        torch.save(detector, Path(scratch, WEIGHTS["s3fd"].file_name))
        yield Path(scratch)


def library_alignment(folder: Path, device: str) -> FaceAlignment:
    """Return face-alignment's class without its constructor, which downloads."""
    network = FAN(NUM_STACKS)
    network.load_state_dict(load_state(require("2dfan4", folder), "2dfan4"))
    alignment = FaceAlignment.__new__(FaceAlignment)
    alignment.device, alignment.dtype, alignment.max_batch_size = device, torch.float32, 1
    alignment.flip_input, alignment.landmarks_type, alignment.verbose = False, LandmarksType.TWO_D, False
    alignment.face_detector = SimpleNamespace(reference_scale=REFERENCE_SCALE)
    alignment.face_alignment_net = network.eval().to(device)
    return alignment


def fastest(runs: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return the seconds of the fastest round of each, in turns, after a round to warm up."""
    seconds = dict.fromkeys(runs, float("inf"))
    for number in range(rounds + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if number:
                seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds


def measure_landmarks(folder: Path, device: str, num_faces: int, batches: list[int]) -> dict[str, Any]:
    """Measure 2D-FAN: faces per second, and the distance between both sets of landmarks."""
    num_frames = max(1, num_faces // FACES_PER_FRAME)
    frames, faces = make_frames(num_frames), make_faces(num_frames)
    library, ours = library_alignment(folder, device), FANLandmarker(device=device, weights_dir=folder)
    images = torch.from_numpy(frames.data).permute(0, 3, 1, 2)
    boxes = [[face.box_xyxy.astype(np.float64) for face in found] for found in faces]

    def run_library() -> Any:
        return library.get_landmarks_from_batch(images, detected_faces=boxes)

    def run_ours(batch: int) -> list[list[FaceDetection]]:
        ours._faces_per_batch = batch
        return ours.locate(frames, faces)

    runs: dict[str, Callable[[], object]] = {"face-alignment, get_landmarks_from_batch": run_library}
    runs |= {f"ours, {batch} together": partial(run_ours, batch) for batch in batches}
    seconds = fastest(runs)
    expected = np.concatenate([np.reshape(points, (-1, 2)) for points in run_library()])
    answer = {}
    for name, batch in zip(runs, [0, *batches], strict=True):
        landmarks = [face.landmarks for found in run_ours(batch) for face in found] if batch else [expected]
        distances = np.linalg.norm(np.concatenate(landmarks) - expected, axis=1)
        answer[name] = {
            "faces_per_s": num_frames * FACES_PER_FRAME / seconds[name],
            "max_distance_px": float(distances.max()),
            "identical_points": float((distances == 0).mean()),
            "num_points": len(distances),
        }
    return answer


def measure_detection(folder: Path, device: str) -> dict[str, Any]:
    """Measure S3FD from frames to boxes, frames per second; with random weights it measures the network alone."""
    frames = make_frames(FRAMES_DETECTED["cuda" if device.startswith("cuda") else "cpu"])
    library = SFDDetector(device, path_to_detector=require("s3fd", folder))
    ours = S3FDDetector(device=device, weights_dir=folder)
    runs: dict[str, Callable[[], object]] = {
        "face-alignment, detect_from_image": lambda: [library.detect_from_image(image) for image in frames.data],
        "ours": lambda: ours.detect(frames),
    }
    seconds = fastest(runs, rounds=1)
    num_boxes = sum(map(len, ours.detect(frames))) / len(frames)
    return {"boxes_per_frame": num_boxes} | {name: len(frames) / value for name, value in seconds.items()}


def make_maps(share: float) -> list[npt.NDArray[np.float32]]:
    """Return maps of a 720p frame after the softmax: a share of the places is a candidate, half of these a face.

    A share of 0 stands for a picture: every candidate lies on one of three faces, and says where that one is.
    """
    rng = np.random.default_rng(3)
    maps: list[npt.NDArray[np.float32]] = []
    for stride in STRIDES_PX:
        size = (-(-HEIGHT // stride), -(-WIDTH // stride))
        offsets = rng.normal(0, 1, (4, *size))
        chosen = rng.random(size) < share
        if not share:
            chosen, offsets = on_faces(size, stride)
            offsets += rng.normal(0, 0.1, offsets.shape)
        scores = np.where(chosen, rng.uniform(0.06, 0.94, size), 0.01)
        maps += [np.stack([1 - scores, scores])[None].astype(np.float32), offsets[None].astype(np.float32)]
    return maps


def on_faces(size: tuple[int, int], stride: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Return which places (h,w) of a map lie near the middle of a face, and the offsets (4,h,w) of its box there."""
    all_sizes = [size if other == stride else (0, 0) for other in STRIDES_PX]
    priors = anchors(np.arange(size[0] * size[1]), all_sizes)
    chosen, offsets = np.zeros(len(priors), dtype=np.bool_), np.zeros((len(priors), 4))
    for face in FACES_XYXY:
        box = np.array(face, dtype=np.float64)
        near = np.abs(priors[:, :2] - (box[:2] + box[2:]) / 2).max(axis=1) < 0.15 * (box[2] - box[0])
        chosen |= near
        offsets[near] = encode(np.tile(box, (near.sum(), 1)), priors[near], VARIANCES)
    return chosen.reshape(size), offsets.T.reshape(4, *size)


def measure_decoding(share: float, detector: S3FDDetector) -> dict[str, Any]:
    """Measure maps → boxes by the library and by ours."""
    maps = make_maps(share)
    sizes = [values.shape[-2:] for values in maps[::2]]

    def library() -> Any:
        candidates = get_predictions(maps, 1)[0]
        kept = candidates[nms(candidates, NMS_IOU)]
        return kept[kept[:, -1] > THRESHOLD]

    def ours() -> list[FaceDetection]:
        scores = np.concatenate([values[:, 1].reshape(1, -1) for values in maps[::2]], axis=1)
        offsets = np.concatenate([values.reshape(1, 4, -1) for values in maps[1::2]], axis=2).transpose(0, 2, 1)
        images, places = np.nonzero(scores > MIN_CANDIDATE_SCORE)
        return detector._faces(1, sizes, images, places, scores[images, places], offsets[images, places])[0]

    seconds = fastest({"library": library, "ours": ours})
    expected, faces = library(), ours()
    boxes = np.array([face.box_xyxy for face in faces])
    order, other = np.lexsort(boxes.T), np.lexsort(expected[:, :4].astype(np.float32).T)
    same = boxes.shape == expected[:, :4].shape
    return {
        "share": share,
        "candidates": sum(int((values[:, 1] > MIN_CANDIDATE_SCORE).sum()) for values in maps[::2]),
        "boxes": len(faces),
        "library_ms": seconds["library"] * 1e3,
        "ours_ms": seconds["ours"] * 1e3,
        "identical": same and bool(np.array_equal(boxes[order], expected[other, :4].astype(np.float32))),
    }


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console()
    title = f"2D-FAN, {figures['device']}, {figures['weights']} weights"
    table = Table("who", "faces/s", "times", "largest distance px", "identical points", title=title)
    first = next(iter(figures["landmarks"].values()))["faces_per_s"]
    for name, row in figures["landmarks"].items():
        share = f"{row['identical_points']:.2%} of {row['num_points']}"
        speed = row["faces_per_s"]
        table.add_row(name, f"{speed:.2f}", f"{speed / first:.2f}", f"{row['max_distance_px']:.2f}", share)
    console.print(table)
    detection = dict(figures["detection"])
    title = f"S3FD, 720p, {figures['device']}, {detection.pop('boxes_per_frame'):.0f} boxes a frame"
    table = Table("who", "frames/s", title=title)
    for name, speed in detection.items():
        table.add_row(name, f"{speed:.2f}")
    console.print(table)
    table = Table("candidates", "boxes", "library ms", "ours ms", "times", "identical", title="S3FD's decoding, 720p")
    for row in figures["decoding"]:
        times = row["library_ms"] / row["ours_ms"]
        speeds = [f"{row['library_ms']:.1f}", f"{row['ours_ms']:.1f}", f"{times:.1f}"]
        table.add_row(str(row["candidates"]), str(row["boxes"]), *speeds, "yes" if row["identical"] else "NO")
    console.print(table)


def main() -> None:
    """Measure, print the tables, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N")
    parser.add_argument("--faces", type=int, default=16, help="faces of a round")
    parser.add_argument("--batch", type=int, nargs="+", help="faces in a batch")
    parser.add_argument("--weights-dir", type=Path, metavar="DIR", help="folder with both weight files; else random")
    parser.add_argument("--threads", type=int, default=1, help="threads of PyTorch on a CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    batches = options.batch or BATCHES["cuda" if options.device.startswith("cuda") else "cpu"]
    with weights_in(options.weights_dir) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library's, about its own ways
        detector = S3FDDetector(weights_dir=folder)
        figures = {
            "device": options.device,
            "weights": "given" if options.weights_dir else "random",
            "threads": options.threads,
            "landmarks": measure_landmarks(folder, options.device, options.faces, batches),
            "detection": measure_detection(folder, options.device),
            "decoding": [measure_decoding(share, detector) for share in CANDIDATE_SHARES],
        }
    show(figures)
    write_figures(options.json, figures)


if __name__ == "__main__":
    main()
