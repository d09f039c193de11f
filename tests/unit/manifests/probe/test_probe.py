"""Probing: what real files are, and a reason for each way in which a file can be none."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.helpers.odd_videos import encode, hiding
from manifests.datasets import DATASETS
from manifests.entry import VideoEntry
from manifests.errors import VideoRejected
from manifests.indexing import index_dataset, survey_dataset
from manifests.probe.container import coded_stream, open_video
from manifests.probe.frame_hashes import words_of
from manifests.probe.probe import is_unchanged, probe, probe_all
from manifests.rejected import Reason, Rejected, Stage

VideoMaker = Callable[..., Path]


def entry(path: str, mask_path: str | None = None) -> VideoEntry:
    return VideoEntry(
        video_id=path, path=path, mask_path=mask_path, dataset="ffpp", label="real", target_id="0", group_id="0"
    )


def test_everything_that_is_measured(tmp_path: Path, make_video: VideoMaker) -> None:
    path = make_video(tmp_path / "a.mp4", 30, width=320, height=240, fps=Fraction(30000, 1001))
    mask = make_video(tmp_path / "m.mp4", 30)
    probed = probe(tmp_path, entry("a.mp4", "m.mp4"))
    assert (probed.num_frames, probed.fps, probed.width, probed.height) == (30, Fraction(30000, 1001), 320, 240)
    assert (probed.rotation_degrees, probed.num_bytes) == (0, path.stat().st_size)
    assert probed.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert probed.mask_sha256 == hashlib.sha256(mask.read_bytes()).hexdigest()
    assert probed.is_probed


def test_the_content_digest_covers_the_mask(tmp_path: Path, make_video: VideoMaker) -> None:
    make_video(tmp_path / "a.mp4", 5)
    make_video(tmp_path / "m.mp4", 6)
    bare, masked = probe(tmp_path, entry("a.mp4")), probe(tmp_path, entry("a.mp4", "m.mp4"))
    assert bare.sha256 == masked.sha256
    assert bare.content_digest != masked.content_digest


def test_the_rate_of_raw_dv_is_not_that_of_its_clock(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.dv"), "w") as output:
        stream = output.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for _ in range(3):
            output.mux(stream.encode(av.VideoFrame(720, 576, "yuv420p")))
    probed = probe(tmp_path, entry("a.dv"))
    assert (probed.num_frames, probed.fps) == (3, Fraction(25))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied_to_the_size(tmp_path: Path, make_video: VideoMaker, degrees: int) -> None:
    turned = rotated(make_video(tmp_path / "a.mp4", 5, width=320, height=240), degrees)
    probed = probe(tmp_path, entry(turned.name))
    assert probed.rotation_degrees == degrees
    assert (probed.width, probed.height) == ((240, 320) if degrees % 180 else (320, 240))


def rotated(path: Path, degrees: int) -> Path:
    """Copy an MP4 with a display matrix in its track header (ISO/IEC 14496-12, tkhd) that turns it clockwise."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 4 + 5 * 4 + 2 * 4 + 4 * 2  # version 0: times, ids, duration, layer, volume
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [cosine, sine, 0, -sine, cosine, 0, 0, 0]
    for place, value in enumerate(matrix):
        data[start + 4 * place : start + 4 * place + 4] = (value << 16).to_bytes(4, "big", signed=True)
    turned = path.with_name(f"turned-{degrees}.mp4")
    turned.write_bytes(data)
    return turned


def empty(path: Path, _whole: bytes) -> None:
    path.touch()


def text(path: Path, _whole: bytes) -> None:
    path.write_text("this is not a video\n" * 100)


def cut(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[: len(whole) * 6 // 10])


def cut_in_the_index(path: Path, whole: bytes) -> None:
    path.write_bytes(whole[:600])


def no_permission(path: Path, whole: bytes) -> None:
    path.symlink_to(path.with_name("gone.mp4"))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (empty, Reason.EMPTY_FILE),
        (text, Reason.NOT_A_VIDEO),
        (cut_in_the_index, Reason.TRUNCATED),
        (cut, Reason.TRUNCATED),
        (no_permission, Reason.UNREADABLE),
    ],
)
def test_what_is_no_video_says_why(
    tmp_path: Path, make_video: VideoMaker, damage: Callable[[Path, bytes], None], reason: Reason
) -> None:
    damage(tmp_path / "bad.mp4", make_video(tmp_path / "good.mp4", 60).read_bytes())
    with pytest.raises(VideoRejected, match=r"bad\.mp4") as rejection:
        probe(tmp_path, entry("bad.mp4"))
    assert (rejection.value.stage, rejection.value.reason) == (Stage.PROBE, reason)


