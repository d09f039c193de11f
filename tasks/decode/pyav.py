"""Decoder `pyav`: PyAV with a decode plan, so that only the packets which the wanted frames need are decoded.

A first pass over the packets, without decoding, finds the order of display (their sorted times) and the purpose of each
(`manifests/probe/packets.py`). A second pass goes forward, without a seek:

    decoded       the very first packet, since only it tells FFmpeg that an old x264 wrote FaceForensics++;
                  wanted frames, and all frames of their group of pictures that they may refer to
    skipped       groups without a wanted frame, the rest of a group after its last wanted frame,
                  and unwanted frames that no other frame refers to
    converted     wanted frames only

Every result is checked: frames must come out in the order of the decoded packets, none missing, none damaged
(`tasks/decode/packet_feed.py`); a wanted frame counts only when all frames that were decoded before it are correct. If
this fails, or if the times do not tell the order, the whole file is decoded to find damaged frames and to count, and
read again by counting. Damage in packets that are skipped is not found, and is in no record.

It does not use a GPU: FaceForensics++ is H.264 4:4:4, which NVDEC does not support.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, cast

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from manifests.probe.container import coded_stream, open_video
from manifests.probe.picture import Layout, layout_of
from tasks.decode.decoder import Decoder, require_forward, require_window
from tasks.decode.frame_memory import FrameMemory
from tasks.decode.packet_feed import Fault, PacketFeed, all_frames, require_sound
from tasks.decode.packets import HIDDEN, DecodePlan, plan_of
from tasks.decode.rgb import OddAngle, RgbConverter
from tasks.media import FrameBatch, Reason, Stage

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

# Containers that hold the time of each frame (FFmpeg's first name of each); for others FFmpeg guesses the times.
TIMED_FORMATS = {"mov", "matroska", "mpegts", "flv"}


class PyAvDecoder(Decoder):
    """Decoder `pyav`, with one thread."""

    def __init__(self) -> None:
        self._memory = FrameMemory()

    def open(self, path: Path) -> PyAvReader:
        """Open a video.

        Raises:
            VideoRejected: the video cannot be opened, or holds fewer frames than its index lists.
        """
        with open_video(path, Stage.DECODE) as (container, stream):
            layout = layout_of(container, stream, Stage.DECODE)
            coded = coded_stream(container, stream, Stage.DECODE)
            # Only MP4 lists every packet; packets before its edit list are not in this index.
            num_promised = len(stream.index_entries) if "mp4" in container.format.name else 0
            if num_promised > len(coded.packets):
                detail = (
                    f"{path.name}: got {len(coded.packets)} frames, expected {num_promised} as its index says; "
                    "copy it again"
                )
                raise VideoRejected(Stage.DECODE, Reason.TRUNCATED, detail)
            plan = plan_of(
                coded.packets,
                is_reordered=stream.codec_context.has_b_frames,
                has_times=container.format.name.split(",")[0] in TIMED_FORMATS,
            )
        if plan is not None and len(plan.packets) != len(coded.times):
            plan = None  # packets do not tell how many frames they show
        pts_seconds = np.array([float(time) for time in coded.times], dtype=np.float64)
        return PyAvReader(path, plan, pts_seconds, layout, self._memory)


class PyAvReader:
    """One open video, read forward.

    Args:
        path: the file.
        plan: purpose of its packets; None to decode all of them and count.
        pts_seconds: (N,) float64 exact presentation times of the frames that are shown.
        layout: what the container says about the picture.
        memory: memory for the frames that are returned.
    """

    may_stay_open: Literal[True] = True
    """Marker: nothing is decoded while nothing is read."""

    def __init__(
        self,
        path: Path,
        plan: DecodePlan | None,
        pts_seconds: npt.NDArray[np.float64],
        layout: Layout,
        memory: FrameMemory,
    ) -> None:
        self.num_frames = len(pts_seconds)
        self.pts_seconds = pts_seconds
        self._path = path
        self._plan = plan
        self._walk: _PlannedWalk | _CountedWalk | None = None
        self._position = 0  # earlier frames can no longer be requested
        self._shape: tuple[int, ...] | None = None  # (H,W,3) of the first picture
        self._memory = memory
        self._rgb = RgbConverter(layout)

    def read(self, frame_indices: npt.NDArray[np.int64]) -> FrameBatch:
        """Return exactly these frames, (T,H,W,3) uint8 RGB.

        Raises:
            VideoRejected: the stream is broken.
            ValueError: a frame is before the one that was read last, or after the end.
        """
        require_forward(self._path, frame_indices, self._position, self.num_frames)
        try:
            data = self._take(frame_indices)
        except Fault as fault:
            detail = f"{self._path.name}: got {fault}, expected whole frames; copy or convert it again"
            raise VideoRejected(Stage.DECODE, Reason.DECODE_ERROR, detail) from fault
        self._position = int(frame_indices[-1]) + 1
        return FrameBatch(data=data, frame_indices=frame_indices, pts_seconds=self.pts_seconds[frame_indices])

    def _take(self, frame_indices: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
        """Return the pictures by the plan, or by counting if there is no plan or it turns out to be wrong.

        Raises:
            Fault: the stream is broken.
        """
        if self._plan is not None:
            try:
                self._walk = self._walk or _PlannedWalk(self._path, self._plan)
                return self._pictures(self._walk, frame_indices)
            except Fault:
                self._close()
                self._plan = None
        self._walk = self._walk or _CountedWalk(self._path, self.pts_seconds)
        return self._pictures(self._walk, frame_indices)

    def _pictures(
        self, walk: _PlannedWalk | _CountedWalk, frame_indices: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.uint8]:
        """Convert these (T,) frames to (T,H,W,3) uint8 RGB.

        Raises:
            Fault: a frame does not come, or its size differs from that of the first.
        """
        data = np.empty((0, 0, 0, 3), dtype=np.uint8)
        num_found = 0
        with _errors_as_faults():
            for frame in walk.frames(frame_indices):
                shape = self._rgb.shape_of(frame)
                self._shape = self._shape or shape
                if shape != self._shape:
                    raise Fault(f"a frame of {shape[:2]} pixels (H,W) after one of {self._shape[:2]}")
                if num_found == 0:
                    require_window(self._path, len(frame_indices), shape)
                    data = self._memory.take((len(frame_indices), *shape))
                self._rgb.write(frame, data[num_found])
                num_found += 1
        if num_found < len(frame_indices):
            raise Fault(f"no frame {frame_indices[num_found]}")
        return data

    def _close(self) -> None:
        if self._walk is not None:
            self._walk.close()
        self._walk = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._close()


@contextmanager
def _errors_as_faults() -> Iterator[None]:
    """Turn FFmpeg's errors into faults of the stream."""
    import av

    try:
        yield
    except av.error.FFmpegError as error:
        raise Fault(f"'{error.strerror}'") from error
    except OddAngle as error:
        raise Fault(str(error)) from error


