"""Decode plans: which packets of a video must be decoded to show some of its frames.

H.264 and HEVC say in the clear, in front of each unit of a packet, what it is for:

    H.264   ITU-T H.264, 7.3.1     nal_ref_idc (2 bits), nal_unit_type (5 bits)
    HEVC    ITU-T H.265, 7.3.1.2   nal_unit_type (6 bits), nuh_layer_id (6 bits), nuh_temporal_id_plus1 (3 bits)

A *group* of packets begins with an instantaneous refresh (IDR): nothing in it refers to a packet before it, and all
that is before it is shown before it. A packet is *unreferenced* if no other one needs its picture: in H.264 if
nal_ref_idc is 0, in HEVC if it is a sub-layer non-reference picture of the highest temporal layer. Any other coding is
one group in which every packet is needed. So is a stream that changes its parameters on the way, and one whose times go
up although it was coded out of order: they were made up, by counting packets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

HIDDEN = -1  # in place of a frame's number: decoded for others' sake, never shown

START_CODE = b"\0\0\1"  # before each unit where their lengths are not given (Annex B of both standards)
AVCC_LENGTH_SIZE_AT, HVCC_LENGTH_SIZE_AT = 4, 21  # byte of the decoder's configuration (ISO/IEC 14496-15, 5.3.3, 8.3.3)

H264_SLICE, H264_IDR, H264_SEI = 1, 5, 6
H264_PARAMETERS = {7, 8, 13}  # SPS, PPS, SPS extension
H264_HARMLESS = {9, 12}  # access unit delimiter, filler
X264_NOTE = b"x264 - core"  # FFmpeg decodes by the version that it reads here

HEVC_UNREFERENCED = {0, 2, 4, 6, 8}  # TRAIL_N, TSA_N, STSA_N, RADL_N, RASL_N
HEVC_IDR = {19, 20}  # with decodable leading pictures, and without leading pictures
HEVC_PICTURES = {*range(10), *range(16, 22)}
HEVC_PARAMETERS = {32, 33, 34}  # VPS, SPS, PPS
HEVC_HARMLESS = {35, 38, 39, 40}  # access unit delimiter, filler, SEI


class Unplannable(Exception):
    """A packet holds something that this file does not know: every packet is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketUse:
    """What one packet is for."""

    starts_group: bool
    """It is an instantaneous refresh."""

    is_unreferenced: bool
    """No picture of its own or a lower layer refers to it."""

    layer: int
    """Temporal layer, 0 first; 0 in H.264."""

    settings: frozenset[bytes]
    """Units that change how later packets are decoded, whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodePlan:
    """The P packets of a stream in decoding order, and its N frames."""

    numbers: npt.NDArray[np.int64]
    """(P,) int64 number of each packet's frame in display order, or HIDDEN."""

    packets: npt.NDArray[np.int64]
    """(N,) int64 packet of each frame."""

    groups: npt.NDArray[np.int64]
    """(P,) int64 group that each packet belongs to, 0 first, never falling."""

    is_unreferenced: npt.NDArray[np.bool_]
    """(P,) bool."""

    number_of_pts: dict[int, int]
    """Number of the frame with a presentation time, in the stream's time base."""

    def needed(self, frame_indices: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Return which packets to decode for these (T,) increasing frames, (P,) bool.

        Behind the last wanted one that is all of them: the decoder may ask for some before it gives that one out. So
        may frames behind the last wanted one be asked for next time, and are never left out.
        """
        wanted = self.packets[frame_indices]
        last_of_group = np.full(self.groups[-1] + 1, -1)
        np.maximum.at(last_of_group, self.groups[wanted], wanted)
        places = np.arange(len(self.numbers))
        is_referenced = ~self.is_unreferenced | (self.numbers > frame_indices[-1])
        needed: npt.NDArray[np.bool_] = is_referenced & (places <= last_of_group[self.groups])
        needed[wanted] = True
        needed[wanted.max() + 1 :] = True
        needed[0] = True  # what it notes about its encoder holds for all
        return needed


class PacketLog:
    """Takes a stream's packets in decoding order and makes the plan.

    Args:
        coding: FFmpeg's name of it.
        configuration: the decoder's, as the container gives it; empty if it gives none.
        is_reordered: frames are coded in another order than they are shown in.
    """

    def __init__(self, coding: str, configuration: bytes, *, is_reordered: bool) -> None:
        self._use_of = _reader_of(coding, configuration)
        self._is_reordered = is_reordered
        self._uses: list[PacketUse] = []
        self._times: list[int | None] = []
        self._is_shown: list[bool] = []

    def add(self, data: memoryview, pts: int | None, *, is_shown: bool, changes_coding: bool) -> None:
        """Note one packet.

        Args:
            data: its bytes.
            pts: when its frame is shown, in the stream's time base.
            is_shown: False where an edit list hides it.
            changes_coding: it brings another configuration with it.
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
        """Return the plan, or None where the packets' times do not tell the order of display."""
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
        """Return the same where nothing can be left out."""
        return np.zeros(len(self._times), dtype=np.int64), np.zeros(len(self._times), dtype=np.bool_)


def _reader_of(coding: str, configuration: bytes) -> Callable[[memoryview], PacketUse] | None:
    """Return what reads a packet of this coding, or None for one that is not known."""
    readers = {"h264": (_h264_use, AVCC_LENGTH_SIZE_AT), "hevc": (_hevc_use, HVCC_LENGTH_SIZE_AT)}
    if coding not in readers:
        return None
    use_of, length_size_at = readers[coding]
    has_lengths = len(configuration) > length_size_at and configuration[0] == 1
    length_size = (configuration[length_size_at] & 3) + 1 if has_lengths else 0
    return lambda data: use_of(_units(data, length_size))


def _units(data: memoryview, length_size: int) -> Iterator[memoryview]:
    """Yield a packet's units, each led by its length in so many bytes, or by a start code where that is 0.

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
    """Return what an H.264 packet is for.

    Raises:
        Unplannable: it holds other units than those of a plain picture: data partitions, other views.
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
    """Return what an HEVC packet is for.

    Raises:
        Unplannable: it holds other units than those of a plain picture: other views, an end of the sequence.
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
    """Return what a packet with slices of these kinds is for.

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
