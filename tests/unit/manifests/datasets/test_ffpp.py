"""FaceForensics++ by its file names: identity, labels, groups, masks, and a reason for every odd file."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.ffpp import SEQUENCES_OF_ONE_VIDEO
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected
from manifests.splits.policies import assign, counts_by_split
from tests.helpers.trees import touch

REFERENCE = Path(__file__).parents[5] / "shared" / "reference"
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")

FFPP = DATASETS["ffpp"]
YOUTUBE = "original_sequences/youtube/c23/videos"
DEEPFAKES = "manipulated_sequences/Deepfakes"


def rejections(root: Path) -> dict[str, Reason]:
    return {item.video_id: item.reason for item in FFPP.survey(root) if isinstance(item, Rejected)}


def test_a_pair_and_its_fakes(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        f"{YOUTUBE}/519.mp4",
        f"{YOUTUBE}/515.mp4",
        f"{YOUTUBE}/634.mp4",
        f"{DEEPFAKES}/c23/videos/519_515.mp4",
        f"{DEEPFAKES}/masks/videos/519_515.mp4",
        "manipulated_sequences/FaceShifter/c40/videos/515_519.mp4",
    )
    entries = {entry.video_id: entry for entry in FFPP.scan(root)}
    assert list(entries) == [
        "ffpp/Deepfakes/c23/519_515",
        "ffpp/FaceShifter/c40/515_519",
        "ffpp/youtube/c23/515",
        "ffpp/youtube/c23/519",
        "ffpp/youtube/c23/634",
    ]
    assert entries["ffpp/Deepfakes/c23/519_515"] == VideoEntry(
        video_id="ffpp/Deepfakes/c23/519_515",
        path=f"{DEEPFAKES}/c23/videos/519_515.mp4",
        mask_path=f"{DEEPFAKES}/masks/videos/519_515.mp4",
        dataset="ffpp",
        label="fake",
        manipulation="Deepfakes",
        compression="c23",
        target_id="519",
        target_identity="519",
        source_id="515",
        group_id="ffpp/youtube/515",
    )
    groups = {video_id: entry.group_id for video_id, entry in entries.items()}
    assert groups.pop("ffpp/youtube/c23/634") == "ffpp/youtube/634"
    assert set(groups.values()) == {"ffpp/youtube/515"}


@pytest.mark.parametrize(("folder", "compression"), [("raw", "raw"), ("c0", "raw"), ("c23", "c23"), ("c40", "c40")])
def test_c0_is_raw(tmp_path: Path, folder: str, compression: str) -> None:
    (entry,) = FFPP.scan(touch(tmp_path, f"original_sequences/youtube/{folder}/videos/000.mp4"))
    assert (entry.compression, entry.video_id) == (compression, f"ffpp/youtube/{compression}/000")


def test_raw_and_c0_of_one_video_are_told_apart_loudly(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "original_sequences/youtube/c0/videos/000.mp4",
        "original_sequences/youtube/raw/videos/000.mp4",
    )
    assert rejections(root) == {"original_sequences/youtube/raw/videos/000.mp4": Reason.DUPLICATE}


def test_actors_are_grouped_apart_from_youtube(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "original_sequences/actors/raw/videos/01__exit_phone_room.mp4",
        "original_sequences/actors/raw/videos/03__talking.mp4",
        "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__meeting__YVGY8LOK.mp4",
        f"{YOUTUBE}/001.mp4",
    )
    groups = {entry.video_id: entry.group_id for entry in FFPP.scan(root)}
    assert groups == {
        "ffpp/DeepFakeDetection/raw/01_02__meeting__YVGY8LOK": "ffpp/actors/01",
        "ffpp/actors/raw/01__exit_phone_room": "ffpp/actors/01",
        "ffpp/actors/raw/03__talking": "ffpp/actors/03",
        "ffpp/youtube/c23/001": "ffpp/youtube/001",
    }


def test_footage_of_actors_is_a_scene_and_its_person_the_actor(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "original_sequences/actors/c23/videos/01__exit_phone_room.mp4",
        "original_sequences/actors/c23/videos/01__meeting_serious.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
        "manipulated_sequences/DeepFakeDetection/masks/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
    )
    fake, exit_room, meeting = FFPP.scan(root)
    assert (fake.target_id, fake.target_identity, fake.source_id) == ("01__exit_phone_room", "01", "02")
    assert (fake.label, fake.manipulation) == ("fake", "DeepFakeDetection")
    assert fake.mask_path == fake.path.replace("/c23/", "/masks/")
    assert (exit_room.target_id, exit_room.target_identity, exit_room.source_id) == ("01__exit_phone_room", "01", None)
    assert (meeting.target_id, meeting.target_identity) == ("01__meeting_serious", "01")
    assert {entry.group_id for entry in (fake, exit_room, meeting)} == {"ffpp/actors/01"}


def test_actors_who_lent_each_other_faces_are_one_group(tmp_path: Path) -> None:
    fakes = ("01_02__talking__YVGY8LOK", "03_02__talking__0AAAAAAA", "04_05__talking__ZZZZZZZ9")
    root = touch(tmp_path, *(f"manipulated_sequences/DeepFakeDetection/c40/videos/{name}.mp4" for name in fakes))
    assert [entry.group_id for entry in FFPP.scan(root)] == ["ffpp/actors/01", "ffpp/actors/01", "ffpp/actors/04"]


def test_masks_belong_to_every_compression_of_their_method_only(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        *(f"manipulated_sequences/FaceSwap/{compression}/videos/519_515.mp4" for compression in ("c0", "c23", "c40")),
        f"{DEEPFAKES}/c23/videos/519_515.mp4",
        "manipulated_sequences/FaceSwap/masks/videos/519_515.mp4",
    )
    masks = {entry.video_id: entry.mask_path for entry in FFPP.scan(root)}
    assert masks == {
        "ffpp/Deepfakes/c23/519_515": None,
        **{
            f"ffpp/FaceSwap/{compression}/519_515": "manipulated_sequences/FaceSwap/masks/videos/519_515.mp4"
            for compression in ("raw", "c23", "c40")
        },
    }


@pytest.mark.parametrize(
    "path",
    [
        "original_sequences/actors/c23/videos/1__exit_phone_room.mp4",
        "original_sequences/actors/c23/videos/01__Exit.mp4",
        "original_sequences/actors/c23/videos/01.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__meeting__yvgy8lok.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__meeting.mp4",
        "manipulated_sequences/DeepFakeDetection/c23/videos/01__meeting.mp4",
        "manipulated_sequences/actors/c23/videos/01__meeting.mp4",
        "original_sequences/Deepfakes/c23/videos/519_515.mp4",
        f"{DEEPFAKES}/masks/519_515.mp4",
        f"{YOUTUBE}/deeper/519.mp4",
        f"{YOUTUBE}/12.mp4",
        f"{YOUTUBE}/519.avi",
        f"{YOUTUBE}/519_515.mp4",
        f"{DEEPFAKES}/c23/videos/519.mp4",
        f"{DEEPFAKES}/c99/videos/519_515.mp4",
        "manipulated_sequences/MyForgery/c23/videos/519_515.mp4",
        "original_sequences/youtube/519.mp4",
    ],
)
def test_odd_files_are_rejected_and_not_lost(tmp_path: Path, path: str) -> None:
    root = touch(tmp_path, f"{YOUTUBE}/000.mp4", path)
    assert rejections(root) == {path: Reason.UNRECOGNISED_NAME}
    assert [entry.path for entry in FFPP.scan(root)] == [f"{YOUTUBE}/000.mp4"]


def test_a_name_that_is_not_utf_8_is_a_rejection_like_any_other(tmp_path: Path) -> None:
    touch(tmp_path, f"{YOUTUBE}/000.mp4")
    (tmp_path / YOUTUBE / os.fsdecode(b"\xff.mp4")).touch()
    (rejected,) = [item for item in FFPP.survey(tmp_path) if isinstance(item, Rejected)]
    assert rejected.video_id == f"{YOUTUBE}/\\udcff.mp4"
    assert rejected.detail.encode()


def test_a_folder_that_cannot_be_listed_is_not_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, f"{YOUTUBE}/000.mp4")
    listed = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("videos"):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DatasetError, match=r"youtube/c23/videos \(Permission denied\)"):
        list(FFPP.scan(tmp_path))


def test_what_makes_no_claim_to_be_a_video_is_left_alone(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        f"{YOUTUBE}/000.mp4",
        "original_sequences/youtube/c23/frames/000/000.png",
        "downloaded_videos/abc.mp4",
        "README.txt",
        f"{DEEPFAKES}/masks/videos/519_515.mp4",
    )
    assert rejections(root) == {}


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    elsewhere = touch(tmp_path / "disk2", "videos/000.mp4")
    root = touch(tmp_path / "ffpp", f"{YOUTUBE}/001.mp4")
    (root / "original_sequences/youtube/c40").symlink_to(elsewhere)
    (elsewhere / "videos" / "loop").symlink_to(root / "original_sequences")
    assert [entry.video_id for entry in FFPP.scan(root)] == ["ffpp/youtube/c23/001", "ffpp/youtube/c40/000"]


def test_a_missing_root(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"got .*nowhere, expected a folder"):
        list(FFPP.scan(tmp_path / "nowhere"))


def test_the_parent_of_a_root_gets_the_way_out(tmp_path: Path) -> None:
    touch(tmp_path, f"inner/{YOUTUBE}/000.mp4")
    with pytest.raises(DatasetError, match=r"name .*inner instead"):
        list(FFPP.scan(tmp_path))


def test_a_root_of_another_dataset_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4")
    with pytest.raises(DatasetError, match=r"holding Celeb-real, Celeb-synthesis.*original_sequences"):
        list(FFPP.scan(tmp_path))


@pytest.mark.parametrize("folder", ["original_sequences", YOUTUBE])
def test_an_empty_tree_is_no_dataset(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    with pytest.raises(DatasetError, match="no video in original_sequences, expected"):
        list(FFPP.scan(tmp_path))


def test_the_path_of_a_file_is_no_root(tmp_path: Path) -> None:
    (tmp_path / "ffpp.zip").touch()
    with pytest.raises(DatasetError, match=r"ffpp\.zip, expected a folder"):
        list(FFPP.scan(tmp_path / "ffpp.zip"))


@pytest.fixture(scope="module")
def all_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 1000 originals and five manipulations of each, at c23, by the names in the official lists."""
    if not (REFERENCE / "ff_train.json").is_file():
        pytest.skip(f"needs the official split lists in {REFERENCE}, which are not in the repository")
    pairs = [pair for split in ("train", "val", "test") for pair in json.loads(_list_of(split).read_text())]
    names = {YOUTUBE: [name for pair in pairs for name in pair]}
    fakes = [name for first, second in pairs for name in (f"{first}_{second}", f"{second}_{first}")]
    names |= {f"manipulated_sequences/{method}/c23/videos": fakes for method in METHODS}
    root = tmp_path_factory.mktemp("names") / "ffpp"
    for folder, found in names.items():
        (root / folder).mkdir(parents=True)
        for name in found:
            (root / folder / f"{name}.mp4").touch()
    return root


