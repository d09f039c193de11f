"""Faster MTCNN for successive frames: a full search near the faces of earlier frames, a coarse search elsewhere.

P-Net classifies square cells of 12 × 12 pixels at each level of an image pyramid. A face is found only at the few
levels where it roughly fills a cell, but most cells are at the other levels. So P-Net gets a window around each known
face at the levels of that face, and the whole frame at the coarse levels only, with a higher threshold. Windows lie on
the grid of cells of the whole level, so that they give the same boxes as a full search. Around a face that the coarse
search finds, windows are added, and the frame is searched again. A frame is searched in full if no face is known, or a
known face of high score is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.detect.mtcnn.cascade import Cascade
from tasks.detect.mtcnn.pictures import CpuSumTables, SumTables
from tasks.detect.mtcnn.pyramid import Area, Level, Window, around, whole
from tasks.media import FaceDetection

# Levels at which a face of size f (square root of its area) is searched for: those whose cell, in pixels of the frame,
# has a side from 0.57 f to 2.4 f, and the next level at each end. In 60 frames of FF++, each at eight sizes, the main
# face had the box of the full search whenever the finest cell was at most 0.58 f and the coarsest at least 2.0 f;
# otherwise the IoU was as low as 0.88.
FINEST_CELL = 0.57
COARSEST_CELL = 2.4
SIZE_RATIO = 0.95  # ratio of a face's sizes in two frames that windows allow for; below it, the frame is searched again

# Margins around a face, as shares of its size: the area that is searched, and the area that must have been searched for
# a correct box. With them, the main face had the box of the full search (IoU above 0.999999) in all of 1,800 frames of
# FF++ (60 at five sizes, with three smallest faces, every other clip a fake).
MARGIN = 0.6
LEAST_MARGIN = 0.25

# The coarse search uses the levels whose cell has at least this share of the largest known face's size; this least cell
# is kept within these shares of the frame's shorter side. Of 193 new faces of each size, put into frames of FF++ at
# five sizes, it finds all of 0.6 of the known face's size and more, 181 of 0.5 and 105 of 0.4 (benchmarks/detect.py).
# Cells of 0.5 find more small faces, for 1.3 times the cost of a frame. A cell counts from this score on. In 99.2 % of
# real frames a cell of the main face reaches it, and so do 1 to 4 cells elsewhere.
COARSE_SEARCH_CELL = 0.75
COARSE_SEARCH_CELL_OF_SIDE = (0.1, 0.2)
COARSE_SEARCH_SCORE = 0.9

# Boxes in successive frames are the same face if the centre moved by at most this share of the size, and the size
# changed by at most this factor. In FF++, in frames 0.4 to 1 s apart, faces move by up to 0.3 and grow by up to 1.1.
SAME_SHIFT = 0.75
SAME_GROWTH = 1.5

SURE_SCORE = 0.97  # if a face of this score is lost, the frame is searched in full; hands and trees had up to 0.955


@dataclass(frozen=True, slots=True)
class Known:
    """A face of an earlier frame."""

    face: FaceDetection
    """Its last detection."""

    is_recent: bool
    """Whether that was in the frame before this one."""


def follow(cascade: Cascade, images: npt.NDArray[np.uint8], levels: Sequence[Level]) -> list[list[FaceDetection]]:
    """Return the faces of (T,H,W,3) uint8 RGB images in display order, the largest face of each image first."""
    known: list[Known] = []
    faces = []
    for number in range(len(images)):
        tables = CpuSumTables(images[number : number + 1])
        found = _near(cascade, tables, levels, known) if known else None
        if found is None:
            (found,) = cascade.search(tables, [whole(level) for level in levels])
        faces.append(found)
        missed = [Known(one.face, False) for one in known if not _is_among(one.face, found)]
        known = [*missed, *(Known(face, True) for face in found)]
        del tables  # else they would stay in memory while the next ones are made
    return faces


def _near(
    cascade: Cascade, tables: SumTables, levels: Sequence[Level], known: Sequence[Known]
) -> list[FaceDetection] | None:
    """Return the faces of one frame, searched where they are expected; None if a full search is needed."""
    expected = [one.face for one in known]
    sought = windows_for(expected, levels, min(tables.height, tables.width))
    (found,) = cascade.search(tables, sought)
    surprises = [face for face in found if not _was_in_view(face, levels, sought)]
    if surprises:
        sought = windows_for([*expected, *surprises], levels, min(tables.height, tables.width))
        (found,) = cascade.search(tables, sought)
        if not all(_was_in_view(face, levels, sought) for face in found):
            return None
    is_lost = (one.is_recent and one.face.score >= SURE_SCORE and not _is_among(one.face, found) for one in known)
    return None if any(is_lost) else found


def windows_for(faces: Sequence[FaceDetection], levels: Sequence[Level], shorter_px: int) -> list[Window]:
    """Return the windows, at most one for each level, that search for these faces in full and coarsely for others.

    Args:
        faces: the expected faces.
        levels: levels of the frame's pyramid.
        shorter_px: shorter side of the frame.
    """
    least_px, most_px = (share * shorter_px for share in COARSE_SEARCH_CELL_OF_SIDE)
    coarse_px = min(max(COARSE_SEARCH_CELL * max(map(_size_px, faces)), least_px), most_px)
    areas: dict[int, list[Area]] = {}
    for face in faces:
        for number in _levels_for(_size_px(face) * SIZE_RATIO, _size_px(face) / SIZE_RATIO, levels):
            areas.setdefault(number, []).append(_area(face, MARGIN))
    windows = []
    for level in levels:
        near = None
        if level.number in areas:
            lefts, tops, rights, bottoms = zip(*areas[level.number], strict=True)
            near = around(level, (min(lefts), min(tops), max(rights), max(bottoms)))
        if level.face_px >= coarse_px:
            windows.append(whole(level, COARSE_SEARCH_SCORE, near))
        elif near is not None:
            windows.append(near)
    return windows


def _was_in_view(face: FaceDetection, levels: Sequence[Level], windows: Sequence[Window]) -> bool:
    """Return whether the windows contained everything that the face's box depends on."""
    in_view = {window.level.number: window.inner if window.least_score else window for window in windows}
    for number in _levels_for(_size_px(face), _size_px(face), levels):
        needed, seen = around(levels[number], _area(face, LEAST_MARGIN)), in_view.get(number)
        if needed is not None and (seen is None or not seen.contains(needed)):
            return False
    return True


