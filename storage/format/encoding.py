"""Encoding of records as bytes: JSON, arrays of numbers and encoded images; reading executes nothing.

    offset        bytes  what (all integers and numbers little-endian)
    0             4      magic, b"FSR1"
    4             4      uint32 H, length of the header
    8             4      uint32 CRC-32 (zlib's) of all bytes from offset 12 to the end
    12            H      header: JSON in ASCII, keys sorted, no white space
    12 + H        …      payload: parts back to back, in this order: the arrays by name, the crops, the masks

    header = {
      "arrays": {name: {"dtype": "<f4", "offset": n, "shape": [T, …], "size": n}, …},   one for each array of the record
      "crops":  [[offset, size], …],                                                    T encoded images
      "masks":  [[offset, size], …] or null,                                            T PNGs
      …                                                                                 each other field of a Record
    }

Offsets and sizes are in bytes, offsets from the start of the payload. dtypes are NumPy's: `<f4`, `<f8`, `<i8`, `|u1`,
and `|b1` (one byte, 0 or 1) for `interpolated`. Arrays are in C order. The arrays come first, so that making a table of
all records reads only the first page of each record, not its images.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeGuard, cast

import numpy as np
import numpy.typing as npt

from manifests.errors import StoreCorrupt
from storage.format.arrays import AnyArray
from storage.format.record import OPTIONAL_ARRAYS, Record

MAGIC = b"FSR1"
PREFIX = struct.Struct("<4sII")  # magic, length of the header, CRC-32
CRC_START = PREFIX.size  # first byte that the CRC covers

# Every array of a Record and its dtype in the payload.
ARRAY_DTYPES: dict[str, str] = {
    "boxes_xyxy": "<f4",
    "found_by": "|u1",
    "frame_indices": "<i8",
    "interpolated": "|b1",
    "landmark_scores": "<f4",
    "landmarks": "<f4",
    "matrices": "<f8",
    "pts_seconds": "<f8",
    "scores": "<f4",
}

_ITEM_BYTES = {name: np.dtype(dtype).itemsize for name, dtype in ARRAY_DTYPES.items()}

# Every other field of a Record except the images, and the types that JSON may give it.
_OPTIONAL_TEXT = (str, type(None))
SCALAR_TYPES: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "video_id": (str,),
    "dataset": (str,),
    "manipulation": _OPTIONAL_TEXT,
    "compression": _OPTIONAL_TEXT,
    "split": (str,),
    "label": (int,),
    "target_id": (str,),
    "source_id": _OPTIONAL_TEXT,
    "group_id": (str,),
    "track_id": (int,),
    "content_digest": (str,),
    "config_digest": (str,),
    "track_choice": _OPTIONAL_TEXT,
    "geometry_from": _OPTIONAL_TEXT,
    "mask_source": _OPTIONAL_TEXT,
}
# Fields that the first records lack; they are read as null.
_LATER_FIELDS = dict.fromkeys(("track_choice", "geometry_from", "mask_source"))


class ArrayPart(TypedDict):
    """An array in the payload of a record."""

    dtype: str
    """NumPy's name, such as `<f4`."""

    shape: list[int]
    """The first length is T."""

    offset: int
    """Bytes from the start of the payload."""

    size: int
    """Bytes."""


class RecordHeader(TypedDict):
    """JSON at the beginning of a record: every field in `SCALAR_TYPES`, and the places of arrays and images.

    Declared are those that readers take by name.
    """

    key: str
    """Key of the record. This field and those below are described in `Record`."""

    video_id: str
    """Identity of the video."""

    dataset: str
    """Name of the dataset."""

    manipulation: str | None
    """Forgery; None for real."""

    compression: str | None
    """Compression; None where the dataset has none."""

    split: str
    """`train`, `val` or `test`."""

    label: int
    """0 real, 1 fake."""

    track_id: int
    """Person within the video."""

    arrays: dict[str, ArrayPart]
    """Name → place; optional arrays may be missing."""

    crops: list[tuple[int, int]]
    """(offset, size) of T encoded images, bytes from the start of the payload."""

    masks: list[tuple[int, int]] | None
    """(offset, size) of T masks; None without masks."""


_WAY_OUT = "see `python -m storage.inspect OUT --verify`, then copy the shard again or process into a new folder"


