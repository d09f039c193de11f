"""Purpose of a video's packets, read from the uncompressed headers in front of their pictures.

    H.264   ITU-T H.264, 7.3.1     nal_ref_idc (2 bits), nal_unit_type (5 bits), in each unit
    HEVC    ITU-T H.265, 7.3.1.2   nal_unit_type (6 bits), nuh_layer_id (6 bits), nuh_temporal_id_plus1 (3 bits)
    VP8     RFC 6386, 9.1          show_frame: bit 4 of the first byte
    VP9     version 0.6, 6.2, B.2  show_existing_frame, show_frame; several pictures in one packet (superframe)
    AV1     AV1 specification 5.9  show_existing_frame, show_frame, in each frame header

VP8, VP9 and AV1 have pictures that are never shown, because other pictures refer to them (alternate references).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

START_CODE = b"\0\0\1"  # before each unit if lengths of units are not given (Annex B of both standards)
LENGTH_SIZE_AT = {"h264": 4, "hevc": 21}  # byte of the decoder's configuration (ISO/IEC 14496-15, 5.3.3, 8.3.3)

H264_SLICE, H264_IDR, H264_SEI = 1, 5, 6
H264_PARAMETERS = {7, 8, 13}  # SPS, PPS, SPS extension
H264_HARMLESS = {9, 12}  # access unit delimiter, filler
X264_NOTE = b"x264 - core"  # followed by x264's version, on which FFmpeg's decoding depends

HEVC_UNREFERENCED = {0, 2, 4, 6, 8}  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N
HEVC_IDR = {19, 20}  # with decodable leading pictures, and without leading pictures
HEVC_PICTURES = {*range(10), *range(16, 22)}
HEVC_PARAMETERS = {32, 33, 34}  # VPS, SPS, PPS
HEVC_HARMLESS = {35, 38, 39, 40}  # access unit delimiter, filler, SEI

VP8_START, VP9_SYNC = b"\x9d\x01\x2a", b"\x49\x83\x42"  # of key pictures
VP9_PROFILE = 0x30  # bits of the first byte
AV1_FRAME_HEADERS = {3, 6}  # frame header, frame
AV1_SHOWN = 0x90  # show_existing_frame, show_frame: bits 0 and 3 of a frame header


class UnknownPacket(Exception):
    """Raised for a packet with contents that this file does not know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketUse:
    """Purpose of one packet."""

    starts_group: bool
    """Whether it is an instantaneous refresh."""

    is_unreferenced: bool
    """Whether no picture of its own or of a lower layer refers to it."""

    layer: int
    """Temporal layer, 0 first; 0 in H.264."""

    settings: frozenset[bytes]
    """Complete units that change how later packets are decoded."""

    is_shown: bool = True
    """False if its picture is only there for others to refer to, or if it has none."""

    has_picture: bool = True
    """False if it holds only units that change nothing; FFmpeg's decoder takes it for a fault."""


class CodedPacket(NamedTuple):
    """One packet of a stream."""

    pts: int | None
    """Presentation time in the stream's time base."""

    is_shown: bool
    """False if an edit list or the coding hides its picture: it is only needed to decode others."""

    use: PacketUse | None
    """Its purpose; None if its coding, or its contents, are not known here."""


def keeps_settings(packets: Sequence[CodedPacket]) -> bool:
    """Whether all packets are known, and none has settings that the first one does not have."""
    first = packets[0].use
    return first is not None and all(packet.use and packet.use.settings <= first.settings for packet in packets)


PacketReader = Callable[[memoryview], PacketUse | None]


def reader_of(coding: str, configuration: bytes) -> PacketReader:
    """Return the function that reads the purpose of a packet; it returns None for contents that are not known here.

    Args:
        coding: FFmpeg's name of the coding.
        configuration: the decoder's configuration from the container; empty if it has none.
    """
    if coding not in _UNITS.keys() | _PICTURES.keys():
        return lambda _: None
    length_size = _length_size(coding, configuration)
    known: dict[PacketUse, PacketUse] = {}  # a video has few different ones

    def use_of(data: memoryview) -> PacketUse | None:
        try:
            if coding in _UNITS:
                use = _UNITS[coding](_units(data, length_size))
            else:
                use = _use_by_pictures(_PICTURES[coding](data), _size(coding, data))
        except (UnknownPacket, IndexError):
            return None
        return known.setdefault(use, use)

    return use_of


def _length_size(coding: str, configuration: bytes) -> int:
    """Return how many bytes hold the length of each unit; 0 if units have start codes."""
    at = LENGTH_SIZE_AT.get(coding, 0)
    has_lengths = len(configuration) > at and configuration[0] == 1
    return (configuration[at] & 3) + 1 if has_lengths else 0


