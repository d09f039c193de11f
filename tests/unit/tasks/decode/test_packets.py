"""Which packets are needed, of streams whose every unit is written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from manifests.probe.packets import CodedPacket, reader_of
from tasks.decode import packets as decode_packets
from tasks.decode.packets import HIDDEN, DecodePlan

AVCC = bytes([1, 100, 0, 31, 0xFF])  # H.264 with lengths of four bytes
HVCC = bytes([1, *bytes(20), 0xFF])  # HEVC, the same
X264 = b"x264 - core 65"


def h264(kind: int, reference: int, content: bytes = b"\0") -> bytes:
    return bytes([reference << 5 | kind]) + content


def hevc(kind: int, layer: int = 0, content: bytes = b"\0") -> bytes:
    return bytes([kind << 1, layer + 1]) + content


KEY, REFERENCE, LEAF = h264(5, 3), h264(1, 2), h264(1, 0)  # instantaneous refresh, P, unreferenced B


def packet(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


def plan_of(
    packets: list[bytes],
    times: list[int],
    *,
    coding: str = "h264",
    configuration: bytes = AVCC,
    hidden: int = 0,
    has_times: bool = True,
) -> DecodePlan:
    """The plan of packets with these times, of which those below `hidden` are never shown."""
    use_of = reader_of(coding, configuration)
    coded = [
        CodedPacket(pts=time, is_shown=time >= hidden, use=use_of(memoryview(data)))
        for data, time in zip(packets, times, strict=True)
    ]
    plan = decode_packets.plan_of(coded, is_reordered=True, has_times=has_times)
    assert plan is not None
    return plan


def needed(plan: DecodePlan, *frame_indices: int) -> list[int]:
    """The needed packets up to the last wanted one: behind it every one is."""
    is_needed = plan.needed(np.array(frame_indices, dtype=np.int64))
    last = int(plan.packets[list(frame_indices)].max())
    assert is_needed[last:].all()
    return np.flatnonzero(is_needed[: last + 1]).tolist()


# I P b b P b b, twice: the numbers are places in display order.
TWO_GROUPS = [packet(unit) for unit in (KEY, REFERENCE, LEAF, LEAF, REFERENCE, LEAF, LEAF) * 2]
SHOWN_AT = [0, 3, 1, 2, 6, 4, 5, 7, 10, 8, 9, 13, 11, 12]


def test_what_nothing_refers_to_and_nobody_wants_is_left_out() -> None:
    plan = plan_of(TWO_GROUPS, SHOWN_AT)
    assert plan.numbers.tolist() == SHOWN_AT
    assert needed(plan, 6) == [0, 1, 4]
    assert needed(plan, 2, 4) == [0, 1, 3, 4, 5]


def test_groups_without_a_wanted_frame_are_left_out_but_for_the_first_packet() -> None:
    plan = plan_of(TWO_GROUPS, SHOWN_AT)
    assert needed(plan, 10) == [0, 7, 8]
    assert needed(plan, 1, 9) == [0, 1, 2, 7, 8, 10]


def test_frames_behind_the_last_wanted_one_are_not_lost() -> None:
    """Frame 5 is decoded before 6 is given out: it may be asked for next."""
    plan = plan_of([packet(unit) for unit in (KEY, LEAF, REFERENCE)], [0, 2, 1])
    assert needed(plan, 1) == [0, 1, 2]


def test_times_may_start_anywhere_and_leave_gaps() -> None:
    plan = plan_of(TWO_GROUPS, [900 + time * time for time in SHOWN_AT])
    assert plan.numbers.tolist() == SHOWN_AT
    assert plan.number_of_pts[900 + 49] == 7


def test_hidden_frames_have_no_number_and_are_decoded_for_others() -> None:
    plan = plan_of(TWO_GROUPS, SHOWN_AT, hidden=4)
    assert plan.numbers.tolist() == [HIDDEN] * 4 + [2, 0, 1, 3, 6, 4, 5, 9, 7, 8]
    assert needed(plan, 0) == [0, 1, 4, 5]


def test_hevc_leaves_out_the_highest_layer_only() -> None:
    units = [hevc(19), hevc(1), hevc(0, 0), hevc(1, 1), hevc(0, 1), hevc(20), hevc(1)]
    plan = plan_of([packet(unit) for unit in units], [0, 4, 2, 1, 3, 5, 6], coding="hevc", configuration=HVCC)
    assert needed(plan, 4) == [0, 1]
    assert plan.is_unreferenced.tolist() == [False, False, False, False, True, False, False]
    assert needed(plan, 6) == [0, 5, 6]


@pytest.mark.parametrize("kind", [21, 16, 9, 1])
def test_hevc_groups_begin_at_an_instantaneous_refresh_alone(kind: int) -> None:
    packets = [packet(hevc(unit)) for unit in (19, 1, kind, 1)]
    plan = plan_of(packets, [0, 2, 1, 3], coding="hevc", configuration=HVCC)
    assert plan.groups.tolist() == [0, 0, 0, 0]


def test_units_behind_start_codes() -> None:
    packets = [b"\0\0\0\1" + h264(9, 0) + b"\0\0\1" + unit for unit in (KEY, REFERENCE, LEAF, KEY)]
    plan = plan_of(packets, [0, 2, 1, 3], configuration=b"")
    assert plan.is_unreferenced.tolist() == [False, False, True, False]
    assert plan.groups.tolist() == [0, 0, 0, 1]


def test_slices_of_one_picture_count_together() -> None:
    packets = [packet(KEY), packet(LEAF, REFERENCE), packet(LEAF, LEAF), packet(KEY, REFERENCE)]
    plan = plan_of(packets, [0, 2, 1, 3])
    assert plan.is_unreferenced.tolist() == [False, False, True, False]
    assert plan.groups.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    "odd",
    [
        packet(h264(7, 3, b"another"), KEY),  # a parameter set that the first packet does not have
        packet(h264(6, 0, X264 + b"0"), KEY),  # another x264
        packet(h264(2, 3)),  # data partition
        packet(h264(20, 3), KEY),  # another view
        packet(h264(7, 3, b"one")),  # settings without a picture
        packet(b"", b""),  # zeros
        packet(KEY)[:-1],  # lengths that do not add up
    ],
)
def test_a_stream_with_anything_unknown_is_decoded_whole(odd: bytes) -> None:
    first = packet(h264(7, 3, b"one"), h264(6, 0, X264), KEY)
    whole = plan_of([first, packet(REFERENCE), packet(LEAF), odd], [0, 2, 1, 3])
    assert needed(whole, 3) == [0, 1, 2, 3]
    known = plan_of([first, packet(REFERENCE), packet(LEAF), first], [0, 2, 1, 3])
    assert needed(known, 3) == [0, 3]


def test_a_packet_without_a_picture_is_not_decoded() -> None:
    packets = [packet(KEY), packet(h264(6, 0), h264(12, 0)), packet(REFERENCE), packet(REFERENCE)]
    use_of = reader_of("h264", AVCC)
    coded = [
        CodedPacket(pts=place, is_shown=use is not None and use.is_shown, use=use)
        for place, use in enumerate(use_of(memoryview(data)) for data in packets)
    ]
    plan = decode_packets.plan_of(coded, is_reordered=False, has_times=True)
    assert plan is not None
    assert plan.numbers.tolist() == [0, HIDDEN, 1, 2]
    assert needed_packets(plan, 0) == [0, 2, 3]
    assert needed_packets(plan, 2) == [0, 2, 3]


def needed_packets(plan: DecodePlan, frame: int) -> list[int]:
    return np.flatnonzero(plan.needed(np.array([frame], dtype=np.int64))).tolist()


def test_another_coding_is_decoded_whole() -> None:
    assert needed(plan_of(TWO_GROUPS, SHOWN_AT, coding="mpeg4"), 13) == list(range(12))


def test_made_up_times_are_not_trusted() -> None:
    """Frames that were coded out of order cannot be shown in the order of their packets."""
    assert needed(plan_of(TWO_GROUPS, list(range(14))), 13) == list(range(14))


@pytest.mark.parametrize("times", [(0, None), (3, 3)])
def test_times_that_tell_no_order_make_no_plan(times: tuple[int | None, ...]) -> None:
    coded = [CodedPacket(pts=time, is_shown=True, use=None) for time in times]
    assert decode_packets.plan_of(coded, is_reordered=False, has_times=True) is None


def test_a_container_without_times_is_decoded_whole() -> None:
    assert needed(plan_of(TWO_GROUPS, SHOWN_AT, has_times=False), 13) == list(range(12))
