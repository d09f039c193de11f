"""H.264 whose frames are coded as pairs of fields, a packet each (PAFF), as no encoder of PyAV's makes it.

Every macroblock is stored as it is (I_PCM), so the pictures are exact. Syntax: ITU-T H.264, 7.3.
"""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from tests.helpers.odd_videos.making import NUMBERS, painted

BLOCK = 16
I_PCM, ALL_INTRA = 25, 7
Plane = npt.NDArray[np.uint8]


class Bits:
    """Writer of a unit's bits."""

    def __init__(self) -> None:
        self.text = ""

    def put(self, value: int, num_bits: int = 1) -> Bits:
        """Add a number of fixed length."""
        self.text += f"{value:0{num_bits}b}"
        return self

    def golomb(self, *values: int) -> Bits:
        """Add numbers by the exponential Golomb code; signed ones may only be 0."""
        for value in values:
            self.text += f"{value + 1:b}".zfill(2 * (value + 1).bit_length() - 1)
        return self

    def unit(self, header: int) -> bytes:
        """Return a unit behind a start code, with its last bit and the bytes that prevent start codes inside."""
        bits = self.text + "1"
        bits += "0" * (-len(bits) % 8)
        content = int(bits, 2).to_bytes(len(bits) // 8, "big")
        return b"\0\0\0\1" + bytes([header]) + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", content)


def settings(width: int, height: int) -> bytes:
    """Return sequence and picture parameters of the main profile, with fields and without macroblock pairs."""
    sequence = Bits().put(77, 8).put(0, 8).put(30, 8).golomb(0, 0, 2, 1).put(0)
    sequence.golomb(width // BLOCK - 1, height // BLOCK // 2 - 1).put(0b00100, 5)
    picture = Bits().golomb(0, 0).put(0, 2).golomb(0, 0, 0).put(0, 3).golomb(0, 0, 0).put(0b100, 3)
    return sequence.unit(0x67) + picture.unit(0x68)


def field(planes: list[Plane], frame: int, *, is_bottom: bool) -> bytes:
    """Return the unit of one field, of its Y, U and V; the first of all is an instantaneous refresh."""
    is_refresh = frame == 0 and not is_bottom
    bits = Bits().golomb(0, ALL_INTRA, 0).put(frame % 16, 4).put(1).put(int(is_bottom))
    bits.golomb(0).put(0, 2) if is_refresh else bits.put(0)
    bits.golomb(0, 1)
    height, width = planes[0].shape
    parts = [bits.text]
    for row in range(height // BLOCK):
        for column in range(width // BLOCK):
            parts.append(Bits().golomb(I_PCM).text)
            parts.append("0" * (-sum(map(len, parts)) % 8))
            for plane, side in zip(planes, (BLOCK, BLOCK // 2, BLOCK // 2), strict=True):
                block = plane[row * side : (row + 1) * side, column * side : (column + 1) * side]
                parts.append("".join(f"{value:08b}" for value in block.reshape(-1).tolist()))
    bits.text = "".join(parts)
    return bits.unit(0x65 if is_refresh else 0x61)


def encode_fields(path: Path) -> Path:
    """Write frames as pairs of fields: as a raw stream, or into a container with a packet and a time for each field."""
    raw = path.with_suffix(".h264")
    units = []
    for frame, number in enumerate(NUMBERS):
        planes = av.VideoFrame.from_ndarray(painted(number), format="rgb24").reformat(format="yuv420p").planes
        full = [np.frombuffer(bytes(plane), np.uint8).reshape(plane.height, -1)[:, : plane.width] for plane in planes]
        first = settings(full[0].shape[1], full[0].shape[0]) if frame == 0 else b""
        units.append(first + field([plane[::2] for plane in full], frame, is_bottom=False))
        units.append(field([plane[1::2] for plane in full], frame, is_bottom=True))
    raw.write_bytes(b"".join(units))
    if path.suffix == ".h264":
        return raw
    with av.open(str(raw)) as source, av.open(str(path), "w") as output:
        stream: Any = output.add_stream_from_template(source.streams.video[0])
        for place, content in enumerate(units):
            packet: Any = av.Packet(content)
            packet.pts = packet.dts = place
            packet.duration, packet.time_base = 1, Fraction(1, 50)
            packet.is_keyframe, packet.stream = place == 0, stream
            output.mux(packet)
    return path
