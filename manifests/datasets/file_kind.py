"""Kinds of files, recognised by the name or, if that does not decide, by the first bytes."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path

from manifests.datasets.ignored import IgnoredReason
from manifests.errors import VideoRejected
from manifests.files import open_regular
from manifests.probe.container import open_video
from manifests.rejected import Stage

# A tar header is one block of 512 bytes, with its magic at 257; a transport stream repeats its magic every 188 bytes.
SNIFF_BYTES = 512


def _suffixes(text: str) -> frozenset[str]:
    return frozenset(f".{name}" for name in text.split())


# Suffixes that only videos have. Not among them: `.ts` (also TypeScript and translations), `.gif` and `.ogg` (a still
# picture, sound), `.dat` and `.mod`; these files are recognised by their content.
VIDEO_SUFFIXES = _suffixes(
    "mp4 m4v mov qt avi divx mkv mk3d webm wmv asf flv f4v 3gp 3gpp 3g2 mpg mpeg mpe mpv m1v m2v m2p mp2v mts m2ts m2t "
    "tod vob evo ogv ogm rm rmvb mxf gxf dv dif nut wtv dvr-ms amv mjpg mjpeg mj2 y4m ivf h264 264 avc h265 265 hevc "
    "av1 obu"
)
_REASON_OF_SUFFIX = {
    suffix: reason
    for reason, names in {
        IgnoredReason.PICTURE: "png apng jpg jpeg jpe jfif bmp tif tiff webp heic heif avif jp2 jxl ppm pgm pbm pnm "
        "tga exr hdr svg ico psd dng cr2 cr3 nef arw raf orf rw2",
        IgnoredReason.AUDIO: "wav mp3 m4a m4b flac aac oga opus wma aif aiff ac3 eac3 dts amr mka caf au mid midi",
        IgnoredReason.ARCHIVE: "zip tar gz tgz bz2 tbz tbz2 xz txz 7z rar zst lz4 lzma lz z cab iso jar whl",
        IgnoredReason.UNFINISHED: "crdownload part partial filepart aria2 !ut !qb bc! !bt tmp temp download opdownload "
        "ytdl incomplete td xltd dctmp jc! idm",
        IgnoredReason.BACKUP: "bak old orig backup swp",
        IgnoredReason.TEXT: "txt md rst csv tsv jsonl ndjson xml html htm yaml yml toml ini cfg conf log pdf doc docx "
        "xls xlsx ppt pptx odt ods rtf tex bib py ipynb sh bat ps1 c cc cpp cu h hpp java js r m lua srt vtt ass ssa "
        "sub idx nfo url lnk webloc torrent lab textgrid eaf rttm",
        IgnoredReason.DATA: "npy npz pkl pickle pt pth ckpt h5 hdf5 mat lmdb mdb parquet arrow feather tfrecord "
        "safetensors onnx pb caffemodel db sqlite sqlite3 obj ply stl pyc exe dll so dylib",
        IgnoredReason.AUXILIARY: "json md5 sha1 sha256 sha512 sfv",
    }.items()
    for suffix in _suffixes(names)
}
# Parts of an archive (`.zip.001`, `.z01`, `.r00`) and of a download (`.part-Frag12`).
_PATTERNS = {
    IgnoredReason.ARCHIVE: re.compile(
        r".*\.(zip|7z|rar|tar|gz|tgz|xz|bz2)\.[0-9a-z]{2,3}|.*\.[zr][0-9]{2,3}", re.DOTALL
    ),
    # The last names are those of our own downloads (`tasks.download.partial_file`, `manifests.files`).
    IgnoredReason.UNFINISHED: re.compile(r".*\.part-frag[0-9]+|\.(download|resume|partial)-.*", re.DOTALL),
}
_AUXILIARY_NAMES = re.compile(
    r"(readme|licen[cs]e|citation|changelog|(sha[0-9]*|md5)sums?|checksums?)(\W.*)?", re.DOTALL
)
_SYSTEM_NAMES = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information", "@eadir"}
)

_TAR_MAGIC_AT = 257
_TAR_CHECKSUM = slice(148, 156)
_TRANSPORT_SYNC, _TRANSPORT_PACKETS = 0x47, ((0, 188), (4, 192))  # (place of the first magic, bytes to the next)
# Boxes that an MP4 or QuickTime file may begin with; their names follow four bytes of length.
_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
# Brands (after `ftyp`) of files in the format of MP4 that are no videos.
_BRANDS = {b"avif": "a picture", b"heic": "a picture", b"heix": "a picture", b"mif1": "a picture", b"M4A ": "audio"}
_MAGICS = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # without members
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    # The number with which torch.save began its files before PyTorch 1.6 (torch.serialization.MAGIC_NUMBER), pickled.
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": "a PyTorch file",
    b"\x1aE\xdf\xa3": "another video",  # Matroska and WebM
    b"0&\xb2u\x8ef\xcf\x11": "another video",  # ASF, such as WMV
    b"\x00\x00\x01\xba": "another video",  # MPEG program stream
    b"\x00\x00\x01\xb3": "another video",  # MPEG video
    b"\x00\x00\x00\x01": "another video",  # H.264 or H.265 without a container
    b"FLV\x01": "another video",
    b".RMF": "another video",
    b"\x06\x0e+4\x02\x05\x01\x01": "another video",  # MXF
    b"YUV4MPEG2": "another video",
    b"DKIF": "another video",  # IVF
    b"nut/multimedia container": "another video",
    b"\x1f\x07\x00": "another video",  # DV
    b"GIF8": "gif",
    b"\x89PNG": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"BM": "a picture",
    b"II*\x00": "a picture",
    b"MM\x00*": "a picture",
    b"8BPS": "a picture",
    b"ID3": "audio",
    b"fLaC": "audio",
    b"\xff\xfb": "audio",
    b"\xff\xf1": "audio",
}
_RIFF = {b"AVI ": "another video", b"AMV ": "another video", b"WAVE": "audio", b"WEBP": "a picture"}
_OGG_VIDEO = re.compile(rb"\x80theora|\x01video|OVP80|BBCD\x00", re.DOTALL)
# Control characters other than white space, and bytes that are no UTF-8.
_NOT_IN_TEXT = re.compile("[\0-\x08\x0e-\x1f\ufffd]")
_REASON_OF_KIND = {
    "a picture": IgnoredReason.PICTURE,
    "gif": IgnoredReason.PICTURE,
    "audio": IgnoredReason.AUDIO,
    "a PyTorch file": IgnoredReason.DATA,
    "a web page": IgnoredReason.TEXT,
    "JSON": IgnoredReason.TEXT,
    "nothing": IgnoredReason.EMPTY,
}


def is_system_name(name: str) -> bool:
    """Whether a file or a folder is hidden, or one that an operating system puts beside others."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def reason_by_name(name: str, suffix: str) -> IgnoredReason | None:
    """Return why a file is no video by its name; None if the name does not tell.

    Args:
        name: the file's name; not that of a video, except for a hidden one.
        suffix: its suffix in lower case, from the last dot on.
    """
    lower = name.lower()
    reason = _REASON_OF_SUFFIX.get(suffix)
    reason = reason or next((found for found, rule in _PATTERNS.items() if rule.fullmatch(lower)), None)
    if reason is not IgnoredReason.UNFINISHED and is_system_name(name):
        return IgnoredReason.HIDDEN
    if name.endswith("~"):
        return IgnoredReason.BACKUP
    if reason in (None, IgnoredReason.TEXT) and _AUXILIARY_NAMES.fullmatch(lower):
        return IgnoredReason.AUXILIARY
    return reason


