"""The corpus of odd videos: the default decoder gives the frames that a player shows, decord the same or a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.odd_videos.corpus import corpus
from tests.helpers.odd_videos.making import number_of
from tests.helpers.odd_videos.outcomes import frames_or_reason

CORPUS = corpus()
# Files of many kinds that decord must read: if it rejected everything, nothing would be compared.
SECOND_OPINIONS = [
    *("H.264 B in mp4", "HEVC B in mkv", "MPEG-4 in avi", "MPEG-2 B in mpg", "VP9 in webm", "MJPEG in avi"),
    *("turned by 90", "hidden by an edit list, B", "edit list: two parts", "variable rate in mkv", "interlaced"),
]
# Colours of 10-bit and of interlaced pictures are interpolated otherwise by decord's older FFmpeg.
ROUNDED, MEAN_LEVELS = ("10le", "interlaced"), 1.0


def test_the_corpus_is_large() -> None:
    assert len(CORPUS) >= 120


@pytest.mark.parametrize("name", CORPUS)
def test_both_decoders_give_the_frames_or_a_reason(tmp_path: Path, name: str) -> None:
    odd = CORPUS[name]
    path = odd.make(tmp_path)
    ours, decord = frames_or_reason("pyav", path), frames_or_reason("decord", path)
    if odd.refused:
        assert ours.reason in odd.refused, ours
        assert decord.reason or not odd.is_whole
    if odd.is_whole and not odd.refused:
        assert ours.reason is None, ours
    if ours.reason is not None:
        return
    assert tuple(number_of(picture, odd.tolerance) for picture in ours.pictures) == odd.numbers
    assert ours.size == odd.size
    assert all(note in ours.notes for note in odd.notes), ours.notes
    assert np.all(np.diff(ours.pts_seconds) >= 0)
    assert decord.reason is None or name not in SECOND_OPINIONS, decord
    if decord.reason is None:
        difference = np.abs(ours.pictures.astype(int) - decord.pictures)
        assert difference.mean() <= (MEAN_LEVELS if any(word in ours.notes for word in ROUNDED) else 0)
