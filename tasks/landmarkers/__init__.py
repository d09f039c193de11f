"""The landmarkers: one file and one line here for each."""

from collections.abc import Callable

from tasks.landmarker import Landmarker
from tasks.landmarkers.detector import DetectorLandmarks

LANDMARKERS: dict[str, Callable[[], Landmarker]] = {
    "detector": DetectorLandmarks,
}
