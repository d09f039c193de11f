"""LRW mean-face alignment, as in lip reading and in DFD-FCG (CVPR 2025; its `crop_main_face.py`).

1 smooth     each frame's 68 landmarks are averaged with those of up to 6 neighbours on either side; its centroid stays
2 transform  a similarity takes eight stable points onto those of the mean face of the LRW dataset
3 warp       the frame is warped to 256×256, bilinear, black outside
4 crop       a square around the mean of some of the landmarks is cut out; its border lies on whole pixels

The track should have a row for every frame of the video, even if only some frames are cut out, since the neighbours in
step 1 are rows of the track.

DFD-FCG writes black frames if it finds no face. Here the landmarks of such frames are interpolated before the
smoothing, and the frames are flagged; `strict` writes black frames as DFD-FCG does.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tokenize import TokenError  # numpy's reader of headers
from typing import ClassVar, Self

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError, VideoRejected
from manifests.files import open_regular
from tasks.align.aligner import Aligner, AlignerSettings
from tasks.media import NUM_IBUG_LANDMARKS, AlignedClip, FaceDetection, FaceTrack, FrameBatch, Reason, Stage
from tasks.track.tracker import fill_gaps, interpolated

Points = npt.NDArray[np.float64]
MEAN_FACE_BYTES = 64 * 1024  # largest file of a mean face; 136 numbers take 1.2 KB

# Eight of the 68 points of the mean face `20words_mean_face.npy` (of the LRW lip-reading repositories, used by
# auto_avsr and DFD-FCG), pixels in a 256×256 frame. Only these enter the transform: corners of the eyes and of the
# mouth, and two points of the nose, move least when people speak.
STABLE_POINTS: dict[int, tuple[float, float]] = {
    28: (128.48854473271905, 106.92459505614299),
    33: (128.87017960974802, 137.30253355584708),
    36: (92.52245552947952, 94.36876013925871),
    39: (112.7724172413806, 94.94360869870115),
    42: (145.52511509158018, 94.5349986248377),
    45: (166.67710071343456, 93.56562295717796),
    48: (107.16760614090083, 157.19606764242243),
    54: (152.19284005377082, 156.98711116207943),
}
MEAN_FACE_PX = 256  # side of the mean face's frame
SMOOTHING_REACH = 12 // 2  # rows on either side; DFD-FCG's window margin is twice this
LEAST_FACE_PX = 16  # width and height of a mean face's stable points; LRW's have 74 and 64
MAX_PLANS = 32  # tracks whose transforms are kept, since every stored person is cut out of each batch of a video
STRICT_COVERAGE = 0.9  # DFD-FCG rejects a video whose face is seen in a smaller share of its frames


# Side of the crop in pixels → the first of the landmarks, up to the last of all, whose mean is the square's centre.
REGIONS: dict[int, int] = {
    150: 15,  # the face: DFD-FCG
    96: 48,  # the mouth: auto_avsr (Ma et al., ICASSP 2023)
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """The transforms of every row of a track."""

    track: FaceTrack
    """The track, with missing landmarks filled in."""

    matrices: npt.NDArray[np.float64]
    """(T,2,3) full-frame pixels → pixels of the 256×256 frame."""

    corners: npt.NDArray[np.int64]
    """(T,2) x and y of the crop's top left pixel in the 256×256 frame."""

    missing: npt.NDArray[np.bool_]
    """(T,) bool, frames without landmarks of their own, or whose landmarks fit no transform."""


def load_mean_face(path: Path) -> Points:
    """Return the (68,2) float64 mean face of a `.npy` file.

    Raises:
        ConfigError: no such file, no array of numbers, or another shape.
    """
    try:
        with open_regular(path, MEAN_FACE_BYTES), np.errstate(over="ignore"):
            # A memory map compares the shape in the header with the size of the file before anything is allocated.
            points = np.array(np.lib.format.open_memmap(path, mode="r"))
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TokenError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        raise ConfigError(f"crop.mean_face: got {path} ({reason}), expected a .npy file of a (68, 2) array") from error
    shape = (NUM_IBUG_LANDMARKS, 2)
    if points.shape != shape or points.dtype.kind not in "iuf":
        got = f"{points.dtype} of shape {points.shape}"
        raise ConfigError(f"crop.mean_face {path}: got {got}, expected real numbers of shape {shape}")
    mean_face: Points = points.astype(np.float64)
    if not np.isfinite(mean_face).all() or not (mean_face >= 0).all() or not (mean_face <= MEAN_FACE_PX).all():
        raise ConfigError(f"crop.mean_face {path}: got points outside the frame, expected pixels of a 256×256 frame")
    if np.ptp(mean_face[list(STABLE_POINTS)], axis=0).min() < LEAST_FACE_PX:
        raise ConfigError(
            f"crop.mean_face {path}: got a face of less than {LEAST_FACE_PX} pixels, expected pixels of a 256×256 "
            "frame, not shares of its side"
        )
    return mean_face