def test_a_container_without_pictures_says_so(tmp_path: Path, make_audio: Callable[[Path], Path]) -> None:
    make_audio(tmp_path / "bad.mp4")
    with pytest.raises(VideoRejected, match=r"bad\.mp4") as rejection:
        probe(tmp_path, entry("bad.mp4"))
    assert (rejection.value.stage, rejection.value.reason) == (Stage.PROBE, Reason.NO_VIDEO_STREAM)


def test_a_stream_that_begins_in_mid_scene(tmp_path: Path, make_video: VideoMaker) -> None:
    whole = make_video(tmp_path / "whole.mp4", 24)
    with av.open(str(whole)) as source, av.open(str(tmp_path / "late.mp4"), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for number, packet in enumerate(source.demux(stream)):
            if number >= 3 and packet.size:
                packet.stream = copy
                target.mux(packet)
    with pytest.raises(VideoRejected, match="begins without a key frame"):
        probe(tmp_path, entry("late.mp4"))


def test_unchanged_means_same_size_and_time(tmp_path: Path, make_video: VideoMaker) -> None:
    path = make_video(tmp_path / "a.mp4", 5)
    known = probe(tmp_path, entry("a.mp4"))
    assert is_unchanged(tmp_path, entry("a.mp4"), known)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert not is_unchanged(tmp_path, entry("a.mp4"), known)


def test_a_mask_that_is_replaced_by_an_older_one_is_a_change(tmp_path: Path, make_video: VideoMaker) -> None:
    make_video(tmp_path / "a.mp4", 5)
    mask = make_video(tmp_path / "m.mp4", 5)
    known = probe(tmp_path, entry("a.mp4", "m.mp4"))
    make_video(mask, 6)
    os.utime(mask, ns=(0, 1))
    assert not is_unchanged(tmp_path, entry("a.mp4", "m.mp4"), known)


def test_a_mask_that_arrives_later_is_a_change(tmp_path: Path, make_video: VideoMaker) -> None:
    make_video(tmp_path / "a.mp4", 5)
    known = probe(tmp_path, entry("a.mp4"))
    make_video(tmp_path / "m.mp4", 5)
    assert not is_unchanged(tmp_path, entry("a.mp4", "m.mp4"), known)


def test_whole_groups_that_an_edit_list_hides_are_not_missed(tmp_path: Path) -> None:
    """No reader is given their packets, though the header counts them."""
    whole = encode(tmp_path / "whole.mp4", 60, (96, 64), g="12", bf="2")
    hidden = hiding(whole, np.zeros((60, 0, 0, 3), np.float32), 30, "groups of 12").path
    assert probe(tmp_path, entry(hidden.name)).num_frames == 30


@pytest.mark.samples
def test_hidden_frames_are_not_counted(samples_dir: Path) -> None:
    """The clip's edit list hides three of its 98 coded frames; FFmpeg's players show 95."""
    path = samples_dir / "edge_cases" / "no_face.mp4"
    with open_video(path, Stage.PROBE) as (container, stream):
        coded = coded_stream(container, stream, Stage.PROBE)
    assert sorted(packet.is_shown for packet in coded.packets) == [False] * 3 + [True] * 95
    assert coded.times[0] == 0
    assert probe(path.parent, entry(path.name)).num_frames == 95


def ffpp_tree(root: Path, make_video: VideoMaker) -> Path:
    folder = root / "original_sequences/youtube/c23/videos"
    make_video(folder / "000.mp4", 5)
    make_video(folder / "001.mp4", 6)
    (folder / "002.mp4").touch()
    (folder / "notes.mp4").touch()
    return root


def test_index_loses_nothing(tmp_path: Path, make_video: VideoMaker) -> None:
    rows = index_dataset(survey_dataset(DATASETS["ffpp"], ffpp_tree(tmp_path, make_video)))
    assert [(row.video_id, row.status, row.reason) for row in rows] == [
        ("ffpp/youtube/c23/000", "pending", None),
        ("ffpp/youtube/c23/001", "pending", None),
        ("ffpp/youtube/c23/002", "rejected", Reason.EMPTY_FILE),
        ("original_sequences/youtube/c23/videos/notes.mp4", "rejected", Reason.UNRECOGNISED_NAME),
    ]
    assert [row.entry.num_frames for row in rows if row.entry and row.status == "pending"] == [5, 6]


def test_index_probes_only_what_changed(tmp_path: Path, make_video: VideoMaker) -> None:
    root = ffpp_tree(tmp_path, make_video)
    known = {row.video_id: row.entry for row in index_dataset(survey_dataset(DATASETS["ffpp"], root)) if row.entry}
    make_video(root / "original_sequences/youtube/c23/videos/001.mp4", 9)
    probed: list[tuple[int, int]] = []
    rows = index_dataset(
        survey_dataset(DATASETS["ffpp"], root), known=known, on_video=lambda done, of: probed.append((done, of))
    )
    assert probed == [(1, 2), (2, 2)]  # the changed one, and the empty one that never had a probe
    assert [row.entry.num_frames for row in rows if row.entry and row.status == "pending"] == [5, 9]


def test_index_selects_fakes_with_their_originals(tmp_path: Path, make_video: VideoMaker) -> None:
    for path in (
        "original_sequences/youtube/c23/videos/000.mp4",
        "original_sequences/youtube/c23/videos/002.mp4",
        "original_sequences/youtube/c23/videos/004.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4",
        "manipulated_sequences/FaceSwap/c23/videos/000_001.mp4",
        "manipulated_sequences/FaceSwap/c23/videos/002_003.mp4",
        "manipulated_sequences/Deepfakes/c40/videos/000_001.mp4",
    ):
        make_video(tmp_path / path, 2)
    rows = index_dataset(survey_dataset(DATASETS["ffpp"], tmp_path, manipulations=["Deepfakes"], compressions=["c23"]))
    # 002's group has only fakes of another kind; 004 has none at all.
    assert [row.video_id for row in rows] == [
        "ffpp/Deepfakes/c23/000_001",
        "ffpp/youtube/c23/000",
        "ffpp/youtube/c23/004",
    ]


def test_a_stream_of_no_known_coding(tmp_path: Path, make_video: VideoMaker) -> None:
    """Damage to the name of the coding leaves a stream that no decoder can be made for."""
    path = make_video(tmp_path / "a.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoRejected) as rejection:
        probe(tmp_path, entry("a.mp4"))
    assert rejection.value.reason in (Reason.NO_VIDEO_STREAM, Reason.NOT_A_VIDEO)


def test_a_page_of_ogg_that_contradicts_its_checksum(tmp_path: Path) -> None:
    """FFmpeg leaves it out, in a small file already while it opens it, so that a shorter video would be stored."""
    path = tmp_path / "a.ogv"
    with av.open(str(path), "w", options={"page_duration": "40000"}) as output:  # microseconds
        stream = output.add_stream("libvpx", rate=25, options={"deadline": "realtime", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(6):
            output.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        output.mux(stream.encode())
    assert probe(tmp_path, entry("a.ogv")).num_frames == 6
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VideoRejected, match="CRC mismatch") as rejection:
        probe(tmp_path, entry("a.ogv"))
    assert rejection.value.reason == Reason.DECODE_ERROR


def test_pictures_are_hashed(tmp_path: Path, make_video: VideoMaker) -> None:
    make_video(tmp_path / "a.mp4", 30)
    hashes = probe(tmp_path, entry("a.mp4")).frame_hashes
    assert hashes is not None
    assert len(words_of(hashes)) == 4
    assert any(word is not None for word in words_of(hashes))


def test_an_unexpected_failure_costs_one_video(
    tmp_path: Path, make_video: VideoMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(root: Path, found: VideoEntry) -> VideoEntry:
        if found.path == "one.mp4":
            raise ValueError("31 is not a valid Type")
        return probe(root, found)

    for name in ("one.mp4", "two.mp4"):
        make_video(tmp_path / name, 3)
    monkeypatch.setattr("manifests.probe.probe.probe", failing)
    one, two = probe_all(tmp_path, [entry("one.mp4"), entry("two.mp4")])
    assert isinstance(one, Rejected)
    assert (one.stage, one.reason) == (Stage.PROBE, Reason.CRASHED)
    assert one.detail == "unexpected ValueError: 31 is not a valid Type"
    assert isinstance(two, VideoEntry)
    assert two.num_frames == 3
