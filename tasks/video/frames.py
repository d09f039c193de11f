"""Frame source of a video: any selection of frames and masks, any number of times, in bounded memory.

Frames are read in windows of MAX_WINDOW_BYTES. The usual number of frames fits in one window, which is kept between
detection and cropping. More frames are decoded again in each pass: by one reader that goes forward from window to
window, if the decoder's readers may stay open; else each window from the start of the video, as with decord.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from tasks.decode.decoder import MAX_WINDOW_BYTES, Decoder, PatientReader, VideoReader
from tasks.masks import read_masks
from tasks.media import FRAMES_PER_BATCH, FrameBatch, MaskBatch, Reason, Stage
from tasks.video.job import Tally, TimeLimit, VideoJob
from tasks.video.memory import require_memory
from tasks.video.stages import Stages

BYTES_PER_PIXEL = 3  # RGB
BYTES_PER_MASKED_PIXEL = 8  # RGB of frame and of decoded mask, and the grey mask, twice while it is made

Batch = tuple[FrameBatch, MaskBatch | None]


class FrameSource:
    """Source of one video's frames and masks.

    Args:
        job: the video.
        stages: the decoder for frames and masks, and its time limit in seconds.
        time_limit: guards each call into the decoder.
        tally: counts frames and decoding time.
        max_bytes: size of the frames in memory at once; default: MAX_WINDOW_BYTES.
    """

    def __init__(
        self, job: VideoJob, stages: Stages, time_limit: TimeLimit, tally: Tally, max_bytes: int | None = None
    ) -> None:
        self._job = job
        self._stages, self._decoder = stages, stages.decoder
        self._timeout_s = stages.settings.decode.timeout_s
        self._time_limit = time_limit
        self._tally = tally
        self._max_bytes = max_bytes or MAX_WINDOW_BYTES
        self._mask_path = job.entry.mask_path or job.choice_mask
        self._kept: Batch | None = None

    @property
    def num_frames(self) -> int:
        """Number of frames of the video.

        Raises:
            VideoRejected: it has no frame.
        """
        num_frames = self._job.entry.num_frames
        if not num_frames:
            raise VideoRejected(Stage.DECODE, Reason.SHORT_READ, f"frames: got {num_frames}, expected at least 1")
        return num_frames

    def pts_seconds(self) -> npt.NDArray[np.float64]:
        """(N,) float64 presentation times of all frames of the video, in seconds.

        Raises:
            VideoRejected: the video cannot be opened.
        """
        with self._opened(self._decoder) as reader:
            return reader.pts_seconds

    def batches(self, frame_indices: npt.NDArray[np.int64], *, with_masks: bool = True) -> Iterator[Batch]:
        """Yield these (T,) increasing frames in batches of at most FRAMES_PER_BATCH, in display order.

        Args:
            frame_indices: numbers of the frames.
            with_masks: whether masks are read as well, if the video has masks to store or to choose the main face by.

        Raises:
            VideoRejected: the video cannot be decoded.
        """
        num_frames = self._frames_per_window(with_masks)
        with closing(_ForwardDecoder(self._decoder)) as decoder:
            for start in range(0, len(frame_indices), num_frames):
                frames, masks = self._window(decoder, frame_indices[start : start + num_frames], with_masks)
                window = frames, masks if with_masks else None
                del frames, masks
                for first in range(0, len(window[0]), FRAMES_PER_BATCH):
                    yield rows_of(window, slice(first, first + FRAMES_PER_BATCH))
                del window  # else these frames would stay in memory while the next ones are read

    def _frames_per_window(self, with_masks: bool) -> int:
        return max(1, self._max_bytes // max(1, self._bytes_per_frame(with_masks)))

    def _bytes_per_frame(self, with_masks: bool) -> int:
        has_masks = with_masks and self._mask_path is not None
        bytes_per_pixel = BYTES_PER_MASKED_PIXEL if has_masks else BYTES_PER_PIXEL
        entry = self._job.entry
        return (entry.width or 0) * (entry.height or 0) * bytes_per_pixel

    def _require_memory(self) -> None:
        """Require that the video fits in memory, with its masks.

        Raises:
            VideoRejected: it does not.
        """
        num_frames = min(self._frames_per_window(with_masks=True), self._job.entry.num_frames or 1)
        require_memory(self._job.entry, num_frames * self._bytes_per_frame(with_masks=True), self._stages)

    def _window(self, decoder: Decoder, wanted: npt.NDArray[np.int64], with_masks: bool) -> Batch:
        """Return some frames, decoded in one pass over the file unless all are in memory."""
        lacks_masks = with_masks and self._mask_path is not None and self._kept is not None and self._kept[1] is None
        if self._kept is not None and not lacks_masks:
            kept = self._kept[0].frame_indices
            rows = np.searchsorted(kept, wanted).clip(max=len(kept) - 1)
            if np.array_equal(kept, wanted):
                return self._kept
            if np.array_equal(kept[rows], wanted):
                return rows_of(self._kept, rows)
        self._kept = None  # frees the memory before the next window is read
        self._kept = self._decode(decoder, wanted, with_masks)
        return self._kept

    def _decode(self, decoder: Decoder, wanted: npt.NDArray[np.int64], with_masks: bool) -> Batch:
        """Read some frames and their masks in one pass over the files.

        Raises:
            VideoRejected: the video cannot be decoded.
        """
        with self._opened(decoder) as reader:
            frames = reader.read(wanted)
        masks = self._read_masks(decoder, frames) if with_masks else None
        self._tally.frames_got.update(wanted.tolist())
        return frames, masks

    @contextmanager
    def _opened(self, decoder: Decoder) -> Iterator[VideoReader]:
        """Open the video under the time limit, if it fits in memory and has the probed number of frames."""
        self._require_memory()
        entry = self._job.entry
        with self._guarded(entry.path), decoder.open(self._job.root / entry.path) as reader:
            if reader.num_frames != entry.num_frames:
                raise VideoRejected(
                    Stage.DECODE,
                    Reason.FRAME_COUNT_MISMATCH,
                    f"{entry.path}: got {reader.num_frames} frames, expected {entry.num_frames} as in the manifest",
                )
            yield reader

    @contextmanager
    def _guarded(self, path: str) -> Iterator[None]:
        """Count the time as decoding, limit it, and turn errors of the file system into rejections."""
        with self._tally.timed("decode"), self._time_limit(self._timeout_s):
            try:
                yield
            except OSError as error:  # deleted since it was probed, or without permission to read
                raise VideoRejected(Stage.DECODE, Reason.UNREADABLE, f"{path}: {error.strerror or error}") from error

    def _read_masks(self, decoder: Decoder, frames: FrameBatch) -> MaskBatch | None:
        """Read the frames' masks; if the mask video is broken, there are none, and the video's row has a remark."""
        if self._mask_path is None:
            return None
        try:
            with self._guarded(self._mask_path):
                return read_masks(decoder, self._job.root / self._mask_path, frames)
        except VideoRejected as rejection:
            self._tally.remarks.append(f"mask not used: {rejection.detail}")
            self._mask_path = None
            return None


class _ForwardDecoder(Decoder):
    """Decoder that keeps its reader open for the next pass, if the reader allows it and frame numbers increase.

    Args:
        decoder: opens the videos.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._left_open: dict[Path, PatientReader] = {}

    def open(self, path: Path) -> VideoReader:
        """Open a video, or continue with the open one; leaving the reader closes it only if it must not stay open.

        Raises:
            VideoRejected: the video cannot be opened.
        """
        reader = self._left_open.get(path) or self._decoder.open(path)
        if not isinstance(reader, PatientReader):
            return reader
        self._left_open[path] = reader
        return _Visit(reader)

    def close(self) -> None:
        """Close the open reader, without a time limit, since nothing is decoded."""
        while self._left_open:
            self._left_open.popitem()[1].__exit__(None, None, None)


class _Visit:
    """Context manager around a reader that stays open at the end of the block."""

    def __init__(self, reader: PatientReader) -> None:
        self.num_frames = reader.num_frames
        self.pts_seconds = reader.pts_seconds
        self.read = reader.read

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...


def rows_of(batch: Batch, rows: slice | npt.NDArray[np.int64]) -> Batch:
    """Return some rows; those of a slice are views."""
    frames, masks = batch
    return frames.rows(rows), None if masks is None else MaskBatch(
        data=masks.data[rows], is_present=masks.is_present[rows]
    )
