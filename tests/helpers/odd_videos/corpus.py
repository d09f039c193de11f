"""The files of the corpus by name: containers and codings, times, edit lists, geometry, colours, hidden pictures."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.helpers.odd_videos.damage import CONTRADICTIONS, cut, damaged, zeroed
from tests.helpers.odd_videos.field_pairs import encode_fields
from tests.helpers.odd_videos.making import (
    HEIGHT,
    NUMBERS,
    QUIET,
    WIDTH,
    Odd,
    Picture,
    bordered,
    encode,
    filtered,
    packets_of,
    painted,
    remux,
    replaced,
    shifted,
    with_clean_aperture,
    with_edits,
    with_matrix,
    with_pixel_crop,
)

Options = dict[str, Any]
Maker = Callable[[Path], Path]
B_FRAMES: Options = {"bf": "2", "g": "6"}
NONE: Options = {"bf": "0", "g": "6"}
X265: Options = {"bf": "2", "preset": "ultrafast"} | QUIET
AV1: Options = {"preset": "10", "crf": "20", "svtav1-params": "lp=1"}
VP: Options = {"deadline": "realtime", "cpu-used": "8", "g": "6", "b": "1M"}
STEREO: Options = {"x264-params": "frame-packing=3"}
RATE: Options = {"b": "2M"}

# name → encoder, pixel format, options, suffixes of the containers
CODINGS: dict[str, tuple[str, str, Options, str]] = {
    "H.264": ("libx264", "yuv420p", NONE, "mp4 mov mkv avi ts m2ts flv 3gp nut h264"),
    "H.264 B": ("libx264", "yuv420p", B_FRAMES, "mp4 mov mkv avi ts m2ts flv 3gp nut h264"),
    "H.264 RGB": ("libx264rgb", "rgb24", NONE, "mp4 mkv"),
    "H.264 4:4:4 B": ("libx264", "yuv444p", B_FRAMES, "mp4 avi"),
    "HEVC B": ("libx265", "yuv420p", X265, "mp4 mkv ts hevc"),
    "MPEG-4": ("mpeg4", "yuv420p", NONE | RATE, "avi mp4 mkv"),
    "MPEG-4 B": ("mpeg4", "yuv420p", B_FRAMES | RATE, "avi mp4 mkv m4v"),
    "MPEG-2": ("mpeg2video", "yuv420p", NONE | RATE, "mpg avi"),
    "MPEG-2 B": ("mpeg2video", "yuv420p", B_FRAMES | RATE, "mpg ts mkv vob"),
    "MPEG-1 B": ("mpeg1video", "yuv420p", B_FRAMES | RATE, "mpg"),
    "VP8": ("libvpx", "yuv420p", VP, "webm mkv avi"),
    "VP9": ("libvpx-vp9", "yuv420p", VP, "webm mp4 ivf"),
    "AV1": ("libsvtav1", "yuv420p", AV1, "mp4 webm ivf obu"),
    "MJPEG": ("mjpeg", "yuvj420p", {"qmin": "1", "q": "2"}, "avi mov mkv mjpeg"),
    "PNG": ("png", "rgb24", {}, "mov avi"),
    "ProRes": ("prores_ks", "yuv422p10le", {}, "mov"),
    "FFV1": ("ffv1", "yuv420p", {}, "mkv avi"),
    "HuffYUV": ("huffyuv", "yuv422p", {}, "avi"),
    "raw": ("rawvideo", "yuv420p", {}, "avi mkv nut"),
    "WMV2": ("wmv2", "yuv420p", NONE | RATE, "wmv avi"),
    "MS-MPEG4": ("msmpeg4", "yuv420p", NONE | RATE, "avi"),
    "FLV1": ("flv", "yuv420p", NONE | RATE, "flv"),
    "H.263": ("h263", "yuv420p", RATE, "3gp avi"),
    "QT animation": ("qtrle", "rgb24", {}, "mov"),
    "UT": ("utvideo", "yuv420p", {}, "avi"),
    "GIF": ("gif", "rgb8", {}, "gif"),
    "APNG": ("apng", "rgb24", {}, "apng"),
}


def mp4(folder: Path, **options: Any) -> Path:
    """Make an ordinary MP4 with B-frames, its index at the end."""
    return encode(folder / "c.mp4", **(B_FRAMES | options))


def changed(change: Callable[[list[Any]], Any], folder: Path, *, suffix: str = ".mp4", **coding: Any) -> Path:
    """Make a file and copy its packets as changed."""
    source = encode(folder / f"whole{coding.pop('source', '.mp4')}", **(NONE | coding))
    return remux(source, folder / f"c{suffix}", change)


def keeping(places: Sequence[int]) -> Callable[[list[Any]], list[Any]]:
    """Return a change that keeps packets at these places."""
    return lambda packets: [packet for place, packet in enumerate(packets) if place in places]


def at_same_time(packets: list[Any]) -> list[Any]:
    """Give a picture the time of the next one."""
    packets[5].pts = packets[6].pts
    return packets


def inverse(picture: Callable[[Picture], Picture]) -> Callable[[int], Picture]:
    """Return the pictures that become upright if a player changes them so."""
    return lambda number: np.ascontiguousarray(picture(painted(number)))


def turned(matrix: tuple[float, float, float, float], picture: Callable[[Picture], Picture], folder: Path) -> Path:
    """Make a video that lies as `picture` lays it, with the matrix that turns it back."""
    return with_matrix(mp4(folder, picture=inverse(picture)), *matrix)


# What a camera did to the picture, and the matrix with which a player undoes it.
TURNS: dict[str, tuple[tuple[float, float, float, float], Callable[[Picture], Picture]]] = {
    "by 90": ((0, 1, -1, 0), lambda picture: np.rot90(picture, 1)),
    "by 180": ((-1, 0, 0, -1), lambda picture: np.rot90(picture, 2)),
    "by 270": ((0, -1, 1, 0), lambda picture: np.rot90(picture, -1)),
    "mirrored": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda picture: picture[::-1]),
    "transposed": ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
    "transversed": ((0, -1, -1, 0), lambda picture: np.rot90(picture, 2).transpose(1, 0, 2)),
    "by 90, doubled": ((0, 2, -2, 0), lambda picture: np.rot90(picture, 1)),
}
SPACES = {"BT.709": ("bt709", "ITU709"), "BT.601": ("smpte170m", "ITU601"), "FCC": ("fcc", "FCC")}
SPACES |= {"SMPTE 240M": ("smpte240m", "SMPTE240M"), "BT.2020": ("bt2020nc", "BT2020")}


def hide_vp8(packets: list[Any]) -> list[Any]:
    """Clear the bit by which a VP8 picture is shown, in the fifth and eighth packet."""
    for place in (4, 7):
        data = bytearray(bytes(packets[place]))
        data[0] &= ~0x10
        packets[place] = replaced(packets[place], bytes(data))
    return packets


def show_vp9_again(packets: list[Any]) -> list[Any]:
    """Replace the eighth packet by VP9's request to show a picture again: the first reference, the last picture."""
    packets[7] = replaced(packets[7], bytes([0b1000_1000]))
    return packets[:8]


