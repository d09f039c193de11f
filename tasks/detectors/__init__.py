"""The face detectors: one file and one line here for each."""

from tasks.detector import FaceDetector
from tasks.detectors.mtcnn import MTCNNDetector
from tasks.detectors.s3fd import S3FDDetector

DETECTORS: dict[str, type[FaceDetector]] = {
    "mtcnn": MTCNNDetector,
    "s3fd": S3FDDetector,
}
