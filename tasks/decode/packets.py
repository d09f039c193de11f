"""Decode plans: which packets of a video must be decoded to show some of its frames.

In H.264 and HEVC, an uncompressed header in front of each unit of a packet tells its purpose:

    H.264   ITU-T H.264, 7.3.1     nal_ref_idc (2 bits), nal_unit_type (5 bits)
    HEVC    ITU-T H.265, 7.3.1.2   nal_unit_type (6 bits), nuh_layer_id (6 bits), nuh_temporal_id_plus1 (3 bits)

A *group* of packets begins with an instantaneous refresh (IDR): no packet in it refers to an earlier group, and all
frames of earlier groups are shown before its frames. A packet is *unreferenced* if no other packet needs its picture:
in H.264 if nal_ref_idc is 0, in HEVC if it is a sub-layer non-reference picture of the highest temporal layer. A stream
of any other coding is one group in which every packet is needed. So is a stream whose parameters change in the middle,
and a stream that was coded out of order but has increasing times: such times were invented by counting packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HIDDEN = -1  # in place of a frame's number: decoded because other frames need it, but never shown

START_CODE = b"\0\0\1"  # before each unit if lengths of units are not given (Annex B of both standards)
AVCC_LENGTH_SIZE_AT, HVCC_LENGTH_SIZE_AT = 4, 21  # byte of the decoder's configuration (ISO/IEC 14496-15, 5.3.3, 8.3.3)

H264_SLICE, H264_IDR, H264_SEI = 1, 5, 6
H264_PARAMETERS = {7, 8, 13}  # SPS, PPS, SPS extension
H264_HARMLESS = {9, 12}  # access unit delimiter, filler
X264_NOTE = b"x264 - core"  # followed by x264's version, on which FFmpeg's decoding depends

HEVC_UNREFERENCED = {0, 2, 4, 6, 8}  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N
HEVC_IDR = {19, 20}  # with decodable leading pictures, and without leading pictures
HEVC_PICTURES = {*range(10), *range(16, 22)}
HEVC_PARAMETERS = {32, 33, 34}  # VPS, SPS, PPS
HEVC_HARMLESS = {35, 38, 39, 40}  # access unit delimiter, filler, SEI


class Unplannable(Exception):
    """Raised for a packet with contents that this file does not know: every packet is then needed."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """The P packets of a stream in decoding order, and its N frames."""

    numbers: npt.NDArray[np.int64]
    """(P,) int64 number of each packet's frame in display order, or HIDDEN."""

    packets: npt.NDArray[np.int64]
    """(N,) int64 packet of each frame."""

    groups: npt.NDArray[np.int64]
    """(P,) int64 group of each packet, from 0, never decreasing."""

    is_unreferenced: npt.NDArray[np.bool_]
    """(P,) bool."""

    number_of_pts: dict[int, int]
    """Presentation time, in the stream's time base → number of the frame."""

    def needed(self, frame_indices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which packets to decode for these (T,) increasing frames, (P,) bool.

        After the last wanted frame, all packets are needed: the decoder may need some of them before it returns that
        frame. Frames after it may also be requested by the next call, so none of them is left out.
        """
        wanted = self.packets[frame_indices]
        last_of_group = np.full(self.groups[-1] + 1, -1)
        np.maximum.at(last_of_group, self.groups[wanted], wanted)
        places = np.arange(len(self.numbers))
        is_referenced = ~self.is_unreferenced | (self.numbers > frame_indices[-1])
        needed: npt.NDArray[np.bool_] = is_referenced & (places <= last_of_group[self.groups])
        needed[wanted] = True
        needed[wanted.max() + 1 :] = True
        needed[0] = True  # its note about the encoder holds for all packets
        return needed


class PacketLog:
    """Log of a stream's packets in decoding order, from which the plan is made.

    Args:
        coding: FFmpeg's name of the coding.
        configuration: the decoder's configuration from the container; empty if it has none.
        is_reordered: whether frames are coded in another order than they are shown in.
    """

    def __init__(self, coding: str, configuration: bytes, *, is_reordered: bool) -> None:
        self._use_of = _reader_of(coding, configuration)
        self._is_reordered = is_reordered
        self._uses: list[PacketUse] = []
        self._times: list[int | None] = []
        self._is_shown: list[bool] = []

    def add(self, data: memoryview, pts: int | None, *, is_shown: bool, changes_coding: bool) -> None:
        """Add one packet.

        Args:
            data: its bytes.
            pts: presentation time of its frame, in the stream's time base.
            is_shown: False if an edit list hides it.
            changes_coding: whether it contains another configuration.
        """
        self._times.append(pts)
        self._is_shown.append(is_shown)
        if self._use_of is None:
            return
        try:
            if changes_coding:
                raise Unplannable
            self._uses.append(self._use_of(data))
        except Unplannable:
            self._use_of = None

    def plan(self) -> DecodePlan | None:
        """Return the plan, or None if the packets' times do not tell the order of display."""
        times = [time for time, is_shown in zip(self._times, self._is_shown, strict=True) if is_shown]
        if not times or None in times or len(set(times)) < len(times):
            return None
        in_order = sorted(time for time in times if time is not None)
        number_of_pts = {time: number for number, time in enumerate(in_order)}
        numbers = np.array(
            [
                number_of_pts[time] if is_shown and time is not None else HIDDEN
                for time, is_shown in zip(self._times, self._is_shown, strict=True)
            ],
            dtype=np.int64,
        )
        packets = np.empty(len(in_order), dtype=np.int64)
        packets[numbers[numbers != HIDDEN]] = np.flatnonzero(numbers != HIDDEN)
        is_made_up = self._is_reordered and times == in_order
        groups, is_unreferenced = self._whole() if is_made_up else self._structure()
        return DecodePlan(
            numbers=numbers,
            packets=packets,
            groups=groups,
            is_unreferenced=is_unreferenced,
            number_of_pts=number_of_pts,
        )

    def _structure(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return group and is_unreferenced of each packet, (P,) each."""
        if self._use_of is None or any(not use.settings <= self._uses[0].settings for use in self._uses):
            return self._whole()
        top_layer = max(use.layer for use in self._uses)
        starts = np.array([use.starts_group for use in self._uses[1:]], dtype=np.int64)
        groups = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(starts)])
        return groups, np.array([use.is_unreferenced and use.layer == top_layer for use in self._uses])

    def _whole(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Return the same for a stream in which every packet is needed."""
        return np.zeros(len(self._times), dtype=np.int64), np.zeros(len(self._times), dtype=np.bool_)


def _reader_of(coding: str, configuration: bytes) -> Callable[[memoryview], PacketUse] | None:
    """Return the function that reads packets of this coding, or None for an unknown coding."""
    readers = {"h264": (_h264_use, AVCC_LENGTH_SIZE_AT), "hevc": (_hevc_use, HVCC_LENGTH_SIZE_AT)}
    if coding not in readers:
        return None
    use_of, length_size_at = readers[coding]
    has_lengths = len(configuration) > length_size_at and configuration[0] == 1
    length_size = (configuration[length_size_at] & 3) + 1 if has_lengths else 0
    return lambda data: use_of(_units(data, length_size))


def _units(data: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield a packet's units. Before each one is its length, in `length_size` bytes, or a start code if that is 0.

    Raises:
        Unplannable: the lengths do not add up.
    """
    if not length_size:
        yield from (memoryview(unit) for unit in bytes(data).split(START_CODE)[1:] if unit)
        return
    start = 0
    while start < len(data):
        end = start + length_size + int.from_bytes(data[start : start + length_size], "big")
        if end > len(data):
            raise Unplannable
        if end > start + length_size:
            yield data[start + length_size : end]
        start = end


def _h264_use(units: Iterator[memoryview]) -> PacketUse:
    """Return the purpose of an H.264 packet.

    Raises:
        Unplannable: it holds units that a plain picture does not have: data partitions, other views.
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
            raise Unplannable
    return _use(slices, {H264_IDR}, is_unreferenced=not referenced, layer=0, settings=settings)


def _hevc_use(units: Iterator[memoryview]) -> PacketUse:
    """Return the purpose of an HEVC packet.

    Raises:
        Unplannable: it holds units that a plain picture does not have: other views, an end of the sequence.
    """
    slices: list[int] = []
    layer = 0
    settings: set[bytes] = set()
    for unit in units:
        kind = unit[0] >> 1 & 63
        if len(unit) < 2 or unit[0] & 1 or unit[1] >> 3:  # a layer of another view
            raise Unplannable
        if kind in HEVC_PICTURES:
            slices.append(kind)
            layer = (unit[1] & 7) - 1
        elif kind in HEVC_PARAMETERS:
            settings.add(bytes(unit))
        elif kind not in HEVC_HARMLESS:
            raise Unplannable
    return _use(slices, HEVC_IDR, is_unreferenced=set(slices) <= HEVC_UNREFERENCED, layer=layer, settings=settings)


def _use(
    slices: list[int], refreshes: set[int], *, is_unreferenced: bool, layer: int, settings: set[bytes]
) -> PacketUse:
    """Return the purpose of a packet with slices of these kinds.

    Raises:
        Unplannable: it has no picture.
    """
    if not slices:
        raise Unplannable
    return PacketUse(
        starts_group=set(slices) <= refreshes,
        is_unreferenced=is_unreferenced,
        layer=layer,
        settings=frozenset(settings),
    )
