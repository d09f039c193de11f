"""Memory that one video needs in a worker, from its size alone, compared with a limit before any of it is allocated.

    decoder   pictures that FFmpeg holds: those that others may refer to, one that is decoded, one that is returned
    frames    one window of RGB frames, with their masks (`tasks/video/frames.py`)
    search    what the detector makes of one frame
    crops     one batch of crops, with their masks
    times     of all frames

Frames and batches are the same on every machine, and so are the records: the search of a batch begins with a whole
frame. So a video that does not fit is rejected, and not read in smaller batches.
"""

from __future__ import annotations

from manifests.entry import VideoEntry
from manifests.errors import VideoRejected
from tasks.media import FRAMES_PER_BATCH, Reason, Stage
from tasks.video.stages import Stages

MEBIBYTE = 2**20
# Largest number of pictures in H.264's and HEVC's buffer, and of pixels in that of H.264's highest level, 6.2
# (ITU-T H.264, table A-1); the buffers of HEVC and AV1 are smaller.
MAX_REFERENCES = 16
MAX_REFERENCE_PIXELS = 696_320 * 256
OTHER_PICTURES = 2
BYTES_PER_CODED_PIXEL = 3  # 4:4:4 with 8 bits, 4:2:0 with 10; 4:2:0 with 8 bits has half of it
BYTES_PER_CROP_PIXEL = 4  # RGB and mask
BYTES_PER_TIME = 300  # packet, exact time


def memory_needed(entry: VideoEntry, window_bytes: int, stages: Stages) -> dict[str, int]:
    """Return the bytes that a video needs, by use.

    Args:
        entry: the video, with its probed size and number of frames.
        window_bytes: size of one window of its frames and masks.
        stages: the stages that it goes through.
    """
    width, height = entry.width or 0, entry.height or 0
    pixels = width * height
    references = min(MAX_REFERENCES, MAX_REFERENCE_PIXELS // max(1, pixels))
    detect, side = stages.settings.detect, stages.settings.crop.size_px
    scale = min(1.0, detect.max_side_px / max(width, height, 1)) if detect.max_side_px else 1.0
    return {
        "decoder": (references + OTHER_PICTURES) * pixels * BYTES_PER_CODED_PIXEL,
        "frames": window_bytes,
        "search": int(pixels * scale**2 * stages.finder.detector.bytes_per_pixel),
        "crops": FRAMES_PER_BATCH * side**2 * BYTES_PER_CROP_PIXEL,
        "times": (entry.num_frames or 0) * BYTES_PER_TIME,
    }


def require_memory(entry: VideoEntry, window_bytes: int, stages: Stages) -> None:
    """Require that a video fits in the memory that a worker may use for one.

    Raises:
        VideoRejected: it does not.
    """
    if stages.max_bytes is None:
        return
    needed = memory_needed(entry, window_bytes, stages)
    if sum(needed.values()) > stages.max_bytes:
        uses = ", ".join(f"{use} {_in_mebibytes(num_bytes)}" for use, num_bytes in needed.items())
        raise VideoRejected(
            Stage.DECODE,
            Reason.TOO_LARGE,
            f"{entry.path}: got {entry.width}×{entry.height} pixels, which need {_in_mebibytes(sum(needed.values()))} "
            f"MiB ({uses}), expected at most {_in_mebibytes(stages.max_bytes)} (limits.memory_per_worker); raise it, "
            "with fewer runner.workers, or scale the video down",
        )


def _in_mebibytes(num_bytes: int) -> str:
    return f"{num_bytes / MEBIBYTE:,.0f}"