def hide_vp9(packets: list[Any]) -> list[Any]:
    """Hide the first picture, a key picture, and show it by a second packet in the same superframe."""
    data = bytearray(bytes(packets[0]))
    data[0] &= ~0b10
    marker = bytes([0b1101_0001])  # two sizes of three bytes
    again = bytes([0b1000_1000])
    sizes = len(data).to_bytes(3, "little") + (1).to_bytes(3, "little")
    packets[0] = replaced(packets[0], bytes(data) + again + marker + sizes + marker)
    return packets


def with_empty_vops(packets: list[Any]) -> list[Any]:
    """Replace the fifth packet by MPEG-4's picture that is not coded: nothing new is shown."""
    start = bytes(packets[4]).index(b"\0\0\1\xb6")
    # The header up to the bit that says whether the picture is coded: type P in two bits, then the time, unchanged.
    bits = f"{int.from_bytes(bytes(packets[4])[start + 4 : start + 8], 'big'):032b}"
    header = bits[: bits.index("0", 2) + 1]  # type, seconds
    tail = bits[len(header) :]
    time = tail[: 1 + 5 + 1]  # marker, 5 bits for 25ths of a second, marker
    empty = (header + time + "0").ljust(24, "0")
    packets[4] = replaced(packets[4], b"\0\0\1\xb6" + int(empty, 2).to_bytes(3, "big"))
    return packets


