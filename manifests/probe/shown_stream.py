"""Choice of the video stream that a player shows.

A file may hold several video streams: a preview, a cover, thumbnails of chapters, further programmes, cameras. All
readers open files with `manifests.probe.container.open_video`, so one choice holds for all of them:

    never            cover pictures, thumbnails, stills, and streams that only extend another one
    not if others    streams with less than a tenth of the frames of the longest, which are stills too
    before others    a stream that is marked as the default, unless the first one is too: muxers mark that on their own
    then             the largest picture, then the most frames, then the first

FFmpeg's programs prefer the default, then the largest picture; the difference is the mark of the first stream.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from manifests.probe.opening import open_container

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Share of the longest stream's frames below which a stream holds stills: one picture a second beside a film at 24.
LEAST_SHARE_OF_FRAMES = 0.1


def shown_stream(path: Path, container: InputContainer) -> VideoStream | None:
    """Return the stream of a file that a player shows; None if there are no moving pictures.

    Of a file with several, all packets are read once.

    Raises:
        FFmpegError: the file is broken.
    """
    from av.stream import Disposition

    streams = moving_streams(container)
    if len(streams) <= 1:
        return streams[0] if streams else None
    num_frames = _num_packets(path, [stream.index for stream in streams])
    longest = max(num_frames.values(), default=0)
    films = [stream for stream in streams if num_frames[stream.index] >= LEAST_SHARE_OF_FRAMES * longest]
    is_marked = {stream.index: bool(stream.disposition & Disposition.default) for stream in streams}
    return max(
        films,
        key=lambda stream: (
            is_marked[stream.index] and not is_marked[streams[0].index],
            stream.width * stream.height,
            num_frames[stream.index],
            -stream.index,
        ),
    )


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """Return the streams of a file that may be its film: no cover, thumbnail, still, or extension of another stream."""
    from av.stream import Disposition

    others = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
    others |= Disposition.dependent | Disposition.non_diegetic
    return [
        stream
        for stream in container.streams.video
        # A damaged file may have a stream without a codec.
        if not stream.disposition & others and stream.codec_context is not None
    ]


def _num_packets(path: Path, indices: list[int]) -> Counter[int]:
    """Return the number of packets of each stream, in an opening of its own: reading changes what a demuxer knows."""
    with open_container(path) as container:
        streams = [container.streams[index] for index in indices]
        return Counter(packet.stream_index for packet in container.demux(streams) if packet.size > 0)