def reason_by_content(path: Path) -> IgnoredReason | None:
    """Return why a file is no video by its first bytes; None for a video, such as an animated GIF."""
    try:
        with open_regular(path) as file:
            head = file.read(SNIFF_BYTES)
        kind = kind_of(head)
        is_video = _is_animated(path) if kind == "gif" else kind in ("mp4", "another video")
    except OSError:
        return IgnoredReason.UNREADABLE
    if kind == "something else":
        return IgnoredReason.TEXT if _is_text(head) else IgnoredReason.NOT_A_VIDEO
    return None if is_video else _REASON_OF_KIND.get(kind, IgnoredReason.ARCHIVE)


def kind_of(head: bytes) -> str:
    """Return the kind of a file.

    Args:
        head: its first `SNIFF_BYTES` bytes, or all bytes of a shorter file.

    Returns:
        `mp4`, `another video`, `gif`, `a picture`, `audio`, `zip`, `tar`, `gzip`, `bzip2`, `xz`, `7z`, `rar`,
        `a PyTorch file` (of the old form; the present one is a `zip`), `a web page`, `JSON`, `nothing` or
        `something else`.
    """
    if not head:
        return "nothing"
    known = next((kind for magic, kind in _MAGICS.items() if head.startswith(magic)), None)
    known = known or _kind_of_container(head)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if known is None and text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml", b"<!--")):
        known = "a web page"
    if known is None and text.startswith((b"{", b"[")):
        known = "JSON"
    return known or "something else"


def _kind_of_container(head: bytes) -> str | None:
    """Return the kind of a file whose magic is not at its beginning, or does not tell pictures from sound."""
    kind = None
    if head[4:8] in _MP4_BOXES:
        kind = _BRANDS.get(head[8:12], "mp4") if head[4:8] == b"ftyp" else "mp4"
    elif head.startswith(b"RIFF"):
        kind = _RIFF.get(head[8:12])
    elif head.startswith(b"OggS"):
        kind = "another video" if _OGG_VIDEO.search(head) else "audio"
    elif _is_tar_header(head):
        kind = "tar"
    elif _is_transport_stream(head):
        kind = "another video"
    return kind


def _is_text(head: bytes) -> bool:
    """Whether the first bytes are text in UTF-8, whose last character may be cut off."""
    return _NOT_IN_TEXT.search(head.decode("utf-8", "replace").removesuffix("\ufffd")) is None


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(head) > first + 2 * step and all(head[first + number * step] == _TRANSPORT_SYNC for number in range(3))
        for first, step in _TRANSPORT_PACKETS
    )


def _is_tar_header(block: bytes) -> bool:
    """Return whether the block is a tar header: by its magic, or by its checksum in archives older than POSIX."""
    if block[_TAR_MAGIC_AT : _TAR_MAGIC_AT + 5] == b"ustar":
        return True
    digits = block[_TAR_CHECKSUM].strip(b"\0 ")
    if len(block) < SNIFF_BYTES or not digits or not set(digits) <= set(b"01234567"):
        return False
    return int(digits, 8) == sum(block) - sum(block[_TAR_CHECKSUM]) + 8 * ord(" ")


def _is_animated(path: Path) -> bool:
    """Whether a GIF has a second picture.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open_video(path, Stage.INDEX) as (container, stream):
            packets = (packet for packet in container.demux(stream) if packet.size > 0)
            return len(list(islice(packets, 2))) > 1
    except VideoRejected:
        return False
