"""The stages of one worker, with their models loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.aligner import Aligner
from tasks.aligners import ALIGNERS
from tasks.decoder import Decoder
from tasks.decoders import DECODERS
from tasks.detector import FaceDetector
from tasks.detectors import DETECTORS
from tasks.finder import FaceFinder
from tasks.landmarkers import LANDMARKERS
from tasks.models import UsesModels
from tasks.settings import CropSettings, DetectSettings, StageSettings

# Share of a threshold that the ladder's lower ones keep: MTCNN's 0.6, 0.7, 0.7 become 0.42, 0.49, 0.49, below the even
# chance at which each of its networks would decide.
LOWER_THRESHOLDS = 0.7


def users_of_models(settings: StageSettings) -> tuple[type[UsesModels], ...]:
    """Return the classes of detectors and landmarkers that the settings name."""
    kinds = (kind for kind in (settings.detect.kind, settings.detect.second) if kind is not None)
    return (*(DETECTORS[kind] for kind in kinds), LANDMARKERS[settings.landmark.kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """What a video goes through."""

    decoder: Decoder
    # frames out of files

    finder: FaceFinder
    # faces in frames, as configured

    lenient_finder: FaceFinder | None = None
    # with lower thresholds; None where `frames.at_least` is off

    second_finder: FaceFinder | None = None
    # with the second detector; None where none is named

    aligner: Aligner
    # crops out of frames

    @classmethod
    def load(cls, settings: StageSettings, device: str) -> Stages:
        """Build the stages that the settings name.

        Args:
            settings: which, and how.
            device: `cpu` or `cuda:N`, for the networks.

        Raises:
            StageMissing: a package or a weight file is not there.
        """
        detect, weights_dir = settings.detect, settings.weights_dir
        aligner = _aligner(settings.crop)
        landmarker = LANDMARKERS[settings.landmark.kind](device=device, weights_dir=weights_dir)

        def finder(kind: str, lenience: float = 1.0, every: int = 1) -> FaceFinder:
            detector = _detector(kind, detect, lenience, device, weights_dir)
            return FaceFinder(detector, landmarker, every, detect.max_side_px, aligner.accepts)

        has_ladder = settings.frames.at_least > 0
        return cls(
            decoder=DECODERS[settings.decode.backend](),
            finder=finder(detect.kind, every=detect.every),
            lenient_finder=finder(detect.kind, LOWER_THRESHOLDS) if has_ladder else None,
            second_finder=finder(detect.second) if has_ladder and detect.second else None,
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
