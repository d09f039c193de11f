"""What every layout promises, on a small tree of empty files of each."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.recognise import recognise_layout
from manifests.datasets.walk import VIDEO_SUFFIXES
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Rejected, Stage

NOT_UTF_8 = os.fsdecode(b"\xff\xfe.mp4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A dataset to be laid out."""

    layout: str
    # the name that it is to be recognised by

    videos: tuple[str, ...]
    # paths of files that are videos of the dataset

    odd: tuple[str, ...]
    # paths of video files that are none of its, or one of them again

    texts: Mapping[str, str] = field(default_factory=dict)
    # path → text of the lists and tables


TREES = {
    "ffpp": Tree(
        layout="ffpp",
        videos=(
            "original_sequences/youtube/c23/videos/000.mp4",
            "original_sequences/youtube/c0/videos/003.mp4",
            "original_sequences/actors/c40/videos/01__talking.mp4",
            "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",
            "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__talking__YVGY8LOK.mp4",
        ),
        odd=(
            "original_sequences/youtube/raw/videos/003.mp4",
            "original_sequences/youtube/c23/videos/000.avi",
            f"original_sequences/youtube/c23/videos/{NOT_UTF_8}",
            "original_sequences/youtube/000.mp4",
            "manipulated_sequences/Unheard/c23/videos/000_003.mov",
        ),
    ),
    "ffpp_kaggle": Tree(
        layout="ffpp_kaggle",
        videos=("original/000.mp4", "Deepfakes/000_003.mp4", "NeuralTextures/003_000.mp4"),
        odd=(f"original/{NOT_UTF_8}", "original/0.mp4", "Deepfakes/more/000_003.mp4", "deepfakes/000_003.mp4"),
        texts={
            "csv/FF++_Metadata.csv": "File Path,Label,Frame Count,Width,Height\n"
            "original/000.mp4,REAL,300,640,480\nDeepfakes/000_003.mp4,FAKE,300,640,480\n"
        },
    ),
    "celeb_df": Tree(
        layout="celeb_df",
        videos=(
            "Celeb-real/id0_0000.mp4",
            "YouTube-real/videos/00170.mp4",
            "Celeb-synthesis/id0_id1_0000.mp4",
            "Celeb-synthesis/TalkingFace/SadTalker/id0_0000_voice.mp4",
        ),
        odd=(
            f"Celeb-synthesis/TalkingFace/SadTalker/id0_0000_{NOT_UTF_8}",
            "Celeb-real/videos/id0_0000.mp4",
            "Celeb-real/id0.webm",
            "Celeb-synthesis/Unheard/id0_id1_0000.mp4",
        ),
        texts={"List_of_testing_videos.txt": "1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4"},
    ),
    "dfdc": Tree(
        layout="dfdc",
        videos=("dfdc_train_part_0/aaa.mp4", "dfdc_train_part_0/zzz.mp4", "x/dfdc_train_part_1/bbb.mp4"),
        odd=(
            f"dfdc_train_part_0/{NOT_UTF_8}",
            "dfdc_train_part_2/ccc.mp4",
            "x/dfdc_train_part_1/aaa.mp4",
            "x/dfdc_train_part_1/ddd.mp4",
            "dfdc_train_part_0/eee.mp4",
        ),
        texts={
            "dfdc_train_part_0/metadata.json": json.dumps(
                {
                    "aaa.mp4": {"label": "REAL", "split": "train"},
                    "zzz.mp4": {"label": "FAKE", "original": "aaa.mp4"},
                    "eee.mp4": {"label": "?"},
                }
            ),
            "x/dfdc_train_part_1/metadata.json": json.dumps(
                {name: {"label": "REAL"} for name in ("aaa.mp4", "bbb.mp4")}
            ),
        },
    ),
    "folder": Tree(
        layout="folder",
        videos=("real/a.mp4", "real/deep/er/a.mov", "fake/b.mp4", "fake/Swap/b.mp4"),
        odd=(f"real/{NOT_UTF_8}", "real/a.webm", "fake/Swap/b.webm"),
    ),
    "a folder with a table": Tree(
        layout="folder",
        videos=("a.mp4", "clips/b.mkv", "real/c.mp4"),
        odd=(NOT_UTF_8, "real/a.mp4"),
        texts={"labels.csv": "path,label,group\na.mp4,real,g\nclips/b.mkv,fake,g\nreal/c.mp4,fake,\n"},
    ),
}
NOTES = ("notes.txt", "frames/0.png")


