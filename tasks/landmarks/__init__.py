"""Registry of landmarkers: each one is a file in this folder and a line here."""

from manifests.registry import Registry
from tasks.implementation import contract_of
from tasks.landmarks.dlib import DlibLandmarker
from tasks.landmarks.fan import FANLandmarker
from tasks.landmarks.five_points import DetectorLandmarks
from tasks.landmarks.landmarker import Landmarker

LANDMARKERS = Registry[type[Landmarker]](
    "landmarker",
    "faceshards.landmarkers",
    {"detector": DetectorLandmarks, "fan": FANLandmarker, "dlib": DlibLandmarker},
    needs=contract_of(Landmarker),
)
