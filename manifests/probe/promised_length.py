"""Length and parts that a container promises, compared with the file's: broken downloads, full disks, lost sectors.

    MP4, MOV       the end of each box, the parts that an index of segments (sidx) lists, that there is an index, and
                   that it times and places as many pictures as it gives sizes of
    Matroska       the end of the segment; without one, as in live recordings, of each element; checksums of clusters
    AVI            the end of each RIFF chunk; that pictures lie where the index says
    FLV            the end of each tag; the file size and duration of its metadata, if both promise more
    Ogg            the end of each page, and a last page of each stream
    ASF (WMV)      the file size, unless it is a broadcast
    MPEG-TS, -PS   the end of the last packet; in MPEG-TS, the first byte of each packet
    IVF, GIF       the end of each frame, of each block; in GIF, the kinds of blocks

Each format is known by its first bytes. Lengths that are 0 or unknown, as in recordings that were not finished, promise
nothing, and so does what follows the last known part.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from manifests.errors import VideoRejected
from manifests.files import open_regular
from manifests.rejected import Reason, Stage

CHUNK_BYTES = 2**20
MAX_READS = 1_000_000  # parts that are looked at: a hostile file may have one in every two bytes

MP4_BOXES = {
    *(b"ftyp", b"moov", b"mdat", b"moof", b"mfra", b"sidx", b"styp", b"ssix", b"emsg", b"prft", b"free", b"skip"),
    *(b"wide", b"udta", b"meta", b"uuid", b"pdin", b"pnot", b"PICT"),
}
MP4_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl"}
MP4_LISTS = {b"stts", b"ctts", b"stsc"}
MP4_NUMBERS = {b"vmhd": 8, b"stsz": 16, b"stco": 12, b"co64": 12}  # byte of each box with the number of its entries
MAX_MP4_TABLE_BYTES = 2**22  # half a million entries; longer ones are not compared
# Element identifiers of Matroska (RFC 9559, section 27.1), and the checksum's of EBML (RFC 8794, section 11.3.1).
EBML_HEADER, SEGMENT, CLUSTER, CRC32 = 0x1A45DFA3, 0x18538067, 0x1F43B675, 0xBF
NO_RIFF_LENGTHS = {0, 0xFFFFFFFF}
MAX_RIFF_ERROR = 8  # bytes by which some writers overstate the length, since they count the chunk's own header
FLV_TAGS, FLV_KIND = {8, 9, 15, 18}, 0xDF  # audio, video, scripts; the other bit marks encryption
LEAST_FLV_SHARE = 0.9  # of size and duration: metadata of recorded streams is not exact
OGG_LAST_PAGE = 4  # flag in a page's header (RFC 3533, section 6)
ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
AVI_PICTURES = {b"db", b"dc"}  # ends of names of chunks, after the stream's number
AVI_FIRST_CHUNKS = 8  # that tell what places in an index count from
MAX_AVI_INDEX_BYTES = 2**22  # a quarter of a million chunks, which are compared
GIF_EXTENSION, GIF_PICTURE, GIF_END = 0x21, 0x2C, 0x3B  # first bytes of blocks
TS_SYNC = 0x47
TS_LAYOUTS = ((188, 0), (192, 4), (204, 0))  # bytes of a packet, offset of its first byte of MPEG-TS
TS_HOLE = re.compile(b"[^\x47]\x47")  # in the first bytes of all packets: nothing is expected after the last one
TS_PACKETS_AT_ONCE = 10_000
PS_PACK, PS_END, PS_LEAST_PACKET = 0xBA, 0xB9, 0xBB
PS_TAIL_BYTES = 2**18  # a packet has at most 2**16

Fault = tuple[Reason, str]  # the text says what the file has, and what it promises


class _TooManyParts(Exception):
    """Raised if looking at all parts would take too long."""


class _File:
    """Random access to the bytes of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._num_reads = 0
        self.size = file.seek(0, 2)

    def at(self, offset: int, num_bytes: int) -> bytes:
        """Return bytes; fewer at the end of the file."""
        self._num_reads += 1
        if self._num_reads > MAX_READS:
            raise _TooManyParts
        self._file.seek(offset)
        return self._file.read(num_bytes)

    def number(self, offset: int, num_bytes: int) -> int:
        """Return an unsigned integer, highest byte first."""
        return int.from_bytes(self.at(offset, num_bytes), "big")


