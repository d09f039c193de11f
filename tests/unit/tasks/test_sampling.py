"""Which frames are taken."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sampling import frame_indices


def test_uniform_is_numpy_linspace() -> None:
    expected = np.linspace(0, 337, 32, dtype=int)
    assert np.array_equal(frame_indices("uniform", 338, count=32, stride=1), expected)


@given(st.integers(1, 2000), st.integers(1, 100))
def test_uniform_spans_the_video_without_repeats(num_frames: int, count: int) -> None:
    indices = frame_indices("uniform", num_frames, count=count, stride=1)
    assert indices.dtype == np.int64
    assert len(indices) == min(count, num_frames)
    assert indices[0] == 0
    assert count == 1 or indices[-1] == num_frames - 1
    assert (np.diff(indices) > 0).all()


def test_stride_and_all() -> None:
    assert frame_indices("stride", 10, count=1, stride=4).tolist() == [0, 4, 8]
    assert frame_indices("all", 5, count=1, stride=4).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("mode", "num_frames", "message"), [("random", 5, "got 'random'"), ("all", 0, "got 0")])
def test_what_cannot_be_sampled(mode: str, num_frames: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frame_indices(mode, num_frames, count=1, stride=1)
