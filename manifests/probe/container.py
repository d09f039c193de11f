"""Packets of a video and times of its frames, from its container."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.errors import VideoRejected
from manifests.probe.ffmpeg_log import Lines, log_lines
from manifests.probe.opening import (
    MAX_PIXELS,
    SECONDS_PER_CALL,
    CountingTime,
    limits_broken,
    open_container,
    require_few,
    too_large,
)
from manifests.probe.packets import CodedPacket, reader_of
from manifests.probe.shown_stream import shown_stream
from manifests.rejected import Reason, Stage

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MAX_RATE_RATIO = 2  # of the average rate to the rate that holds all times, which may count frames of two fields
# Lines of FFmpeg's log by which its readers of containers say that they leave a part out.
LOST_PARTS = re.compile(
    "invalid as first byte of an EBML number|exceeds containing master element|"
    "Something went wrong during header parsing|checksum mismatch|CRC mismatch"
)
PROGRESSIVE = 1  # FFmpeg's AVFieldOrder: 0 is unknown, and above are orders of two fields


@dataclass(frozen=True, slots=True, kw_only=True)
class CodedStream:
    """The packets of a stream, and the frames that a player shows of them."""

    packets: tuple[CodedPacket, ...]
    """In decoding order."""

    times: tuple[Fraction, ...]
    """Exact presentation times of the frames that are shown, in display order, seconds."""


@contextmanager
def open_video(path: Path, stage: Stage) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and the stream of moving pictures that a player shows.

    Args:
        path: the file.
        stage: the stage that opens it, for the rejection.

    Raises:
        VideoRejected: FFmpeg does not know the format, the file is broken, it leads to other files, it has no such
            stream, or its pictures are too large.
        OSError: the file system cannot read it.
    """
    import av

    lines: Lines = []
    try:
        with ExitStack() as closing:
            with _whole_container(path.name, stage) as lines:
                container = closing.enter_context(open_container(path))
                stream = shown_stream(path, container)
            if stream is None:
                kinds = ", ".join(sorted({stream.type for stream in container.streams}))
                # Without any stream, the index is lost.
                reason = Reason.NO_VIDEO_STREAM if kinds else Reason.NOT_A_VIDEO
                raise VideoRejected(stage, reason, f"{path.name}: got streams ({kinds or 'none'}), expected video")
            decoder = stream.codec_context
            if decoder.width * decoder.height > MAX_PIXELS:
                raise too_large(path, stage, decoder.width, decoder.height)
            decoder.thread_count = 1
            decoder.options = {**decoder.options, "max_pixels": str(MAX_PIXELS)}
            yield container, stream
    except av.error.ExitError as error:
        detail = f"{path.name}: got no answer of FFmpeg within {SECONDS_PER_CALL:g} s, expected one; copy it again"
        raise VideoRejected(stage, Reason.DECODE_TIMEOUT, detail) from error
    except av.error.FFmpegError as error:
        if isinstance(error, OSError):
            raise  # the file system's error, not the video's
        if rejection := limits_broken(path, stage, lines):
            raise rejection from error
        detail = f"{path.name}: got '{error.strerror}' from FFmpeg, expected a video"
        raise VideoRejected(stage, Reason.NOT_A_VIDEO, detail) from error


@contextmanager
def _whole_container(name: str, stage: Stage) -> Iterator[Lines]:
    """Require that FFmpeg leaves out no part of a container that it reads in the meantime; yield the lines of its log.

    Raises:
        VideoRejected: it does.
    """
    import av

    with log_lines(av.logging.WARNING) as lines:
        yield lines
    for *_, text in lines:
        if LOST_PARTS.search(text):
            detail = f"{name}: got '{text.strip()}' from FFmpeg, expected a whole container; copy it again"
            raise VideoRejected(stage, Reason.DECODE_ERROR, detail)


