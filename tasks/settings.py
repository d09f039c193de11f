"""Settings of each stage. `flows.config.preprocess` combines them with those of dataset, output and runner.

Everything here changes the bytes of records, unless its description says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, ModelWrapValidatorHandler, field_validator, model_validator

from manifests.registry import Registry
from storage.format.images import ImageFormat
from tasks.align import ALIGNERS
from tasks.align.aligner import Aligner, AlignerSettings
from tasks.align.five_point import TEMPLATES
from tasks.decode import AUTO, AUTO_DECODER, BACKENDS, DECODERS
from tasks.decode.decoder import Decoder, DecoderSettings
from tasks.detect import DETECTORS
from tasks.detect.detector import DetectorSettings, FaceDetector
from tasks.implementation import (
    NO_OPTIONS,
    Before,
    Choice,
    Family,
    Implementation,
    OneOf,
    Settings,
    path_fields,
    validated_options,
)
from tasks.landmarks import LANDMARKERS
from tasks.landmarks.landmarker import Landmarker, LandmarkerSettings

One = TypeVar("One", bound=Implementation)
Section = TypeVar("Section", bound=Settings)


def _named(family: Registry[type[One]], section: object) -> type[One] | None:
    """Return the implementation that a section, given as values or as a model, chooses; None if there is none."""
    kind: object = section.get("kind") if isinstance(section, Mapping) else getattr(section, "kind", None)
    return family[kind] if isinstance(kind, str) and kind in family else None


def _usable(landmarker: type[Landmarker], aligner: type[Aligner]) -> bool:
    """Return whether an aligner can use the number of landmarks that a landmarker returns."""
    return not aligner.num_landmarks or landmarker.num_landmarks in aligner.num_landmarks


def _decoder_of(backend: str) -> str:
    """Return the name of the implementation, which the store records: a later release may choose another for `auto`."""
    return AUTO_DECODER if backend == AUTO else backend


def _either(names: Iterable[object]) -> str:
    return " or ".join(map(str, names))


def _with_implied(
    handler: ModelWrapValidatorHandler[Section], values: Mapping[str, object], implied: dict[str, object]
) -> Section:
    """Return the validated section with values that follow from other settings; these do not count as named."""
    section = handler({**values, **implied})
    section.model_fields_set.difference_update(implied)
    return section


class FrameSettings(Settings):
    """Choice of the frames of a video."""

    mode: Literal["uniform", "stride", "all", "clips"] = "uniform"
    """Choice of frames: uniform (`count` frames, evenly spaced), stride (every `stride`-th frame), all (every frame) or
    clips (records of `clip_frames` frames each).
    """

    count: int = Field(32, ge=1)
    """Number of frames per video in mode uniform; all frames of a shorter video."""

    stride: int = Field(10, ge=1)
    """Distance between two chosen frames in mode stride, frames."""

    clip_seconds: float = Field(3.0, gt=0, le=3600)
    """Length of a clip in mode clips, seconds (2–4 in DFD-FCG)."""

    clip_frames: int = Field(10, ge=2)
    """Number of evenly spaced frames taken from each clip: the T of its record."""

    short_video: Literal["pad", "reject"] = "pad"
    """Treatment of a video shorter than a clip: pad (repeat its last frame) or reject."""

    at_least: int = Field(0, ge=0)
    """Number of frames that must show the main face, in place of `count`; further frames are searched until they are
    found; 0: off.
    """

    max_visits: int = Field(128, ge=1)
    """Largest number of frames searched for `at_least` before lower thresholds and the other searches are tried."""

    @model_validator(mode="after")
    def _refuse_quota_elsewhere(self) -> FrameSettings:
        if self.at_least and self.mode != "uniform":
            raise ValueError("expected frames.at_least with frames.mode uniform only")
        return self


class DecodeSettings(DecoderSettings):
    """Decoding of frames."""

    family: ClassVar[Registry[type[Decoder]]] = DECODERS

    backend: Annotated[str, OneOf(BACKENDS), AfterValidator(_decoder_of)] = Field(AUTO, validate_default=True)
    """Decoder: auto (pyav), pyav (the library that probes; decodes only what the requested frames need) or decord
    (another FFmpeg, which knows fewer codecs; reads strictly forward).
    """


class DetectSettings(DetectorSettings):
    """Detection of faces."""

    family: ClassVar[Registry[type[FaceDetector]]] = DETECTORS

    kind: Annotated[str, OneOf(DETECTORS)] = "mtcnn"
    """Detector: mtcnn (of facenet-pytorch) or s3fd (of face-alignment)."""

    second: Annotated[str | None, OneOf(DETECTORS, or_none=True)] = None
    """Second detector, which frames.at_least uses in frames where the first does not find the main face."""

    @field_validator("second")
    @classmethod
    def _require_default_options(cls, second: str | None) -> str | None:
        if second is not None:
            validated_options(DETECTORS[second], second, NO_OPTIONS)
        return second

    def for_second(self) -> DetectSettings | None:
        """Return the settings of the second detector; None if there is none."""
        if self.second is None or self.second == self.kind:
            return self if self.second else None
        options = validated_options(DETECTORS[self.second], self.second, NO_OPTIONS)
        return self.model_copy(update={"kind": self.second, "options": options})


class LandmarkSettings(LandmarkerSettings):
    """Landmarks of a track."""

    family: ClassVar[Registry[type[Landmarker]]] = LANDMARKERS

    kind: Annotated[str, OneOf(LANDMARKERS)] = "detector"
    """Landmarks: detector (the five that come with each box), fan (68, by 2D-FAN) or dlib (68, needs the extra `dlib`).
    The default is fan with crop.kind lrw or detect.kind s3fd.
    """


class TrackSettings(Settings):
    """People that are stored, and the coverage that is required."""

    min_coverage: float = Field(0.5, ge=0, le=1)
    """Smallest share of a video's frames (in mode clips: of a clip's) that must show the face; the rest is
    interpolated where max_gap_s allows.
    """

    cut_threshold: Annotated[float, Before(0.0)] = Field(0.2, ge=0, le=1)
    """Difference of two frames, 0 to 1, from which a hard cut between them is looked for and ends all tracks; frames
    are then chosen from the main face's shot; 0: off.
    """

    max_gap_s: Annotated[float | None, Before(None)] = Field(2.0, ge=0)
    """Longest time without the face, seconds, across which boxes and landmarks are interpolated; frames further from
    the face are not stored, and a longer absence ends the track (not with frames.at_least); null: no limit.
    """

    turned: Annotated[Literal["reject", "store"], Before("store")] = "reject"
    """Videos whose main face is found much better with the picture turned by 90, 180 or 270 degrees: reject or store.
    """

    max_tracks: int = Field(1, ge=1, le=99)
    """Largest number of people stored per video: the main person, and then those seen longest, marked bystander."""

    reuse_geometry: bool = False
    """Take boxes, landmarks and frames of a fake from its original, which gives pixel-aligned pairs."""


class CropSettings(AlignerSettings):
    """Alignment and size of the crop."""

    family: ClassVar[Registry[type[Aligner]]] = ALIGNERS

    kind: Annotated[str, OneOf(ALIGNERS)] = "square"
    """Aligner: square (upright, around the box), five_point (five landmarks onto a template) or lrw (68 smoothed
    landmarks onto a mean face).
    """

    template: Annotated[str, OneOf(TEMPLATES)] = "arcface"
    """Template of the aligner five_point."""

    @model_validator(mode="wrap")
    @classmethod
    def _choose_size(cls, values: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Use the aligner's default size if none is given."""
        aligner = _named(ALIGNERS, values)
        if isinstance(values, Mapping) and "size_px" not in values and aligner is not None:
            return _with_implied(handler, values, {"size_px": aligner.default_size_px})
        return handler(values)

    @model_validator(mode="after")
    def _refuse_other_sizes(self) -> CropSettings:
        sizes = ALIGNERS[self.kind].sizes_px
        if sizes and self.size_px not in sizes:
            raise ValueError(f"expected crop.size_px {_either(sizes)} with crop.kind {self.kind}")
        return self


