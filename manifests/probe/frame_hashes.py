"""Perceptual hashes of a few frames of a video, the content of `VideoEntry.frame_hashes`.

    frame_hashes = 4 words of 16 characters, in the order of POSITIONS

    a word       16 hex digits: ImageHash's pHash, 64 bits, of the key frame at or before the position
                 16 hyphens: no hash, because the picture is uniform (black) or cannot be decoded

Only key frames are decoded, so a video takes some tens of milliseconds. If it has fewer key frames than positions,
words repeat. The picture is rotated as by a player and scaled to a square, so that size, aspect and rotation do not
matter.
`manifests.leakage.near_duplicates` compares the words of two videos.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from manifests.probe.picture import matrix_of, upright

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# Shares of the duration, evenly spaced and away from titles and fades at both ends. Quarters from the first picture on
# find 2 more of 70 copies (benchmarks/near_duplicates.py), but also every title card.
POSITIONS = (Fraction(1, 8), Fraction(3, 8), Fraction(5, 8), Fraction(7, 8))

BITS_PER_WORD = 64
CHARACTERS_PER_WORD = BITS_PER_WORD // 4
NO_WORD = "-" * CHARACTERS_PER_WORD
WORD = re.compile(rf"[0-9a-f]{{{CHARACTERS_PER_WORD}}}|{NO_WORD}")

SIDE_PX = 32  # picture size in ImageHash's pHash: 8 frequencies in each direction, four times oversampled
# Standard deviation of grey levels 0..255, up to which a picture counts as uniform.
MAX_UNIFORM_LEVELS = 3.0
# Largest number of frames decoded after a key frame that an edit list hides: x264's longest distance of key frames.
MAX_HIDDEN_FRAMES = 250
MICROSECONDS_PER_SECOND = 1_000_000  # the unit of a container's duration
FAR_BEFORE_SECONDS = 3600  # before the first picture, to seek to the very beginning


def hash_frames(
    container: InputContainer, stream: VideoStream, num_frames: int, positions: Sequence[Fraction] = POSITIONS
) -> str:
    """Return the hashes of an open video, with an empty word for each frame that cannot be decoded.

    It seeks in the container: seek again before you decode anything else.

    Args:
        container: from `manifests.probe.container.open_video`.
        stream: its stream of moving pictures.
        num_frames: number of frames, from which the duration follows if the container does not state it.
        positions: shares of the duration, 0..1.
    """
    start, duration = stream.start_time or 0, _duration_ticks(container, stream, num_frames)
    word_of_key: dict[int | None, str] = {}
    # FFmpeg reads the version of x264 from the first frame, and needs it to decode old 4:4:4 streams.
    _word_at(container, stream, start, word_of_key)
    return "".join(_word_at(container, stream, start + int(share * duration), word_of_key) for share in positions)


def words_of(frame_hashes: str) -> tuple[int | None, ...]:
    """Return the (4,) words as 64-bit integers, None for an empty one.

    Raises:
        ValueError: the text was not returned by `hash_frames`.
    """
    starts = range(0, len(frame_hashes), CHARACTERS_PER_WORD)
    words = [frame_hashes[start : start + CHARACTERS_PER_WORD] for start in starts]
    if len(words) != len(POSITIONS) or not all(WORD.fullmatch(word) for word in words):
        raise ValueError(
            f"frame_hashes: got {frame_hashes!r}, expected {len(POSITIONS)} words of {CHARACTERS_PER_WORD} hex digits "
            "or hyphens; probe the video again"
        )
    return tuple(None if word == NO_WORD else int(word, 16) for word in words)


def hash_picture(grey: npt.NDArray[np.uint8]) -> str:
    """Return the hash word of a (32,32) uint8 grey picture."""
    if float(grey.std()) <= MAX_UNIFORM_LEVELS:
        return NO_WORD
    import imagehash
    from PIL import Image

    return str(imagehash.phash(Image.fromarray(grey)))


def _duration_ticks(container: InputContainer, stream: VideoStream, num_frames: int) -> int:
    """Return the duration in the stream's time base, from the best source that states it."""
    if stream.duration:
        return stream.duration
    if container.duration:
        return _ticks(Fraction(container.duration, MICROSECONDS_PER_SECOND), stream)
    rate = stream.average_rate or stream.guessed_rate
    return _ticks(num_frames / rate, stream) if rate else 0


def _ticks(seconds: Fraction | int, stream: VideoStream) -> int:
    return int(seconds / (stream.time_base or Fraction(1, MICROSECONDS_PER_SECOND)))


def _word_at(container: InputContainer, stream: VideoStream, ticks: int, word_of_key: dict[int | None, str]) -> str:
    """Return the word of the key frame at or before a time in ticks; `word_of_key` caches words between calls."""
    import av

    try:
        packet = _key_before(container, stream, ticks)
        if packet is None:
            return NO_WORD
        key = _time_of(packet)
        if key not in word_of_key:
            frame = _decode_key(container, stream, packet, ticks)
            word_of_key[key] = NO_WORD if frame is None or frame.is_corrupt else hash_picture(_small_grey(frame))
        return word_of_key[key]
    except av.error.FFmpegError:  # a failed seek is a PermissionError: its -1 is also EPERM
        return NO_WORD


def _key_before(container: InputContainer, stream: VideoStream, ticks: int) -> Packet[VideoStream] | None:
    """Return the packet of the key frame at or before a time in ticks, or of the first one; flushes the decoder."""
    container.seek(ticks, stream=stream, backward=True)
    packet = next(_keys(container, stream), None)
    if packet is not None and (_time_of(packet) or 0) <= ticks:
        return packet
    # Without an index, as in MPEG-TS, a seek may end after the key frame: read all packets from the beginning.
    container.seek((stream.start_time or 0) - _ticks(FAR_BEFORE_SECONDS, stream), stream=stream, backward=True)
    earlier = takewhile(lambda packet: (_time_of(packet) or 0) <= ticks, _keys(container, stream))
    return next(iter(deque(earlier, maxlen=1)), packet)


def _keys(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of the key frames from here on."""
    return (packet for packet in container.demux(stream) if packet.is_keyframe and packet.size > 0)


def _time_of(packet: Packet[VideoStream]) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


def _decode_key(
    container: InputContainer, stream: VideoStream, packet: Packet[VideoStream], ticks: int
) -> VideoFrame | None:
    """Decode a key frame alone, or the first frame shown after it where an edit list hides it."""
    decoder = stream.codec_context
    # A flushed decoder returns the frame at once; otherwise it waits for later frames to put them in order.
    alone = [*decoder.decode(packet), *decoder.decode(None)]
    if alone or not packet.is_discard:
        return alone[0] if alone else None
    container.seek(ticks, stream=stream, backward=True)
    for later in islice(container.demux(stream), MAX_HIDDEN_FRAMES):
        shown = decoder.decode(later)
        if shown:
            return shown[0]
    return None


def _small_grey(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    """Return the picture as a (32,32) uint8 grey square, rotated as by a player."""
    import numpy as np
    from av.video.reformatter import Interpolation

    small = frame.reformat(width=SIDE_PX, height=SIDE_PX, format="gray", interpolation=Interpolation.AREA)
    return np.ascontiguousarray(upright(small.to_ndarray(), matrix_of(frame)), dtype=np.uint8)
