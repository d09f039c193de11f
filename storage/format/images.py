"""Encoding and decoding of images: crops as JPEG (4:4:4), PNG or lossless WebP, masks as PNG.

OpenCV is imported at first use: `--help` and tables of records do not need it.
"""

from __future__ import annotations

import struct
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from manifests.errors import StoreCorrupt
from storage.format.arrays import AnyArray

ImageFormat = Literal["jpeg", "png", "webp"]
IMAGE_FORMATS: tuple[ImageFormat, ...] = get_args(ImageFormat)

WEBP_LOSSLESS_QUALITY = 101  # OpenCV: any WebP quality over 100 means lossless

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
# JPEG markers of a frame header: 0xC0–0xCF without DHT (C4), JPG (C8) and DAC (CC); ITU-T T.81, table B.1.
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def encode_rgb(image: npt.NDArray[np.uint8], image_format: ImageFormat, quality: int) -> bytes:
    """Return one encoded crop.

    Args:
        image: (S,S,3) uint8 RGB.
        image_format: `jpeg` (4:4:4: no colour is shared between pixels), `png`, or `webp` (lossless).
        quality: 1..100, JPEG only; the other two are lossless.

    Raises:
        ValueError: another shape, dtype, format or quality.
    """
    import cv2

    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image: got {image.dtype} of shape {image.shape}, expected uint8 of shape (S, S, 3)")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality: got {quality}, expected 1..100")
    parameters: dict[str, tuple[str, list[int]]] = {
        "jpeg": (
            ".jpg",
            [
                *(cv2.IMWRITE_JPEG_QUALITY, quality),
                *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
            ],
        ),
        "png": (".png", []),
        "webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, WEBP_LOSSLESS_QUALITY]),
    }
    if image_format not in parameters:
        raise ValueError(f"image_format: got {image_format!r}, expected one of {list(IMAGE_FORMATS)}")
    return _encode(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), *parameters[image_format])


def encode_gray(mask: npt.NDArray[np.uint8]) -> bytes:
    """Return one encoded mask as PNG.

    Args:
        mask: (S,S) uint8.

    Raises:
        ValueError: another shape or dtype.
    """
    if mask.dtype != np.uint8 or mask.ndim != 2:
        raise ValueError(f"mask: got {mask.dtype} of shape {mask.shape}, expected uint8 of shape (S, S)")
    return _encode(mask, ".png", [])


def decode_rgb(data: bytes | memoryview) -> npt.NDArray[np.uint8]:
    """Return a crop as (S,S,3) uint8 RGB.

    Raises:
        StoreCorrupt: no image that can be decoded.
    """
    import cv2

    # Without IGNORE_ORIENTATION, an EXIF tag would rotate the image, and boxes and landmarks would no longer fit.
    return _decode(data, cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION, num_dimensions=3)


def decode_gray(data: bytes | memoryview) -> npt.NDArray[np.uint8]:
    """Return a mask as (S,S) uint8.

    Raises:
        StoreCorrupt: no image that can be decoded, or not a grey one.
    """
    import cv2

    return _decode(data, cv2.IMREAD_UNCHANGED, num_dimensions=2)


def suffix_of(data: bytes | memoryview) -> Literal["jpg", "png", "webp"]:
    """Return the file suffix for an encoded image, by its first bytes.

    Raises:
        StoreCorrupt: none of the three formats.
    """
    head = bytes(data[:12])
    if head.startswith(JPEG_MAGIC):
        return "jpg"
    if head.startswith(PNG_MAGIC):
        return "png"
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return "webp"
    raise _unreadable(data, "the first bytes of a JPEG, PNG or WebP file")


def size_of(data: bytes | memoryview) -> tuple[int, int]:
    """Return (height, width) in pixels from an image's header, without decoding it.

    Raises:
        StoreCorrupt: the header has no size.
    """
    suffix = suffix_of(data)
    try:
        if suffix == "png":
            width, height = struct.unpack_from(">II", data, 16)
            return height, width
        return _jpeg_size(data) if suffix == "jpg" else _webp_size(data)
    except struct.error as error:
        raise _unreadable(data, f"the header of a .{suffix} file with its size") from error


def _jpeg_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return (height, width) from the frame header: a JPEG is a chain of marker, length, segment."""
    position = 2
    while True:
        prefix, marker, length = struct.unpack_from(">BBH", data, position)
        if prefix != 0xFF:
            raise _unreadable(data, f"a JPEG marker at byte {position}")
        if marker in _JPEG_FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        position += 2 + length


def _webp_size(data: bytes | memoryview) -> tuple[int, int]:
    """Return (height, width) of a lossless WebP: 14 bits each, minus one, after the VP8L signature (RFC 9649)."""
    chunk, signature, bits = struct.unpack_from("<4s4xBI", data, 12)
    if chunk != b"VP8L" or signature != 0x2F:
        raise _unreadable(data, "a lossless WebP")
    return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1


def _encode(image: AnyArray, suffix: str, parameters: list[int]) -> bytes:
    import cv2

    succeeded, encoded = cv2.imencode(suffix, image, parameters)
    if not succeeded:
        raise ValueError(f"image: got shape {image.shape}, expected one that OpenCV encodes as {suffix}")
    return encoded.tobytes()


def _decode(data: bytes | memoryview, flags: int, num_dimensions: int) -> npt.NDArray[np.uint8]:
    import cv2

    if not len(data):
        raise _unreadable(data, "an encoded image")
    try:
        # imdecode's stub does not know that it returns None for what it cannot decode.
        image: Any = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise StoreCorrupt(f"image: got {len(data)} bytes that OpenCV refuses ({error}), expected an image") from error
    if image is None:
        raise _unreadable(data, "an encoded image")
    if image.dtype != np.uint8 or image.ndim != num_dimensions:
        kind = "(S, S, 3) uint8" if num_dimensions == 3 else "(S, S) uint8"
        raise StoreCorrupt(f"image: got {image.dtype} of shape {image.shape}, expected {kind}")
    decoded: npt.NDArray[np.uint8] = image
    return decoded


def _unreadable(data: bytes | memoryview, expected: str) -> StoreCorrupt:
    return StoreCorrupt(f"image: got {len(data)} bytes that start with {bytes(data[:8])!r}, expected {expected}")
