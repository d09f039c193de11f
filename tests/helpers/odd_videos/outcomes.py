"""Outcome of a file that is probed, opened and read whole, as in processing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.entry import VideoEntry
from manifests.errors import VideoRejected
from manifests.probe.probe import probe
from tasks.decode import DECODERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Every frame of a file by one decoder, or the reason of its rejection."""

    reason: str | None = None
    """Reason of the rejection, `Reason`'s word."""

    detail: str = ""
    """The same for a person."""

    measured: str = ""
    """Frames, size and rate of the manifest."""

    notes: str = ""
    """What the manifest says about the picture."""

    pictures: npt.NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0, 0, 3), np.uint8))
    """(T,H,W,3) RGB."""

    pts_seconds: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """(T,) presentation times."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pictures.shape[2], self.pictures.shape[1]


def frames_or_reason(decoder: str, path: Path) -> Outcome:
    """Probe a file, and read every frame of it by one decoder; number and size must be those of the probe."""
    found = VideoEntry(video_id="odd", path=path.name, dataset="folder", label="real", target_id="0", group_id="0")
    measured = notes = ""
    try:
        entry = probe(path.parent, found)
        measured, notes = f"{entry.num_frames} of {entry.width}×{entry.height}, {entry.fps} fps", entry.picture or ""
        with DECODERS[decoder]().open(path) as reader:
            if reader.num_frames != entry.num_frames:
                return Outcome(
                    reason="frame_count_mismatch", detail=f"{reader.num_frames}", measured=measured, notes=notes
                )
            frames = reader.read(np.arange(reader.num_frames, dtype=np.int64))
    except VideoRejected as rejection:
        return Outcome(reason=rejection.reason.value, detail=rejection.detail, measured=measured, notes=notes)
    assert frames.data.shape[1:3] == (entry.height, entry.width)
    return Outcome(measured=measured, notes=notes, pictures=frames.data, pts_seconds=frames.pts_seconds)
