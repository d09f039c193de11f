"""Compare masks derived from differences (tasks/difference.py) with true ones, also after compression.

    python -m benchmarks.masks [--pairs 3] [--seed 42] [--crf 18 23 …] [--json FILE]

A miniature dataset is made in a temporary folder: it has true masks, and H.264 compression. Its forgeries have the
names of real methods, but are simple; its true masks are white wherever a fake *may* differ from its original.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import write_figures
from manifests.miniature import write_miniature
from tasks.align.square import SquareAligner
from tasks.align.warp import warp
from tasks.decode import DECODERS
from tasks.decode.decoder import Decoder
from tasks.detect import DETECTORS
from tasks.masks import difference_masks, read_masks
from tasks.media import FaceTrack, FrameBatch

Crops = npt.NDArray[np.uint8]  # (T,S,S,3) or, of masks, (T,S,S)
Matrices = npt.NDArray[np.float64]  # (T,2,3)

SIZE_PX = 224
FRAMES_PER_VIDEO = 6
ORIGINALS = Path("original_sequences", "youtube", "c23", "videos")
FORGERIES = Path("manipulated_sequences")


class Original:
    """An original with the matrices by which its crops and those of its fakes are cut."""

    def __init__(self, path: Path, decoder: Decoder) -> None:
        with decoder.open(path) as reader:
            asked = np.linspace(0, reader.num_frames - 1, FRAMES_PER_VIDEO + 2)[1:-1].astype(np.int64)
            frames = reader.read(asked)
        found = DETECTORS["mtcnn"]().detect(frames)
        seen = [row for row, faces in enumerate(found) if faces]
        self.path, self.decoder = path, decoder
        self.frame_indices = frames.frame_indices[seen]
        track = FaceTrack(
            track_id=0,
            frame_indices=self.frame_indices,
            boxes_xyxy=np.stack([found[row][0].box_xyxy for row in seen]),
            landmarks=np.stack([found[row][0].landmarks for row in seen]),
            scores=np.array([found[row][0].score for row in seen], dtype=np.float32),
            interpolated=np.zeros(len(seen), dtype=np.bool_),
        )
        shown = FrameBatch(
            data=frames.data[seen], frame_indices=self.frame_indices, pts_seconds=frames.pts_seconds[seen]
        )
        clip = SquareAligner(SIZE_PX).align(shown, track)
        self.crops, self.matrices = clip.crops, clip.matrices

    def crops_of(self, path: Path) -> Crops:
        """Return the (T,S,S,3) crops of the same frames of another video, cut with the original's matrices."""
        with self.decoder.open(path) as reader:
            frames = reader.read(self.frame_indices[self.frame_indices < reader.num_frames])
        return cut(frames.data, self.matrices)

    def true_masks_of(self, path: Path, mask_path: Path) -> Crops:
        """Return the (T,S,S) masks of a fake, for as many frames as both have."""
        with self.decoder.open(path) as reader:
            frames = reader.read(self.frame_indices[self.frame_indices < reader.num_frames])
        masks = read_masks(self.decoder, mask_path, frames)
        return cut(masks.data[masks.is_present], self.matrices)


def cut(images: npt.NDArray[np.uint8], matrices: Matrices) -> Crops:
    """Warp T images with the first T matrices."""
    return np.stack([warp(image, matrix, SIZE_PX) for image, matrix in zip(images, matrices, strict=False)])


def encode_again(path: Path, target: Path, crf: int) -> Path:
    """Encode a video once more, H.264."""
    with av.open(str(path)) as source, av.open(str(target), "w") as container:
        shown = source.streams.video[0]
        stream = container.add_stream("libx264", rate=shown.average_rate, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in source.decode(shown):
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode())
    return target


def agreement(derived: Crops, truth: Crops) -> list[tuple[float, float, float, bool]]:
    """Return for each frame: IoU, recall, precision, and whether the mask is empty."""
    rows = []
    for found, true in zip(derived > 0, truth > 127, strict=True):
        common = float((found & true).sum())
        rows.append(
            (
                common / max(1, int((found | true).sum())),
                common / max(1, int(true.sum())),
                common / max(1, int(found.sum())),
                not found.any(),
            )
        )
    return rows


def measure_forgeries(root: Path, originals: Sequence[Original]) -> dict[str, dict[str, float]]:
    """Return, by forgery, means over frames."""
    results = {}
    for folder in sorted((root / FORGERIES).iterdir()):
        rows: list[tuple[float, float, float, bool]] = []
        for original in originals:
            for fake in sorted((folder / "c23" / "videos").glob(f"{original.path.stem}_*.mp4")):
                truth = original.true_masks_of(fake, folder / "masks" / "videos" / fake.name)
                crops = original.crops_of(fake)[: len(truth)]
                rows += agreement(difference_masks(crops, original.crops[: len(crops)]), truth)
        means = np.array(rows, dtype=np.float64).mean(axis=0).tolist()
        names = ("iou", "found_of_true", "true_of_found", "empty_share")
        results[folder.name] = {"frames": len(rows), **dict(zip(names, means, strict=True))}
    return results


def measure_encodings(scratch: Path, originals: Sequence[Original], crfs: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return, by crf, the share of pixels marked between originals and other encodings of them: all are errors."""
    results = {}
    for crf in crfs:
        shares: list[float] = []
        for original in originals:
            again = original.crops_of(encode_again(original.path, scratch / f"{original.path.stem}_{crf}.mp4", crf))
            shares += (difference_masks(again, original.crops[: len(again)]) > 0).mean(axis=(1, 2)).tolist()
        results[str(crf)] = {
            "frames": len(shares),
            "marked_share": float(np.mean(shares)),
            "most_marked_share": max(shares),
        }
    return results


def draw(title: str, first: str, results: dict[str, dict[str, float]]) -> Table:
    """Make a table of results whose rows all have the same columns."""
    columns = list(next(iter(results.values())))
    table = Table(first, *(name.replace("_", " ") for name in columns), title=title)
    for name, values in results.items():
        table.add_row(name, *(str(value) if column == "frames" else f"{value:.3f}" for column, value in values.items()))
    return table


def main() -> None:
    """Make the miniature, measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of the miniature; each has two originals")
    parser.add_argument(
        "--seed", type=int, default=42, help="seed of the miniature; the thresholds were chosen with 11"
    )
    parser.add_argument("--crf", type=int, nargs="+", default=[18, 23, 28, 33, 40], help="encodings of the originals")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "miniature")
        write_miniature(root, num_pairs=options.pairs, seconds=(1.0, 1.5), seed=options.seed, num_workers=1)
        decoder = DECODERS["decord"]()
        originals = [Original(path, decoder) for path in sorted((root / ORIGINALS).glob("*.mp4"))]
        forgeries = measure_forgeries(root, originals)
        encodings = measure_encodings(Path(folder), originals, options.crf)
    Console().print(draw("derived against true masks", "forgery", forgeries))
    Console().print(draw("marked between originals and other encodings of them", "crf", encodings))
    write_figures(options.json, {"forgeries": forgeries, "encodings": encodings})


if __name__ == "__main__":
    main()