def pack_b_vops(packets: list[Any]) -> list[Any]:
    """Put each B picture of MPEG-4 into the packet before it, as DivX did in AVI, and an empty picture in its place."""
    first = bytes(packets[0])
    start = first.index(b"\0\0\1\xb6")
    contents = [first[:start] + b"\0\0\1\xb2DivX503b1393p" + first[start:]]
    for forward, backward in zip(packets[1::2], packets[2::2], strict=True):
        contents += [bytes(forward) + bytes(backward), b"\0\0\1\xb6\x50\0\x10"]
    packed = [replaced(packet, content) for packet, content in zip(packets, contents, strict=True)]
    for place, packet in enumerate(packed):
        packet.pts = packet.dts = place
        packet.time_base = Fraction(1, 25)
    return packed


def from_second_key(packets: list[Any]) -> list[Any]:
    """Cut before the second key picture, which pictures that are shown before it refer across."""
    second = [place for place, packet in enumerate(packets) if packet.is_keyframe][1]
    return packets[second:]


def with_note_alone(packets: list[Any]) -> list[Any]:
    """Put a packet between others that holds a filler unit of H.264 and no picture."""
    note = replaced(packets[5], b"\0\0\0\4\x0c\xff\xff\x80")
    note.pts = note.dts = packets[5].pts + packets[5].duration // 2
    note.is_keyframe = False
    return [*packets[:6], note, *packets[6:]]


def with_exif(packets: list[Any]) -> list[Any]:
    """Put Exif behind the first marker of each JPEG picture, as cameras do: one entry, the orientation "upright"."""
    exif = b"Exif\0\0MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 1, 0, 0)
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    return [replaced(packet, bytes(packet)[:2] + segment + bytes(packet)[2:]) for packet in packets]


def two_sizes(folder: Path) -> Path:
    """Make an MPEG-TS of two streams, one behind the other, of different sizes."""
    small = encode(folder / "small.ts", **NONE)
    large = encode(folder / "large.ts", picture=lambda number: painted(number, 2 * WIDTH, 2 * HEIGHT), **NONE)
    (folder / "c.ts").write_bytes(small.read_bytes() + large.read_bytes())
    return folder / "c.ts"


def size_changes(codec: str, folder: Path) -> Path:
    """Make a WebM whose second half is a stream of another size."""
    small = encode(folder / "small.webm", codec, **VP)
    large = encode(folder / "large.webm", codec, picture=lambda number: painted(number, 2 * WIDTH, 2 * HEIGHT), **VP)
    kept, packets = packets_of(large)
    with kept:
        later = shifted(len(NUMBERS))(packets)
        return remux(small, folder / "c.webm", lambda first: [*first, *later])


def corpus() -> dict[str, Odd]:
    """Return the corpus by name."""
    files: dict[str, Odd] = {}
    for coding, (codec, pix_fmt, options, suffixes) in CODINGS.items():
        for suffix in suffixes.split():
            make = partial(_coded, f"c.{suffix}", codec, pix_fmt, options)
            size = (140, HEIGHT) if coding == "H.263" else (WIDTH, HEIGHT)  # its pixels are 12:11
            files[f"{coding} in {suffix}"] = Odd(make=make, size=size)
            if suffix == suffixes.split()[0]:
                # x265 gives the only frame of a file with B-frames a decoding time of its own, which MP4 often refuses.
                alone = options | ({"bf": "0"} if codec == "libx265" else {})
                make = partial(_coded, f"c.{suffix}", codec, pix_fmt, alone, numbers=NUMBERS[:1])
                files[f"{coding} in {suffix}, one frame"] = Odd(make=make, numbers=NUMBERS[:1], size=size)
    return files | _times() | _geometry() | _colours() | _hidden() | _damaged()


def _coded(name: str, codec: str, pix_fmt: str, options: Options, folder: Path, **more: Any) -> Path:
    return encode(folder / name, codec, pix_fmt, **more, **options)


def _fields(suffix: str, folder: Path) -> Path:
    return encode_fields(folder / f"c.{suffix}")