class _PlannedWalk:
    """A walk that decodes the packets of the plan, and compares the frames that come out with it."""

    def __init__(self, path: Path, plan: DecodePlan) -> None:
        self._feed = PacketFeed(path)
        self._plan = plan
        self._pending: list[tuple[int, int]] = []  # heap of (number, packet) of frames that are still in the decoder
        self._ready: deque[tuple[int, VideoFrame]] = deque()  # (number, frame) of frames that came out early

    def frames(self, frame_indices: npt.NDArray[np.int64]) -> Iterator[VideoFrame]:
        """Yield exactly these (T,) increasing frames, and end when all frames decoded before them are correct.

        They are valid only then: a fault in frames that they refer to may be found later.
        """
        is_needed = self._plan.needed(frame_indices)
        last_packet = int(self._plan.packets[frame_indices].max())
        wanted = set(frame_indices.tolist())
        while True:
            while self._ready and self._ready[0][0] <= frame_indices[-1]:
                number, frame = self._ready.popleft()
                if number in wanted:
                    yield frame
            if self._feed.place > last_packet and all(packet > last_packet for _, packet in self._pending):
                if self._feed.marked:
                    raise Fault("packets marked corrupt")
                return
            self._advance(is_needed)

    def _advance(self, is_needed: npt.NDArray[np.bool_]) -> None:
        """Decode the next packet that is needed; each frame must be the first in display order of all that are due.

        Raises:
            Fault: a packet or frame is damaged, or another frame comes out.
        """
        self._feed.skip(is_needed)
        place = self._feed.place
        if self._feed.is_over:
            raise Fault(f"no frame {self._pending[0][0]}" if self._pending else "an early end")
        if place < len(is_needed) and self._plan.numbers[place] != HIDDEN:
            heapq.heappush(self._pending, (int(self._plan.numbers[place]), place))
        frames = self._feed.decode()
        if self._feed.damaged_times:
            raise Fault("damage")
        for frame in frames:
            number = self._plan.number_of_pts.get(cast("int", frame.pts))
            if not self._pending or number != heapq.heappop(self._pending)[0]:
                raise Fault("frames out of order")
            self._ready.append((number, frame))

    def close(self) -> None:
        """Free the decoder and close the file."""
        self._ready.clear()
        self._feed.close()


class _CountedWalk:
    """A walk that decodes everything and numbers the frames, after a check that all of them come out.

    Raises:
        Fault: the stream is broken, or its number of frames differs from that in its container.
    """

    def __init__(self, path: Path, pts_seconds: npt.NDArray[np.float64]) -> None:
        with _errors_as_faults():
            require_sound(path, pts_seconds)
        self._frames = enumerate(all_frames(path))

    def frames(self, frame_indices: npt.NDArray[np.int64]) -> Iterator[VideoFrame]:
        """Yield exactly these (T,) increasing frames."""
        wanted = set(frame_indices.tolist())
        for number, frame in self._frames:
            if number in wanted:
                yield frame
            if number == frame_indices[-1]:
                return

    def close(self) -> None:
        """Free the decoder and close the file."""
        self._frames = enumerate(())
