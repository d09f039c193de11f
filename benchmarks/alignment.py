"""Compare the LRW alignment with a second implementation, and measure how still faces are in it.

    python -m benchmarks.alignment CLIPS_DIR [--landmarker dlib|fan] [--frames 150] [--strips DIR] [--json FILE]

The first frames of each video go through the real decoder, MTCNN in every fifth frame, the landmarker, the tracker and
the aligner. The second implementation, below, shares no code with the first. Their difference is measured by the
entries of their matrices, by the landmarks that these transform, and by the PSNR of the crops.

Stillness is measured by the standard deviation over time of the centres of eyes and mouth, in crop pixels, and by their
step from frame to frame (root mean square). The square aligner with the same boxes and crop size is measured, too.
Deviations are also given in percent of the distance between the eyes.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

from benchmarks.helpers.costs import write_figures
from manifests.errors import VideoRejected
from tasks.align.lrw import LRWAligner
from tasks.align.square import SquareAligner
from tasks.decode import DECODERS
from tasks.detect.mtcnn.detector import MTCNNDetector
from tasks.landmarks import LANDMARKERS
from tasks.media import AlignedClip, FaceTrack, FrameBatch, Reason, Stage
from tasks.settings import LandmarkSettings
from tasks.track.main_face import choose_main
from tasks.track.tracker import FaceTracker, fill_gaps
from tasks.video.finder import FaceFinder

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
FRAMES_PER_BATCH = 16  # frames that are searched together
DETECT_EVERY = 5  # the detector runs on every fifth frame
CROPS_PER_STRIP = 10
PEAK = 255  # of an 8-bit image
LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), slice(48, 68)  # of the 68 landmarks, as seen in the image

# The second implementation has its own copy of every number.
REFERENCE_POINTS = (
    (28, 128.48854473271905, 106.92459505614299),
    (33, 128.87017960974802, 137.30253355584708),
    (36, 92.52245552947952, 94.36876013925871),
    (39, 112.7724172413806, 94.94360869870115),
    (42, 145.52511509158018, 94.5349986248377),
    (45, 166.67710071343456, 93.56562295717796),
    (48, 107.16760614090083, 157.19606764242243),
    (54, 152.19284005377082, 156.98711116207943),
)

Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReferenceClip:
    """Result of the second implementation for T frames."""

    matrices: npt.NDArray[np.float64]
    """(T,2,3) full-frame pixels → crop pixels."""

    crops: npt.NDArray[np.uint8]
    """(T,S,S,3) RGB."""

    missing: list[bool]
    """(T,) whether a frame's landmarks come from other frames."""


def reference_alignment(
    frames: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.float32],
    missing: list[bool],
    *,
    crop_px: int = 150,
    first_landmark: int = 15,
) -> ReferenceClip:
    """Align frames as DFD-FCG does, one after the other, in plain loops.

    Args:
        frames: (T,H,W,3) uint8 RGB, all frames of a video.
        landmarks: (T,68,2) full-frame pixels.
        missing: T, whose landmarks are worth nothing.
        crop_px: side S of the crop, even.
        first_landmark: the crop's centre is the mean of the landmarks from this one to the last.
    """
    given = landmarks.astype(np.float64)
    missing = [is_missing or not np.isfinite(points).all() for is_missing, points in zip(missing, given, strict=True)]
    while True:
        filled = [interpolated_points(given, missing, frame) for frame in range(len(frames))]
        shapes = [reference_smoothing(filled, frame) for frame in range(len(frames))]
        transforms = [reference_transform(shape) for shape in shapes]
        unfit = [frame for frame, matrix in enumerate(transforms) if matrix is None and not missing[frame]]
        if not unfit:
            break
        missing = [is_missing or frame in unfit for frame, is_missing in enumerate(missing)]
    matrices, crops = [], []
    for image, shape, transform in zip(frames, shapes, transforms, strict=True):
        if transform is None:
            raise ValueError("reference: got interpolated landmarks without a transform, expected none in these clips")
        matrix, crop = reference_crop(image, shape, transform, crop_px, first_landmark)
        matrices.append(matrix)
        crops.append(crop)
    return ReferenceClip(matrices=np.stack(matrices), crops=np.stack(crops), missing=missing)


