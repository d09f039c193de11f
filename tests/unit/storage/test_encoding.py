"""The record format: nothing is lost, nothing drifts, nothing broken passes for a record."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
import zlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from manifests.errors import StoreCorrupt
from storage.encoding import (
    ARRAY_DTYPES,
    SCALAR_TYPES,
    decode_record,
    encode_record,
    first_crop,
    read_arrays,
    read_header,
)
from storage.record import Record

# Of `tiny_record`. It changes only together with FORMAT_VERSION: stores out there are read by it.
PINNED_SHA256 = "3e14c8766714bff88d69cf2b32c5111c53d18e00dffa4d7a9f8eb9fd1e599479"


def tiny_record(**changes: Any) -> Record:
    """Two frames, one mask each, every number chosen, images that no codec made."""
    values: dict[str, Any] = {
        **{"key": "ffpp/FaceSwap/c23/004_982/01/000007", "video_id": "ffpp/FaceSwap/c23/004_982", "dataset": "ffpp"},
        **{"manipulation": "FaceSwap", "compression": "c23", "split": "val", "label": 1},
        **{"target_id": "004", "source_id": "982", "group_id": "ffpp/004_982", "track_id": 1},
        "crops_encoded": (b"first crop", b"second"),
        "masks_encoded": (b"mask", b""),
        "boxes_xyxy": np.array([[1, 2, 3, 4], [5.5, 6.5, 7.5, 8.5]], np.float32),
        "landmarks": np.arange(20, dtype=np.float32).reshape(2, 5, 2),
        "matrices": np.array([[[1, 0, -2], [0, 1, -3]], [[0.5, 0, 0], [0, 0.5, 0]]], np.float64),
        "frame_indices": np.array([7, 17], np.int64),
        "pts_seconds": np.array([0.28, 0.68], np.float64),
        "scores": np.array([0.75, 0], np.float32),
        "interpolated": np.array([False, True]),
        **{"content_digest": "c0" * 32, "config_digest": "d1" * 32},
    }
    return Record(**(values | changes))


@st.composite
def records(draw: st.DrawFn) -> Record:
    num_frames, num_landmarks = draw(st.integers(1, 4)), draw(st.sampled_from([0, 5, 68]))
    optional_text = st.none() | st.text(max_size=8)
    values: dict[str, Any] = {
        name: draw(optional_text if type(None) in types else st.text(max_size=12))
        for name, types in SCALAR_TYPES.items()
        if int not in types
    }
    shapes = {
        **{"boxes_xyxy": (num_frames, 4), "landmarks": (num_frames, num_landmarks, 2), "matrices": (num_frames, 2, 3)},
        **dict.fromkeys(("frame_indices", "pts_seconds", "scores", "interpolated"), (num_frames,)),
    }
    values |= {name: draw(hnp.arrays(np.dtype(dtype), shapes[name])) for name, dtype in ARRAY_DTYPES.items()}
    images = st.lists(st.binary(max_size=30), min_size=num_frames, max_size=num_frames).map(tuple)
    values |= {"crops_encoded": draw(images), "masks_encoded": draw(st.none() | images)}
    return Record(label=draw(st.integers(0, 1)), track_id=draw(st.integers(0, 10**9)), **values)


def assert_same(left: Record, right: Record) -> None:
    for item in fields(Record):
        one, other = getattr(left, item.name), getattr(right, item.name)
        if isinstance(one, np.ndarray):
            # Bytes, not values: NaN is not equal to itself, and -0.0 is equal to 0.0.
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()), item.name
        else:
            assert one == other, item.name


@settings(max_examples=80, deadline=None)
@given(record=records())
def test_round_trip_loses_nothing(record: Record) -> None:
    data = encode_record(record)
    assert_same(decode_record(data), record)
    assert encode_record(decode_record(data)) == data


def test_every_field_of_a_record_is_encoded() -> None:
    assert {item.name for item in fields(Record)} == {*SCALAR_TYPES, *ARRAY_DTYPES, "crops_encoded", "masks_encoded"}


def test_bytes_are_pinned() -> None:
    assert hashlib.sha256(encode_record(tiny_record())).hexdigest() == PINNED_SHA256


def test_an_outsider_reads_it_with_json_and_numpy_alone() -> None:
    data = encode_record(tiny_record())

    magic, header_size, crc = struct.unpack_from("<4sII", data)
    assert magic == b"FSR1"
    assert crc == zlib.crc32(data[12:])
    header = json.loads(data[12 : 12 + header_size])
    payload = data[12 + header_size :]
    arrays = {
        name: np.frombuffer(payload, item["dtype"], int(np.prod(item["shape"])), item["offset"]).reshape(item["shape"])
        for name, item in header["arrays"].items()
    }
    crops = [payload[offset : offset + size] for offset, size in header["crops"]]
    masks = [payload[offset : offset + size] for offset, size in header["masks"] or ()]

    expected = tiny_record()
    assert crops == [b"first crop", b"second"]
    assert masks == [b"mask", b""]
    assert header["manipulation"] == "FaceSwap"
    assert header["label"] == 1
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, getattr(expected, name), strict=True)
    assert data[12 : 12 + header_size].decode("ascii") == json.dumps(header, sort_keys=True, separators=(",", ":"))


def test_decoded_arrays_own_their_memory() -> None:
    data = bytearray(encode_record(tiny_record()))
    record = decode_record(memoryview(data))
    data[:] = bytes(len(data))
    assert_same(record, tiny_record())
    for name in ARRAY_DTYPES:
        array = getattr(record, name)
        assert array.flags.owndata, name
        assert array.flags.aligned, name
        assert array.flags.writeable, name


def test_header_and_arrays_are_read_without_images() -> None:
    data = encode_record(tiny_record())
    header = read_header(data)
    images_start = 12 + len(data[12:].split(b"first crop")[0])
    without_images = data[:images_start] + bytes(len(data) - images_start)
    assert read_header(without_images) == header
    np.testing.assert_array_equal(read_arrays(without_images, header)["frame_indices"], [7, 17])
    assert bytes(first_crop(data, header)) == b"first crop"


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    data = encode_record(tiny_record())
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 1 << position % 8
        with pytest.raises(StoreCorrupt):
            decode_record(bytes(broken))


def test_a_record_cut_off_anywhere_is_noticed() -> None:
    data = encode_record(tiny_record())
    for length in range(len(data)):
        with pytest.raises(StoreCorrupt):
            decode_record(data[:length])
        with pytest.raises(StoreCorrupt):
            read_header(data[:length])


def test_bytes_at_the_end_are_noticed() -> None:
    data = encode_record(tiny_record())
    with pytest.raises(StoreCorrupt, match="CRC-32"):
        decode_record(data + b"\0")
    with pytest.raises(StoreCorrupt, match="payload of"):
        read_header(data + b"\0")


def test_a_pickle_is_not_executed() -> None:
    with pytest.raises(StoreCorrupt, match=r"record some/key: got first bytes b'\\x80.*expected b'FSR1'"):
        decode_record(pickle.dumps(tiny_record), "some/key")


def test_a_record_under_a_foreign_key_is_noticed() -> None:
    data = encode_record(tiny_record())
    assert decode_record(data, tiny_record().key).label == 1
    with pytest.raises(StoreCorrupt, match="calls itself 'ffpp/FaceSwap/c23/004_982/01/000007'"):
        decode_record(data, "ffpp/FaceSwap/c23/004_982/01/000008")


def with_header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The tiny record under a header that was changed, with lengths and CRC to match: what a defective writer makes."""
    data = encode_record(tiny_record())
    (header_size,) = struct.unpack_from("<I", data, 4)
    header = json.loads(data[12 : 12 + header_size])
    change(header)
    text = json.dumps(header).encode("ascii")
    body = text + data[12 + header_size :]
    return struct.pack("<4sII", b"FSR1", len(text), zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *((lambda header, name=name: header.pop(name), f"field {name}: got no such field") for name in SCALAR_TYPES),
        *((lambda header, name=name: header["arrays"].pop(name), "field arrays: got") for name in ARRAY_DTYPES),
        (lambda header: header.pop("arrays"), "field arrays: got None"),
        (lambda header: header.pop("crops"), "field crops: got no such field"),
        (lambda header: header.pop("masks"), "field masks: got no such field"),
        (lambda header: header.update(crops=None), "field crops"),
        (lambda header: header.update(label="fake"), "field label: got 'fake', expected int"),
        (lambda header: header.update(label=True), "field label: got True, expected int"),
        (lambda header: header.update(label=2), "got 2, expected 0 .real. or 1"),
        (lambda header: header.update(key=7), "field key: got 7, expected str"),
        (lambda header: header.update(manipulation=3), "field manipulation: got 3, expected str or NoneType"),
        (lambda header: header["arrays"]["scores"].update(dtype="<f8"), "array scores"),
        (lambda header: header["arrays"]["scores"].update(shape=[3]), "array scores.*expected a size of 12 bytes"),
        (lambda header: header["arrays"]["scores"].update(shape=[-2]), "array scores"),
        (lambda header: header["arrays"]["scores"].update(size=7), "array scores.*expected a size of 8 bytes"),
        (lambda header: header["arrays"]["scores"].update(offset="0"), "array scores"),
        (lambda header: header["arrays"]["scores"].update(offset=0), "scores: got offset 0"),
        (lambda header: header["arrays"].update(scores=[]), "array scores"),
        (lambda header: header["arrays"]["boxes_xyxy"].update(shape=[1, 8]), "boxes_xyxy: got shape .1, 8."),
        (lambda header: header["crops"].pop(), "masks.0.: got offset"),
        (lambda header: header["masks"].pop(), "masks_encoded.*got 1, expected 2"),
        (lambda header: header["crops"][0].append(1), "field crops"),
        (lambda header: header["crops"][1].__setitem__(1, 10**6), "got offset"),
        (lambda header: header["masks"][1].__setitem__(1, 10**6), "a payload of"),
    ],
)  # fmt: skip
def test_a_wrong_header_is_named(change: Callable[[dict[str, Any]], Any], message: str) -> None:
    data = with_header(change)
    with pytest.raises(StoreCorrupt, match=message):
        decode_record(data, "ffpp/FaceSwap/c23/004_982/01/000007")


def test_a_header_may_say_more_than_it_must() -> None:
    assert_same(decode_record(with_header(lambda header: header.update(remark="new"))), tiny_record())


@pytest.mark.parametrize("text", [b"[]", b"null", b"7"])
def test_a_header_that_is_no_object_is_refused(text: bytes) -> None:
    data = struct.pack("<4sII", b"FSR1", len(text), zlib.crc32(text)) + text
    with pytest.raises(StoreCorrupt, match="expected a JSON object"):
        decode_record(data)


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b"[" * 100_000, b'{"key": "a"} {}'])
def test_a_header_that_is_not_json_is_refused(text: bytes) -> None:
    data = struct.pack("<4sII", b"FSR1", len(text), zlib.crc32(text)) + text
    with pytest.raises(StoreCorrupt, match="not JSON"):
        decode_record(data)


def test_arrays_of_other_layout_are_stored_in_c_order() -> None:
    matrices: npt.NDArray[np.float64] = np.asfortranarray(tiny_record().matrices)
    assert encode_record(tiny_record(matrices=matrices)) == encode_record(tiny_record())