class EncodeSettings(Settings):
    """Image format of the crops."""

    image_format: ImageFormat = "jpeg"
    """Format of stored crops: jpeg (4:4:4), png or webp (lossless)."""

    quality: int = Field(95, ge=1, le=100)
    """JPEG quality, 1 to 100."""


class StageSettings(Settings):
    """Settings of all stages that process a video."""

    frames: FrameSettings = FrameSettings()
    """Choice of the frames of a video."""

    decode: DecodeSettings = DecodeSettings()
    """Decoding of frames."""

    detect: DetectSettings = DetectSettings()
    """Detection of faces."""

    landmark: LandmarkSettings = LandmarkSettings()
    """Landmarks of a track."""

    track: TrackSettings = TrackSettings()
    """People that are stored, and the coverage that is required."""

    crop: CropSettings = CropSettings()
    """Alignment and size of the crop."""

    masks: Literal["none", "difference"] = "none"
    """Masks of fakes whose dataset has no masks: none, or difference (derived from fake and original)."""

    encode: EncodeSettings = EncodeSettings()
    """Image format of the crops."""

    weights_dir: Path | None = None
    """Folder that is searched for weight files before $FACESHARDS_WEIGHTS and torch hub's cache."""

    @model_validator(mode="wrap")
    @classmethod
    def _choose_landmarks(cls, values: object, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Use 2D-FAN's landmarks if no landmarker is named and those of the detector cannot be used."""
        if isinstance(values, Mapping) and "landmark" not in values:
            aligner, detector = _named(ALIGNERS, values.get("crop")), _named(DETECTORS, values.get("detect"))
            fits = aligner is None or _usable(LANDMARKERS[LandmarkSettings().kind], aligner)
            if not (fits and (detector is None or detector.gives_landmarks)):
                return _with_implied(handler, values, {"landmark": {"kind": "fan"}})
        return handler(values)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> StageSettings:
        aligner, landmarker = ALIGNERS[self.crop.kind], LANDMARKERS[self.landmark.kind]
        lacking = [
            kind for kind in (self.detect.kind, self.detect.second) if kind and not DETECTORS[kind].gives_landmarks
        ]
        with_landmarks = _either(name for name, detector in DETECTORS.own.items() if detector.gives_landmarks)
        measuring = _either(name for name, one in LANDMARKERS.own.items() if one.measures)
        usable = _either(name for name, one in LANDMARKERS.own.items() if _usable(one, aligner))
        faults = {
            f"expected landmark.kind {usable}: crop.kind {self.crop.kind} needs {_either(aligner.num_landmarks)} "
            "landmarks": not _usable(landmarker, aligner),
            f"expected detect.kind {with_landmarks}, or landmark.kind {measuring}: {_either(lacking)} gives no "
            "landmarks": not landmarker.measures and lacking,
            f"expected landmark.kind {measuring}: detect.every leaves frames without the detector's landmarks": (
                not landmarker.measures and self.detect.every > 1
            ),
            "expected frames.at_least or track.reuse_geometry: a fake shorter than its original would have fewer": (
                self.track.reuse_geometry and self.frames.at_least > 0
            ),
            f"expected another crop.kind than {self.crop.kind}, which looks at every frame anyway, or no "
            "frames.at_least": aligner.smooths and self.frames.at_least > 0,
        }
        for fault, is_there in faults.items():
            if is_there:
                raise ValueError(fault)
        return self

    @classmethod
    def path_names(cls, values: Mapping[str, object]) -> Iterator[str]:
        """Yield the dotted names of settings in sections that are paths.

        Args:
            values: plain values; options of the implementations that they name may be paths.
        """
        for name, field in cls.model_fields.items():
            section, chosen = field.annotation, values.get(name)
            if isinstance(section, type) and issubclass(section, Choice):
                yield from (f"{name}.{one}" for one in path_fields(section))
                kind = chosen.get(section.chooser) if isinstance(chosen, Mapping) else None
                if isinstance(kind, str) and kind in section.family:
                    yield from (f"{name}.options.{one}" for one in path_fields(section.family[kind].Options))

    def implementations(self) -> dict[type[Implementation], tuple[str, str] | None]:
        """Return the chosen implementations, with (distribution, version) for those from other distributions."""
        detectors = [kind for kind in (self.detect.kind, self.detect.second) if kind is not None]
        families: list[tuple[Family, str]] = [
            (DECODERS, self.decode.backend),
            *((DETECTORS, kind) for kind in detectors),
            (LANDMARKERS, self.landmark.kind),
            (ALIGNERS, self.crop.kind),
        ]
        return {family[kind]: family.origin(kind) for family, kind in families}