def lay_out(tree: Tree, root: Path, order: random.Random | None = None) -> Path:
    """Make the files, in any order; every folder of videos holds some that are none."""
    folders = {str(Path(path).parent) for path in (*tree.videos, *tree.odd)}
    paths = [*tree.videos, *tree.odd, *tree.texts, *(f"{folder}/notes" for folder in folders), *NOTES]
    if tree.layout == "ffpp":  # there, a folder `videos` holds nothing but videos
        paths = [path for path in paths if not path.endswith("videos/notes")]
    if order is not None:
        order.shuffle(paths)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(tree.texts.get(path, ""))
    return root


def survey(tree: Tree, root: Path) -> list[VideoEntry | Rejected]:
    return list(DATASETS[tree.layout].survey(root))


@pytest.fixture(params=TREES)
def tree(request: pytest.FixtureRequest) -> Tree:
    return TREES[request.param]


@pytest.fixture
def root(tree: Tree, tmp_path: Path) -> Path:
    return lay_out(tree, tmp_path / "root")


def test_every_layout_has_a_tree_here() -> None:
    assert {tree.layout for tree in TREES.values()} == DATASETS.keys()


@pytest.mark.parametrize("name", DATASETS)
def test_the_registry(name: str) -> None:
    dataset = DATASETS[name]
    assert dataset.name == name
    assert dataset.title
    assert dataset.expects
    assert len(set(dataset.manipulations)) == len(dataset.manipulations)
    assert set(dataset.compressions) <= {"raw", "c23", "c40"}


def test_it_is_recognised_by_itself_alone(tree: Tree, root: Path) -> None:
    assert [name for name, dataset in DATASETS.items() if dataset.recognise(root)] == [tree.layout]
    found = recognise_layout(root)
    assert found.dataset is DATASETS[tree.layout]
    assert found.why == found.dataset.recognise(root)


def test_videos_are_found_in_the_order_of_their_ids(tree: Tree, root: Path) -> None:
    entries = list(DATASETS[tree.layout].scan(root))
    video_ids = [entry.video_id for entry in entries]
    assert video_ids == sorted(set(video_ids))
    assert {entry.path for entry in entries} == set(tree.videos)
    for entry in entries:
        assert entry.video_id.startswith(f"{entry.dataset}/{entry.collection}/")
        assert entry.group_id.startswith(f"{entry.dataset}/")
        assert entry.target_id
        assert (entry.split, entry.is_probed) == (None, False)
        assert entry.listed_split is None or tree.texts
        assert not any(entry.collection == other.collection for other in entries if other.label != entry.label)
        known = DATASETS[tree.layout]
        assert not known.manipulations or entry.manipulation in (None, *known.manipulations)
        assert entry.compression in (known.compressions or (None,))


def test_a_survey_is_the_scan_and_then_what_is_odd(tree: Tree, root: Path) -> None:
    found = survey(tree, root)
    entries = list(DATASETS[tree.layout].scan(root))
    assert found[: len(entries)] == entries
    assert all(isinstance(item, Rejected) and item.stage is Stage.INDEX for item in found[len(entries) :])


def test_every_video_file_is_an_entry_or_a_rejection(tree: Tree, root: Path) -> None:
    on_disk = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.suffix in VIDEO_SUFFIXES]
    told = [item.path if isinstance(item, VideoEntry) else item.video_id for item in survey(tree, root)]
    assert Counter(told) == Counter(path.encode("utf-8", "backslashreplace").decode() for path in on_disk)
    assert len(told) == len(tree.videos) + len(tree.odd)


def test_rejections_are_lines_that_can_be_printed(tree: Tree, root: Path) -> None:
    for item in survey(tree, root):
        if isinstance(item, Rejected):
            assert item.detail.encode().splitlines() == [item.detail.encode()]
            assert item.video_id.encode()