def require_whole(path: Path) -> None:
    """Require that a file is as long as its container promises; one whose format promises nothing is accepted.

    Raises:
        VideoRejected: it is shorter, or part of it is not what its checksum says.
        OSError: the file system cannot read it.
    """
    with open_regular(path) as opened:
        file = _File(opened)
        start = file.at(0, 1024)
        find = next((find for is_format, find in _FORMATS if is_format(start)), None)
        try:
            fault = find(file) if find else None
        except _TooManyParts:
            return
    if fault is not None:
        reason, text = fault
        raise VideoRejected(Stage.PROBE, reason, f"{path.name}: got {text}; copy it again")


def _short(file: _File, end: int, what: str) -> Fault | None:
    """Return the fault of a part that ends after the file."""
    is_short = end > file.size
    return (Reason.TRUNCATED, f"{file.size:,} bytes, expected {end:,} as its {what} says") if is_short else None


def _mp4(file: _File) -> Fault | None:
    start, seen = 0, set[bytes]()
    while start + 8 <= file.size:
        header = file.at(start, 16)
        length, kind = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        if kind not in MP4_BOXES:
            return None
        seen.add(kind)
        if length < 8:  # 0: to the end of the file
            break
        promised = max(start + length, _end_of_segments(file, start, length) if kind == b"sidx" else 0)
        fault = _short(file, promised, f"box {kind.decode()}") or (
            _mp4_tables(file, start) if kind == b"moov" else None
        )
        if fault:
            return fault
        start += length
    if b"mdat" in seen and not seen & {b"moov", b"moof"}:
        return Reason.TRUNCATED, "pictures without an index (moov), expected one: it was not written to its end"
    return None


