"""What every layout promises, on a small tree of empty files of each."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.file_kind import VIDEO_SUFFIXES
from manifests.datasets.ignored import Ignored, IgnoredReason, num_files_of
from manifests.datasets.recognise import recognise_layout
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.indexing import index_dataset, survey_dataset
from manifests.rejected import Reason, Rejected, Stage

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
    return [item for item in DATASETS[tree.layout].survey(root) if not isinstance(item, Ignored)]


def ignored(tree: Tree, root: Path) -> list[Ignored]:
    return [item for item in DATASETS[tree.layout].survey(root) if isinstance(item, Ignored)]


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


# Files in every tree: name → reason; content by suffix or as below.
OTHERS = {
    "0.png": IgnoredReason.PICTURE,
    "still.gif": IgnoredReason.PICTURE,
    "clip.mp4.crdownload": IgnoredReason.UNFINISHED,
    ".clip.mp4.part": IgnoredReason.UNFINISHED,
    "clips.zip.001": IgnoredReason.ARCHIVE,
    "sound.wav": IgnoredReason.AUDIO,
    "app.ts": IgnoredReason.TEXT,
    "landmarks.npy": IgnoredReason.DATA,
    "nothing": IgnoredReason.EMPTY,
    "noise.dat": IgnoredReason.NOT_A_VIDEO,
    "Thumbs.db": IgnoredReason.HIDDEN,
    "._clip.mp4": IgnoredReason.HIDDEN,
    "clip.mp4~": IgnoredReason.BACKUP,
    "lost": IgnoredReason.BROKEN_LINK,
    "queue": IgnoredReason.NOT_REGULAR,
    "README.md": IgnoredReason.AUXILIARY,
    "notes.json": IgnoredReason.AUXILIARY,
}
CONTENT = {"app.ts": b"export const x = 1;\n", "noise.dat": bytes(range(256)), "still.gif": b"GIF89a\1\0\1\0\0\0\0;"}


def put_others(folder: Path) -> None:
    """Make the files of OTHERS."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in OTHERS:
        if name == "lost":
            (folder / name).symlink_to("nowhere")
        elif name == "queue":
            os.mkfifo(folder / name)
        else:
            (folder / name).write_bytes(CONTENT.get(name, b""))


def test_every_file_on_disk_is_accounted_for(tree: Tree, root: Path) -> None:
    """Files counted by `os.walk` are the videos, the rejected ones, and the ignored ones of the survey together."""
    places = {(root / path).parent for path in tree.videos} | {root / "elsewhere" / "deep", root / ".git"}
    for place in places:
        put_others(place)
    found = survey_dataset(DATASETS[tree.layout], root)
    num_rejected = sum(item.num_files_on_disk for item in found.rejected)
    num_ignored = sum(item.num_files for item in found.ignored)
    num_files = sum(len(names) for _, _, names in os.walk(root))
    assert len(found.entries) + num_rejected + num_ignored == num_files
    assert found.accounts.startswith(
        f"{num_files} files in {root} = {len(tree.videos)} videos + {num_rejected} rejected by name or list"
    )


def test_every_other_file_is_ignored_for_its_reason(tree: Tree, root: Path) -> None:
    place = (root / tree.videos[0]).parent
    before = num_files_of(ignored(tree, root))
    put_others(place)
    after = num_files_of(ignored(tree, root))
    assert Counter(after) - Counter(before) == Counter(OTHERS.values())
    names = {name for item in ignored(tree, root) for name in (*item.names, item.path.rpartition("/")[2])}
    assert names >= OTHERS.keys()


def test_a_video_is_recognised_by_its_content_where_its_name_does_not_tell(tree: Tree, root: Path) -> None:
    place = (root / tree.videos[0]).parent
    names = ("a", "b.ts", "c.dat", "d.MP4_")
    for name in names:
        (place / name).write_bytes(b"\x1aE\xdf\xa3" + bytes(600))
    told = {item.path if isinstance(item, VideoEntry) else item.video_id for item in survey(tree, root)}
    assert told >= {(place / name).relative_to(root).as_posix() for name in names}


def test_many_pictures_are_one_row(tree: Tree, root: Path) -> None:
    place = (root / tree.videos[0]).parent / "shots"
    for number in range(40):
        (place / f"clip{number:02}").mkdir(parents=True)
        for frame in range(3):
            (place / f"clip{number:02}" / f"{frame}.png").touch()
    (row,) = [item for item in ignored(tree, root) if item.reason is IgnoredReason.PICTURE and "clip" in str(item)]
    assert (row.path, row.num_files) == (place.relative_to(root).as_posix(), 120)
    assert row.names[:2] == ("clip00/0.png", "clip00/1.png")


def test_results_of_faceshards_are_no_videos(tree: Tree, root: Path) -> None:
    expected = survey(tree, root)
    scores = (root / tree.videos[0]).parent / "clip.scores"
    scores.mkdir()
    (scores / "annotated.mp4").touch()
    assert survey(tree, root) != expected
    (scores / "prediction.json").touch()
    assert survey(tree, root) == expected
    assert any(
        item.reason is IgnoredReason.AUXILIARY and item.path.endswith("clip.scores") for item in ignored(tree, root)
    )


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_a_list_that_is_no_file_is_not_waited_for(tree: Tree, root: Path, make: Callable[[Path], None]) -> None:
    dataset = DATASETS[tree.layout]
    for path in tree.texts:
        (root / path).unlink()
        make(root / path)
    recognised = dataset.recognise(root)
    assert (recognised is None) == (tree.layout == "dfdc" or "labels.csv" in tree.texts)
    if tree.texts and recognised is not None:
        with pytest.raises(DatasetError, match="not a regular file"):
            list(dataset.survey(root))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_a_video_that_is_no_file_is_rejected(tree: Tree, root: Path, make: Callable[[Path], None]) -> None:
    (root / tree.videos[0]).unlink()
    make(root / tree.videos[0])
    rows = index_dataset(survey_dataset(DATASETS[tree.layout], root))
    (row,) = [row for row in rows if row.path == tree.videos[0]]
    assert row.reason is Reason.UNREADABLE
    assert (row.detail or "").endswith("a pipe or a device, not a regular file")