def mean_face_digest(path: Path) -> str:
    """Return the hex SHA-256 of a mean face's points, which does not depend on the path of the file.

    Raises:
        ConfigError: it cannot be used.
    """
    return hashlib.sha256(np.ascontiguousarray(load_mean_face(path)).tobytes()).hexdigest()


class LRWAligner(Aligner):
    """Aligner `lrw`: cuts a track out of its frames so that eyes and mouth keep their place.

    Args:
        crop_px: side of the crop: 150 shows the face (DFD-FCG), 96 the mouth (auto_avsr).
        mean_face: a `.npy` file with a (68,2) mean face in pixels of a 256×256 frame, instead of LRW's.
        strict: as DFD-FCG, make black frames where there is no face, and reject videos with a face in less than 90 %.

    Raises:
        ConfigError: another size, or a mean face that cannot be used.
    """

    smooths: ClassVar[bool] = True
    num_landmarks: ClassVar[tuple[int, ...]] = (NUM_IBUG_LANDMARKS,)
    sizes_px: ClassVar[tuple[int, ...]] = tuple(REGIONS)
    default_size_px: ClassVar[int] = 150
    path_digests: ClassVar[Mapping[str, Callable[[Path], str]]] = {"mean_face": mean_face_digest}

    def __init__(self, crop_px: int = 150, mean_face: Path | None = None, strict: bool = False) -> None:
        if crop_px not in REGIONS:
            raise ConfigError(
                f"crop.size_px of lrw: got {crop_px}, expected one of {', '.join(map(str, REGIONS))} (face, mouth)"
            )
        self._crop_px = crop_px
        self._first_landmark = REGIONS[crop_px]
        self._targets: Points = np.array(list(STABLE_POINTS.values()))
        if mean_face is not None:
            self._targets = load_mean_face(mean_face)[list(STABLE_POINTS)]
        self._strict = strict
        self._planned: deque[tuple[FaceTrack, _Plan]] = deque(maxlen=MAX_PLANS)

    @classmethod
    def from_settings(cls, settings: AlignerSettings) -> Self:
        """Make an aligner with the settings' region, mean face and strictness."""
        return cls(settings.size_px, settings.mean_face, settings.strict)

    def accepts(self, face: FaceDetection) -> bool:
        """Return whether a similarity maps the stable points onto those of the mean face."""
        return similarity(face.landmarks.astype(np.float64), self._targets) is not None

    def align(self, frames: FrameBatch, track: FaceTrack, masks: npt.NDArray[np.uint8] | None = None) -> AlignedClip:
        """Return the (T,S,S,3) crops of the rows that `frames` covers.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            track: iBUG-68 landmarks in full-frame pixels, one row for every frame of the video. Rows flagged as
                interpolated, and frames without a row, count as missing.
            masks: (T,H,W) uint8 manipulation masks, warped with the same matrices; or None.

        Raises:
            VideoRejected: no row can be aligned; or, with `strict`, too many are missing.
            ConfigError: the track has no 68 landmarks.
        """
        plan = self._plan(track, frames.frame_indices)
        rows = np.searchsorted(plan.track.frame_indices, frames.frame_indices)
        matrices = plan.matrices[rows]
        matrices[:, :, 2] -= plan.corners[rows]
        seen_rows = plan.track.rows_at(frames.frame_indices)
        landmarks = np.einsum("tij,tkj->tki", matrices[:, :, :2], seen_rows.landmarks) + matrices[:, None, :, 2]
        return AlignedClip(
            crops=np.stack([self._cut(image, plan, row) for image, row in zip(frames.data, rows, strict=True)]),
            matrices=matrices,
            landmarks=landmarks.astype(np.float32),
            masks=None
            if masks is None
            else np.stack([self._cut(mask, plan, row) for mask, row in zip(masks, rows, strict=True)]),
            frame_indices=frames.frame_indices,
            pts_seconds=frames.pts_seconds,
            interpolated=plan.missing[rows],
        )

    def _cut(self, image: npt.NDArray[np.uint8], plan: _Plan, row: int) -> npt.NDArray[np.uint8]:
        """Return the (S,S) or (S,S,3) crop of one (H,W,…) frame or mask: steps 3 and 4."""
        if self._strict and plan.missing[row]:
            return np.zeros((self._crop_px, self._crop_px, *image.shape[2:]), dtype=np.uint8)
        size = (MEAN_FACE_PX, MEAN_FACE_PX)
        warped = cv2.warpAffine(
            image, plan.matrices[row], size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0
        )
        left, top = plan.corners[row]
        return np.asarray(warped[top : top + self._crop_px, left : left + self._crop_px], dtype=np.uint8)

    def _plan(self, track: FaceTrack, frame_indices: npt.NDArray[np.int64]) -> _Plan:
        """Return the transforms of every row of a track, computed once.

        Raises:
            VideoRejected: no row can be aligned; or, with `strict`, too many are missing.
        """
        for planned, plan in self._planned:
            if planned is track and np.isin(frame_indices, plan.track.frame_indices).all():
                return plan
        wanted = np.union1d(track.frame_indices, frame_indices)
        whole = track if len(wanted) == len(track) else fill_gaps(track, wanted)
        if whole.landmarks.shape[1] != NUM_IBUG_LANDMARKS:
            raise ConfigError(
                f"crop.kind lrw: got {whole.landmarks.shape[1]} landmarks, expected {NUM_IBUG_LANDMARKS}; "
                "set landmark.kind to fan or dlib"
            )
        plan = self._transforms(whole)
        self._planned.append((track, plan))
        return plan

    def _transforms(self, track: FaceTrack) -> _Plan:
        """Smooth and transform; where landmarks fit no transform, mark the row as missing and recompute the others.

        Raises:
            VideoRejected: no row can be aligned; or, with `strict`, too many are missing.
        """
        missing = track.interpolated | ~np.isfinite(track.landmarks).all(axis=(1, 2))
        if not self._strict:  # landmarks in one spot would shrink their neighbours' average
            missing |= [similarity(shape.astype(np.float64), self._targets) is None for shape in track.landmarks]
        while True:
            self._require_rows(missing)
            points = interpolated(track.landmarks[~missing], track.frame_indices[~missing], track.frame_indices)
            available = ~missing if self._strict else np.ones_like(missing)
            shapes = np.stack([smoothed_landmarks(points, row, available) for row in range(len(track))])
            matrices = [similarity(shape, self._targets) for shape in shapes]
            degenerate = np.array([matrix is None for matrix in matrices])
            if not (degenerate & ~missing).any():
                break
            missing = missing | degenerate
        # An interpolated row that still does not fit gets the transform of the nearest row that fits.
        fitting = np.flatnonzero(~degenerate)
        rows = fitting[np.abs(np.arange(len(track))[:, None] - fitting).argmin(axis=1)]
        chosen = np.array([matrices[row] for row in rows], dtype=np.float64)
        aligned = np.einsum("tij,tkj->tki", chosen[:, :, :2], shapes[rows]) + chosen[:, None, :, 2]
        centres = aligned[:, self._first_landmark :].mean(axis=1)
        return _Plan(
            track=replace(track, landmarks=points.astype(np.float32)),
            matrices=chosen,
            corners=np.array([[crop_start(value, self._crop_px) for value in centre] for centre in centres]),
            missing=missing,
        )

    def _require_rows(self, missing: npt.NDArray[np.bool_]) -> None:
        """Raise if no row can be aligned, or in strict mode too few."""
        if missing.all():
            detail = f"landmarks: got none in {len(missing)} frames that a similarity maps onto the mean face"
            raise VideoRejected(Stage.CROP, Reason.DEGENERATE_GEOMETRY, detail)
        share_seen = 1.0 - float(missing.mean())
        if self._strict and share_seen < STRICT_COVERAGE:
            detail = (
                f"main face: got it in {share_seen:.0%} of {len(missing)} frames, "
                f"expected at least {STRICT_COVERAGE:.0%} (crop.strict)"
            )
            raise VideoRejected(Stage.CROP, Reason.LOW_COVERAGE, detail)


