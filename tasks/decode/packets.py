"""Decode plans: which packets of a video must be decoded to show some of its frames.

A *group* of packets begins with an instantaneous refresh (IDR): no packet in it refers to an earlier group, and all
frames of earlier groups are shown before its frames. A packet is *unreferenced* if no other packet needs its picture:
in H.264 if nal_ref_idc is 0, in HEVC if it is a sub-layer non-reference picture of the highest temporal layer
(`manifests/probe/packets.py`). A stream of any other coding is one group in which every packet is needed. So is a
stream whose parameters change in the middle, and a stream that was coded out of order but has increasing times: such
times were invented by counting packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.probe.packets import CodedPacket, keeps_settings

HIDDEN = -1  # in place of a frame's number: decoded because other frames need it, but never shown


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

    has_picture: npt.NDArray[np.bool_]
    """(P,) bool; a packet without a picture is never decoded."""

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
        needed &= self.has_picture
        return needed


def plan_of(packets: Sequence[CodedPacket], *, is_reordered: bool, has_times: bool) -> DecodePlan | None:
    """Return the plan, or None if the packets' times do not tell the order of display.

    Args:
        packets: all packets of the stream.
        is_reordered: whether frames are coded in another order than they are shown in.
        has_times: whether the container holds the time of each frame; else FFmpeg has invented them.
    """
    times = [packet.pts for packet in packets if packet.is_shown]
    if not times or None in times or len(set(times)) < len(times):
        return None
    in_order = sorted(time for time in times if time is not None)
    number_of_pts = {time: number for number, time in enumerate(in_order)}
    numbers = np.array(
        [number_of_pts[pts] if is_shown and pts is not None else HIDDEN for pts, is_shown, _ in packets],
        dtype=np.int64,
    )
    order = np.empty(len(in_order), dtype=np.int64)
    order[numbers[numbers != HIDDEN]] = np.flatnonzero(numbers != HIDDEN)
    is_made_up = not has_times or (is_reordered and times == in_order)
    groups, is_unreferenced = _whole(packets) if is_made_up else _structure(packets)
    return DecodePlan(
        numbers=numbers,
        packets=order,
        groups=groups,
        is_unreferenced=is_unreferenced,
        has_picture=np.array([packet.use is None or packet.use.has_picture for packet in packets]),
        number_of_pts=number_of_pts,
    )


def _structure(packets: Sequence[CodedPacket]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return group and is_unreferenced of each packet, (P,) each."""
    if not keeps_settings(packets):
        return _whole(packets)
    uses = [packet.use for packet in packets if packet.use is not None]
    top_layer = max(use.layer for use in uses)
    starts = np.array([use.starts_group for use in uses[1:]], dtype=np.int64)
    groups = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(starts)])
    return groups, np.array([use.is_unreferenced and use.layer == top_layer for use in uses])


def _whole(packets: Sequence[CodedPacket]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return the same for a stream in which every packet is needed."""
    return np.zeros(len(packets), dtype=np.int64), np.zeros(len(packets), dtype=np.bool_)
