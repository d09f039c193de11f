"""The landmarkers: one file and one line here for each."""

from tasks.landmarker import Landmarker
from tasks.landmarkers.detector import DetectorLandmarks
from tasks.landmarkers.dlib import DlibLandmarker
from tasks.landmarkers.fan import FANLandmarker

LANDMARKERS: dict[str, type[Landmarker]] = {
    "detector": DetectorLandmarks,
    "fan": FANLandmarker,
    "dlib": DlibLandmarker,
}
