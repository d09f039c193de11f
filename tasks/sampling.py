"""Which frames of a video are taken."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def frame_indices(mode: str, num_frames: int, *, count: int, stride: int) -> npt.NDArray[np.int64]:
    """Return the (T,) int64 increasing positions of the frames to take, 0-based.

    Args:
        mode: `uniform` takes `count` frames from the first to the last, as
            `numpy.linspace(0, num_frames - 1, count, dtype=int)` places them; `stride` every `stride`-th; `all` each.
        num_frames: length of the video; one shorter than `count` gives each of its frames once.
        count: T of mode `uniform`.
        stride: distance in frames of mode `stride`.

    Raises:
        ValueError: an unknown mode, or a length below 1.
    """
    if num_frames < 1:
        raise ValueError(f"num_frames: got {num_frames}, expected at least 1")
    if mode == "uniform":
        return np.unique(np.linspace(0, num_frames - 1, min(count, num_frames), dtype=np.int64))
    if mode in ("stride", "all"):
        return np.arange(0, num_frames, stride if mode == "stride" else 1, dtype=np.int64)
    raise ValueError(f"mode: got {mode!r}, expected 'uniform', 'stride' or 'all'")