def _mp4_tables(file: _File, start: int) -> Fault | None:
    """Return the fault of tables in a box `moov` that time or place another number of pictures than have a size."""
    end = start + file.number(start, 4)
    tables: dict[bytes, int] = {}  # of one track: the number of pictures, or of chunks, in each
    placed: list[tuple[int, ...]] = []  # first chunk of several that are alike, pictures in each, description
    while start + 8 <= end:
        length, kind = file.number(start, 4), file.at(start + 4, 4)
        if length < 8 or (kind in MP4_LISTS and length > MAX_MP4_TABLE_BYTES):
            return None
        entries = file.at(start + 16, max(length - 16, 0)) if kind in MP4_LISTS else b""
        if kind == b"trak":
            tables = {}
        elif kind == b"stsc":
            placed = [*struct.iter_unpack(">III", entries[: len(entries) // 12 * 12])]
            tables[kind] = len(placed)
        elif kind in MP4_LISTS:
            tables[kind] = sum(count for count, _ in struct.iter_unpack(">II", entries[: len(entries) // 8 * 8]))
        elif kind in MP4_NUMBERS:
            tables[kind.replace(b"co64", b"stco")] = file.number(start + MP4_NUMBERS[kind], 4)
        if {b"vmhd", b"stsz", b"stts", b"stsc", b"stco"} <= tables.keys():
            ends = [*(first for first, *_ in placed), tables[b"stco"] + 1][1:]
            num_placed = sum((end - first) * num for (first, num, _), end in zip(placed, ends, strict=False))
            num_samples = tables[b"stsz"]
            if {num_placed, tables[b"stts"]} != {num_samples} or tables.get(b"ctts", 0) > num_samples:
                found = f"{num_placed:,} pictures and {tables[b'stts']:,} times"
                return Reason.DECODE_ERROR, f"{found}, expected {num_samples:,} as its index says"
        start += 8 if kind in MP4_PARENTS else length
    return None


def _end_of_segments(file: _File, start: int, length: int) -> int:
    """Return where the segments end that a box `sidx` lists (ISO/IEC 14496-12, 8.16.3)."""
    box = file.at(start, min(length, CHUNK_BYTES))
    width = 4 if box[8:9] == b"\0" else 8
    counts_at = 20 + 2 * width
    first = int.from_bytes(box[20 + width : counts_at], "big")
    sizes = (int.from_bytes(box[at : at + 4], "big") & 0x7FFFFFFF for at in range(counts_at + 4, len(box) - 11, 12))
    return start + length + first + sum(sizes)


def _matroska(file: _File) -> Fault | None:
    for kind, start, length in _elements(file):
        if length is None:
            continue
        if fault := _short(file, start + length, {SEGMENT: "segment", CLUSTER: "cluster"}.get(kind, "last element")):
            return fault
        if kind == CLUSTER and not _is_checksum_right(file, start, length):
            return Reason.DECODE_ERROR, f"a cluster at byte {start:,} that contradicts its checksum, expected it whole"
    return None


def _elements(file: _File) -> Iterator[tuple[int, int, int | None]]:
    """Yield (identifier, first byte of content, its length or None) of segment, its children, and open clusters."""
    start, end = 0, file.size
    while start + 2 <= end:
        head = file.at(start, 12)
        id_width = 9 - head[0].bit_length()
        if id_width > 4 or len(head) <= id_width:
            return
        width = 9 - head[id_width].bit_length()
        value = int.from_bytes(head[id_width : id_width + width], "big") & ((1 << 7 * width) - 1)
        kind, content = int.from_bytes(head[:id_width], "big"), start + id_width + width
        length = None if width > 8 or value == (1 << 7 * width) - 1 else value
        yield kind, content, length
        if kind == SEGMENT and length is not None:
            end = content + length
        start = content if kind == SEGMENT or length is None else content + length
        if length is None and kind not in (SEGMENT, CLUSTER):
            return


def _is_checksum_right(file: _File, start: int, length: int) -> bool:
    """Whether an element's checksum, if its first child is one, is that of the rest."""
    head = file.at(start, 6)
    if length < 6 or head[0] != CRC32:
        return True
    checksum, at = 0, start + 6
    while at < start + length:
        chunk = file.at(at, min(CHUNK_BYTES, start + length - at))
        checksum, at = zlib.crc32(chunk, checksum), at + len(chunk)
    return checksum == int.from_bytes(head[2:], "little")


def _avi(file: _File) -> Fault | None:
    start = 0
    while file.at(start, 4) == b"RIFF":
        length = int.from_bytes(file.at(start + 4, 4), "little")
        if length in NO_RIFF_LENGTHS:
            return None
        end = start + 8 + length
        if end - MAX_RIFF_ERROR > file.size:
            return _short(file, end, "RIFF chunk")
        start = end + length % 2
    return _avi_index(file)


def _avi_index(file: _File) -> Fault | None:
    """Return the fault of an index (idx1) that lists pictures which are not there, or one of them twice."""
    start, movi, index = 12, 0, b""
    while len(header := file.at(start, 12)) == 12 and not index:
        length = int.from_bytes(header[4:8], "little")
        if header[8:] == b"movi":
            movi = start + 8
        if header[:4] == b"idx1":
            index = file.at(start + 8, min(length, MAX_AVI_INDEX_BYTES))
        start += 8 + length + length % 2
    chunks = [  # each with its first bytes, name and size
        (place, kind + size.to_bytes(4, "little"))
        for kind, _, place, size in struct.iter_unpack("<4sIII", index[: len(index) // 16 * 16])
        if kind[2:] in AVI_PICTURES and size
    ]
    # Places count from the list of chunks, or from the start of the file.
    for base in (movi, 0):
        if any(file.at(base + place, 8) == first for place, first in chunks[:AVI_FIRST_CHUNKS]):
            right = {place for place, first in chunks if file.at(base + place, 8) == first}
            if len(right) < len(chunks):
                return Reason.DECODE_ERROR, f"{len(right):,} pictures, expected {len(chunks):,} as its index says"
            break
    return None


def _flv(file: _File) -> Fault | None:
    start, milliseconds, has_lengths = file.number(5, 4) + 4, 0, False
    while start < file.size:
        is_known = file.number(start, 1) & FLV_KIND in FLV_TAGS
        end = start + 11 + file.number(start + 1, 3) + 4
        # Each tag has its length again at its end, but not by all writers.
        is_length_right = file.number(end - 4, 4) == end - 4 - start
        if not is_known and not is_length_right:
            return None
        if fault := _short(file, end, "last tag"):
            return fault
        if not is_known or (has_lengths and not is_length_right):
            return Reason.DECODE_ERROR, f"a tag at byte {start:,} of unknown kind or length, expected a whole one"
        has_lengths = is_length_right
        milliseconds = max(milliseconds, file.number(start + 7, 1) << 24 | file.number(start + 4, 3))
        start = end
    metadata = file.at(0, 2**16)
    num_bytes, seconds = (_flv_number(metadata, name) for name in (b"filesize", b"duration"))
    if milliseconds / 1000 < LEAST_FLV_SHARE * seconds and file.size < LEAST_FLV_SHARE * num_bytes:
        return _short(file, int(num_bytes), "metadata")
    return None


def _flv_number(metadata: bytes, name: bytes) -> float:
    """Return a number of the script tag `onMetaData`; 0 if it is not there."""
    _, found, value = metadata.partition(len(name).to_bytes(2, "big") + name + b"\0")
    return float(struct.unpack(">d", value[:8])[0]) if found and len(value) >= 8 else 0.0


def _ogg(file: _File) -> Fault | None:
    start, is_ended = 0, dict[bytes, bool]()
    while (header := file.at(start, 27))[:4] == b"OggS":
        end = start + 27
        if len(header) == 27:
            end += header[-1] + sum(file.at(end, header[-1]))
        if fault := _short(file, end, "last page"):
            return fault
        serial = header[14:18]
        is_ended[serial] = is_ended.get(serial, False) or bool(header[5] & OGG_LAST_PAGE)
        start = end
    is_cut = start == file.size and not all(is_ended.values())
    return (Reason.TRUNCATED, "a stream without its last page, expected one") if is_cut else None


def _asf(file: _File) -> Fault | None:
    header = file.at(0, 2**16)
    at = header.find(ASF_FILE_PROPERTIES)
    if at < 0 or header[at + 88] & 1:  # a broadcast
        return None
    return _short(file, int.from_bytes(header[at + 40 : at + 48], "little"), "header")


def _ivf(file: _File) -> Fault | None:
    start = int.from_bytes(file.at(6, 2), "little")
    while start < file.size:
        start += 12 + int.from_bytes(file.at(start, 4), "little")
    return _short(file, start, "last frame")


def _gif(file: _File) -> Fault | None:
    start = 13 + _gif_colours(file.number(10, 1))
    while (kind := file.number(start, 1)) in (GIF_EXTENSION, GIF_PICTURE):
        start += 2 if kind == GIF_EXTENSION else 11 + _gif_colours(file.number(start + 9, 1))
        while length := file.number(start, 1):
            start += 1 + length
        start += 1  # the block of length 0 that ends each
        if fault := _short(file, start, "last block"):
            return fault
    # Some writers leave the last block out.
    is_known = kind == GIF_END or start == file.size
    return None if is_known else (Reason.DECODE_ERROR, f"byte {kind} at {start:,}, expected a block of a GIF")


def _gif_colours(flags: int) -> int:
    """Return the bytes of the table of colours that flags announce (GIF89a, 18 and 20)."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _ts(file: _File) -> Fault | None:
    start = file.at(0, 1024)
    num_bytes, offset = next(layout for layout in TS_LAYOUTS if _is_ts(start, *layout))
    whole = file.size // num_bytes * num_bytes
    is_cut = file.size % num_bytes and file.at(whole + offset, 1) == bytes([TS_SYNC])
    if is_cut:
        return _short(file, whole + num_bytes, "last packet")
    firsts = b""
    for at in range(0, whole, TS_PACKETS_AT_ONCE * num_bytes):
        firsts = firsts[-1:] + file.at(at, TS_PACKETS_AT_ONCE * num_bytes)[offset::num_bytes]
        if TS_HOLE.search(firsts):
            return Reason.DECODE_ERROR, f"packets without their first byte near byte {at:,}, expected it in each"
    return None


def _is_ts(start: bytes, num_bytes: int, offset: int) -> bool:
    return all(start[at : at + 1] == bytes([TS_SYNC]) for at in range(offset, 4 * num_bytes, num_bytes))


def _ps(file: _File) -> Fault | None:
    tail_at = max(0, file.size - PS_TAIL_BYTES)
    tail = file.at(tail_at, PS_TAIL_BYTES)
    at = tail.find(bytes([0, 0, 1, PS_PACK]))
    while at >= 0 and tail[at : at + 3] == b"\0\0\1" and at + 4 <= len(tail):
        kind = tail[at + 3]
        if kind == PS_PACK:
            is_mpeg2 = tail[at + 4 : at + 5] > b"\x3f"
            at += 14 + (tail[at + 13] & 7) if is_mpeg2 and at + 13 < len(tail) else 12
        elif kind >= PS_LEAST_PACKET:
            at += 6 + int.from_bytes(tail[at + 4 : at + 6], "big")
        else:
            at += 4
        if fault := _short(file, tail_at + at, "last packet"):
            return fault
    return None


# How the first bytes of each format are known, and what it promises.
_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[_File], Fault | None]], ...] = (
    (lambda start: start[4:8] in MP4_BOXES, _mp4),
    (lambda start: start[:4] == EBML_HEADER.to_bytes(4, "big"), _matroska),
    (lambda start: start[:4] == b"RIFF" and start[8:12] == b"AVI ", _avi),
    (lambda start: start[:3] == b"FLV", _flv),
    (lambda start: start[:4] == b"OggS", _ogg),
    (lambda start: start[:8] == bytes.fromhex("3026b2758e66cf11"), _asf),
    (lambda start: any(_is_ts(start, *layout) for layout in TS_LAYOUTS), _ts),
    (lambda start: start[:4] == bytes([0, 0, 1, PS_PACK]), _ps),
    (lambda start: start[:4] == b"DKIF", _ivf),
    (lambda start: start[:4] == b"GIF8", _gif),
)
