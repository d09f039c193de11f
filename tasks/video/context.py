"""Context of one video in processing: job, loaded stages, frames, and time spent."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property

from tasks.media import FaceTrack
from tasks.settings import StageSettings
from tasks.video.frames import FrameSource
from tasks.video.job import Tally, TimeLimit, VideoJob
from tasks.video.stages import Stages


@dataclass(kw_only=True, eq=False)
class VideoContext:
    """Context of one video while it goes through the stages."""

    job: VideoJob
    """Job of the video."""

    stages: Stages
    """The stages of this worker, loaded, with their settings."""

    time_limit: TimeLimit = nullcontext
    """Time limit around each call of the decoder."""

    tally: Tally = field(default_factory=Tally)
    """Counts and times so far."""

    @property
    def settings(self) -> StageSettings:
        """Settings of the stages."""
        return self.stages.settings

    @cached_property
    def source(self) -> FrameSource:
        """Source of its frames and masks."""
        return FrameSource(self.job, self.stages, self.time_limit, self.tally)

    def original_face(self) -> FaceTrack | None:
        """Return the main face of a fake's original; here there is none."""
        return None

    def of_original(self, original: VideoJob) -> VideoContext:
        """Return the context of its original, whose time is added to this video's."""
        return VideoContext(
            job=original, stages=self.stages, time_limit=self.time_limit, tally=Tally(seconds=self.tally.seconds)
        )
