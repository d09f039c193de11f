"""The landmarkers: one file and one line here for each."""

from tasks.landmarks.dlib import DlibLandmarker
from tasks.landmarks.fan import FANLandmarker
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.landmarks.landmarker import Landmarker

LANDMARKERS: dict[str, type[Landmarker]] = {
    "detector": DetectorLandmarks,
    "fan": FANLandmarker,
    "dlib": DlibLandmarker,
}
