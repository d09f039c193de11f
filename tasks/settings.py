"""What can be set about each stage. `flows.config.preprocess` puts these together with dataset, output and runner.

Everything here changes the bytes of records, unless its description says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ModelWrapValidatorHandler, model_validator

from storage.format.images import ImageFormat
from tasks.align import ALIGNERS
from tasks.align.five_point import TEMPLATES
from tasks.align.lrw import REGIONS
from tasks.decode import DECODERS
from tasks.detect import DETECTORS
from tasks.landmarks import LANDMARKERS
from tasks.registry import OneOf

FRAMES_PER_BATCH = 32  # frames that are looked at together
DEFAULT_CROP_PX = 224  # ImageNet's, which most networks take
DEFAULT_LRW_CROP_PX = 150  # the face, as in DFD-FCG

Model = TypeVar("Model", bound=BaseModel)
Score = Annotated[float, Field(ge=0, le=1)]  # a detector's confidence


class Settings(BaseModel):
    """A section of the configuration: unknown keys are errors, values do not change once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True)
class Before:
    """Annotation of a setting: the value that a store was made with which is older than the setting.

    Needed only where the default differs from what was done before the setting existed.
    """

    value: object
    """The value, of the setting's own type."""


class FrameSettings(Settings):
    """Which frames of a video are taken."""

    mode: Literal["uniform", "stride", "all", "clips"] = "uniform"
    """uniform: `count` frames evenly over the video; stride: every `stride`-th; all: every one; clips: records of
    `clip_frames` frames each.
    """

    count: int = Field(32, ge=1)
    """Frames per video in mode uniform; a shorter video gives all it has."""

    stride: int = Field(10, ge=1)
    """Distance of frames in mode stride, frames."""

    clip_seconds: float = Field(3.0, gt=0, le=3600)
    """Length of a clip, seconds (2–4 in DFD-FCG)."""

    clip_frames: int = Field(10, ge=2)
    """Frames taken evenly of a clip: T of its record."""

    short_video: Literal["pad", "reject"] = "pad"
    """A video shorter than a clip: pad repeats its last frame; reject drops it, with the reason."""

    at_least: int = Field(0, ge=0)
    """In place of `count`: frames with a face that a video must give, looked for until found; 0: off."""

    max_visits: int = Field(128, ge=1)
    """Frames looked at for `at_least` before lower thresholds and the rest are tried."""

    @model_validator(mode="after")
    def _refuse_quota_elsewhere(self) -> FrameSettings:
        if self.at_least and self.mode != "uniform":
            raise ValueError("expected frames.at_least with frames.mode uniform only")
        return self


class DecodeSettings(Settings):
    """How frames come out of the file."""

    backend: Annotated[str, OneOf(DECODERS)] = "decord"
    """decoder: decord, walked forward; pyav, which decodes only what the wanted frames need."""

    timeout_s: float = Field(120.0, gt=0, le=86400)
    """Hard limit for one visit of the decoder to a file, seconds; changes no record."""


class DetectSettings(Settings):
    """How faces are found."""

    kind: Annotated[str, OneOf(DETECTORS)] = "mtcnn"
    """detector: mtcnn, facenet-pytorch's; s3fd, face-alignment's."""

    min_face_px: int = Field(20, ge=12)
    """Smallest face looked for, pixels; changes every box, not only speed."""

    thresholds: tuple[Score, Score, Score] = (0.6, 0.7, 0.7)
    """Lowest scores of P-Net, R-Net and O-Net (facenet-pytorch's own defaults)."""

    scale_factor: float = Field(0.709, gt=0.1, lt=1)
    """Step of the scale pyramid (facenet-pytorch's own)."""

    search: Literal["follow", "full"] = "follow"
    """Mtcnn on a CPU. follow: the first frame of a batch is searched in full, others near known faces, and at a glance
    for new ones of 0.6 of the largest's size or more; full: every frame, as on a GPU.
    """

    s3fd_threshold: float = Field(0.5, gt=0, lt=1)
    """Lowest score of s3fd (face-alignment's own)."""

    max_side_px: int = Field(0, ge=0)
    """Frames are shrunk to this long side for detector and landmarker; 0: not (DFD-FCG: 800)."""

    every: int = Field(1, ge=1, le=FRAMES_PER_BATCH - 1)
    """Detect in every n-th of the frames looked at; between them boxes are interpolated, and landmarks measured:
    landmark.kind fan or dlib.
    """

    second: Annotated[str | None, OneOf(DETECTORS, or_none=True)] = None
    """Second detector, a rung of the ladder of frames.at_least."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Auto, cpu, cuda or cuda:N."""


class LandmarkSettings(Settings):
    """Where the landmarks of a track come from."""

    kind: Annotated[str, OneOf(LANDMARKERS)] = "detector"
    """detector: the five landmarks that come with each box; fan: 2D-FAN, 68; dlib: 68, needs the extra; fan where lrw
    or s3fd are asked for, and nothing else is.
    """


