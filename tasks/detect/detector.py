"""The contract of a face detector; the implementations are in `tasks/detect/`."""

from __future__ import annotations

from typing import Any, Protocol

from tasks.media import FaceDetection, FrameBatch
from tasks.models.requirements import UsesModels


class FaceDetector(UsesModels, Protocol):
    """Finds every face in every frame. Its settings and its `device` are keywords."""

    def __init__(self, **settings: Any) -> None: ...

    def detect(self, frames: FrameBatch) -> list[list[FaceDetection]]:
        """Return the faces of each of the T frames, the largest first; a frame without a face has an empty list.

        Boxes and landmarks are in pixels of the full frame.
        """
        ...