def _list_of(split: str) -> Path:
    return REFERENCE / f"ff_{split}.json"


def test_all_originals_are_split_exactly(all_names: Path) -> None:
    entries = list(FFPP.scan(all_names))
    assert len(entries) == 6000
    sizes = Counter(entry.group_id for entry in entries)
    # 500 pairs of 2 originals and 5 × 2 fakes; 977 YouTube videos give the originals, so that 22 pairs join others.
    assert len(sizes) == 478
    assert {size % 12 for size in sizes.values()} == {0}
    cuts = {frozenset(recording.split("-")) for recording in SEQUENCES_OF_ONE_VIDEO}
    assert (len(cuts), 1000 - sum(len(cut) - 1 for cut in cuts)) == (22, 977)
    for cut in cuts:
        assert len({entry.group_id for entry in entries if entry.target_id in cut or entry.source_id in cut}) == 1
    assigned = assign(entries)
    assert counts_by_split(assigned) == {kind: Counter(train=700, val=150, test=150) for kind in ("real", *METHODS)}
    pairs: dict[frozenset[str], set[str | None]] = {}
    for entry in assigned:
        if entry.source_id is not None:
            pairs.setdefault(frozenset({entry.target_id, entry.source_id}), set()).add(entry.split)
    assert len(pairs) == 500
    assert all(len(splits) == 1 for splits in pairs.values())
    for cut in cuts:
        assert len({entry.split for entry in assigned if entry.target_id in cut}) == 1


def test_the_official_lists_are_followed(all_names: Path) -> None:
    assigned = assign(FFPP.scan(all_names), policy="official", official_dir=REFERENCE)
    assert counts_by_split(assigned) == {kind: Counter(train=720, val=140, test=140) for kind in ("real", *METHODS)}
    tested = {name for pair in json.loads(_list_of("test").read_text()) for name in pair}
    assert {entry.target_id for entry in assigned if entry.split == "test"} == tested


@pytest.mark.samples
def test_the_real_corner(samples_dir: Path) -> None:
    found = {entry.video_id: entry.group_id for entry in FFPP.scan(samples_dir / "ffpp_c23")}
    assert found == {
        "ffpp/Deepfakes/c23/519_515": "ffpp/youtube/515",
        "ffpp/FaceSwap/c23/634_660": "ffpp/youtube/634",
        "ffpp/youtube/c23/519": "ffpp/youtube/515",
        "ffpp/youtube/c23/634": "ffpp/youtube/634",
    }