def _times() -> dict[str, Odd]:
    uneven = (0, 1, 2, 7, 8, 9, 10, 15, 16, 17, 30, 31)
    few = (0, 1, 2, 3, 6, 9)
    kept = tuple(NUMBERS[place] for place in few)
    files = {
        f"variable rate in {suffix}": Odd(
            make=partial(_coded, f"c.{suffix}", "libx264", "yuv420p", B_FRAMES, times=uneven)
        )
        for suffix in ("mp4", "mkv", "mov", "flv", "ts", "nut")
    }
    files |= {
        f"frames left out in {suffix}": Odd(
            make=partial(changed, keeping(few), suffix=f".{suffix}", codec=codec, g="1"), numbers=kept
        )
        for suffix, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("ts", "libx264"))
    }
    files |= {
        f"starts at {seconds} s in {suffix}": Odd(make=partial(changed, shifted(25 * seconds), suffix=f".{suffix}"))
        for seconds in (2, 90000)
        for suffix in ("mp4", "mkv", "ts")
    }
    files |= {
        "two frames at one time": Odd(make=partial(changed, at_same_time, suffix=".mkv")),
        "hidden by an edit list": Odd(make=partial(changed, shifted(-3)), numbers=NUMBERS[3:]),
        "hidden by an edit list, B": Odd(make=partial(changed, shifted(-3), **B_FRAMES), numbers=NUMBERS[3:]),
        "hidden by an edit list in mov": Odd(make=partial(changed, shifted(-8), suffix=".mov"), numbers=NUMBERS[8:]),
        "edit list: nothing first": Odd(make=lambda folder: with_edits(mp4(folder, bf="0"), (400, -1), (480, 0))),
        "edit list: the middle": Odd(
            make=lambda folder: with_edits(mp4(folder, bf="0"), (200, 512 * 4)), numbers=NUMBERS[4:9]
        ),
        "edit list: two parts": Odd(
            make=lambda folder: with_edits(mp4(folder, bf="0"), (120, 0), (120, 512 * 6)),
            numbers=NUMBERS[0:3] + NUMBERS[6:9],
        ),
        "edit list: a part twice": Odd(
            make=lambda folder: with_edits(mp4(folder, bf="0"), (120, 0), (120, 0)),
            numbers=NUMBERS[0:3] * 2,
        ),
        "fragments": Odd(make=partial(mp4, muxing={"movflags": "frag_keyframe+empty_moov"})),
        "index first": Odd(make=partial(mp4, muxing={"movflags": "faststart"})),
        "AVI that repeats frames": Odd(
            make=partial(changed, keeping(few), suffix=".avi", codec="mpeg4", source=".avi", g="1"), numbers=kept
        ),
    }
    return files


