"""Registry of face detectors: each one is a file or folder in this folder and a line here."""

from manifests.registry import Registry
from tasks.detect.detector import FaceDetector
from tasks.detect.mtcnn.detector import MTCNNDetector
from tasks.detect.s3fd import S3FDDetector
from tasks.implementation import contract_of

DETECTORS = Registry[type[FaceDetector]](
    "detector",
    "faceshards.detectors",
    {"mtcnn": MTCNNDetector, "s3fd": S3FDDetector},
    needs=contract_of(FaceDetector),
)