def encode_record(record: Record) -> bytes:
    """Return the record's bytes: equal records give equal bytes."""
    parts: list[bytes] = []
    size_so_far = 0

    def append(part: bytes) -> tuple[int, int]:
        nonlocal size_so_far
        parts.append(part)
        size_so_far += len(part)
        return size_so_far - len(part), len(part)

    arrays: dict[str, ArrayPart] = {}
    for name, dtype in ARRAY_DTYPES.items():
        if getattr(record, name) is None:
            continue
        array = np.ascontiguousarray(getattr(record, name), dtype=dtype)
        offset, size = append(array.tobytes())
        arrays[name] = {"dtype": dtype, "shape": list(array.shape), "offset": offset, "size": size}
    header = {name: getattr(record, name) for name in SCALAR_TYPES} | {
        "arrays": arrays,
        "crops": [append(crop) for crop in record.crops_encoded],
        "masks": None if record.masks_encoded is None else [append(mask) for mask in record.masks_encoded],
    }
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
    body = b"".join((text, *parts))
    return PREFIX.pack(MAGIC, len(text), zlib.crc32(body)) + body


def decode_record(data: bytes | memoryview, key: str | None = None) -> Record:
    """Return the record; it owns its memory, so `data` may be a view into a database.

    Args:
        data: what `encode_record` returned.
        key: the key under which the bytes were found, for messages; it must be the record's own.

    Raises:
        StoreCorrupt: any byte is not what was written.
    """
    view = memoryview(data)
    what = _name(key)
    header = check_record(view, key)
    payload = _payload(view)
    scalars = cast(Mapping[str, object], header)
    fields: dict[str, Any] = {name: scalars[name] for name in SCALAR_TYPES}
    fields |= _arrays(header, payload)
    fields["crops_encoded"] = _images(payload, header["crops"])
    fields["masks_encoded"] = None if header["masks"] is None else _images(payload, header["masks"])
    try:
        return Record(**fields)
    except (TypeError, ValueError) as error:
        raise _corrupt(what, str(error), "fields that make a Record") from error


def check_record(data: bytes | memoryview, key: str | None = None) -> RecordHeader:
    """Check every byte of a record and return its header, for readers that need a part of the record only.

    Args:
        data: what `encode_record` returned.
        key: the key under which the bytes were found; it must be the record's own.

    Raises:
        StoreCorrupt: any byte is not what was written.
    """
    view = memoryview(data)
    what = _name(key)
    _header_end(view, what)  # the lengths first: the CRC is of no use without them
    promised, found = PREFIX.unpack_from(view)[2], zlib.crc32(view[CRC_START:])
    if found != promised:
        raise _corrupt(what, f"CRC-32 {found:#010x} of its bytes", f"{promised:#010x}")
    header = read_header(view, key)
    if key is not None and header["key"] != key:
        raise _corrupt(what, f"a record with the key {header['key']!r}", "the key under which it is stored")
    return header


def image_of(data: bytes | memoryview, place: tuple[int, int]) -> memoryview:
    """Return a view of an encoded image; it is valid as long as `data` is.

    Args:
        data: what `encode_record` returned.
        place: the image's (offset, size): an entry of `crops` or `masks` of the header.
    """
    offset, size = place
    return _payload(data)[offset : offset + size]


def frame_indices_of(data: bytes | memoryview, header: RecordHeader) -> npt.NDArray[np.int64]:
    """Return only the frame_indices of a record, (T,) int64, as a copy."""
    item = header["arrays"]["frame_indices"]
    return np.frombuffer(image_of(data, (item["offset"], item["size"])), dtype=ARRAY_DTYPES["frame_indices"]).copy()


def read_header(data: bytes | memoryview, key: str | None = None) -> RecordHeader:
    """Return the header after a check of its fields; the CRC is not checked, since that would read the whole record.

    Args:
        data: what `encode_record` returned.
        key: the key under which the bytes were found, for messages.

    Raises:
        StoreCorrupt: magic, lengths, JSON or fields are wrong.
    """
    view = memoryview(data)
    what = _name(key)
    header_end = _header_end(view, what)
    header = _parse_header(view, header_end, what)
    _check_parts(header, len(view) - header_end, what)
    return header


def read_arrays(data: bytes | memoryview, header: RecordHeader) -> dict[str, AnyArray]:
    """Return copies of a record's arrays without touching its images.

    Args:
        data: what `encode_record` returned.
        header: what `read_header` returned for it.
    """
    return _arrays(header, _payload(data))


def _payload(data: bytes | memoryview) -> memoryview:
    """Return the part behind the header of a record whose lengths have been checked."""
    view = memoryview(data)
    return view[PREFIX.size + PREFIX.unpack_from(view)[1] :]


def _arrays(header: RecordHeader, payload: memoryview) -> dict[str, AnyArray]:
    arrays: dict[str, AnyArray] = {}
    for name, dtype in _dtypes_of(header["arrays"]):
        item = header["arrays"][name]
        part = payload[item["offset"] : item["offset"] + item["size"]]
        # A copy: the payload is not aligned, and a database's memory ends with the transaction.
        arrays[name] = np.array(np.ndarray(tuple(item["shape"]), dtype=dtype, buffer=part))
    return arrays


