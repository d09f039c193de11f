"""Archives, honest and hostile: nothing leaves the folder, nothing is overwritten, no file is half there."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tasks.download.archives
import tasks.download.disk_space
import tasks.download.extract
from manifests.errors import ConfigError
from tasks.download.archives import ArchiveError, ExtractionStopped, Member, safe_name
from tasks.download.disk_space import DISK_MARGIN_BYTES, free_bytes, gigabytes, require_room
from tasks.download.extract import Extracted, check_archive, extract_archive

FILES = {
    "Celeb-real/id0_0000.mp4": b"\x00\x00\x00\x18ftyp" + random.Random(0).randbytes(3000),
    "List_of_testing_videos.txt": b"1 Celeb-real/id0_0000.mp4\n",
    "empty": b"",
}


def tar_of(files: dict[str, bytes], **how: Any) -> bytes:
    """A tar with these files, each header changed by `how`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, body in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(body)
            for field, value in how.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(body))
    return buffer.getvalue()


def zip_of(files: dict[str, bytes], mode: int = 0o644 | stat.S_IFREG, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip with these files, with this Unix mode."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, body in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = method
            archive.writestr(info, body)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zip_of,
    "stored zip": lambda files: zip_of(files, method=zipfile.ZIP_STORED),
    "tar": tar_of,
    "tar.gz": lambda files: gzip.compress(tar_of(files)),
    "tar.bz2": lambda files: bz2.compress(tar_of(files)),
    "tar.xz": lambda files: lzma.compress(tar_of(files)),
}
every_kind = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out" / "below"


@pytest.fixture
def put(tmp_path: Path) -> Callable[[bytes], Path]:
    """Write an archive under a name that says nothing about it."""

    def write(archive: bytes) -> Path:
        path = tmp_path / "part_00"
        path.write_bytes(archive)
        return path

    return write


Put = Callable[[bytes], Path]


def contents(out: Path) -> dict[str, bytes]:
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()}


@every_kind
def test_every_kind_of_archive_comes_out_as_it_went_in(pack: Any, put: Put, out: Path) -> None:
    seen: list[int] = []
    path = put(pack(FILES))
    assert check_archive(path, out).num_bytes == sum(map(len, FILES.values()))
    assert not out.exists()
    extracted = extract_archive(path, out, on_bytes=seen.append)
    assert extracted == Extracted(num_written=3, num_already_there=0, num_bytes=sum(map(len, FILES.values())))
    assert contents(out) == FILES
    assert sum(seen) == extracted.num_bytes
    again = extract_archive(path, out)
    assert again == Extracted(num_written=0, num_already_there=3, num_bytes=0)


def test_a_tar_without_a_magic_is_a_tar(put: Put, out: Path) -> None:
    old = bytearray(tar_of({"a": b"x"}))
    old[257:265] = bytes(8)
    old[148:156] = b"%06o\0 " % (sum(old[:148]) + 8 * 32 + sum(old[156:512]))
    assert extract_archive(put(bytes(old)), out).num_written == 1


def test_folders_are_made_when_a_file_needs_them(put: Put, out: Path) -> None:
    extract_archive(put(zip_of({"empty/": b"", "a/": b"", "a/./b//c": b"x"})), out)
    assert contents(out) == {"a/b/c": b"x"}
    assert not (out / "empty").exists()


def test_several_archives_fill_one_folder(put: Put, out: Path) -> None:
    extract_archive(put(zip_of({"dfdc_train_part_0/a.mp4": b"a"})), out)
    extract_archive(put(zip_of({"dfdc_train_part_1/a.mp4": b"b"})), out)
    assert contents(out) == {"dfdc_train_part_0/a.mp4": b"a", "dfdc_train_part_1/a.mp4": b"b"}


HOSTILE_NAMES = ["../a", "/a", "a/../../b", "..", "C:/a", "c:a", "a\\..\\..\\b", "a/\x01", ".", "a\nb"]


@every_kind
@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_names_that_lead_out_are_refused_before_anything_is_written(pack: Any, name: str, put: Put, out: Path) -> None:
    path = put(pack({"first": b"x", name: b"y"}))
    with pytest.raises(ArchiveError, match=r"member: got the name '.*', expected one that stays below"):
        extract_archive(path, out)
    assert not out.exists()


@given(st.text(st.sampled_from("ab./\\C:\0\n~é"), max_size=12))
def test_a_safe_name_stays_below(name: str) -> None:
    root = "/out/below"
    try:
        safe = safe_name(name)
    except ArchiveError:
        return
    assert os.path.normpath(os.path.join(root, safe)) == f"{root}/{safe}"  # noqa: PTH118  # what the system will do


LINKS_AND_DEVICES = [
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.GNUTYPE_SPARSE,
]