@pytest.mark.parametrize("seed", range(3))
def test_the_order_in_which_files_were_made_is_no_matter(tree: Tree, root: Path, tmp_path: Path, seed: int) -> None:
    shuffled = lay_out(tree, tmp_path / "shuffled", random.Random(seed))
    assert survey(tree, shuffled) == survey(tree, root)


def test_a_survey_twice_is_the_same(tree: Tree, root: Path) -> None:
    assert survey(tree, root) == survey(tree, root)


def test_what_the_metadata_claims_is_of_videos(tree: Tree, root: Path) -> None:
    dataset = DATASETS[tree.layout]
    claims = dataset.claims(root)
    assert claims.keys() <= {entry.video_id for entry in dataset.scan(root)}
    assert bool(claims) == (tree.layout == "ffpp_kaggle")


def test_folders_may_be_links(tree: Tree, root: Path, tmp_path: Path) -> None:
    expected = survey(tree, root)
    (tmp_path / "disk2").mkdir()
    for folder in [path for path in root.iterdir() if path.is_dir()]:
        shutil.move(folder, tmp_path / "disk2" / folder.name)
        folder.symlink_to(tmp_path / "disk2" / folder.name)
    assert survey(tree, root) == expected
    assert recognise_layout(root).dataset is DATASETS[tree.layout]


def test_files_may_be_links_even_broken_ones(tree: Tree, root: Path, tmp_path: Path) -> None:
    expected = survey(tree, root)
    for number, path in enumerate(tree.videos):
        (root / path).unlink()
        # The last kind leads to itself; that a file cannot be read is found out when it is opened.
        (root / path).symlink_to((tmp_path / "store" / "x", Path("nowhere"), root / path)[number % 3])
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").touch()
    assert survey(tree, root) == expected


def test_links_that_lead_back_are_not_followed_for_ever(tree: Tree, root: Path) -> None:
    expected = survey(tree, root)
    folders = sorted({(root / path).parent for path in tree.videos} - {root})
    for number, folder in enumerate(folders):
        (folder / "loop").symlink_to(root)
        (folder / "here").symlink_to(folder)
        (folder / "up").symlink_to(Path("../" * (number + 1)))
    assert folders
    assert survey(tree, root) == expected


def test_a_folder_that_cannot_be_listed_is_not_skipped(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = os.scandir
    for closed in sorted({(root / path).parent for path in tree.videos}):

        def refuse(path: str | Path, closed: Path = closed) -> object:
            if Path(path) == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return listed(path)

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(DatasetError, match=rf"folder: got {closed} \(Permission denied\), expected to read it"):
            survey(tree, root)


def test_a_link_that_leads_nowhere_may_have_been_a_folder(tree: Tree, root: Path) -> None:
    folder = (root / tree.videos[0]).parent
    (folder / "more").symlink_to("more")
    with pytest.raises(DatasetError, match=rf"folder: got {folder}/more \(Too many levels of symbolic links\)"):
        survey(tree, root)


def test_recognising_is_never_an_error(tree: Tree, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = DATASETS[tree.layout]
    assert dataset.recognise(root / "nowhere") is None
    assert dataset.recognise(root / "notes.txt") is None

    def refuse(path: object = None, *_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied", str(path))

    for name in ("listdir", "scandir", "stat"):
        monkeypatch.setattr(os, name, refuse)
    assert dataset.recognise(root) is None


def test_a_root_that_is_no_folder(tree: Tree, root: Path) -> None:
    for path in (root / "nowhere", root / "notes.txt", root / "notes.txt" / "below"):
        with pytest.raises(DatasetError, match=f"got {path}, expected a folder; check the path"):
            survey(tree, path)


def test_a_root_of_another_layout_is_refused(tree: Tree, tmp_path: Path) -> None:
    others = [dataset for name, dataset in DATASETS.items() if name != tree.layout]
    # Nothing but the videos: any folder may hold a table, or metadata of another dataset.
    root = lay_out(Tree(layout=tree.layout, videos=tree.videos, odd=()), tmp_path / "root")
    for dataset in others:
        if tree.layout == "folder" or dataset.name != "folder":
            with pytest.raises(DatasetError, match=rf"got {root} \(holding .*\), expected"):
                list(dataset.survey(root))


def test_an_empty_root_is_refused(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=rf"got {tmp_path} \(holding nothing\), expected"):
        survey(tree, tmp_path)