def _units(data: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield a packet's units. Before each one is its length, in `length_size` bytes, or a start code if that is 0.

    Raises:
        UnknownPacket: the lengths do not add up, or there is no unit, as in a part that was overwritten by zeros.
    """
    if not length_size:
        units = [memoryview(unit) for unit in bytes(data).split(START_CODE)[1:] if unit]
    else:
        units = []
        start = 0
        while start < len(data):
            end = start + length_size + int.from_bytes(data[start : start + length_size], "big")
            if end > len(data):
                raise UnknownPacket
            units.append(data[start + length_size : end])
            start = end
    if not any(units):
        raise UnknownPacket
    yield from filter(None, units)


def _h264_use(units: Iterator[memoryview]) -> PacketUse:
    """Return the purpose of an H.264 packet.

    Raises:
        UnknownPacket: it holds units that a plain picture does not have: data partitions, other views.
    """
    slices: list[int] = []
    referenced = False
    settings: set[bytes] = set()
    for unit in units:
        kind = unit[0] & 31
        if kind in (H264_SLICE, H264_IDR):
            slices.append(kind)
            referenced = referenced or bool(unit[0] >> 5 & 3)
        elif kind in H264_PARAMETERS or (kind == H264_SEI and X264_NOTE in bytes(unit)):
            settings.add(bytes(unit))
        elif kind != H264_SEI and kind not in H264_HARMLESS:
            raise UnknownPacket
    return _use(slices, {H264_IDR}, is_unreferenced=not referenced, layer=0, settings=settings)


def _hevc_use(units: Iterator[memoryview]) -> PacketUse:
    """Return the purpose of an HEVC packet.

    Raises:
        UnknownPacket: it holds units that a plain picture does not have: other views, an end of the sequence.
    """
    slices: list[int] = []
    layer = 0
    settings: set[bytes] = set()
    for unit in units:
        kind = unit[0] >> 1 & 63
        if len(unit) < 2 or unit[0] & 1 or unit[1] >> 3:  # a layer of another view
            raise UnknownPacket
        if kind in HEVC_PICTURES:
            slices.append(kind)
            layer = (unit[1] & 7) - 1
        elif kind in HEVC_PARAMETERS:
            settings.add(bytes(unit))
        elif kind not in HEVC_HARMLESS:
            raise UnknownPacket
    return _use(slices, HEVC_IDR, is_unreferenced=set(slices) <= HEVC_UNREFERENCED, layer=layer, settings=settings)


def _use(
    slices: list[int], refreshes: set[int], *, is_unreferenced: bool, layer: int, settings: set[bytes]
) -> PacketUse:
    """Return the purpose of a packet with slices of these kinds.

    Raises:
        UnknownPacket: it has settings and no picture.
    """
    if not slices and settings:
        raise UnknownPacket
    return PacketUse(
        is_shown=bool(slices),
        has_picture=bool(slices),
        starts_group=bool(slices) and set(slices) <= refreshes,
        is_unreferenced=is_unreferenced or not slices,
        layer=layer,
        settings=frozenset(settings),
    )


def _size(coding: str, data: memoryview) -> frozenset[bytes]:
    """Return the bytes of a key picture that hold its size, in VP8, and in VP9 of profile 0."""
    if coding == "vp8" and bytes(data[3:6]) == VP8_START:
        return frozenset({bytes(data[6:10])})
    if coding == "vp9" and bytes(data[1:4]) == VP9_SYNC and not data[0] & VP9_PROFILE:
        # Colours have 4 bits, width and height 16 each; 4 bits of the last byte belong to what follows.
        return frozenset({bytes(data[4:8]) + bytes([data[8] & 0xF0])})
    return frozenset()


def _use_by_pictures(shown: list[bool], settings: frozenset[bytes]) -> PacketUse:
    """Return the purpose of a packet with pictures that are shown or not.

    Raises:
        UnknownPacket: it shows several, or has none.
    """
    if not shown or sum(shown) > 1:
        raise UnknownPacket
    return PacketUse(starts_group=False, is_unreferenced=False, layer=0, settings=settings, is_shown=any(shown))


def _vp8_pictures(data: memoryview) -> list[bool]:
    return [bool(data[0] >> 4 & 1)]


def _vp9_pictures(data: memoryview) -> list[bool]:
    """Return whether each picture of a packet is shown; the sizes of several are in an index at its end."""
    marker = data[-1]
    size_bytes, num_pictures = (marker >> 3 & 3) + 1, (marker & 7) + 1
    index_size = 2 + size_bytes * num_pictures
    starts = [0]
    if marker & 0xE0 == 0xC0 and len(data) >= index_size and data[-index_size] == marker:
        sizes = bytes(data[1 - index_size : -1])
        for place in range(num_pictures - 1):
            size = sizes[place * size_bytes : (place + 1) * size_bytes]
            starts.append(starts[-1] + int.from_bytes(size, "little"))
    return [_is_vp9_shown(int.from_bytes(bytes(data[start : start + 2]).ljust(2, b"\0"), "big")) for start in starts]


def _is_vp9_shown(header: int) -> bool:
    """Whether a picture is shown, by the first 16 bits of its header."""
    bits = f"{header:016b}"
    flags = bits[5:] if bits[2:4] == "11" else bits[4:]  # profile 3 has a reserved bit
    return flags[0] == "1" or flags[2] == "1"


def _av1_pictures(data: memoryview) -> list[bool]:
    """Return whether each picture of a temporal unit is shown."""
    shown, place = [], 0
    while place < len(data):
        header, place = data[place], place + 1 + (data[place] >> 2 & 1)  # an extension has one byte
        size, place = _leb128(data, place) if header >> 1 & 1 else (len(data) - place, place)
        if header >> 3 & 15 in AV1_FRAME_HEADERS and size:
            shown.append(bool(data[place] & AV1_SHOWN))
        place += size
    return shown


def _leb128(data: memoryview, place: int) -> tuple[int, int]:
    """Return a number in groups of seven bits, lowest first, and the place behind it."""
    size = shift = 0
    while True:
        size |= (data[place] & 127) << shift
        shift, place = shift + 7, place + 1
        if not data[place - 1] & 128:
            return size, place


_UNITS: Mapping[str, Callable[[Iterator[memoryview]], PacketUse]] = {"h264": _h264_use, "hevc": _hevc_use}
_PICTURES: Mapping[str, Callable[[memoryview], list[bool]]] = {
    "vp8": _vp8_pictures,
    "vp9": _vp9_pictures,
    "av1": _av1_pictures,
}