def _levels_for(least_px: float, most_px: float, levels: Sequence[Level]) -> range:
    """Return the numbers of the levels where faces from one size to another are found."""
    fine = [level.number for level in levels if level.face_px <= FINEST_CELL * least_px]
    coarse = [level.number for level in levels if level.face_px >= COARSEST_CELL * most_px]
    return range(max(fine, default=0), min(coarse, default=len(levels) - 1) + 1)


def _size_px(face: FaceDetection) -> float:
    """Return the square root of a face's area, at least 1."""
    left, top, right, bottom = face.box_xyxy.tolist()
    return math.sqrt(max(1.0, (right - left) * (bottom - top)))


def _area(face: FaceDetection, margin: float) -> Area:
    """Return a face's box with a margin, which is a share of its size."""
    left, top, right, bottom = face.box_xyxy.tolist()
    more = margin * _size_px(face)
    return left - more, top - more, right + more, bottom + more


def _is_among(face: FaceDetection, others: Sequence[FaceDetection]) -> bool:
    """Return whether one of the others is the same face."""
    (x, y), size = _middle(face), _size_px(face)
    for other in others:
        other_x, other_y = _middle(other)
        shift, growth = math.hypot(other_x - x, other_y - y), _size_px(other) / size
        if shift <= SAME_SHIFT * size and 1 / SAME_GROWTH <= growth <= SAME_GROWTH:
            return True
    return False


def _middle(face: FaceDetection) -> tuple[float, float]:
    left, top, right, bottom = face.box_xyxy.tolist()
    return (left + right) / 2, (top + bottom) / 2
