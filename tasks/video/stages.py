"""Stages of one worker, and the models that they use, loaded according to the settings."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.align import ALIGNERS
from tasks.align.aligner import Aligner
from tasks.decode import DECODERS
from tasks.decode.decoder import Decoder
from tasks.detect import DETECTORS
from tasks.detect.detector import FaceDetector
from tasks.landmarks import LANDMARKERS
from tasks.landmarks.landmarker import Landmarker
from tasks.settings import StageSettings
from tasks.video.finder import FaceFinder

# Factor of the lower thresholds of `frames.at_least`: MTCNN's 0.6, 0.7, 0.7 become 0.42, 0.49, 0.49, below the even
# chance at which each of its networks would decide.
LOWER_THRESHOLDS = 0.7


def detector_classes(settings: StageSettings) -> dict[str, type[FaceDetector]]:
    """Return the class of each detector that the settings ask for, by its field in `Models`."""
    detect = settings.detect
    classes = {"detector": DETECTORS[detect.kind]}
    if settings.frames.at_least > 0:
        classes["lenient_detector"] = DETECTORS[detect.kind]
        if detect.second:
            classes["second_detector"] = DETECTORS[detect.second]
    return classes


def load_detector(settings: StageSettings, name: str, device: str) -> FaceDetector:
    """Build one detector.

    Args:
        settings: the settings of the stages.
        name: a key of `detector_classes`.
        device: `cpu` or `cuda:N`.

    Raises:
        StageMissing: a package or a weight file is missing.
    """
    section = (settings.detect.for_second() if name == "second_detector" else None) or settings.detect
    return DETECTORS[section.kind].from_settings(
        section,
        device=device,
        weights_dir=settings.weights_dir,
        lenience=LOWER_THRESHOLDS if name == "lenient_detector" else 1.0,
    )


def load_landmarker(settings: StageSettings, device: str) -> Landmarker:
    """Build the landmarker.

    Raises:
        StageMissing: a package or a weight file is missing.
    """
    chosen = LANDMARKERS[settings.landmark.kind]
    return chosen.from_settings(settings.landmark, device=device, weights_dir=settings.weights_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Models that process frames; their networks may run in another process."""

    detector: FaceDetector
    """As configured."""

    landmarker: Landmarker
    """Landmarker for the faces of all detectors."""

    lenient_detector: FaceDetector | None = None
    """With lower thresholds; None where `frames.at_least` is off."""

    second_detector: FaceDetector | None = None
    """Second detector; None if none is named."""

    @classmethod
    def load(cls, settings: StageSettings, device: str) -> Models:
        """Build the models that the settings name, in this process.

        Args:
            settings: the settings of the stages.
            device: `cpu` or `cuda:N`, for the networks.

        Raises:
            StageMissing: a package or a weight file is missing.
        """
        detectors = {name: load_detector(settings, name, device) for name in detector_classes(settings)}
        return cls(landmarker=load_landmarker(settings, device), **detectors)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Loaded stages that a video goes through."""

    settings: StageSettings
    """Settings of the stages."""

    decoder: Decoder
    """Decoder of files."""

    finder: FaceFinder
    """Face finder with the configured detector."""

    lenient_finder: FaceFinder | None = None
    """With lower thresholds; None where `frames.at_least` is off."""

    second_finder: FaceFinder | None = None
    """Face finder with the second detector; None if none is named."""

    aligner: Aligner
    """Aligner, which cuts crops out of frames."""

    max_bytes: int | None = None
    """Memory that one video may need, beside the models, bytes; None: any."""

    @classmethod
    def load(cls, settings: StageSettings, models: Models, max_bytes: int | None = None) -> Stages:
        """Build the stages that the settings name.

        Args:
            settings: the settings of the stages.
            models: detectors and landmarker.
            max_bytes: memory that one video may need, beside the models; None: any.

        Raises:
            StageMissing: a package is missing.
        """
        detect, aligner = settings.detect, ALIGNERS[settings.crop.kind].from_settings(settings.crop)

        def finder(detector: FaceDetector, every: int = 1) -> FaceFinder:
            return FaceFinder(
                detector, models.landmarker, every, detect.max_side_px, aligner.accepts, settings.track.cut_threshold
            )

        return cls(
            settings=settings,
            decoder=DECODERS[settings.decode.backend].from_settings(settings.decode),
            finder=finder(models.detector, detect.every),
            lenient_finder=None if models.lenient_detector is None else finder(models.lenient_detector),
            second_finder=None if models.second_detector is None else finder(models.second_detector),
            aligner=aligner,
            max_bytes=max_bytes,
        )