def _images(payload: memoryview, places: Sequence[Sequence[int]]) -> tuple[bytes, ...]:
    return tuple(bytes(payload[offset : offset + size]) for offset, size in places)


def _header_end(view: memoryview, what: str) -> int:
    """Return the offset of the payload, after magic and lengths have been checked."""
    if len(view) < PREFIX.size:
        raise _corrupt(what, f"{len(view)} bytes", f"at least {PREFIX.size}")
    magic, header_size, _ = PREFIX.unpack_from(view)
    if magic != MAGIC:
        raise _corrupt(what, f"first bytes {magic!r}", f"{MAGIC!r}")
    header_end = PREFIX.size + int(header_size)
    if header_end > len(view):
        raise _corrupt(what, f"{len(view)} bytes", f"at least {header_end} as its header length says")
    return header_end


def _parse_header(view: memoryview, header_end: int, what: str) -> RecordHeader:
    try:
        header = json.loads(bytes(view[PREFIX.size : header_end]))
    except (ValueError, RecursionError) as error:
        raise _corrupt(what, f"a header that is not JSON ({error})", "JSON in ASCII") from error
    if not isinstance(header, dict):
        raise _corrupt(what, f"a header that is a {type(header).__name__}", "a JSON object")
    header = {**_LATER_FIELDS, **header}
    for name, types in SCALAR_TYPES.items():
        value = header.get(name, ...)
        if not isinstance(value, types) or isinstance(value, bool):
            shown = "no such field" if value is ... else repr(value)
            raise _corrupt(f"{what}, field {name}", shown, " or ".join(kind.__name__ for kind in types))
    return cast(RecordHeader, header)


def _check_parts(header: RecordHeader, payload_size: int, what: str) -> None:
    """Raise unless the header's parts lie back to back and fill the payload."""
    position = 0
    for name, offset, size in _parts(header, what):
        if offset != position or size < 0:
            raise _corrupt(
                f"{what}, {name}", f"offset {offset} and size {size}", f"offset {position} and a size of 0 or more"
            )
        position += size
    if position != payload_size:
        raise _corrupt(what, f"a payload of {payload_size} bytes", f"{position} as its header says")


def _parts(header: RecordHeader, what: str) -> list[tuple[str, int, int]]:
    """Return (name, offset, size) of each part in the order of the payload, after their types have been checked."""
    unchecked = cast(Mapping[str, object], header)
    arrays, crops, masks = unchecked.get("arrays"), unchecked.get("crops"), unchecked.get("masks", ...)
    if not isinstance(arrays, dict) or arrays.keys() | OPTIONAL_ARRAYS != ARRAY_DTYPES.keys():
        names = list(arrays) if isinstance(arrays, dict) else repr(arrays)
        raise _corrupt(f"{what}, field arrays", str(names), f"an object with {list(ARRAY_DTYPES)}")
    parts: list[tuple[str, int, int]] = []
    for name, dtype in _dtypes_of(arrays):
        item = arrays[name]
        if not isinstance(item, dict) or item.get("dtype") != dtype or not _are_lengths(item.get("shape")):
            raise _corrupt(f"{what}, array {name}", repr(item), f"dtype {dtype!r}, shape, offset and size")
        size = math.prod(item["shape"]) * _ITEM_BYTES[name]
        if item.get("size") != size or not _are_lengths([item.get("offset")]):
            raise _corrupt(f"{what}, array {name}", f"{item}", f"a size of {size} bytes, as dtype and shape give")
        parts.append((name, item["offset"], size))
    for name, images in (("crops", crops), ("masks", [] if masks is None else masks)):
        if not isinstance(images, list) or not all(_are_lengths(image) and len(image) == 2 for image in images):
            shown = "no such field" if images in (None, ...) else repr(images)
            raise _corrupt(f"{what}, field {name}", shown, "a list of [offset, size]")
        parts.extend((f"{name}[{row}]", offset, size) for row, (offset, size) in enumerate(images))
    return parts


def _dtypes_of(arrays: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return (name, dtype) of the arrays that a record has, in the order of the payload."""
    return [(name, dtype) for name, dtype in ARRAY_DTYPES.items() if name in arrays]


def _are_lengths(values: object) -> TypeGuard[list[int]]:
    """Return whether a value is a list of integers of 0 or more."""
    if not isinstance(values, list):
        return False
    # A loop, not all(…): this runs a dozen times for each record that is read, and a generator doubles its cost.
    for value in values:  # noqa: SIM110
        if type(value) is not int or value < 0:
            return False
    return True


def _name(key: str | None) -> str:
    return "record" if key is None else f"record {key}"


def _corrupt(what: str, got: str, expected: str) -> StoreCorrupt:
    return StoreCorrupt(f"{what}: got {got}, expected {expected}; {_WAY_OUT}")
