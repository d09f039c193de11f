"""The whole miniature: complete, the same every time, and only in a folder of its own."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from manifests.datasets.ffpp import FaceForensicsPP
from manifests.datasets.ignored import Ignored
from manifests.entry import VideoEntry
from manifests.errors import ConfigError, DatasetError
from manifests.indexing import MINIATURE_MARKER as MARKER
from manifests.miniature import write_miniature
from manifests.miniature.write import README

SECONDS = (0.4, 0.6)


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def num_frames(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in container.decode(video=0))


@pytest.fixture(scope="module")
def ffpp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ffpp") / "new" / "folder"
    summary = write_miniature(root, num_pairs=1, seconds=SECONDS, num_workers=1)
    assert (summary.num_videos, summary.num_masks, summary.num_written) == (10, 8, 18)
    assert summary.num_bytes == sum(path.stat().st_size for path in root.rglob("*.mp4"))
    return root


def test_the_tree_is_read_as_faceforensics_with_every_mask(ffpp: Path) -> None:
    found = [item for item in FaceForensicsPP().survey(ffpp) if not isinstance(item, Ignored)]
    assert len(found) == 10
    assert len({entry.group_id for entry in found if isinstance(entry, VideoEntry)}) == 1
    for entry in found:
        assert isinstance(entry, VideoEntry)
        assert (entry.mask_path is not None) == (entry.label == "fake")


def test_videos_are_what_the_parameters_say(ffpp: Path) -> None:
    for path in ffpp.rglob("*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert stream.average_rate == Fraction(25)
            assert (stream.width, stream.height) in {(320, 240), (480, 360)}
            assert len(container.streams) == 1
            count = stream.frames
        assert count == num_frames(path)
        assert 8 <= count <= 15
    for target, source in (("000", "001"), ("001", "000")):
        footage = num_frames(ffpp / f"original_sequences/youtube/c23/videos/{target}.mp4")
        for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
            fake = ffpp / f"manipulated_sequences/{method}/c23/videos/{target}_{source}.mp4"
            mask = ffpp / f"manipulated_sequences/{method}/masks/videos/{target}_{source}.mp4"
            assert num_frames(fake) == num_frames(mask)
            assert (num_frames(fake) < footage) == (method == "FaceSwap")


def test_after_encoding_too_a_fake_differs_from_its_footage_in_the_mask(ffpp: Path) -> None:
    def first_frame(path: str) -> np.ndarray:
        with av.open(str(ffpp / path)) as container:
            return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)

    footage = first_frame("original_sequences/youtube/c23/videos/000.mp4")
    for method in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"):
        fake = first_frame(f"manipulated_sequences/{method}/c23/videos/000_001.mp4")
        mask = first_frame(f"manipulated_sequences/{method}/masks/videos/000_001.mp4")[..., 0] > 127
        difference = np.abs(fake - footage).mean(axis=-1)
        assert difference[mask].mean() > 3 * difference[~mask].mean()


def test_two_runs_are_the_same_byte_for_byte_whatever_the_number_of_workers(ffpp: Path, tmp_path: Path) -> None:
    told: list[str] = []
    write_miniature(tmp_path, num_pairs=1, seconds=SECONDS, num_workers=2, on_video=told.append)
    assert digests(tmp_path) == digests(ffpp)
    videos = {path for path in digests(ffpp) if path.endswith(".mp4") and "/masks/" not in path}
    assert sorted(told) == sorted(videos)


def test_a_complete_folder_is_left_alone_and_a_damaged_one_completed(ffpp: Path) -> None:
    before = digests(ffpp)
    times = {path: (ffpp / path).stat().st_mtime_ns for path in before}
    again = write_miniature(ffpp, num_pairs=1, seconds=SECONDS, num_workers=1)
    assert again.num_written == 0
    assert {path: (ffpp / path).stat().st_mtime_ns for path in before} == times

    lost = [
        "manipulated_sequences/FaceSwap/masks/videos/001_000.mp4",
        "manipulated_sequences/Face2Face/c23/videos/001_000.mp4",
    ]
    for path in lost:
        (ffpp / path).unlink()
    (ffpp / README).unlink()
    assert write_miniature(ffpp, num_pairs=1, seconds=SECONDS, num_workers=1).num_written == 2
    assert digests(ffpp) == before
    kept = set(before) - {*lost, README}
    assert {path: (ffpp / path).stat().st_mtime_ns for path in kept} == {path: times[path] for path in kept}


def test_an_interrupted_run_shows_whole_files_only_and_is_completed_later(ffpp: Path, tmp_path: Path) -> None:
    def interrupt(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_miniature(tmp_path, num_pairs=1, seconds=SECONDS, num_workers=1, on_video=interrupt)
    whole = digests(ffpp)
    shown = {path: digest for path, digest in digests(tmp_path).items() if not path.startswith(".partial/")}
    assert 0 < len(shown) < len(whole)
    assert shown.items() <= whole.items()
    # What a killed process leaves behind is not taken for a video, and goes.
    (tmp_path / ".partial").mkdir(exist_ok=True)
    (tmp_path / ".partial" / "1-half.mp4").write_bytes(b"half")
    write_miniature(tmp_path, num_pairs=1, seconds=SECONDS, num_workers=1)
    assert digests(tmp_path) == whole
    assert not (tmp_path / ".partial").exists()


def test_a_folder_with_something_else_in_it_is_refused_and_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DatasetError, match=r"holding thesis\.tex\), expected a new or empty folder; name another one"):
        write_miniature(tmp_path, num_pairs=1, seconds=SECONDS, num_workers=1)
    assert digests(tmp_path).keys() == {"thesis.tex"}
    with pytest.raises(DatasetError, match="which is a file, expected a new or empty folder"):
        write_miniature(tmp_path / "thesis.tex", num_pairs=1, seconds=SECONDS, num_workers=1)
    with pytest.raises(DatasetError, match="cannot be written"):
        write_miniature(tmp_path / "thesis.tex" / "below", num_pairs=1, seconds=SECONDS, num_workers=1)


def test_a_folder_with_another_miniature_is_refused_with_the_difference(ffpp: Path) -> None:
    before = digests(ffpp)
    with pytest.raises(DatasetError, match=r"a miniature with num_pairs 1 instead of 2; seed 0 instead of 9; name"):
        write_miniature(ffpp, num_pairs=2, seconds=SECONDS, seed=9, num_workers=1)
    assert digests(ffpp) == before


def test_a_marker_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / MARKER).write_text("{")
    with pytest.raises(DatasetError, match=r"miniature\.json, which is not JSON"):
        write_miniature(tmp_path, num_pairs=1, seconds=SECONDS, num_workers=1)
    (tmp_path / MARKER).write_text(json.dumps(["something"]))
    with pytest.raises(DatasetError, match="layout None instead of 'ffpp'"):
        write_miniature(tmp_path, num_pairs=1, seconds=SECONDS, num_workers=1)


def test_wrong_parameters_are_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers of the sample: got 0, expected 1 or more"):
        write_miniature(tmp_path / "new", num_workers=0)
    with pytest.raises(ConfigError, match="pairs of the sample: got 0"):
        write_miniature(tmp_path / "new", num_pairs=0)
    assert not (tmp_path / "new").exists()


def test_the_readme_says_what_it_is(ffpp: Path) -> None:
    text = (ffpp / README).read_text(encoding="utf-8")
    for needed in ("Eileen Collins", "not: research data", "one person", "FaceForensics++", "seed 0", "1 pairs"):
        assert needed in text


def test_celeb_df_is_written_with_its_list(tmp_path: Path) -> None:
    summary = write_miniature(tmp_path, layout="celeb_df", num_pairs=3, seconds=(0.2, 0.3), num_workers=1)
    # Three chains of two people, two clips each, both directions; three people without a name.
    assert (summary.num_videos, summary.num_masks) == (12 + 6 + 3, 0)
    assert len(list((tmp_path / "Celeb-real").glob("id*_000?.mp4"))) == 12
    assert len(list((tmp_path / "Celeb-synthesis").glob("id*_id*_000?.mp4"))) == 6
    assert len(list((tmp_path / "YouTube-real").glob("0000?.mp4"))) == 3
    lines = (tmp_path / "List_of_testing_videos.txt").read_bytes().split(b"\n")
    assert lines[0] == b"1 YouTube-real/00000.mp4"
    assert all((tmp_path / line.split(b" ")[1].decode()).is_file() for line in lines)
    assert "Celeb-DF v2" in (tmp_path / README).read_text(encoding="utf-8")
