"""Which packets show a picture, in codings that hide some; units of H.264 and HEVC are tested with the decode plan."""

from __future__ import annotations

import pytest

from manifests.probe.packets import reader_of

VP8_SHOWN, VP8_HIDDEN = bytes([0x10, 0, 0]), bytes([0x00, 0, 0])
# frame_marker 2, profile 0, show_existing_frame, frame_type, show_frame, error_resilient_mode
VP9_SHOWN, VP9_HIDDEN, VP9_AGAIN = bytes([0b1000_0010, 0]), bytes([0b1000_0000, 0]), bytes([0b1000_1000])
VP9_PROFILE_3 = bytes([0b1011_0001, 0])  # with a reserved bit
TEMPORAL_UNIT, SEQUENCE = b"\x12\x00", b"\x0a\x03abc"  # open bitstream units of AV1, with their sizes
AV1_SHOWN, AV1_HIDDEN, AV1_AGAIN = b"\x32\x01\x10", b"\x32\x01\x00", b"\x1a\x01\x80"


def superframe(*pictures: bytes) -> bytes:
    """VP9's index: a marker on both sides of the sizes, here of two bytes each."""
    marker = bytes([0b1100_1000 | len(pictures) - 1])
    sizes = b"".join(len(picture).to_bytes(2, "little") for picture in pictures)
    return b"".join(pictures) + marker + sizes + marker


@pytest.mark.parametrize(
    ("coding", "packet", "is_shown"),
    [
        ("vp8", VP8_SHOWN, True),
        ("vp8", VP8_HIDDEN, False),
        ("vp9", VP9_SHOWN, True),
        ("vp9", VP9_HIDDEN, False),
        ("vp9", VP9_AGAIN, True),
        ("vp9", VP9_PROFILE_3, True),
        ("vp9", superframe(VP9_HIDDEN, VP9_SHOWN), True),
        ("vp9", superframe(VP9_HIDDEN * 200, VP9_AGAIN), True),
        ("vp9", superframe(VP9_HIDDEN, VP9_HIDDEN), False),
        ("av1", TEMPORAL_UNIT + SEQUENCE + AV1_HIDDEN + AV1_SHOWN, True),
        ("av1", TEMPORAL_UNIT + AV1_AGAIN, True),
        ("av1", TEMPORAL_UNIT + AV1_HIDDEN, False),
        ("av1", TEMPORAL_UNIT + b"\x30\x10", True),  # a frame without a size
        ("av1", b"\x36\x20\x81\x00\x10" + bytes(128), True),  # an extension, and a size of two bytes
    ],
)
def test_pictures_that_are_only_referred_to(coding: str, packet: bytes, is_shown: bool) -> None:
    use = reader_of(coding, b"")(memoryview(packet))
    assert use is not None
    assert use.is_shown is is_shown


@pytest.mark.parametrize(
    ("coding", "packet"),
    [
        ("vp9", superframe(VP9_SHOWN, VP9_SHOWN)),  # which of them is shown depends on the decoder
        ("av1", TEMPORAL_UNIT + AV1_SHOWN + AV1_SHOWN),
        ("av1", TEMPORAL_UNIT + SEQUENCE),
        ("av1", b"\x32\xff"),
        ("mpeg4", b"\0\0\1\xb6"),
    ],
)
def test_packets_that_do_not_tell(coding: str, packet: bytes) -> None:
    assert reader_of(coding, b"")(memoryview(packet)) is None
