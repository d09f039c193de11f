"""Memory that is used again."""

from __future__ import annotations

import numpy as np
import torch

from tasks.decode.frame_memory import FrameMemory


def address(values: np.ndarray) -> int:
    return int(values.__array_interface__["data"][0])


def test_memory_is_used_again_once_it_is_free() -> None:
    memory = FrameMemory()
    first = memory.take((4, 5, 6, 3))
    assert first.shape == (4, 5, 6, 3)
    place = address(first)
    del first
    smaller = memory.take((2, 5, 6, 3))
    assert address(smaller) == place


def test_memory_that_somebody_holds_is_left_alone() -> None:
    memory = FrameMemory()
    frames = memory.take((4, 5, 6, 3))
    frames[:] = 1
    part = frames[1:3][:, ::-1]
    tensor = torch.from_numpy(frames[3])
    del frames
    memory.take((4, 5, 6, 3))[:] = 2
    assert (part == 1).all()
    del part
    memory.take((4, 5, 6, 3))[:] = 3
    assert (tensor == 1).all()


def test_more_is_taken_where_more_is_wanted() -> None:
    memory = FrameMemory()
    memory.take((1, 5, 6, 3))
    large = memory.take((9, 5, 6, 3))
    large[:] = 7
    assert large.size == 810
