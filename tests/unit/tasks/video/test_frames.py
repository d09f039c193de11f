"""Windows over a video: what is opened how often, what stays open, and that the time limit covers decoding alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pytest

import tasks.video.frames
from manifests.errors import VideoRejected
from tasks.decode.decoder import Decoder
from tasks.media import FrameBatch, Reason, Stage
from tasks.video.frames import FrameSource
from tasks.video.job import Tally
from tests.helpers.scripted import Footage, ScriptedDetector, memory_job, stages

NUM_FRAMES = 50
WINDOW = 10  # frames


class Watch:
    """What has happened to the files, in order, and whether the time limit is running."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.num_open = 0
        self.is_limited = False

    @contextmanager
    def limit(self, _seconds: float) -> Iterator[None]:
        assert not self.is_limited, "a time limit within a time limit ends the outer one"
        self.is_limited = True
        try:
            yield
        finally:
            self.is_limited = False


class WatchedFootage(Footage):
    """A video that is decoded from the start by each reader."""

    def __init__(self, name: str, watch: Watch, broken_at: int = NUM_FRAMES) -> None:
        super().__init__(NUM_FRAMES)
        self._name, self._watch, self._broken_at = name, watch, broken_at
        watch.num_open += 1
        watch.events.append(f"open {name}")
        assert watch.is_limited

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        assert self._watch.is_limited
        self._watch.events.append(f"read {self._name}")
        if frame_indices[-1] >= self._broken_at:
            raise VideoRejected(Stage.DECODE, Reason.DECODE_ERROR, self._name)
        return super().read(frame_indices)

    def __exit__(self, *exc_info: object) -> None:
        self._watch.num_open -= 1


class PatientFootage(WatchedFootage):
    """A video whose reader may stay open."""

    may_stay_open: Literal[True] = True


class WatchedDecoder(Decoder):
    def __init__(self, kind: type[WatchedFootage], watch: Watch, **broken_at: int) -> None:
        self._kind, self._watch, self._broken_at = kind, watch, broken_at

    def open(self, path: Path) -> WatchedFootage:
        return self._kind(path.stem, self._watch, self._broken_at.get(path.stem, NUM_FRAMES))


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    pixels = 320 * 240
    monkeypatch.setattr(tasks.video.frames, "MAX_WINDOW_BYTES", WINDOW * pixels * tasks.video.frames.BYTES_PER_PIXEL)
    monkeypatch.setattr(tasks.video.frames, "BYTES_PER_MASKED_PIXEL", tasks.video.frames.BYTES_PER_PIXEL)
    return Watch()


def source(decoder: WatchedDecoder, watch: Watch, **changes: Any) -> FrameSource:
    return FrameSource(memory_job(NUM_FRAMES, **changes), stages(ScriptedDetector([]), decoder), watch.limit, Tally())


EVERY_FRAME = np.arange(NUM_FRAMES, dtype=np.int64)


@pytest.mark.parametrize(("kind", "num_visits"), [(PatientFootage, 1), (WatchedFootage, NUM_FRAMES // WINDOW)])
def test_a_reader_that_may_stay_open_is_opened_once_for_all_windows(
    watch: Watch, kind: type[WatchedFootage], num_visits: int
) -> None:
    frames = source(WatchedDecoder(kind, watch), watch)
    seen = []
    for batch, _ in frames.batches(EVERY_FRAME):
        assert not watch.is_limited
        assert watch.num_open == (kind is PatientFootage)
        seen += batch.frame_indices.tolist()
        assert (batch.data[:, 0, 0, 0] == batch.frame_indices).all()
    assert seen == EVERY_FRAME.tolist()
    assert watch.events.count("open fake") == num_visits
    assert watch.events.count("read fake") == NUM_FRAMES // WINDOW
    assert watch.num_open == 0


def test_a_mask_video_goes_forward_beside_its_video(watch: Watch) -> None:
    frames = source(WatchedDecoder(PatientFootage, watch), watch, mask_path="mask.mp4")
    for batch, masks in frames.batches(EVERY_FRAME):
        assert masks is not None
        assert (masks.data[:, 0, 0] == batch.frame_indices).all()
    assert (watch.events.count("open fake"), watch.events.count("open mask")) == (1, 1)
    assert watch.num_open == 0


def test_each_pass_begins_anew(watch: Watch) -> None:
    frames = source(WatchedDecoder(PatientFootage, watch), watch)
    for _ in range(2):
        assert sum(len(batch) for batch, _ in frames.batches(EVERY_FRAME)) == NUM_FRAMES
    assert (watch.events.count("open fake"), watch.num_open) == (2, 0)


def test_one_window_is_decoded_once_for_all_passes(watch: Watch) -> None:
    frames = source(WatchedDecoder(PatientFootage, watch), watch)
    for _ in range(2):
        assert sum(len(batch) for batch, _ in frames.batches(EVERY_FRAME[::5])) == WINDOW
    assert watch.events == ["open fake", "read fake"]


@pytest.mark.parametrize("kind", [PatientFootage, WatchedFootage])
@pytest.mark.parametrize("end", ["fault", "abandoned", "interrupted"])
def test_nothing_stays_open_whatever_happens(watch: Watch, kind: type[WatchedFootage], end: str) -> None:
    frames = source(WatchedDecoder(kind, watch, fake=35), watch)
    batches = frames.batches(EVERY_FRAME)
    if end == "fault":
        with pytest.raises(VideoRejected, match="fake"):
            list(batches)
    elif end == "abandoned":
        next(batches)
        del batches
    else:
        next(batches)
        with suppress(KeyboardInterrupt):
            batches.throw(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert (watch.num_open, watch.is_limited) == (0, False)


def test_a_mask_video_that_breaks_on_the_way_costs_the_masks(watch: Watch) -> None:
    frames = source(WatchedDecoder(PatientFootage, watch, mask=25), watch, mask_path="mask.mp4")
    with_masks = [masks is not None for _, masks in frames.batches(EVERY_FRAME)]
    assert with_masks == [True, True, False, False, False]
    assert watch.num_open == 0