def smoothed_landmarks(points: Points, row: int, available: npt.NDArray[np.bool_]) -> Points:
    """Return a row's (68,2) landmarks, averaged with those of its neighbours, around the row's own centroid.

    Args:
        points: (T,68,2) landmarks of every row.
        row: number of the row; the window shrinks towards both ends, so that it stays symmetric.
        available: (T,) rows that enter the average.
    """
    reach = min(SMOOTHING_REACH, row, len(points) - 1 - row)
    window = slice(row - reach, row + reach + 1)
    chosen = points[window][available[window]]
    mean: Points = chosen.mean(axis=0) if len(chosen) else points[row]
    moved: Points = mean + (points[row].mean(axis=0) - mean.mean(axis=0))
    return moved


def similarity(shape: Points, targets: Points) -> npt.NDArray[np.float64] | None:
    """Return the (2,3) similarity that maps the stable points of (68,2) landmarks onto the targets; None if none does.

    Least median of squares with 4 degrees of freedom, as `cv2.estimateAffinePartial2D` computes it.
    """
    if not np.isfinite(shape).all():
        return None
    # The stubs do not know that it returns None for points that it cannot map.
    matrix, _ = cv2.estimateAffinePartial2D(shape[list(STABLE_POINTS)], targets, method=cv2.LMEDS)
    if matrix is None or not np.isfinite(matrix).all() or not matrix[0, :2].any():
        return None
    return np.asarray(matrix, dtype=np.float64)


def crop_start(centre: float, crop_px: int) -> int:
    """Return the first row or column of a crop of the 256×256 frame; a crop that crosses the border is moved inside.

    The extra pixel (76 and 180 for 150 px) follows DFD-FCG.
    """
    half = crop_px // 2
    if centre - half < 0:
        centre = half + 1
    elif centre + half > MEAN_FACE_PX:
        centre = MEAN_FACE_PX - half - 1
    return int(centre - half)
