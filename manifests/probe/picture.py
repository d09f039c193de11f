"""The picture that a player shows: what container and stream say about it, which of it is applied, and which is not.

    cropped       MP4's clean aperture and Matroska's PixelCrop hide pixels at the borders (FFmpeg's decoders apply only
                  the cropping of the stream itself)
    made square   a pixel may be wider than high: the picture is stretched in the one direction or the other
    turned        the display matrix of container or stream: by quarters, and mirrored; other angles are refused

These are applied, in this order. Colours are converted by the stream's matrix and range, and by BT.601 where it states
none. Everything else is stored as it is coded, and `notes` names it: interlaced pictures, high dynamic range, several
views.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from manifests.probe.ffmpeg_log import log_lines
from manifests.rejected import Reason, Stage

if TYPE_CHECKING:
    from av.buffer import Buffer
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

Matrix = tuple[int, int, int, int]  # x' from x, y' from x, x' from y, y' from y; -1, 0 or 1 each
UPRIGHT: Matrix = (1, 0, 0, 1)
Pixel = TypeVar("Pixel", bound=np.generic)

# A pixel within 1 % of a square is one: encoders state 1280:1281 where 854 pixels stand for 853⅓. FFmpeg's MP4 reader
# has the same tolerance.
SQUARE_TOLERANCE = Fraction(1, 100)
ROUNDING = 0.001  # of the display matrix: a twentieth of a degree
MAX_PIXEL_ASPECT = 4  # twice that of any television standard; a damaged header may state thousands

CROPPING = re.compile(r"^\s+Frame Cropping: (\d+)/(\d+)/(\d+)/(\d+)$", re.IGNORECASE | re.MULTILINE)
STREAM = re.compile(r"^  Stream #0:(\d+)", re.MULTILINE)
# FFmpeg's AVColorSpace and AVColorTransferCharacteristic, and what frames say beside their pixels.
MATRICES = {0: "RGB", 1: "BT.709", 4: "FCC", 5: "BT.601", 6: "BT.601", 7: "SMPTE 240M", 9: "BT.2020", 10: "BT.2020"}
NO_MATRIX, FULL_RANGE = 2, 2
HIGH_RANGES = {16: "PQ", 18: "HLG"}
SIDE_DATA = {"STEREO3D": "two views", "SPHERICAL": "a sphere", "DOVI_METADATA": "Dolby Vision"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a container says about the pixels of a stream, before they are turned."""

    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels to hide at the left, right, top and bottom."""

    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel divided by its height; 1 if it is nearly square."""

    @property
    def is_plain(self) -> bool:
        """Whether the coded pixels are those that are shown."""
        return self == Layout()

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the picture that a frame becomes before it is turned."""
        left, right, top, bottom = self.crop
        return self.stretched(width - left - right, height - top - bottom)

    def stretched(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height with square pixels; neither becomes smaller."""
        return round(width * max(self.pixel_aspect, Fraction(1))), round(height / min(self.pixel_aspect, Fraction(1)))

    def cropped(self, picture: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
        """Return the (H,W,…) picture without hidden borders, a view."""
        left, right, top, bottom = self.crop
        return picture[top : len(picture) - bottom, left : picture.shape[1] - right]


def layout_of(container: InputContainer, stream: VideoStream, stage: Stage) -> Layout:
    """Return what the container says about the pixels of a stream.

    Raises:
        VideoRejected: it hides all of them, or no player shows such pixels.
    """
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    crop = _cropping(container, stream)
    width, height = stream.codec_context.width - crop[0] - crop[1], stream.codec_context.height - crop[2] - crop[3]
    if min(width, height) < 1:
        raise _refused(container, stage, f"a picture of which {crop} pixels (left, right, top, bottom) are hidden")
    if aspect and not 1 / Fraction(MAX_PIXEL_ASPECT) <= aspect <= MAX_PIXEL_ASPECT:
        raise _refused(container, stage, f"pixels of {aspect.numerator}:{aspect.denominator}")
    if not aspect or abs(aspect - 1) <= SQUARE_TOLERANCE:
        aspect = Fraction(1)
    return Layout(crop=crop, pixel_aspect=aspect)


def _cropping(container: InputContainer, stream: VideoStream) -> tuple[int, int, int, int]:
    """Return left, right, top and bottom of what the container hides, which PyAV tells only in the log of its dump."""
    import av

    if not {"mov", "matroska"} & set(container.format.name.split(",")):
        return 0, 0, 0, 0
    with log_lines(av.logging.INFO):
        dump = container.dumps_format()  # type: ignore[attr-defined]  # not in the stubs of PyAV
    parts = STREAM.split(dump)
    of_stream = dict(zip(parts[1::2], parts[2::2], strict=True)).get(str(stream.index), "")
    found = CROPPING.search(of_stream)
    if found is None:
        return 0, 0, 0, 0
    left, right, top, bottom = map(int, found.groups())
    return left, right, top, bottom


def matrix_of(frame: VideoFrame) -> Matrix:
    """Return the signs of a frame's display matrix (ISO/IEC 14496-12, 6.2.2); scale and rounding are ignored.

    Players ignore a matrix of zeros, which some writers leave in the header.
    """
    data = _side_data(frame).get("DISPLAYMATRIX")
    if data is None:
        return UPRIGHT
    values = np.frombuffer(bytes(data), dtype=np.int32).reshape(3, 3)[:2, :2].astype(np.float64)
    if not values.any():
        return UPRIGHT
    values[np.abs(values) < ROUNDING * np.abs(values).max()] = 0
    (xx, xy), (yx, yy) = np.sign(values).astype(int).tolist()
    return xx, xy, yx, yy


def _side_data(frame: VideoFrame) -> Mapping[str, Buffer]:
    """Return what a frame says beside its pixels, by FFmpeg's names.

    PyAV cannot read any of it if one kind is unknown to it: Exif in JPEG pictures, the views of spatial videos.
    """
    from av.sidedata.sidedata import Type

    def unknown(kinds: type[Type], value: int) -> Type:
        kind: Any = object.__new__(kinds)
        kind._name_, kind._value_ = f"UNKNOWN_{value}", value
        return cast("Type", kind)

    if "_missing_" not in vars(Type):  # an enumeration asks this function for values that it does not list
        Type._missing_ = classmethod(unknown)  # type: ignore[assignment]  # a method, hidden from others
    return cast("Mapping[str, Buffer]", frame.side_data)


def turns(matrix: Matrix) -> bool:
    """Whether a matrix maps rows to columns."""
    return bool(matrix[1])


def is_right_angled(matrix: Matrix) -> bool:
    """Whether a matrix is one of the eight that map pixels onto pixels."""
    xx, xy, yx, yy = map(bool, matrix)
    return xx == yy != xy == yx


def upright(picture: npt.NDArray[Pixel], matrix: Matrix) -> npt.NDArray[Pixel]:
    """Turn or mirror an (H,W,…) picture: x' = x * xx + y * yx, y' = x * xy + y * yy; a view."""
    xx, xy, yx, yy = matrix
    if turns(matrix):
        picture, xx, yy = picture.swapaxes(0, 1), yx, xy
    return picture[:: -1 if yy < 0 else 1, :: -1 if xx < 0 else 1]


def shown_size(frame: VideoFrame, layout: Layout) -> tuple[int, int]:
    """Return width and height of the picture that a player shows of a frame."""
    width, height = layout.size(frame.width, frame.height)
    return (height, width) if turns(matrix_of(frame)) else (width, height)


def refuse_odd_angle(container: InputContainer, matrix: Matrix, stage: Stage) -> None:
    """Require a matrix that maps pixels onto pixels.

    Raises:
        VideoRejected: it turns by another angle.
    """
    if not is_right_angled(matrix):
        raise _refused(container, stage, "a picture that is not rotated by a multiple of 90°")


def notes(frame: VideoFrame, layout: Layout) -> str:
    """Describe what container and stream say about the picture: its colours, what was applied, what was not."""
    space, transfer = int(frame.colorspace), int(frame.color_trc)
    is_full = int(frame.color_range) == FULL_RANGE or frame.format.name.startswith("yuvj")
    stated = MATRICES.get(space, f"matrix {space}") if space != NO_MATRIX else "no matrix stated"
    side = _side_data(frame)
    remarks = {
        "interlaced, stored as coded": frame.interlaced_frame,
        f"{HIGH_RANGES.get(transfer)}, stored without tone mapping": transfer in HIGH_RANGES,
        "transparency dropped": any(part.is_alpha for part in frame.format.components),
    } | {f"{name}, stored as coded": side.get(key) is not None for key, name in SIDE_DATA.items()}
    colours = f"{frame.format.name}, {stated}, {'full' if is_full else 'limited'} range"
    unusual = [remark for remark, applies in remarks.items() if applies]
    return "; ".join([colours, *beyond_quarter_turns(frame, layout), *unusual])


def beyond_quarter_turns(frame: VideoFrame, layout: Layout) -> list[str]:
    """Name what is applied to the picture apart from quarter turns."""
    crop, aspect = layout.crop, layout.pixel_aspect
    xx, xy, yx, yy = matrix_of(frame)
    changes = {
        "cropped by {} left, {} right, {} top, {} bottom".format(*crop): any(crop),
        f"pixels of {aspect.numerator}:{aspect.denominator} made square": aspect != 1,
        "mirrored": xx * yy - xy * yx < 0,
    }
    return [change for change, applies in changes.items() if applies]


def _refused(container: InputContainer, stage: Stage, got: str) -> VideoRejected:
    detail = f"{container.name.rpartition('/')[2]}: got {got}, expected what a player shows; encode it again"
    return VideoRejected(stage, Reason.UNSUPPORTED, detail)