def interpolated_points(given: Points, missing: list[bool], frame: int) -> Points:
    """Return the (68,2) landmarks of one of T frames: its own, or those on the line between its neighbours."""
    if not missing[frame]:
        return np.array(given[frame])
    before = [number for number in range(frame) if not missing[number]]
    after = [number for number in range(frame + 1, len(missing)) if not missing[number]]
    if not before:
        return np.array(given[after[0]])
    if not after:
        return np.array(given[before[-1]])
    share = (frame - before[-1]) / (after[0] - before[-1])
    return np.array(given[before[-1]] * (1 - share) + given[after[0]] * share)


def reference_smoothing(points: list[Points], frame: int) -> Points:
    """Return the (68,2) mean of a frame's landmarks and its neighbours', moved to its own centroid."""
    reach = min(12 // 2, frame, len(points) - 1 - frame)
    total = np.zeros((68, 2))
    for number in range(frame - reach, frame + reach + 1):
        total = total + points[number]
    mean = total / (2 * reach + 1)
    return np.array(mean + (points[frame].sum(axis=0) - mean.sum(axis=0)) / 68)


def reference_transform(shape: Points) -> Points | None:
    """Return the (2,3) similarity from the full frame to the mean face's 256×256 pixels; None if there is none."""
    source = np.array([shape[number] for number, _, _ in REFERENCE_POINTS])
    target = np.array([(x, y) for _, x, y in REFERENCE_POINTS])
    found = cv2.estimateAffinePartial2D(source, target, method=cv2.LMEDS)
    matrix: Points | None = found[0]  # type: ignore[assignment]  # the stubs do not know that it may be None
    return matrix


def reference_crop(
    image: npt.NDArray[np.uint8], shape: Points, transform: Points, crop_px: int, first_landmark: int
) -> tuple[Points, npt.NDArray[np.uint8]]:
    """Return (2,3) full-frame pixels → crop pixels, and the (S,S,3) crop, cut out of the whole warped frame."""
    warped = cv2.warpAffine(
        image, transform, (256, 256), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
    )
    moved = shape @ transform[:, :2].T + transform[:, 2]
    half = crop_px // 2
    left_top = []
    for centre in (float(moved[first_landmark:68, 0].mean()), float(moved[first_landmark:68, 1].mean())):
        inside = centre
        if centre - half < 0:
            inside = half + 1
        elif centre + half > 256:
            inside = 256 - half - 1
        left_top.append(int(inside - half))
    left, top = left_top
    matrix = np.array(transform)
    matrix[0, 2] -= left
    matrix[1, 2] -= top
    return matrix, np.array(warped[top : top + crop_px, left : left + crop_px], dtype=np.uint8)


def psnr(image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> float:
    """Return the peak signal-to-noise ratio of two 8-bit images in dB; infinite where they are equal."""
    error = float(((image.astype(np.float64) - other.astype(np.float64)) ** 2).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(PEAK**2 / error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stillness:
    """Movement of eyes and mouth in the crops of one clip."""

    eyes_px: float
    """Standard deviation over time, mean of both eyes, crop pixels."""

    mouth_px: float
    """Standard deviation over time of the mouth's centre, crop pixels."""

    step_px: float
    """Movement from frame to frame, root mean square over eyes and mouth, crop pixels."""

    eye_distance_px: float
    """Mean distance of the centres of the eyes, crop pixels."""

    @property
    def eyes_share(self) -> float:
        """`eyes_px` over the distance of the eyes."""
        return self.eyes_px / self.eye_distance_px

    @property
    def mouth_share(self) -> float:
        """`mouth_px` over the distance of the eyes."""
        return self.mouth_px / self.eye_distance_px


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFigures:
    """Figures of one clip."""

    path: str
    """Path relative to the clips' folder."""

    num_frames: int = 0
    """Frames that were aligned."""

    refused: str | None = None
    """Reason for which it was not aligned."""

    share_interpolated: float = 0.0
    """Share of the frames whose landmarks are interpolated, 0..1."""

    matrix_difference: float = 0.0
    """Largest difference between entries of the two implementations' matrices."""

    landmark_difference_px: float = 0.0
    """Largest distance between positions of one landmark under both matrices, crop pixels."""

    min_psnr_db: float | None = None
    """Lowest PSNR between the two implementations' crops, dB; None if all crops are equal."""

    lrw: Stillness | None = None
    """Stillness in the LRW crops."""

    square: Stillness | None = None
    """Stillness in the crops of the square aligner."""


def stillness(clip: AlignedClip, missing: npt.NDArray[np.bool_]) -> Stillness:
    """Measure how still eyes and mouth are in crops with 68 landmarks, in the frames where these were measured."""
    landmarks = clip.landmarks.astype(np.float64)
    centres = np.stack([landmarks[:, part].mean(axis=1) for part in (LEFT_EYE, RIGHT_EYE, MOUTH)], axis=1)
    seen = ~missing
    spread = np.sqrt(centres[seen].var(axis=0).sum(axis=1))  # of each of the three centres, over both directions
    steps = np.diff(centres, axis=0)[seen[1:] & seen[:-1]]
    return Stillness(
        eyes_px=float(spread[:2].mean()),
        mouth_px=float(spread[2]),
        step_px=float(np.sqrt((steps**2).sum(axis=2).mean())) if len(steps) else 0.0,
        eye_distance_px=float(np.linalg.norm(centres[seen, 0] - centres[seen, 1], axis=1).mean()),
    )


def landmark_difference(difference: npt.NDArray[np.float64], landmarks: npt.NDArray[np.float32]) -> float:
    """Return by how much two sets of (T,2,3) matrices place (T,68,2) landmarks apart, without NaN."""
    moved = np.einsum("tij,tkj->tki", difference[:, :, :2], landmarks) + difference[:, None, :, 2]
    return float(np.nanmax(np.linalg.norm(moved, axis=2)))


def read_frames(path: Path, num_frames: int) -> FrameBatch:
    """Decode the first frames of a video."""
    with DECODERS["decord"]().open(path) as reader:
        return reader.read(np.arange(min(num_frames, reader.num_frames), dtype=np.int64))


def find_main_face(frames: FrameBatch, finder: FaceFinder) -> FaceTrack:
    """Return the track of the main face, gaps filled.

    Raises:
        VideoRejected: there is no face.
    """
    tracker = FaceTracker()
    for start in range(0, len(frames), FRAMES_PER_BATCH):
        rows = slice(start, start + FRAMES_PER_BATCH)
        batch = FrameBatch(
            data=frames.data[rows], frame_indices=frames.frame_indices[rows], pts_seconds=frames.pts_seconds[rows]
        )
        for number, faces in zip(batch.frame_indices.tolist(), finder.find(batch), strict=True):
            tracker.add(number, faces)
    people = tracker.tracks()
    if not people:
        raise VideoRejected(Stage.DETECT, Reason.NO_FACE, f"faces: got none in {len(frames)} frames")
    return fill_gaps(choose_main(people)[0].track, frames.frame_indices)


def measure(path: Path, name: str, finder: FaceFinder, num_frames: int, strips: Path | None) -> ClipFigures:
    """Align one clip with both implementations, and draw its strip on request."""
    try:
        frames = read_frames(path, num_frames)
        track = find_main_face(frames, finder)
        clip = LRWAligner().align(frames, track)
    except VideoRejected as rejection:
        return ClipFigures(path=name, refused=str(rejection.detail))
    reference = reference_alignment(frames.data, track.landmarks, track.interpolated.tolist())
    missing = np.array(reference.missing)
    lowest_psnr = min(psnr(ours, theirs) for ours, theirs in zip(clip.crops, reference.crops, strict=True))
    if strips is not None:
        strips.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(strips / f"{name.replace('/', '_')}.png"), strip(clip)[..., ::-1])
    return ClipFigures(
        path=name,
        num_frames=len(frames),
        share_interpolated=float(missing.mean()),
        matrix_difference=float(np.abs(clip.matrices - reference.matrices).max()),
        landmark_difference_px=landmark_difference(clip.matrices - reference.matrices, track.landmarks),
        min_psnr_db=lowest_psnr if np.isfinite(lowest_psnr) else None,
        lrw=stillness(clip, missing),
        square=stillness(SquareAligner(size_px=clip.crops.shape[1]).align(frames, track), missing),
    )


def strip(clip: AlignedClip) -> npt.NDArray[np.uint8]:
    """Return crops of a clip in a row, with their landmarks; interpolated ones are framed in red."""
    interpolated = np.zeros(len(clip.crops), dtype=np.bool_) if clip.interpolated is None else clip.interpolated
    rows = np.linspace(0, len(clip.crops) - 1, min(CROPS_PER_STRIP, len(clip.crops)), dtype=int)
    pictures = []
    for row in rows:
        picture = cv2.resize(clip.crops[row], None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
        for x, y in clip.landmarks[row] * 2:
            cv2.circle(picture, (round(float(x)), round(float(y))), 1, (0, 255, 0), -1)
        if interpolated[row]:
            cv2.rectangle(picture, (0, 0), (picture.shape[1] - 1, picture.shape[0] - 1), (255, 0, 0), 3)
        pictures.append(picture)
    return np.hstack(pictures).astype(np.uint8, copy=False)


def short(path: str) -> str:
    """Return the part of a path that identifies a clip: the file, and the folder with its kind."""
    parts = [part for part in path.split("/") if part not in ("videos", "c23")]
    return "/".join(parts[-2:])


def print_figures(figures: list[ClipFigures], landmarker: str) -> None:
    """Print the tables."""
    console = Console(width=120)
    same = Table(
        "clip", "frames", "interpolated", "matrices", "landmarks px", "PSNR dB", title=f"ours − theirs, {landmarker}"
    )
    still = Table(
        "clip", "crop", "eyes px", "mouth px", "step px", "eye distance px", "eyes %", "mouth %", title="how still"
    )
    for one in figures:
        if one.lrw is None or one.square is None:
            same.add_row(short(one.path), "–", "–", one.refused)
            continue
        lowest = "equal" if one.min_psnr_db is None else f"{one.min_psnr_db:.1f}"
        differences = (f"{one.matrix_difference:.1e}", f"{one.landmark_difference_px:.1e}", lowest)
        same.add_row(short(one.path), str(one.num_frames), f"{one.share_interpolated:.1%}", *differences)
        for name, found in (("lrw", one.lrw), ("square", one.square)):
            lengths = (found.eyes_px, found.mouth_px, found.step_px, found.eye_distance_px)
            shares = (found.eyes_share, found.mouth_share)
            still.add_row(
                short(one.path), name, *(f"{px:.2f}" for px in lengths), *(f"{share:.1%}" for share in shares)
            )
    console.print(same)
    console.print(still)


def main() -> None:
    """Measure each clip and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, metavar="CLIPS_DIR", help="folder whose videos are aligned")
    parser.add_argument("--landmarker", choices=("dlib", "fan"), default="dlib", help="landmarker of 68 points")
    parser.add_argument("--device", default="cpu", help="cpu or cuda:N, for the networks")
    parser.add_argument("--frames", type=int, default=150, help="first frames of each video")
    parser.add_argument("--strips", type=Path, metavar="DIR", help="write a picture of each clip's crops there")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    landmarker = LANDMARKERS[options.landmarker].from_settings(
        LandmarkSettings(kind=options.landmarker), device=options.device, weights_dir=None
    )
    finder = FaceFinder(MTCNNDetector(device=options.device), landmarker, every=DETECT_EVERY)
    paths = sorted(path for path in options.clips.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    figures = [
        measure(path, path.relative_to(options.clips).as_posix(), finder, options.frames, options.strips)
        for path in paths
    ]
    print_figures(figures, options.landmarker)
    write_figures(options.json, [asdict(one) for one in figures])


if __name__ == "__main__":
    main()
