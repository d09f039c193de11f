"""Frame times of a video from its container, without decoding, and which frames are never shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import VideoRejected
from manifests.rejected import Reason, Stage

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedFrame:
    """One coded frame of the stream."""

    pts_seconds: Fraction
    """Exact presentation time in seconds."""

    is_shown: bool
    """False outside the container's edit list: such a frame is only needed to decode others and is never displayed."""


@contextmanager
def open_video(path: Path, stage: Stage) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its first stream of moving pictures; the cover picture of an audio file does not count.

    Args:
        path: the file.
        stage: the stage that opens it, for the rejection.

    Raises:
        VideoRejected: FFmpeg does not know the format, the file is broken, or it has no such stream.
        OSError: the file system cannot read it.
    """
    import av

    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            moving = (
                stream
                for stream in container.streams.video
                if not stream.disposition & av.stream.Disposition.attached_pic
                and stream.codec_context is not None  # a damaged file may have a stream without a codec
            )
            stream = next(moving, None)
            if stream is None:
                kinds = ", ".join(sorted({stream.type for stream in container.streams}))
                # Without any stream, the index is lost.
                reason = Reason.NO_VIDEO_STREAM if kinds else Reason.NOT_A_VIDEO
                raise VideoRejected(stage, reason, f"{path.name}: got streams ({kinds or 'none'}), expected video")
            stream.codec_context.thread_count = 1
            yield container, stream
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise  # the file system's error, not the video's
        detail = f"{path.name}: got '{error.strerror}' from FFmpeg, expected a video"
        raise VideoRejected(stage, Reason.NOT_A_VIDEO, detail) from error


def coded_frames(container: InputContainer, stream: VideoStream, stage: Stage) -> list[CodedFrame]:
    """Return the stream's frames in display order, read from its packets.

    Raises:
        VideoRejected: the stream does not begin with a key frame, so that its first frames cannot be decoded; or a
            frame has no time.
    """
    # Packets are not kept: together they are as large as the file.
    seen = [
        (packet.dts if packet.pts is None else packet.pts, packet.is_discard, packet.is_keyframe)
        for packet in container.demux(stream)
        if packet.size > 0
    ]
    if seen and not seen[0][2]:
        name = Path(container.name).name
        detail = f"{name}: got a stream that begins without a key frame, expected one; cut it again"
        raise VideoRejected(stage, Reason.TRUNCATED, detail)
    if any(time is None for time, *_ in seen):
        detail = f"{Path(container.name).name}: got frames without a time, expected one each; remux it"
        raise VideoRejected(stage, Reason.NOT_A_VIDEO, detail)
    time_base = stream.time_base or Fraction(0)
    seen.sort(key=lambda packet: packet[0] or 0)
    return [CodedFrame(pts_seconds=(time or 0) * time_base, is_shown=not is_hidden) for time, is_hidden, _ in seen]


def first_frame(container: InputContainer, stream: VideoStream) -> VideoFrame | None:
    """Return the first frame that is shown; None if nothing can be decoded. Seeks in the container.

    Raises:
        FFmpegError: the stream is broken.
    """
    container.seek(0)
    packet = next((packet for packet in container.demux(stream) if packet.size > 0), None)
    if packet is not None and not packet.is_discard:
        # A flushed decoder returns the frame at once; otherwise it waits for later frames to put them in order.
        alone = [*stream.codec_context.decode(packet), *stream.codec_context.decode(None)]
        if alone:
            return alone[0]
    container.seek(0)
    return next(container.decode(stream), None)
