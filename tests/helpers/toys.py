"""An implementation of each family of stages as a lab would write it, in one module of its own distribution."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from manifests.registry import Registry
from tasks.align import ALIGNERS
from tasks.decode import DECODERS
from tasks.detect import DETECTORS
from tasks.landmarks import LANDMARKERS
from tests.helpers.plugins import install, refresh

# setting that names an implementation → its registry, and the source of a toy called `toy`
FAMILIES: dict[str, Registry[Any]] = {
    "decode.backend": DECODERS,
    "detect.kind": DETECTORS,
    "landmark.kind": LANDMARKERS,
    "crop.kind": ALIGNERS,
}
SOURCES = {
    "decode.backend": """
from tasks.decode.pyav import PyAvDecoder
from tasks.implementation import Settings

class LateDecoder(PyAvDecoder):
    class Options(Settings):
        delay_s: float = 0.0

    def __init__(self, delay_s):
        super().__init__()
        self.delay_s = delay_s

    @classmethod
    def from_settings(cls, settings):
        return cls(settings.options_as(cls.Options).delay_s)

    def open(self, path):
        reader = super().open(path)
        reader.pts_seconds = reader.pts_seconds + self.delay_s
        return reader
""",
    "detect.kind": """
import numpy as np
from pydantic import Field
from tasks.detect.detector import FaceDetector
from tasks.implementation import Settings
from tasks.media import FaceDetection

class CentreDetector(FaceDetector):
    gives_landmarks = False

    class Options(Settings):
        score: float = Field(0.5, ge=0, le=1)

    def __init__(self, score):
        self.score = score

    @classmethod
    def from_settings(cls, settings, *, device, weights_dir, lenience=1.0):
        return cls(settings.options_as(cls.Options).score)

    def detect(self, frames):
        height, width = frames.data.shape[1:3]
        box = np.array([width / 4, height / 4, 3 * width / 4, 3 * height / 4], dtype=np.float32)
        none = np.empty((0, 2), dtype=np.float32)
        return [[FaceDetection(box_xyxy=box, score=self.score, landmarks=none)] for _ in range(len(frames))]
""",
    "landmark.kind": """
import numpy as np
from dataclasses import replace
from tasks.landmarks.landmarker import Landmarker
from tasks.implementation import Settings

class CornerLandmarker(Landmarker):
    num_landmarks = 5

    class Options(Settings):
        shift_px: float = 0.0

    def __init__(self, shift_px):
        self.shift_px = shift_px

    @classmethod
    def from_settings(cls, settings, *, device, weights_dir):
        return cls(settings.options_as(cls.Options).shift_px)

    def locate(self, frames, faces):
        return [[replace(face, landmarks=self.points(face.box_xyxy)) for face in found] for found in faces]

    def points(self, box):
        left, top, right, bottom = box
        corners = [(left, top), (right, top), ((left + right) / 2, (top + bottom) / 2), (left, bottom), (right, bottom)]
        return np.array(corners, dtype=np.float32) + np.float32(self.shift_px)
""",
    "crop.kind": """
from dataclasses import replace
from pathlib import Path
from tasks.align.square import SquareAligner
from tasks.implementation import Settings

class TintedAligner(SquareAligner):
    sizes_px = (48, 64)
    default_size_px = 48

    class Options(Settings):
        tint: Path | None = None

    def __init__(self, size_px, tint):
        super().__init__(size_px, margin=1.0)
        self.grey = int(tint.read_text()) if tint else 0

    @classmethod
    def from_settings(cls, settings):
        return cls(settings.size_px, settings.options_as(cls.Options).tint)

    def align(self, frames, track, masks=None):
        clip = super().align(frames, track, masks)
        return replace(clip, crops=clip.crops * 0 + self.grey)
""",
}
CLASSES = {name: source.partition("\nclass ")[2].partition("(")[0] for name, source in SOURCES.items()}
# Lines of code that an implementation with a setting of its own costs; one line more announces its entry point.
COST = {"decode.backend": 15, "detect.kind": 19, "landmark.kind": 19, "crop.kind": 18}


def lines_of(source: str) -> int:
    """Number of lines that are not blank."""
    return sum(bool(line.strip()) for line in source.splitlines())


def install_toys(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sources: dict[str, str] | None = None, module: str = "labs_own"
) -> None:
    """Install a distribution with toys for these families, by default for all."""
    sources = sources or SOURCES
    entry_points = {FAMILIES[name].group: {"toy": f"{module}:{CLASSES[name]}"} for name in sources}
    install(folder, entry_points, "\n".join(sources.values()), monkeypatch, module)
    for registry in FAMILIES.values():
        refresh(registry, monkeypatch)
