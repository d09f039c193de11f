"""Images come back as they went in: exactly where the format is lossless, with all their colour where it is not."""

from __future__ import annotations

import pickle
import struct

import numpy as np
import numpy.typing as npt
import pytest

from manifests.errors import StoreCorrupt
from storage.format.images import (
    IMAGE_FORMATS,
    ImageFormat,
    decode_gray,
    decode_rgb,
    encode_gray,
    encode_rgb,
    size_of,
    suffix_of,
)

HEIGHT, WIDTH = 40, 56


@pytest.fixture
def noise() -> npt.NDArray[np.uint8]:
    """(40,56,3) uint8: no codec can guess it, and no two channels agree."""
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.mark.parametrize("image_format", ["png", "webp"])
def test_lossless_formats_return_the_very_pixels(image_format: ImageFormat, noise: npt.NDArray[np.uint8]) -> None:
    # Quality is JPEG's: whatever it says, these stay lossless.
    decoded = decode_rgb(encode_rgb(noise, image_format, quality=1))
    np.testing.assert_array_equal(decoded, noise)
    assert decoded.dtype == np.uint8


def test_jpeg_keeps_channel_order_and_plain_colours() -> None:
    colours = np.array([(250, 20, 30), (20, 240, 40), (10, 30, 230)], dtype=np.uint8)
    image = np.repeat(np.repeat(colours[None], 16, axis=0), 16, axis=1)
    decoded = decode_rgb(encode_rgb(image, "jpeg", 95)).astype(int)
    assert np.abs(decoded[8, 8::16] - colours).max() <= 4


def test_jpeg_has_full_colour_resolution() -> None:
    image = np.zeros((32, 32, 3), dtype=np.uint8)
    image[:, ::2], image[:, 1::2] = (200, 60, 60), (60, 60, 200)  # columns one pixel wide
    data = encode_rgb(image, "jpeg", 95)
    # Halved colour would average each red column with its blue neighbour: an error of 70.
    assert np.abs(decode_rgb(data).astype(int) - image).mean() < 5
    # The frame header says the same: each of three components is sampled 1×1 (ITU-T T.81, B.2.2).
    start = data.index(b"\xff\xc0")
    components = data[start + 10 : start + 19]
    assert [components[1], components[4], components[7]] == [0x11, 0x11, 0x11]


def test_jpeg_quality_is_used(noise: npt.NDArray[np.uint8]) -> None:
    errors = [np.abs(decode_rgb(encode_rgb(noise, "jpeg", quality)).astype(int) - noise).mean() for quality in (95, 50)]
    assert errors[0] < errors[1] / 2


def test_mask_returns_the_very_values() -> None:
    mask = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(decode_gray(encode_gray(mask)), mask)


@pytest.mark.parametrize(("image_format", "suffix"), [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")])
def test_header_says_format_and_size(image_format: ImageFormat, suffix: str, noise: npt.NDArray[np.uint8]) -> None:
    data = encode_rgb(noise, image_format, 95)
    assert suffix_of(data) == suffix
    assert size_of(data) == (HEIGHT, WIDTH)
    assert size_of(memoryview(data)) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("image_format", IMAGE_FORMATS)
def test_header_that_is_cut_off_is_refused(image_format: ImageFormat, noise: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(StoreCorrupt, match="got 14 bytes"):
        size_of(encode_rgb(noise, image_format, 95)[:14])


def test_a_view_is_as_good_as_bytes(noise: npt.NDArray[np.uint8]) -> None:
    view = memoryview(b"before" + encode_rgb(noise, "png", 95))[6:]
    np.testing.assert_array_equal(decode_rgb(view), noise)


@pytest.mark.parametrize("data", [b"", b"\x00", b"no image", pickle.dumps({"a": 1}), b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(StoreCorrupt, match=f"got {len(data)} bytes"):
        decode_rgb(data)
    with pytest.raises(StoreCorrupt, match=f"got {len(data)} bytes"):
        decode_gray(data)


def test_a_coloured_mask_is_refused(noise: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(StoreCorrupt, match=r"shape \(40, 56, 3\), expected \(S, S\) uint8"):
        decode_gray(encode_rgb(noise, "png", 95))


def test_foreign_bytes_have_no_suffix() -> None:
    with pytest.raises(StoreCorrupt, match="JPEG, PNG or WebP"):
        suffix_of(b"GIF89a" + struct.pack("<HH", 4, 4))


@pytest.mark.parametrize(
    ("image", "image_format", "quality", "message"),
    [
        (np.zeros((8, 8), np.uint8), "png", 95, r"image: got uint8 of shape \(8, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), "png", 95, r"shape \(8, 8, 4\)"),
        (np.zeros((8, 8, 3), np.float32), "png", 95, "got float32"),
        (np.zeros((8, 8, 3), np.uint8), "gif", 95, r"got 'gif', expected one of \['jpeg', 'png', 'webp'\]"),
        (np.zeros((8, 8, 3), np.uint8), "jpeg", 0, "quality: got 0, expected 1..100"),
        (np.zeros((8, 8, 3), np.uint8), "jpeg", 101, "quality: got 101"),
    ],
)
def test_what_cannot_be_encoded_is_refused(
    image: npt.NDArray[np.uint8], image_format: ImageFormat, quality: int, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encode_rgb(image, image_format, quality)


@pytest.mark.parametrize("mask", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), bool)])
def test_what_is_no_mask_is_refused(mask: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(ValueError, match="mask: got"):
        encode_gray(mask)