def _geometry() -> dict[str, Odd]:
    files = {
        f"turned {name}": Odd(make=partial(turned, matrix, picture), size=(WIDTH, HEIGHT))
        for name, (matrix, picture) in TURNS.items()
    }
    aspects = {Fraction(4, 3): (171, HEIGHT), Fraction(3, 4): (WIDTH, 128), Fraction(1280, 1281): (WIDTH, HEIGHT)}
    files |= {
        f"pixels of {aspect} in {suffix}": Odd(
            make=partial(_coded, f"c.{suffix}", codec, "yuv420p", B_FRAMES | RATE, aspect=aspect), size=size
        )
        for aspect, size in aspects.items()
        for suffix, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4"), ("mpg", "mpeg2video"))
        if suffix != "mpg"  # MPEG-2 knows four shapes of the whole picture only
    }
    files |= {
        "turned by a matrix of zeros": Odd(make=lambda folder: with_matrix(mp4(folder), 0, 0, 0, 0)),
        "Exif in each picture": Odd(make=partial(changed, with_exif, suffix=".avi", codec="mjpeg", pix_fmt="yuvj420p")),
        "turned by 45": Odd(make=lambda folder: with_matrix(mp4(folder), 0.7, 0.7, -0.7, 0.7)).refusing("unsupported"),
        "pixels of 50:1": Odd(make=partial(mp4, aspect=Fraction(50))).refusing("unsupported"),
        "turned by 90, pixels of 4:3": Odd(
            make=lambda folder: with_matrix(
                mp4(folder, picture=inverse(TURNS["by 90"][1]), aspect=Fraction(4, 3)), *TURNS["by 90"][0]
            ),
            size=(WIDTH, 128),
        ),
        "clean aperture": Odd(make=lambda folder: with_clean_aperture(mp4(folder, picture=bordered))),
        "clean aperture in mov": Odd(
            make=lambda folder: with_clean_aperture(encode(folder / "c.mov", picture=bordered, **B_FRAMES))
        ),
        "Matroska's crop": Odd(
            make=lambda folder: with_pixel_crop(
                encode(folder / "c.mkv", picture=partial(bordered, below=0), rotation=90, **B_FRAMES)
            )
        ),
        "size of no whole blocks": Odd(
            make=partial(mp4, picture=lambda number: painted(number, WIDTH - 6, HEIGHT - 2)),
            size=(WIDTH - 6, HEIGHT - 2),
        ),
        "turned by the stream": Odd(
            make=lambda folder: filtered(
                mp4(folder, picture=inverse(TURNS["by 90"][1])),
                folder / "turned.mkv",
                "h264_metadata=display_orientation=insert:rotate=-90",
            )
        ).refusing("decode_error"),
        "size changes": Odd(make=two_sizes).refusing("decode_error", "unsupported"),
        "size changes, VP8": Odd(make=partial(size_changes, "libvpx")).refusing("decode_error"),
        "size changes, VP9": Odd(make=partial(size_changes, "libvpx-vp9")).refusing("decode_error"),
        "two views": Odd(make=partial(_coded, "c.mp4", "libx264", "yuv420p", STEREO), notes=("two views",)),
        "interlaced": Odd(make=partial(mp4, flags="+ildct+ilme"), notes=("interlaced",)),
        "interlaced MPEG-2": Odd(
            make=partial(_coded, "c.mpg", "mpeg2video", "yuv420p", RATE | {"flags": "+ildct+ilme"}),
            notes=("interlaced",),
        ),
    }
    return files


def _colours() -> dict[str, Odd]:
    files = {
        f"{name}, {'full' if is_full else 'limited'} range{', 4:4:4' if '444' in pix_fmt else ''}": Odd(
            make=partial(
                mp4,
                pix_fmt=pix_fmt,
                space=space,
                is_full=is_full,
                colorspace=tag,
                color_range="pc" if is_full else "tv",
            ),
            tolerance=12,
            notes=(name, "full range" if is_full else "limited range"),
        )
        for name, (tag, space) in SPACES.items()
        for is_full, pix_fmt in ((False, "yuv420p"), (True, "yuv420p"), (False, "yuv444p"))
    }
    deep: dict[str, tuple[str, str, str, Options]] = {
        "H.264 10-bit": ("c.mp4", "libx264", "yuv420p10le", B_FRAMES),
        "HEVC 10-bit": ("c.mp4", "libx265", "yuv420p10le", X265),
    }
    deep |= {
        "H.264 4:2:2": ("c.mkv", "libx264", "yuv422p", B_FRAMES),
        "FFV1 16-bit": ("c.mkv", "ffv1", "yuv444p16le", {}),
    }
    deep |= {"VP9 4:4:4": ("c.webm", "libvpx-vp9", "yuv444p", VP), "FFV1 RGB": ("c.mkv", "ffv1", "bgr0", {})}
    deep |= {"raw RGB in avi": ("c.avi", "rawvideo", "bgr24", {}), "raw YUYV": ("c.avi", "rawvideo", "yuyv422", {})}
    files |= {name: Odd(make=partial(_coded, *coding)) for name, coding in deep.items()}
    alpha: dict[str, tuple[str, str, str, Options]] = {
        "PNG": ("c.mov", "png", "rgba", {}),
        "FFV1": ("c.mkv", "ffv1", "yuva420p", {}),
        "ProRes": ("c.mov", "prores_ks", "yuva444p10le", {}),
    }
    files |= {
        f"alpha, {name}": Odd(make=partial(_coded, *coding), notes=("transparency dropped",))
        for name, coding in alpha.items()
    }
    files |= {
        name: Odd(
            make=partial(
                mp4,
                codec=codec,
                pix_fmt="yuv420p10le",
                preset="ultrafast",
                color_trc=transfer,
                space="BT2020",
                colorspace="bt2020nc",
                **QUIET,
            ),
            notes=(name.split()[0],),
        )
        for name, codec, transfer in (("PQ HEVC", "libx265", "smpte2084"), ("HLG HEVC", "libx265", "arib-std-b67"))
    }
    return files


