"""Memory that a video needs, before any is allocated: what fits by default, and what is rejected with its numbers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from manifests.errors import VideoRejected
from tasks.decode.decoder import MAX_WINDOW_BYTES, require_window
from tasks.media import Reason, Stage
from tasks.video.frames import FrameSource
from tasks.video.job import Tally
from tasks.video.memory import MEBIBYTE, memory_needed
from tests.helpers.scripted import ScriptedDetector, memory_job, stages


@pytest.mark.parametrize(
    ("size", "most_mebibytes"), [((1280, 720), 512), ((1920, 1080), 768), ((3840, 2160), 2048), ((7680, 4320), 4096)]
)
def test_usual_videos_fit_in_usual_limits(size: tuple[int, int], most_mebibytes: int) -> None:
    entry = memory_job(10_000, width=size[0], height=size[1]).entry
    assert (
        sum(memory_needed(entry, MAX_WINDOW_BYTES, stages(ScriptedDetector([]))).values()) < most_mebibytes * MEBIBYTE
    )


def test_a_video_that_does_not_fit_is_never_opened() -> None:
    job = memory_job(100, width=12_000, height=8_000)  # of a file that is not there
    source = FrameSource(job, stages(ScriptedDetector([]), max_bytes=2048 * MEBIBYTE), nullcontext, Tally())

    with pytest.raises(VideoRejected) as caught:
        list(source.batches(np.arange(100)))
    assert (caught.value.stage, caught.value.reason) == (Stage.DECODE, Reason.TOO_LARGE)
    assert "got 12000×8000 pixels, which need " in caught.value.detail
    assert "expected at most 2,048 (limits.memory_per_worker)" in caught.value.detail


def test_frames_larger_than_probed_are_not_read_together() -> None:
    require_window(Path("mask.mp4"), 1, (8_000, 16_000, 3))
    with pytest.raises(VideoRejected, match="got 2 frames of 16000×8000 pixels") as caught:
        require_window(Path("mask.mp4"), 2, (8_000, 16_000, 3))
    assert caught.value.reason == Reason.TOO_LARGE