class TrackSettings(Settings):
    """Whose face is stored, and when it is good enough."""

    min_coverage: float = Field(0.5, ge=0, le=1)
    """Least share of a video's frames (in mode clips: of each clip's) that must show the face; others interpolate."""

    max_tracks: int = Field(1, ge=1, le=99)
    """People stored of a video: the main face, marked, and the longest of the others."""

    reuse_geometry: bool = False
    """Take boxes, landmarks and frames of a fake from its original: pixel-aligned pairs."""


class CropSettings(Settings):
    """How the face is cut out."""

    kind: Annotated[str, OneOf(ALIGNERS)] = "square"
    """square: upright, around the box; five_point: landmarks onto the template; lrw: 68 landmarks, smoothed, onto a
    mean face.
    """

    size_px: int = Field(DEFAULT_CROP_PX, ge=16, le=4096)
    """Side of the crop, pixels (320 for M2TR); of lrw 150 (the face, its default) or 96 (the mouth)."""

    margin: float = Field(1.3, ge=0.5, le=5)
    """Side of the square over the face box's longer side, or over the template's side."""

    template: Annotated[str, OneOf(TEMPLATES)] = "arcface"
    """Template of the aligner five_point."""

    mean_face: Path | None = None
    """A .npy file with another (68, 2) mean face for lrw."""

    strict: bool = False
    """Lrw as DFD-FCG does it: black frames without a face, coverage of at least 0.9."""

    @model_validator(mode="wrap")
    @classmethod
    def _choose_size(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """An aligner that knows its own size gets it where none is asked for."""
        if isinstance(values, Mapping) and values.get("kind") == "lrw" and "size_px" not in values:
            return _with_implied(handler, values, {"size_px": DEFAULT_LRW_CROP_PX})
        return handler(values)

    @model_validator(mode="after")
    def _refuse_other_sizes(self) -> CropSettings:
        if self.kind == "lrw" and self.size_px not in REGIONS:
            raise ValueError(f"expected crop.size_px {' or '.join(map(str, REGIONS))} with crop.kind lrw")
        return self


class EncodeSettings(Settings):
    """How crops are stored."""

    image_format: ImageFormat = "jpeg"
    """Jpeg (4:4:4), png, or lossless webp."""

    quality: int = Field(95, ge=1, le=100)
    """JPEG quality."""


class StageSettings(Settings):
    """Everything that decides a record's bytes."""

    frames: FrameSettings = FrameSettings()
    decode: DecodeSettings = DecodeSettings()
    detect: DetectSettings = DetectSettings()
    landmark: LandmarkSettings = LandmarkSettings()
    track: TrackSettings = TrackSettings()
    crop: CropSettings = CropSettings()
    masks: Literal["none", "difference"] = "none"
    """Of fakes whose dataset has no masks: none, or the difference from their originals."""

    encode: EncodeSettings = EncodeSettings()
    weights_dir: Path | None = None
    """Folder with weight files; else $FACESHARDS_WEIGHTS, and torch hub's cache."""

    @model_validator(mode="wrap")
    @classmethod
    def _choose_landmarks(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """What needs 68 landmarks, or a detector that gives none, gets 2D-FAN's where no other are asked for."""
        if isinstance(values, Mapping) and "landmark" not in values:
            needs_more = _kind_of(values.get("crop")) == "lrw" or _kind_of(values.get("detect")) == "s3fd"
            if needs_more:
                return _with_implied(handler, values, {"landmark": {"kind": "fan"}})
        return handler(values)

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> StageSettings:
        has_five = self.landmark.kind == "detector"
        faults = {
            "expected landmark.kind fan or dlib: crop.kind lrw needs 68 landmarks": (
                has_five and self.crop.kind == "lrw"
            ),
            "expected detect.kind mtcnn, or landmark.kind fan or dlib: s3fd gives no landmarks": (
                has_five and "s3fd" in (self.detect.kind, self.detect.second)
            ),
            "expected landmark.kind fan or dlib: detect.every leaves frames without the detector's landmarks": (
                has_five and self.detect.every > 1
            ),
            "expected frames.at_least or track.reuse_geometry: a fake shorter than its original would have fewer": (
                self.track.reuse_geometry and self.frames.at_least > 0
            ),
            "expected another crop.kind than lrw, which looks at every frame anyway, or no frames.at_least": (
                self.crop.kind == "lrw" and self.frames.at_least > 0
            ),
        }
        for fault, is_there in faults.items():
            if is_there:
                raise ValueError(fault)
        return self


def _with_implied(
    handler: ModelWrapValidatorHandler[Model], values: Mapping[str, Any], implied: dict[str, Any]
) -> Model:
    """Return the validated section with values that follow from others; the user has not named them."""
    section = handler({**values, **implied})
    section.model_fields_set.difference_update(implied)
    return section


def _kind_of(section: Any) -> Any:
    """The kind that a section asks for, given as values or as a model."""
    return section.get("kind") if isinstance(section, Mapping) else getattr(section, "kind", None)
