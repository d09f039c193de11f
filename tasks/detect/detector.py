"""The contract of a face detector, and the settings that detectors read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from tasks.implementation import NO_OPTIONS, Choice, Implementation, Options
from tasks.media import FRAMES_PER_BATCH, FaceDetection, FrameBatch

Score = Annotated[float, Field(ge=0, le=1)]  # a detector's confidence


class DetectorSettings(Choice):
    """Detection of faces."""

    kind: str = "mtcnn"
    """Name of the detector."""

    min_face_px: int = Field(20, ge=12)
    """Smallest face that mtcnn searches for, pixels; changes all boxes, not only the speed."""

    thresholds: tuple[Score, Score, Score] = (0.6, 0.7, 0.7)
    """Lowest accepted scores of P-Net, R-Net and O-Net in mtcnn (facenet-pytorch's defaults)."""

    scale_factor: float = Field(0.709, gt=0.1, lt=1)
    """Scale from one level of mtcnn's pyramid to the next (facenet-pytorch's default)."""

    search: Literal["follow", "full"] = "follow"
    """Search of mtcnn on a CPU. full: every frame is searched in full, as always on a GPU. follow: only the first frame
    of a batch is; the others are searched near known faces, and coarsely for new faces of at least 0.6 of the largest
    one's size.
    """

    s3fd_threshold: float = Field(0.5, gt=0, lt=1)
    """Lowest accepted score of s3fd (face-alignment's default)."""

    max_side_px: int = Field(0, ge=0)
    """Longer side to which frames are shrunk for detector and landmarker, pixels; 0: not shrunk (DFD-FCG: 800)."""

    every: int = Field(1, ge=1, le=FRAMES_PER_BATCH - 1)
    """Run the detector on every n-th frame; in between, boxes are interpolated and landmarks are measured
    (landmark.kind fan or dlib).
    """

    second: str | None = None
    """Name of the second detector."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Device of the networks: auto, cpu, cuda (every GPU) or cuda:N."""

    options: Options = NO_OPTIONS
    """Settings, by name, of a detector that another distribution provides; a second detector of another kind uses its
    defaults.
    """


class FaceDetector(Implementation, ABC):
    """Detector: finds every face in every frame."""

    gives_landmarks: ClassVar[bool] = True
    """Whether each face has the five landmarks of `FaceDetection`; False: none."""

    bytes_per_pixel: ClassVar[int] = 80
    """Memory of the search per pixel of a frame, bytes, on a CPU; a GPU has its own. MTCNN took 24 (1080p), 48 (4K)
    and 78 (8K), since PyTorch keeps memory for each size of picture.
    """

    sure_score: float = 0.0
    """Score that upright faces reach in nearly all frames and turned ones seldom (track.turned); 0: not known."""

    @classmethod
    def from_settings(
        cls, settings: DetectorSettings, *, device: str, weights_dir: Path | None, lenience: float = 1.0
    ) -> Self:
        """Make a detector, by default without any argument.

        Args:
            settings: the section that chose it.
            device: `cpu` or `cuda:N`, for networks.
            weights_dir: where weight files are looked for first; see `tasks/models/weights.py`.
            lenience: factor of every threshold; below 1 for the lower thresholds of `frames.at_least`.

        Raises:
            StageMissing: a package or a weight file is missing.
        """
        del settings, device, weights_dir, lenience
        return cls()

    @abstractmethod
    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        """Return the faces of each of the T frames, the largest first; an empty list for a frame without a face.

        Boxes and landmarks are in pixels of the full frame.
        """
