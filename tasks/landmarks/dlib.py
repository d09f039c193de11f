"""Landmarker dlib: its 68-point shape predictor.

Kazemi and Sullivan, "One Millisecond Face Alignment with an Ensemble of Regression Trees", CVPR 2014.

The predictor refines a mean face that is fitted into a square, and it was trained on the squares of dlib's HOG
detector, which are tighter around a face than the boxes of a neural detector. So the points are found twice:

    1. in a square around the box, chosen so that the points are found even if the box is larger or shifted;
    2. in HOG's square as estimated from these points, which is more accurate than an estimate from any box.

The predictor returns whole pixels. It therefore runs on an enlarged crop, where these are fractions of a frame's pixel.

Measured on 150 frames of 5 clips of 3 people, in shares of the distance between the outer eye corners. Off: distance
from the points in HOG's own squares, mean and 95th percentile. Jitter: second difference from frame to frame.

    square                                 off             jitter
    HOG's own                                               2.0 %
    MTCNN's box, unchanged                 2.0 %   3.4 %    2.1 %
    mean HOG square for the box            1.1 %   2.9 %    2.0 %
    HOG inside the box, else the mean      0.9 %   1.6 %    2.1 %, and 9 ms instead of 0.7 ms
    this module                            1.1 %   1.7 %    1.6 %, and 4 ms
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from manifests.errors import StageMissing
from tasks.align.warp import warp
from tasks.landmarks.landmarker import Landmarker, LandmarkerSettings
from tasks.media import NUM_IBUG_LANDMARKS, FaceDetection, FrameBatch
from tasks.models.weights import search_dirs

MODEL_PACKAGE = "face_recognition_models"
MODEL_NAME = "dlib68"
MODEL_SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"  # of face_recognition_models 0.3.0
MODEL_FILE = "shape_predictor_68_face_landmarks.dat"
WAY_OUT = (
    "pip install 'faceshards[dlib]'. The predictor's model was trained on iBUG 300-W, whose licence excludes "
    "commercial use"
)

# The first square from MTCNN's box. HOG's own square is 0.81 box heights wide on average and 0.075 below the box's
# centre. With that square, points are wrong (by 5 % and more) for 14 % of boxes shifted by 0.1 and scaled by 0.85 to
# 1.2, mostly down to the neck; with this square for 4 %, the least of those tried (0.77 to 1.0, −0.03 to 0.075; 55
# faces).
SIDE_PER_BOX_HEIGHT = 0.87
SHIFT_DOWN_PER_BOX_HEIGHT = 0.02
# HOG's square and the box around the 68 points that are found in it, means of 149 faces of 3 people:
SIDE_PER_POINTS_EXTENT = 1.06  # the extent is the root of the area of the points' bounding box
SHIFT_DOWN_PER_SIDE = -0.079  # from the centre of the points' bounding box to that of the square; sideways below 0.01

SQUARE_PX = 300  # side of the square in the enlarged crop; with 200 the points jitter by 10 % more
MARGIN_PX = 100  # around the square in the crop; the predictor also reads pixels outside the square


class DlibLandmarker(Landmarker):
    """Landmarker `dlib`: K = 68 points in iBUG's order, without scores.

    Args:
        weights_dir: a folder with another model file, under dlib's name for it.

    Raises:
        StageMissing: dlib or its model is not installed, or the model cannot be read.
    """

    title: ClassVar[str] = "landmark.kind=dlib"
    packages: ClassVar[Mapping[str, str]] = {"dlib": f"it; {WAY_OUT}"}
    published: ClassVar[Mapping[str, str]] = {MODEL_NAME: MODEL_SHA256}

    def __init__(self, *, weights_dir: Path | None = None) -> None:
        self.require_models(weights_dir)
        import dlib

        model = find_model(weights_dir)
        try:
            self._predictor = dlib.shape_predictor(str(model))
        except RuntimeError as error:
            detail = (
                f"landmark.kind=dlib: {model}: got {error}, expected dlib's 68-point model; delete it, or {WAY_OUT}"
            )
            raise StageMissing(detail) from error
        # The square is the same in every crop: dlib's rectangles include their last pixel.
        self._square: Any = dlib.rectangle(MARGIN_PX, MARGIN_PX, MARGIN_PX + SQUARE_PX - 1, MARGIN_PX + SQUARE_PX - 1)

    @classmethod
    def model_files(cls, weights_dir: Path | None) -> dict[str, Path]:
        """Return the predictor's model, if it exists."""
        try:
            return {MODEL_NAME: find_model(weights_dir)}
        except StageMissing:
            return {}

    @classmethod
    def require_models(cls, weights_dir: Path | None) -> None:
        """Check without loading anything that dlib and its model exist.

        Raises:
            StageMissing: one of them is missing.
        """
        super().require_models(weights_dir)
        find_model(weights_dir)

    @classmethod
    def from_settings(cls, settings: LandmarkerSettings, *, device: str, weights_dir: Path | None) -> Self:
        """Make a landmarker, which has no settings; dlib runs on the CPU."""
        del settings, device
        return cls(weights_dir=weights_dir)

    def locate(self, frames: FrameBatch, faces: Sequence[Sequence[FaceDetection]]) -> list[list[FaceDetection]]:
        """Return the same faces with (68,2) float32 landmarks in full-frame pixels, and no scores.

        Args:
            frames: (T,H,W,3) uint8 RGB.
            faces: faces of each of the T frames, full-frame pixels. Boxes may cross the border. A box without an area
                has all points in its centre, so that only the aligner refuses it.
        """
        return [
            [replace(face, landmarks=self._points_of(image, face.box_xyxy), landmark_scores=None) for face in found]
            for image, found in zip(frames.data, faces, strict=True)
        ]

    def _points_of(self, image: npt.NDArray[np.uint8], box_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the (68,2) float32 points of the face in a box of an (H,W,3) uint8 image."""
        left, top, right, bottom = box_xyxy
        if not (right > left and bottom > top):
            return np.tile((box_xyxy[:2] + box_xyxy[2:]) / 2, (NUM_IBUG_LANDMARKS, 1)).astype(np.float32)
        first = self._points_in(image, *_square_of_box(box_xyxy))
        return self._points_in(image, *_square_of_points(first)).astype(np.float32)

    def _points_in(
        self, image: npt.NDArray[np.uint8], centre: npt.NDArray[np.float64], side_px: float
    ) -> npt.NDArray[np.float64]:
        """Return the (68,2) float64 full-frame points that the predictor finds in a square; black outside the frame."""
        scale = SQUARE_PX / side_px
        shift = MARGIN_PX + (SQUARE_PX - 1) / 2 - scale * centre
        matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
        shape = self._predictor(warp(image, matrix, SQUARE_PX + 2 * MARGIN_PX), self._square)
        points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
        return (points - shift) / scale


def find_model(weights_dir: Path | None = None) -> Path:
    """Return the path of the model: in a folder for weights, or in the package face_recognition_models.

    Args:
        weights_dir: the configured folder, searched before that of `$FACESHARDS_WEIGHTS`.

    Raises:
        StageMissing: the model is in none of them.
    """
    # The package is not imported, since that needs pkg_resources, which new releases of setuptools lack.
    spec = importlib.util.find_spec(MODEL_PACKAGE)
    packaged = [Path(folder, "models") for folder in (spec and spec.submodule_search_locations) or ()]
    folders = [*search_dirs(weights_dir), *packaged]
    for folder in folders:
        try:
            if (folder / MODEL_FILE).is_file():
                return folder / MODEL_FILE
        except PermissionError:  # another user's folder, such as root's cache in a container
            continue
    where = ", ".join(map(str, folders))
    package = "" if packaged else f" and no package {MODEL_PACKAGE}"
    raise StageMissing(f"landmark.kind=dlib: got no {MODEL_FILE} in {where}{package}, expected it there; {WAY_OUT}")


def _square_of_box(box_xyxy: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], float]:
    """Return centre and side, pixels, of the first square for a detector's box."""
    left, top, right, bottom = box_xyxy.astype(np.float64)
    height = bottom - top
    centre = np.array([left + right, top + bottom]) / 2 + (0.0, SHIFT_DOWN_PER_BOX_HEIGHT * height)
    return centre, SIDE_PER_BOX_HEIGHT * height


def _square_of_points(points: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], float]:
    """Return centre and side, pixels, of HOG's square around a face with these (68,2) points."""
    lowest, highest = points.min(axis=0), points.max(axis=0)
    side = SIDE_PER_POINTS_EXTENT * float(np.sqrt(np.prod(highest - lowest)))
    return (lowest + highest) / 2 + (0.0, SHIFT_DOWN_PER_SIDE * side), side
