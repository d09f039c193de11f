"""What can be set about each stage. `flows.config` puts these together with dataset, output and runner.

Everything here changes the bytes of records, unless its description says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from storage.images import ImageFormat
from tasks.aligners import ALIGNERS
from tasks.aligners.five_point import TEMPLATES
from tasks.decoders import DECODERS
from tasks.detectors import DETECTORS
from tasks.landmarkers import LANDMARKERS
from tasks.registry import OneOf

Score = Annotated[float, Field(ge=0, le=1)]  # a detector's confidence


class Settings(BaseModel):
    """A section of the configuration: unknown keys are errors, values do not change once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FrameSettings(Settings):
    """Which frames of a video are taken."""

    mode: Literal["uniform", "stride", "all"] = Field(
        "uniform",
        description="uniform: `count` frames evenly over the video; stride: every `stride`-th; all: every one",
    )
    count: int = Field(32, ge=1, description="frames per video in mode uniform; a shorter video gives all it has")
    stride: int = Field(10, ge=1, description="distance of frames in mode stride, frames")


class DecodeSettings(Settings):
    """How frames come out of the file."""

    backend: Annotated[str, OneOf(DECODERS)] = Field("decord", description="decoder: decord, walked forward")
    timeout_s: float = Field(
        120.0,
        gt=0,
        le=86400,
        description="hard limit for one visit of the decoder to a file, seconds; changes no record",
    )


class DetectSettings(Settings):
    """How faces are found."""

    kind: Annotated[str, OneOf(DETECTORS)] = Field("mtcnn", description="detector: mtcnn, facenet-pytorch's")
    min_face_px: int = Field(
        20, ge=12, description="smallest face looked for, pixels; changes every box, not only speed"
    )
    thresholds: tuple[Score, Score, Score] = Field(
        (0.6, 0.7, 0.7), description="lowest scores of P-Net, R-Net and O-Net (facenet-pytorch's own defaults)"
    )
    scale_factor: float = Field(0.709, gt=0.1, lt=1, description="step of the scale pyramid (facenet-pytorch's own)")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda or cuda:N")


class LandmarkSettings(Settings):
    """Where the landmarks of a track come from."""

    kind: Annotated[str, OneOf(LANDMARKERS)] = Field(
        "detector", description="detector: the five landmarks that come with each box"
    )


class TrackSettings(Settings):
    """When the main face is good enough."""

    min_coverage: float = Field(
        0.5, ge=0, le=1, description="least share of sampled frames that must show the main face; others interpolate"
    )


class CropSettings(Settings):
    """How the face is cut out."""

    kind: Annotated[str, OneOf(ALIGNERS)] = Field(
        "square", description="square: upright, around the box; five_point: landmarks onto the template"
    )
    size_px: int = Field(224, ge=16, le=4096, description="side of the crop, pixels (320 for M2TR)")
    margin: float = Field(
        1.3, ge=0.5, le=5, description="side of the square over the face box's longer side, or over the template's side"
    )
    template: Annotated[str, OneOf(TEMPLATES)] = Field("arcface", description="template of the aligner five_point")


class EncodeSettings(Settings):
    """How crops are stored."""

    image_format: ImageFormat = Field("jpeg", description="jpeg (4:4:4), png, or lossless webp")
    quality: int = Field(95, ge=1, le=100, description="JPEG quality")


class StageSettings(Settings):
    """Everything that decides a record's bytes."""

    frames: FrameSettings = FrameSettings()
    decode: DecodeSettings = DecodeSettings()
    detect: DetectSettings = DetectSettings()
    landmark: LandmarkSettings = LandmarkSettings()
    track: TrackSettings = TrackSettings()
    crop: CropSettings = CropSettings()
    encode: EncodeSettings = EncodeSettings()