def coded_stream(container: InputContainer, stream: VideoStream, stage: Stage) -> CodedStream:
    """Return the stream's packets and the times of its frames.

    Where packets do not tell how many frames they show, the stream is decoded to count them: two fields may be coded
    as one packet each, a packet may hold no picture, and a video may begin with pictures that refer to missing ones.

    Raises:
        VideoRejected: the stream does not begin with a key frame, so that its first frames cannot be decoded; FFmpeg
            leaves out a part of the container; or it has too many packets, or too many frames to decode for counting.
    """
    path, num_read = Path(container.name), 0
    decoder = stream.codec_context
    use_of = reader_of(decoder.codec.canonical_name, bytes(decoder.extradata or b""))
    packets: list[CodedPacket] = []
    seen: list[int | None] = []  # times of the packets that are shown
    with _whole_container(path.name, stage):
        # Packets are not kept: together they are as large as the file.
        for packet in container.demux(stream):
            num_read += 1
            require_few(path, stage, num_read)
            if packet.size == 0:
                continue
            if not packets and not packet.is_keyframe:
                detail = f"{path.name}: got a stream that begins without a key frame, expected one; cut it again"
                raise VideoRejected(stage, Reason.TRUNCATED, detail)
            changes_coding = packet.has_sidedata("new_extradata") or packet.has_sidedata("param_change")
            use = None if changes_coding else use_of(memoryview(packet))
            is_shown = not packet.is_discard and (use is None or use.is_shown)
            packets.append(CodedPacket(pts=packet.pts, is_shown=is_shown, use=use))
            if is_shown:
                seen.append(packet.dts if packet.pts is None else packet.pts)
    time_base = stream.time_base or Fraction(0)
    known = [time for time in seen if time is not None]
    times = tuple(time * time_base for time in sorted(known))
    if len(known) < len(seen) or not _shows_one_frame_each(stream, packets):
        times = _decoded_times(path, stage) or times
    return CodedStream(packets=tuple(packets), times=times)


def _shows_one_frame_each(stream: VideoStream, packets: Sequence[CodedPacket]) -> bool:
    """Whether it is certain that each packet which is shown becomes one frame."""
    decoder = stream.codec_context
    if decoder.codec.intra_only:
        return True
    first = packets[0].pts if packets else None
    begins_whole = first is None or all(packet.pts is None or packet.pts >= first for packet in packets)
    may_have_fields = decoder.codec.canonical_name == "h264" and decoder.field_order != PROGRESSIVE
    return begins_whole and not may_have_fields and all(packet.use is not None for packet in packets)


def _decoded_times(path: Path, stage: Stage) -> tuple[Fraction, ...]:
    """Return the times of all frames that decode, in display order; none if the stream is broken.

    A frame without a time comes one frame interval after the one before it.
    """
    import av

    times: list[Fraction] = []
    with open_video(path, stage) as (container, stream):
        rate = frame_rate(stream)
        interval = 1 / rate if rate else Fraction(0)
        time_left = CountingTime(path, stage)
        try:
            for frame in all_frames(container, stream):
                time_left.require()
                after = times[-1] + interval if times else Fraction(0)
                times.append(after if frame.pts is None else frame.pts * (stream.time_base or Fraction(0)))
        except av.error.FFmpegError:
            return ()  # the decoder will say so
    return tuple(sorted(times))


def frame_rate(stream: VideoStream) -> Fraction:
    """Return the average number of frames a second; 0 if it is unknown.

    For raw DV, FFmpeg gives the rate of the clock as the average, which is far above the rate that holds all times.
    """
    average, guessed = Fraction(stream.average_rate or 0), Fraction(stream.guessed_rate or 0)
    is_clock = average > MAX_RATE_RATIO * guessed > 0
    return guessed if is_clock or not average else average


def all_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Yield every frame of a stream in display order. An empty packet, a frame that AVI repeats, would end it early."""
    for packet in container.demux(stream):
        if packet.size > 0:
            yield from stream.codec_context.decode(packet)
    yield from stream.codec_context.decode(None)


def first_frame(path: Path, stage: Stage) -> VideoFrame | None:
    """Return the first frame that is shown; None if nothing can be decoded.

    Raises:
        VideoRejected: the file cannot be opened, or the picture is too large.
        FFmpegError: the stream is broken.
    """
    import av

    frame, lines = None, list[tuple[int, str, str]]()
    try:
        with log_lines(av.logging.ERROR) as lines:
            frame = _first_alone(path, stage) or _first_of_all(path, stage)
    finally:
        # Only its own header, not the container's, may tell the size.
        if frame is None and (rejection := limits_broken(path, stage, lines)):
            raise rejection
    return frame


# Files are opened for each of these two, because some containers cannot seek.
def _first_alone(path: Path, stage: Stage) -> VideoFrame | None:
    """Return the frame of the first packet, if it is shown."""
    with open_video(path, stage) as (container, stream):
        packet = next((packet for packet in container.demux(stream) if packet.size > 0), None)
        if packet is None or packet.is_discard:
            return None
        # A flushed decoder returns the frame at once; otherwise it waits for later frames to put them in order.
        return next(iter([*stream.codec_context.decode(packet), *stream.codec_context.decode(None)]), None)


def _first_of_all(path: Path, stage: Stage) -> VideoFrame | None:
    time_left = CountingTime(path, stage)
    with open_video(path, stage) as (container, stream):
        for packet in container.demux(stream):
            time_left.require()
            frames = stream.codec_context.decode(packet) if packet.size > 0 else []
            if frames:
                return frames[0]
        return next(iter(stream.codec_context.decode(None)), None)
