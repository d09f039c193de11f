"""The job of one video, and the tally of its counts and times so far."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from manifests.entry import VideoEntry
from manifests.row import ManifestRow

# Seconds → a block that must end within them; `nullcontext` sets no limit, for processes that must not be ended.
TimeLimit = Callable[[float], AbstractContextManager[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoJob:
    """Job of processing one video."""

    root: Path
    """The dataset's folder."""

    entry: VideoEntry
    """The video, probed and with its split."""

    config_digest: str
    """Hex digest of the settings that decide the records' bytes."""

    choice_mask: str | None = None
    """Path of a mask, POSIX, relative to the root: that of a fake of a real video, which shows who is manipulated."""

    relatives_digest: str | None = None
    """Hex digest of what the records depend on in other videos: the original, or the fake that `choice_mask` is of."""

    original: VideoJob | None = None
    """Job of a fake's original, if the dataset has it."""

    geometry_dir: Path | None = None
    """Folder of the geometry of originals, kept for their fakes during a run; None: no fake needs it."""


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts and times of a video so far, whether it is stored or rejected."""

    frames_wanted: set[int] = field(default_factory=set)
    """Indices of the frames that the records need."""

    frames_got: set[int] = field(default_factory=set)
    """Indices of all frames that were decoded."""

    num_faces: int = 0
    """Number of faces detected in all frames together."""

    num_tracks: int = 0
    """People seen."""

    num_interpolated: int = 0
    """Stored frames whose box and landmarks come from neighbouring frames."""

    num_masks: int = 0
    """Stored masks."""

    num_dropped: int = 0
    """Clips that show the face too rarely to be stored."""

    remarks: list[str] = field(default_factory=list)
    """Sentences for the `detail` of the video's row."""

    seconds: dict[str, float] = field(default_factory=dict)
    """Wall time by stage, seconds."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the block's wall time to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def row(self, job: VideoJob) -> ManifestRow:
        """Return the video's row with the facts known so far."""
        return ManifestRow(
            video_id=job.entry.video_id,
            path=job.entry.path,
            entry=job.entry,
            config_digest=job.config_digest,
            relatives_digest=job.relatives_digest,
            detail="; ".join(self.remarks) or None,
            frames_wanted=len(self.frames_wanted),
            frames_got=len(self.frames_got & self.frames_wanted),
            num_interpolated=self.num_interpolated,
            num_faces=self.num_faces,
            num_tracks=self.num_tracks,
            num_masks=self.num_masks,
            num_dropped=self.num_dropped,
            seconds={stage: round(spent, 4) for stage, spent in self.seconds.items()},
        )
