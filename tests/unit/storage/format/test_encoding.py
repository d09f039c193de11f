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
from storage.format.encoding import (
    ARRAY_DTYPES,
    SCALAR_TYPES,
    check_record,
    decode_record,
    encode_record,
    frame_indices_of,
    image_of,
    read_arrays,
    read_header,
)
from storage.format.record import OPTIONAL_ARRAYS, FoundBy, Record

# Of `full_record`. It changes only together with FORMAT_VERSION: stores out there are read by it.
PINNED_SHA256 = "fac180fc2a85d71f7271209ec0cfddec18fded011b2fa5e4bb856cdb5d12d30c"
# Of `tiny_record` as it was written before there were OPTIONAL_ARRAYS and LATER_FIELDS: such records are still read.
FIRST_SHA256 = "3e14c8766714bff88d69cf2b32c5111c53d18e00dffa4d7a9f8eb9fd1e599479"
LATER_FIELDS = ("geometry_from", "mask_source", "track_choice")


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


def full_record(**changes: Any) -> Record:
    """The same with everything that a record may do without."""
    values: dict[str, Any] = {
        "landmark_scores": np.arange(10, dtype=np.float32).reshape(2, 5) / 16,
        "found_by": np.array([FoundBy.BETWEEN, FoundBy.NOT_FOUND], np.uint8),
        **{"track_choice": "original", "geometry_from": "ffpp/youtube/c23/004", "mask_source": "difference"},
    }
    return tiny_record(**(values | changes))


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
        **dict.fromkeys(("frame_indices", "pts_seconds", "scores", "interpolated", "found_by"), (num_frames,)),
        "landmark_scores": (num_frames, num_landmarks),
    }
    arrays = {name: hnp.arrays(np.dtype(dtype), shapes[name]) for name, dtype in ARRAY_DTYPES.items()}
    values |= {name: draw(st.none() | array if name in OPTIONAL_ARRAYS else array) for name, array in arrays.items()}
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
    assert hashlib.sha256(encode_record(full_record())).hexdigest() == PINNED_SHA256


def first_bytes() -> bytes:
    """`tiny_record` as the first writers wrote it, down to the bit."""
    data = with_header(lambda header: [header.pop(name, None) for name in LATER_FIELDS])
    assert hashlib.sha256(data).hexdigest() == FIRST_SHA256
    return data


def test_records_of_the_first_writers_are_read() -> None:
    """They have format version 1, too, and say nothing of what they did not know."""
    record = decode_record(first_bytes())
    assert_same(record, tiny_record())
    assert [getattr(record, name) for name in (*LATER_FIELDS, *sorted(OPTIONAL_ARRAYS))] == [None] * 5


def test_headers_of_the_first_writers_are_read() -> None:
    header = read_header(first_bytes())
    assert [header.get(name) for name in LATER_FIELDS] == [None] * 3
    assert read_arrays(first_bytes(), header).keys() == ARRAY_DTYPES.keys() - OPTIONAL_ARRAYS


@pytest.mark.parametrize("name", ["landmark_scores", "found_by", "track_choice", "geometry_from", "mask_source"])
def test_each_optional_field_may_be_the_only_one(name: str) -> None:
    full = full_record()
    for record in (full_record(**{name: None}), tiny_record(**{name: getattr(full, name)})):
        data = encode_record(record)
        assert_same(decode_record(data), record)
        assert (name in read_arrays(data, read_header(data))) == (
            name in OPTIONAL_ARRAYS and getattr(record, name) is not None
        )


