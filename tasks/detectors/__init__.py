"""The face detectors: one file and one line here for each."""

from collections.abc import Callable

from tasks.detector import FaceDetector
from tasks.detectors.mtcnn import MTCNNDetector

DETECTORS: dict[str, Callable[..., FaceDetector]] = {
    "mtcnn": MTCNNDetector,
}