@pytest.mark.parametrize("kind", LINKS_AND_DEVICES)
@pytest.mark.parametrize("target", ["/etc/passwd", "inside"])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, target: str, put: Put, out: Path) -> None:
    archive = tar_of({"inside": b"", "other": b""}, type=kind, linkname=target)
    with pytest.raises(ArchiveError, match="a link, a device or a file with holes"):
        extract_archive(put(archive), out)
    assert not out.exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip_are_refused(kind: int, put: Put, out: Path) -> None:
    with pytest.raises(ArchiveError, match="a link, a device"):
        extract_archive(put(zip_of({"a": b"/etc/passwd"}, mode=kind | 0o777)), out)
    assert not out.exists()


def test_permissions_of_the_archive_are_not_taken_over(put: Put, out: Path) -> None:
    extract_archive(put(zip_of({"a": b"x"}, mode=stat.S_IFREG | 0o6777)), out)
    extract_archive(put(tar_of({"b": b"x"}, mode=0o6000)), out)
    usual = out / "usual"
    usual.touch()
    assert {(out / name).stat().st_mode for name in "ab"} == {usual.stat().st_mode}


@every_kind
def test_a_bomb_is_refused_before_it_goes_off(pack: Any, put: Put, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.download.extract, "EXPANSION_SLACK_BYTES", 0)
    monkeypatch.setattr(tasks.download.extract, "MAX_EXPANSION", 3)
    path = put(pack({"a": b"", "bomb": bytes(3_000_000)}))
    if path.stat().st_size > 1_000_000:  # not compressed: no bomb
        assert extract_archive(path, out).num_written == 2
        return
    with pytest.raises(ArchiveError, match=r"got 2 files of 3\.0 MB or more, .* looks like a bomb"):
        extract_archive(path, out)
    assert not out.exists()


@every_kind
def test_too_many_members_are_refused(pack: Any, put: Put, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.download.extract, "MAX_MEMBERS", 2)
    with pytest.raises(ArchiveError, match=r"got 3 files .* expected at most 2"):
        extract_archive(put(pack(FILES)), out)


def test_a_header_that_would_fill_the_memory_is_refused(put: Put, out: Path) -> None:
    huge = tarfile.TarInfo("pax")
    huge.type, huge.size = tarfile.XHDTYPE, 10**9
    archive = gzip.compress(huge.tobuf() + bytes(20_000_000))
    with pytest.raises(ArchiveError, match="it claims a header of 1,000,000"):
        extract_archive(put(archive), out)