def test_what_is_not_known_takes_no_room_in_the_payload() -> None:
    header = read_header(encode_record(tiny_record()))
    assert not OPTIONAL_ARRAYS & header["arrays"].keys()
    assert header["crops"][0][0] == sum(item["size"] for item in header["arrays"].values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"landmark_scores": np.zeros((2, 4), np.float32)}, r"landmark_scores: got shape \(2, 4\)"),
        ({"landmark_scores": np.zeros((2, 68), np.float32)}, "landmark_scores"),
        ({"landmark_scores": np.zeros((1, 5), np.float32)}, "landmark_scores"),
        ({"landmark_scores": np.zeros((2, 5, 1), np.float32)}, "landmark_scores"),
        ({"found_by": np.zeros(3, np.uint8)}, "found_by"),
        ({"found_by": np.zeros((2, 1), np.uint8)}, "found_by"),
    ],
)
def test_optional_arrays_have_their_shapes(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        full_record(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"landmark_scores": np.zeros((2, 5), np.float64)},
        {"found_by": np.zeros(2, np.int64)},
        {"found_by": np.zeros(2, np.bool_)},
        {"found_by": [0, 0]},
        {"boxes_xyxy": None},
    ],
)
def test_arrays_have_their_dtypes_optional_or_not(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(changes))):
        full_record(**changes)


def test_an_outsider_reads_it_with_json_and_numpy_alone() -> None:
    data = encode_record(full_record())

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

    expected = full_record()
    assert arrays.keys() == ARRAY_DTYPES.keys()
    assert crops == [b"first crop", b"second"]
    assert masks == [b"mask", b""]
    assert header["manipulation"] == "FaceSwap"
    assert header["label"] == 1
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, getattr(expected, name), strict=True)
    assert data[12 : 12 + header_size].decode("ascii") == json.dumps(header, sort_keys=True, separators=(",", ":"))


def test_decoded_arrays_own_their_memory() -> None:
    data = bytearray(encode_record(full_record()))
    record = decode_record(memoryview(data))
    data[:] = bytes(len(data))
    assert_same(record, full_record())
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
    assert bytes(image_of(data, header["crops"][0])) == b"first crop"


def test_one_flipped_bit_anywhere_is_noticed() -> None:
    data = encode_record(full_record())
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
    with pytest.raises(StoreCorrupt, match="a record with the key 'ffpp/FaceSwap/c23/004_982/01/000007'"):
        decode_record(data, "ffpp/FaceSwap/c23/004_982/01/000008")


def with_header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The tiny record under a header that was changed, with lengths and CRC to match: what another writer makes."""
    data = encode_record(tiny_record())
    (header_size,) = struct.unpack_from("<I", data, 4)
    header = json.loads(data[12 : 12 + header_size])
    change(header)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    body = text + data[12 + header_size :]
    return struct.pack("<4sII", b"FSR1", len(text), zlib.crc32(body)) + body


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (lambda header, name=name: header.pop(name), f"field {name}: got no such field")
            for name in sorted(SCALAR_TYPES.keys() - LATER_FIELDS)
        ),
        *(
            (lambda header, name=name: header["arrays"].pop(name), "field arrays: got")
            for name in sorted(ARRAY_DTYPES.keys() - OPTIONAL_ARRAYS)
        ),
        (lambda header: header["arrays"].update(ages={}), "field arrays: got"),
        *(
            (lambda header, name=name: header.update({name: 3}), f"field {name}: got 3, expected str or NoneType")
            for name in LATER_FIELDS
        ),
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


def test_parts_of_a_record_are_those_of_the_whole() -> None:
    """Who wants the images alone checks the bytes once and takes views of them."""
    record = full_record()
    data = encode_record(record)
    header = check_record(data, record.key)
    assert tuple(bytes(image_of(data, place)) for place in header["crops"]) == record.crops_encoded
    assert np.array_equal(frame_indices_of(data, header), record.frame_indices)


def test_a_part_is_not_given_out_of_bytes_that_are_not_what_was_written() -> None:
    record = full_record()
    data = bytearray(encode_record(record))
    data[-1] ^= 1
    with pytest.raises(StoreCorrupt, match="CRC-32"):
        check_record(bytes(data), record.key)
    with pytest.raises(StoreCorrupt, match="the key under which it is stored"):
        check_record(encode_record(record), "another/00/000000")