def _hidden() -> dict[str, Odd]:
    without = tuple(number for place, number in enumerate(NUMBERS) if place not in (4, 7))
    vp8: Options = {"codec": "libvpx", "source": ".webm", **VP}
    open_groups: dict[str, Options] = {
        "H.264": {"codec": "libx264", **B_FRAMES, "b_strategy": "0", "x264-params": "open-gop=1:keyint=6:bframes=2"},
        "HEVC": {
            "codec": "libx265",
            **X265,
            "g": "6",
            "x265-params": f"{QUIET['x265-params']}:open-gop=1:keyint=6:bframes=2:b-adapt=0",
        },
        "MPEG-2": {"codec": "mpeg2video", **B_FRAMES, **RATE},
    }
    vp9: Options = {"codec": "libvpx-vp9", "source": ".webm", **VP}
    return {
        "VP8 with invisible pictures": Odd(make=partial(changed, hide_vp8, suffix=".webm", **vp8), numbers=without),
        "VP8 with invisible pictures in mkv": Odd(
            make=partial(changed, hide_vp8, suffix=".mkv", **vp8), numbers=without
        ),
        "VP8 with invisible pictures in avi": Odd(
            make=partial(changed, hide_vp8, suffix=".avi", **vp8), numbers=without
        ),
        "VP9 that shows a picture again": Odd(
            make=partial(changed, show_vp9_again, suffix=".webm", **vp9), numbers=(*NUMBERS[:7], NUMBERS[6])
        ),
        "VP9 superframe": Odd(make=partial(changed, hide_vp9, suffix=".webm", **vp9)),
        "MPEG-4 packed B pictures": Odd(
            make=partial(
                changed, pack_b_vops, suffix=".avi", codec="mpeg4", source=".avi", bf="1", g="100", numbers=NUMBERS[:11]
            ),
            numbers=NUMBERS[:11],
        ),
        **{
            f"begins with an open group, {name} in {suffix}": Odd(
                make=partial(changed, from_second_key, suffix=f".{suffix}", source=".ts", **coding), numbers=NUMBERS[6:]
            )
            for name, coding in open_groups.items()
            for suffix in ("mp4", "mkv", "ts")
        },
        "MPEG-4 pictures that are not coded": Odd(
            make=partial(changed, with_empty_vops, suffix=".avi", codec="mpeg4", source=".avi", bf="0", g="100"),
            numbers=NUMBERS[:4] + NUMBERS[5:],
        ),
        **{
            f"H.264 field pairs in {suffix}": Odd(make=partial(_fields, suffix), notes=("interlaced",))
            for suffix in ("h264", "mp4", "mkv", "ts", "avi")
        },
        "H.264 packet without a picture": Odd(make=partial(changed, with_note_alone, suffix=".mkv")),
    }


def _damaged() -> dict[str, Odd]:
    files: dict[str, Odd] = {}
    for coding, (codec, pix_fmt, options, suffixes) in CODINGS.items():
        for suffix in suffixes.split()[:3]:
            muxing = {"movflags": "faststart"} if suffix in ("mp4", "mov", "3gp") else {}
            make = partial(_coded, f"c.{suffix}", codec, pix_fmt, options, muxing=muxing)
            for change in (cut, zeroed) if suffix == suffixes.split()[0] else (cut,):
                name = f"{change.__name__}: {coding} in {suffix}"
                files[name] = Odd(make=partial(damaged, change, make), is_whole=False)
    for name, (coding, suffix, spoil) in CONTRADICTIONS.items():
        codec, pix_fmt, options, _ = CODINGS[coding]
        make = partial(damaged, spoil, partial(_coded, f"c.{suffix}", codec, pix_fmt, options))
        files[f"{name}: {coding} in {suffix}"] = Odd(make=make, is_whole=False, refused=("decode_error",))
    return files