@pytest.mark.parametrize("claimed", [2, 10_000])
def test_a_zip_that_lies_about_a_length_is_refused(claimed: int, put: Put, out: Path) -> None:
    archive = bytearray(zip_of({"a.txt": b"x" * 5000}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = archive.index(signature) + offset
        archive[at : at + 4] = claimed.to_bytes(4, "little")
    with pytest.raises(ArchiveError, match=r"broken data|as its header says"):
        extract_archive(put(bytes(archive)), out)
    assert contents(out) == {}


@every_kind
@pytest.mark.parametrize("names", [("a.mp4", "A.MP4"), ("x/é", "x/e\u0301"), ("a", "a/b"), ("d/E/f", "D/e")], ids=str)
def test_members_that_would_be_one_file_are_refused(pack: Any, names: Any, put: Put, out: Path) -> None:
    with pytest.raises(ArchiveError, match=r"differ by more than case|as a folder"):
        extract_archive(put(pack(dict.fromkeys(names, b"x"))), out)
    assert not out.exists()


def test_the_same_name_twice_is_refused(put: Put, out: Path) -> None:
    twice = tar_of({"a": b"first"})[:1024] + tar_of({"a": b"second"})
    with pytest.raises(ArchiveError, match="got 'a' and 'a'"):
        extract_archive(put(twice), out)


def test_an_encrypted_zip_is_refused(put: Put, out: Path) -> None:
    archive = bytearray(zip_of({"a": b"x"}))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        archive[archive.index(signature) + offset] |= 1
    with pytest.raises(ArchiveError, match="got 'a' encrypted"):
        extract_archive(put(bytes(archive)), out)


def test_a_compression_that_python_does_not_know(put: Put, out: Path) -> None:
    archive = bytearray(zip_of({"a": b"x"}))
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        archive[archive.index(signature) + offset] = 9  # Deflate64, which Windows uses beyond 2 GB
    with pytest.raises(ArchiveError, match="7-Zip"):
        extract_archive(put(bytes(archive)), out)


@every_kind
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_an_archive_that_was_cut_off_is_refused(pack: Any, share: float, put: Put, out: Path) -> None:
    whole = pack(FILES)
    # A tar pads its end with kilobytes of zeros, which may be missing.
    used = len(tar_of(FILES).rstrip(b"\0")) if whole.startswith(b"Celeb") else len(whole)
    with pytest.raises(ArchiveError, match="broken data"):
        extract_archive(put(whole[: int(used * share)]), out)
    assert contents(out) == {}


@every_kind
def test_a_flipped_byte_is_found(pack: Any, put: Put, out: Path) -> None:
    damaged = bytearray(pack(FILES))
    damaged[1500] ^= 0xFF
    if damaged.startswith(b"Celeb"):
        pytest.skip("a plain tar has no checksum over its contents")
    with pytest.raises(ArchiveError, match=r"broken data|as its header says"):
        extract_archive(put(bytes(damaged)), out)
    assert "Celeb-real/id0_0000.mp4" not in contents(out)
    assert not list(out.rglob(".extract-*"))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<!DOCTYPE html><p>log in", "a web page"),
        (b'{"message": "403"}', "JSON"),
        (b"", "nothing"),
        (b"Rar!\x1a\x07\x00", "rar"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (b"\x00\x00\x00\x18ftypisom", "mp4"),
        (b"something else", "something else"),
    ],
)
def test_what_is_no_archive_is_named(body: bytes, kind: str, put: Put, out: Path) -> None:
    with pytest.raises(ArchiveError, match=f"got {kind}, expected a .zip"):
        extract_archive(put(body), out)


def test_a_compressed_file_that_is_no_tar(put: Put, out: Path) -> None:
    with pytest.raises(ArchiveError, match="broken data"):
        extract_archive(put(gzip.compress(b"just a text" * 100)), out)


@every_kind
def test_files_of_the_user_are_never_overwritten(pack: Any, put: Put, out: Path) -> None:
    (out / "Celeb-real").mkdir(parents=True)
    mine = out / "Celeb-real" / "id0_0000.mp4"
    mine.write_bytes(b"mine")
    (out / "empty").symlink_to(out / "nowhere")
    with pytest.raises(ArchiveError, match=r"got 2 files that stand in .* with another length"):
        extract_archive(put(pack(FILES)), out)
    assert contents(out) == {"Celeb-real/id0_0000.mp4": b"mine"}


@every_kind
def test_an_interrupted_extraction_goes_on(pack: Any, put: Put, out: Path) -> None:
    path = put(pack(FILES))
    written: list[int] = []
    with pytest.raises(ExtractionStopped):
        extract_archive(path, out, on_bytes=written.append, should_stop=lambda: bool(written))
    done = contents(out)
    assert len(done) == 1
    assert all(FILES[name] == body for name, body in done.items())
    # What a kill leaves: a half-written file under its hidden name.
    (out / ".extract-empty").write_bytes(b"half")
    extracted = extract_archive(path, out)
    assert (extracted.num_written, extracted.num_already_there) == (2, 1)
    assert contents(out) == FILES


def test_a_long_way_through_a_compressed_tar_can_be_stopped(put: Put, out: Path) -> None:
    path = put(gzip.compress(tar_of({"a": bytes(3_000_000)})))
    calls = iter([False, True])  # at the only member, and on the way to what is behind it
    with pytest.raises(ExtractionStopped):
        check_archive(path, out, lambda: next(calls))


def test_what_follows_the_end_of_a_tar_has_a_limit(put: Put, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.download.archives, "MAX_TRAILER_BYTES", 100_000)
    assert extract_archive(put(gzip.compress(tar_of({"a": b""}) + bytes(50_000))), out).num_written == 1
    with pytest.raises(ArchiveError, match="more than 100,000 bytes follow its end"):
        extract_archive(put(gzip.compress(tar_of({"a": b""}) + bytes(3_000_000))), out)


class Liar:
    """An archive that has more in a member than its header says."""

    def __init__(self, num_bytes: int) -> None:
        self._claimed = num_bytes

    def members(self) -> Iterator[Member]:
        yield Member(name="a", num_bytes=self._claimed, handle=None)

    def chunks(self, member: Member) -> Iterator[bytes]:
        yield from [b"x" * 10] * 100


def test_bytes_are_counted_while_they_are_written(put: Put, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.download.extract, "open_archive", lambda *_: nullcontext(Liar(25)))
    written: list[int] = []
    with pytest.raises(ArchiveError, match="got 30 bytes of 'a', expected 25"):
        extract_archive(put(b""), out, on_bytes=written.append)
    assert sum(written) == 20
    assert contents(out) == {}


def test_the_disk_must_have_room(put: Put, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.download.disk_space, "free_bytes", lambda _: DISK_MARGIN_BYTES + 100)
    require_room(out, 100)
    with pytest.raises(ConfigError, match=r"got 1\.0 GB free, expected 1\.0 GB \(1\.0 GB of it to spare\)"):
        require_room(out, 101)
    with pytest.raises(ConfigError, match="disk of"):
        extract_archive(put(zip_of(FILES)), out)
    assert not out.exists()


def test_free_bytes_of_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "there") > 0
    assert [gigabytes(n) for n in (0, 1_500_000, 2_400_000_000)] == ["0.0 MB", "1.5 MB", "2.4 GB"]
