"""The stages of one worker, with their models loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.align import ALIGNERS
from tasks.align.aligner import Aligner
from tasks.decode import DECODERS
from tasks.decode.decoder import Decoder
from tasks.detect import DETECTORS
from tasks.detect.detector import FaceDetector
from tasks.landmarks import LANDMARKERS
from tasks.landmarks.landmarker import Landmarker
from tasks.models.requirements import UsesModels
from tasks.settings import CropSettings, DetectSettings, StageSettings
from tasks.video.finder import FaceFinder

# Share of a threshold that the ladder's lower ones keep: MTCNN's 0.6, 0.7, 0.7 become 0.42, 0.49, 0.49, below the even
# chance at which each of its networks would decide.
LOWER_THRESHOLDS = 0.7


def users_of_models(settings: StageSettings) -> tuple[type[UsesModels], ...]:
    """Return the classes of detectors and landmarkers that the settings name."""
    kinds = (kind for kind in (settings.detect.kind, settings.detect.second) if kind is not None)
    return (*(DETECTORS[kind] for kind in kinds), LANDMARKERS[settings.landmark.kind])


def model_classes(settings: StageSettings) -> dict[str, type[UsesModels]]:
    """Return the class of each field of `Models` that the settings ask for."""
    detect = settings.detect
    classes: dict[str, type[UsesModels]] = {
        "landmarker": LANDMARKERS[settings.landmark.kind],
        "detector": DETECTORS[detect.kind],
    }
    if settings.frames.at_least > 0:
        classes["lenient_detector"] = DETECTORS[detect.kind]
        if detect.second:
            classes["second_detector"] = DETECTORS[detect.second]
    return classes


def load_model(settings: StageSettings, name: str, device: str) -> Any:
    """Build one field of `Models`.

    Args:
        settings: which, and how.
        name: one of `model_classes`.
        device: `cpu` or `cuda:N`.

    Raises:
        StageMissing: a package or a weight file is not there.
    """
    detect, weights_dir = settings.detect, settings.weights_dir
    if name == "landmarker":
        return LANDMARKERS[settings.landmark.kind](device=device, weights_dir=weights_dir)
    if name == "second_detector" and detect.second:
        return _detector(detect.second, detect, 1.0, device, weights_dir)
    lenience = LOWER_THRESHOLDS if name == "lenient_detector" else 1.0
    return _detector(detect.kind, detect, lenience, device, weights_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What looks at frames, whichever process its networks run in."""

    detector: FaceDetector
    """As configured."""

    landmarker: Landmarker
    """For the faces that any of the detectors finds."""

    lenient_detector: FaceDetector | None = None
    """With lower thresholds; None where `frames.at_least` is off."""

    second_detector: FaceDetector | None = None
    """None where none is named."""

    @classmethod
    def load(cls, settings: StageSettings, device: str) -> Models:
        """Build the models that the settings name, in this process.

        Args:
            settings: which, and how.
            device: `cpu` or `cuda:N`, for the networks.

        Raises:
            StageMissing: a package or a weight file is not there.
        """
        return cls(**{name: load_model(settings, name, device) for name in model_classes(settings)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What a video goes through."""

    decoder: Decoder
    """Frames out of files."""

    finder: FaceFinder
    """Faces in frames, as configured."""

    lenient_finder: FaceFinder | None = None
    """With lower thresholds; None where `frames.at_least` is off."""

    second_finder: FaceFinder | None = None
    """With the second detector; None where none is named."""

    aligner: Aligner
    """Crops out of frames."""

    @classmethod
    def load(cls, settings: StageSettings, models: Models) -> Stages:
        """Build the stages that the settings name.

        Args:
            settings: which, and how.
            models: what looks at frames.

        Raises:
            StageMissing: a package is not there.
        """
        detect, aligner = settings.detect, _aligner(settings.crop)

        def finder(detector: FaceDetector, every: int = 1) -> FaceFinder:
            return FaceFinder(detector, models.landmarker, every, detect.max_side_px, aligner.accepts)

        return cls(
            decoder=DECODERS[settings.decode.backend](),
            finder=finder(models.detector, detect.every),
            lenient_finder=None if models.lenient_detector is None else finder(models.lenient_detector),
            second_finder=None if models.second_detector is None else finder(models.second_detector),
            aligner=aligner,
        )


def _detector(
    kind: str, settings: DetectSettings, lenience: float, device: str, weights_dir: Path | None
) -> FaceDetector:
    """Build a detector; its thresholds are multiplied by `lenience`."""
    options: dict[str, dict[str, Any]] = {
        "mtcnn": {
            "min_face_px": settings.min_face_px,
            "thresholds": tuple(threshold * lenience for threshold in settings.thresholds),
            "scale_factor": settings.scale_factor,
            "follow": settings.search == "follow",
        },
        "s3fd": {"threshold": settings.s3fd_threshold * lenience, "weights_dir": weights_dir},
    }
    return DETECTORS[kind](device=device, **options.get(kind, {}))


def _aligner(crop: CropSettings) -> Aligner:
    options: dict[str, dict[str, Any]] = {
        "square": {"size_px": crop.size_px, "margin": crop.margin},
        "five_point": {"size_px": crop.size_px, "margin": crop.margin, "template": crop.template},
        "lrw": {"crop_px": crop.size_px, "mean_face": crop.mean_face, "strict": crop.strict},
    }
    return ALIGNERS[crop.kind](**options[crop.kind])
