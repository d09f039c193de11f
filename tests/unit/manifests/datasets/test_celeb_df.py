"""Celeb-DF by its names and its list of test videos, in which 1 means real."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.celeb_df import METHODS
from manifests.datasets.ignored import Ignored, IgnoredReason
from manifests.datasets.recognise import recognise_layout
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected
from manifests.splits.policies import assign, counts_by_split
from tests.helpers.trees import touch

CELEB = DATASETS["celeb_df"]
REFERENCE = Path(__file__).parents[5] / "shared" / "reference"
LIST = "List_of_testing_videos.txt"


def tree(root: Path, *paths: str, listed: str | None = None) -> Path:
    touch(root, *paths)
    if listed is not None:
        (root / LIST).write_text(listed)
    return root


def rejections(root: Path) -> dict[str, Reason]:
    return {item.video_id: item.reason for item in CELEB.survey(root) if isinstance(item, Rejected)}


def details(root: Path) -> list[str]:
    return [item.detail for item in CELEB.survey(root) if isinstance(item, Rejected)]


def test_people_footage_and_donors(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "Celeb-real/id0_0000.mp4",
        "Celeb-real/id7_0003.mp4",
        "Celeb-synthesis/id0_id1_0000.mp4",
        "YouTube-real/00170.mp4",
    )
    assert list(CELEB.scan(root)) == [
        VideoEntry(
            video_id="celeb_df/Celeb-real/id0_0000",
            path="Celeb-real/id0_0000.mp4",
            dataset="celeb_df",
            label="real",
            target_id="id0_0000",
            target_identity="id0",
            group_id="celeb_df/id0",
        ),
        VideoEntry(
            video_id="celeb_df/Celeb-real/id7_0003",
            path="Celeb-real/id7_0003.mp4",
            dataset="celeb_df",
            label="real",
            target_id="id7_0003",
            target_identity="id7",
            group_id="celeb_df/id7",
        ),
        VideoEntry(
            video_id="celeb_df/Celeb-synthesis/id0_id1_0000",
            path="Celeb-synthesis/id0_id1_0000.mp4",
            dataset="celeb_df",
            label="fake",
            manipulation="Celeb-synthesis",
            target_id="id0_0000",
            target_identity="id0",
            source_id="id1",
            group_id="celeb_df/id0",
        ),
        VideoEntry(
            video_id="celeb_df/YouTube-real/00170",
            path="YouTube-real/00170.mp4",
            dataset="celeb_df",
            label="real",
            target_id="00170",
            group_id="celeb_df/YouTube-00170",
        ),
    ]


def test_people_who_are_tied_by_a_third_are_one_group(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        *(f"Celeb-synthesis/{name}_0000.mp4" for name in ("id2_id1", "id3_id2", "id5_id4")),
        *(f"Celeb-real/id{person}_0001.mp4" for person in range(1, 7)),
    )
    groups = {entry.video_id.rpartition("/")[2]: entry.group_id for entry in CELEB.scan(root)}
    assert {groups[f"id{person}_0001"] for person in (1, 2, 3)} == {"celeb_df/id1"}
    assert {groups[f"id{person}_0001"] for person in (4, 5)} == {"celeb_df/id4"}
    assert groups["id6_0001"] == "celeb_df/id6"


@pytest.mark.parametrize("folders", [
    ("Celeb-real", "YouTube-real", "Celeb-synthesis"),
    ("celeb-real", "youtube-real", "celeb-synthesis"),
    ("CELEB-REAL", "Youtube-real", "Celeb-Synthesis"),
    ("Celeb-real/videos", "YouTube-real/Videos", "Celeb-synthesis/videos"),
])  # fmt: skip
def test_any_case_and_a_level_of_videos(tmp_path: Path, folders: tuple[str, str, str]) -> None:
    names = ("id0_0000", "00170", "id0_id1_0000")
    root = tree(tmp_path, *(f"{folder}/{name}.mp4" for folder, name in zip(folders, names, strict=True)))
    assert [entry.video_id for entry in CELEB.scan(root)] == [
        "celeb_df/Celeb-real/id0_0000",
        "celeb_df/Celeb-synthesis/id0_id1_0000",
        "celeb_df/YouTube-real/00170",
    ]
    assert rejections(root) == {}


@pytest.mark.parametrize(("kept", "twin"), [
    ("Celeb-real/id0_0000.mp4", "Celeb-real/videos/id0_0000.mp4"),
    ("Celeb-real/id0_0000.mp4", "celeb-real/id0_0000.mp4"),
    ("Celeb-real/id0_0000.MP4", "Celeb-real/id0_0000.mp4"),
])  # fmt: skip
def test_a_second_file_of_one_video_is_a_duplicate(tmp_path: Path, kept: str, twin: str) -> None:
    root = tree(tmp_path, kept, twin)
    assert rejections(root) == {twin: Reason.DUPLICATE}
    assert details(root) == [f"same video_id as {kept}: keep one of the two"]
    assert [entry.path for entry in CELEB.scan(root)] == [kept]


@pytest.mark.parametrize(
    "path",
    [
        "Celeb-real/00170.mp4",
        "Celeb-real/id0_id1_0000.mp4",
        "Celeb-real/id0_0000.avi",
        "Celeb-real/id0_0000 (1).mp4",
        "Celeb-real/SimSwap/id0_0000.mp4",
        "YouTube-real/id0_0000.mp4",
        "Celeb-synthesis/id0_0000.mp4",
        "Celeb-synthesis/id0_id1_0000_x.mp4",
        "Celeb-synthesis/Unheard/id0_id1_0000.mp4",
        "Celeb-synthesis/FaceSwap/id0_id1_0000.mp4",
        "Celeb-synthesis/a/b/SimSwap/id0_id1_0000.mp4",
        "Celeb-synthesis/FaceSwap/SimSwap/id0.mp4",
    ],
)
def test_odd_files_are_rejected_and_not_lost(tmp_path: Path, path: str) -> None:
    root = tree(tmp_path, "Celeb-real/id9_0000.mp4", path)
    assert rejections(root) == {path: Reason.UNRECOGNISED_NAME}
    assert [entry.path for entry in CELEB.scan(root)] == ["Celeb-real/id9_0000.mp4"]


def test_what_makes_no_claim_to_be_a_video_is_left_alone(tmp_path: Path) -> None:
    root = tree(
        tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-real/id0_0000/0.png", "Celeb-real/._id0_0000.mp4", "other/notes.txt"
    )
    assert rejections(root) == {}


def test_videos_outside_the_datasets_folders_are_told(tmp_path: Path) -> None:
    root = tree(
        tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-syntesis/deep/id0_id1_0000.mp4", "id0_0001.mp4", ".trash/a.mp4"
    )
    assert rejections(root) == dict.fromkeys(("Celeb-syntesis", "id0_0001.mp4"), Reason.UNRECOGNISED_NAME)
    assert "Celeb-syntesis/deep/id0_id1_0000.mp4" in details(root)[0]


def test_a_name_that_is_not_utf_8_is_a_rejection_like_any_other(tmp_path: Path) -> None:
    method = "Celeb-synthesis/FaceSwap/SimSwap"
    root = tree(tmp_path, f"{method}/id0_id1_0000.mp4")
    (root / method / os.fsdecode(b"id0_id1_0001_\xff.mp4")).touch()
    assert rejections(root) == {f"{method}/id0_id1_0001_\\udcff.mp4": Reason.UNRECOGNISED_NAME}
    assert all(detail.encode() for detail in details(root))


@pytest.mark.parametrize("method", METHODS)
def test_methods_of_the_third_version(tmp_path: Path, method: str) -> None:
    (entry,) = CELEB.scan(tree(tmp_path, f"Celeb-synthesis/Family/{method.lower()}/id0_id1_0007.mp4"))
    assert (entry.video_id, entry.manipulation) == (f"celeb_df/{method}/id0_id1_0007", method)
    assert (entry.target_id, entry.target_identity, entry.source_id) == ("id0_0007", "id0", "id1")
    assert method in CELEB.manipulations


@pytest.mark.parametrize(("name", "target_id", "source_id"), [
    ("id0_id1_0007", "id0_0007", "id1"),
    ("id0_0007", "id0_0007", None),
    ("id0_0007_test_id01822_wV0Fl0ZN7Vg", "id0_0007", None),
    ("id0_id1_0007_00170", "id0_0007", "id1"),
])  # fmt: skip
def test_names_of_methods_may_be_longer(tmp_path: Path, name: str, target_id: str, source_id: str | None) -> None:
    (entry,) = CELEB.scan(tree(tmp_path, f"Celeb-synthesis/TalkingFace/SadTalker/{name}.mp4"))
    assert (entry.target_id, entry.target_identity, entry.source_id) == (target_id, "id0", source_id)


@pytest.mark.parametrize("folder", ["Celeb-DF", "FaceSwap/Celeb-DF-v2", "FaceSwap/Celeb-DF/videos"])
def test_the_third_version_holds_the_fakes_of_the_second(tmp_path: Path, folder: str) -> None:
    (entry,) = CELEB.scan(tree(tmp_path, f"Celeb-synthesis/{folder}/id0_id1_0007.mp4"))
    assert (entry.video_id, entry.manipulation) == ("celeb_df/Celeb-synthesis/id0_id1_0007", "Celeb-synthesis")


@pytest.mark.parametrize(("paths", "why"), [
    (("Celeb-real/id0_0000.mp4",), "Celeb-real/"),
    (("celeb-SYNTHESIS/id0_id1_0000.mp4", "YouTube-real/1.mp4"), "YouTube-real/ and celeb-SYNTHESIS/"),
    (("YouTube-real/00170.mp4",), None),
    (("Celeb/real/id0_0000.mp4",), None),
])  # fmt: skip
def test_what_gives_it_away(tmp_path: Path, paths: tuple[str, ...], why: str | None) -> None:
    assert CELEB.recognise(tree(tmp_path, *paths)) == why


def test_the_list_marks_test_videos_and_1_is_real(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "Celeb-real/id0_0000.mp4",
        "Celeb-real/id0_0001.mp4",
        "Celeb-synthesis/videos/id0_id1_0000.mp4",
        "YouTube-real/00170.mp4",
        listed="1 YouTube-real/00170.mp4\n\n0\tceleb-synthesis/id0_id1_0000.mp4\r\n1 Celeb-real/id0_0000.mp4",
    )
    assert {entry.video_id: entry.listed_split for entry in CELEB.scan(root)} == {
        "celeb_df/Celeb-real/id0_0000": "test",
        "celeb_df/Celeb-real/id0_0001": None,
        "celeb_df/Celeb-synthesis/id0_id1_0000": "test",
        "celeb_df/YouTube-real/00170": "test",
    }
    assert rejections(root) == {}


def test_the_list_of_the_third_version_names_methods(tmp_path: Path) -> None:
    method = "Celeb-synthesis/FaceSwap/BlendFace"
    names = (f"{method}/id1_id0_0007.mp4", f"{method}/id1_id0_0008.mp4", "Celeb-synthesis/Celeb-DF/id1_id0_0007.mp4")
    root = tree(tmp_path, *names, listed=f"0 {names[0]}\n0 Celeb-synthesis/Celeb-DF-v2/id1_id0_0007.mp4\n")
    assert {entry.path: entry.listed_split for entry in CELEB.scan(root)} == {
        names[0]: "test",
        names[1]: None,
        names[2]: "test",
    }


def test_a_list_may_be_written_in_another_case_and_begin_with_a_mark(tmp_path: Path) -> None:
    root = tree(tmp_path, "Celeb-real/id0_0000.mp4")
    (root / LIST.lower()).write_text("\ufeff1 Celeb-real/id0_0000.mp4", encoding="utf-8")
    (entry,) = CELEB.scan(root)
    assert entry.listed_split == "test"


def test_a_listed_video_that_is_not_there_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "Celeb-real/id0_0000.mp4", listed="1 Celeb-real/id0_0000.mp4\n1 Celeb-real/id0_0009.mp4")
    assert rejections(root) == {"celeb_df/Celeb-real/id0_0009": Reason.MISSING_FILE}
    assert details(root) == [f"{LIST}: got Celeb-real/id0_0009.mp4, which is not on disk; download it again"]


def test_a_contradicted_video_is_taken_out(tmp_path: Path) -> None:
    names = [f"Celeb-real/id0_{number:04d}.mp4" for number in range(4)]
    root = tree(tmp_path, *names, listed="\n".join(f"{int(number > 0)} {name}" for number, name in enumerate(names)))
    assert rejections(root) == {"celeb_df/Celeb-real/id0_0000": Reason.METADATA_CONFLICT}
    assert details(root) == [f"{LIST}: got 0 (fake) for Celeb-real/id0_0000.mp4"]
    assert [entry.path for entry in CELEB.scan(root)] == names[1:]


@pytest.mark.parametrize("num_on_disk", [20, 3])
def test_a_list_that_is_turned_round_is_refused(tmp_path: Path, num_on_disk: int) -> None:
    reals = [f"Celeb-real/id0_{number:04d}.mp4" for number in range(20)]
    fakes = [f"Celeb-synthesis/id0_id1_{number:04d}.mp4" for number in range(20)]
    listed = "\n".join([*(f"0 {name}" for name in reals), *(f"1 {name}" for name in fakes)])
    root = tree(tmp_path, *reals[:num_on_disk], *fakes[:num_on_disk], listed=listed)
    found = rf"got {2 * num_on_disk} of {2 * num_on_disk} lines that contradict their folders, expected 1 for real"
    with pytest.raises(DatasetError, match=found):
        list(CELEB.survey(root))


@pytest.mark.parametrize(
    "line",
    [
        "Celeb-real/id0_0000.mp4",
        "2 Celeb-real/id0_0000.mp4",
        "real Celeb-real/id0_0000.mp4",
        "1,Celeb-real/id0_0000.mp4",
        "1 id0_0000.mp4",
        "1 Celeb-real",
        "1 .",
        "1 /",
        "1",
        "1 Elsewhere/id0_0000.mp4",
        "1 Celeb-real/SimSwap/id0_0000.mp4",
    ],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    root = tree(tmp_path, "Celeb-real/id0_0000.mp4", listed=f"1 Celeb-real/id0_0000.mp4\n\n{line}\n")
    with pytest.raises(DatasetError, match=rf"{LIST}, line 3: got .* expected 1 \(real\) or 0 \(fake\)"):
        list(CELEB.survey(root))


@pytest.mark.parametrize("line", ["1 Celeb-real/id0_0000.mp4", "1 celeb-real/videos/id0_0000.mp4"])
def test_a_video_that_is_listed_twice(tmp_path: Path, line: str) -> None:
    root = tree(tmp_path, "Celeb-real/id0_0000.mp4", listed=f"1 Celeb-real/id0_0000.mp4\n{line}")
    with pytest.raises(DatasetError, match=rf"line 2: got {line[2:]} a second time"):
        list(CELEB.survey(root))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_list_saved_on_windows(tmp_path: Path, encoding: str) -> None:
    root = tree(tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-synthesis/id0_id1_0000.mp4")
    (root / LIST).write_bytes("1 Celeb-real\\id0_0000.mp4\r\n".encode(encoding))
    assert [entry.listed_split for entry in CELEB.scan(root)] == ["test", None]


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    root = tree(tmp_path, "Celeb-real/id0_0000.mp4")
    (root / LIST).write_bytes(b"1 Celeb-real/\xff.mp4")
    with pytest.raises(DatasetError, match=rf"{LIST}, line 1: got bytes that are not text in UTF-8"):
        list(CELEB.survey(root))


def test_a_folder_in_the_list_s_place(tmp_path: Path) -> None:
    root = tree(tmp_path, "Celeb-real/id0_0000.mp4", f"{LIST}/id0_0000.txt")
    with pytest.raises(DatasetError, match=rf"{LIST}: got Is a directory, expected a list that can be read"):
        list(CELEB.survey(root))


def test_an_empty_list_marks_nothing(tmp_path: Path) -> None:
    (entry,) = CELEB.scan(tree(tmp_path, "Celeb-real/id0_0000.mp4", listed="\n"))
    assert entry.listed_split is None


def test_a_root_of_another_dataset_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holding original_sequences\), expected Celeb-real/ or Celeb-synthesis/"):
        list(CELEB.survey(tree(tmp_path, "original_sequences/youtube/c23/videos/000.mp4")))


def test_an_empty_tree_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "Celeb-real").mkdir()
    with pytest.raises(DatasetError, match="no video in Celeb-real, expected"):
        list(CELEB.survey(tmp_path))


@pytest.fixture(scope="module")
def all_names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Celeb-DF v2 as 6,528 empty files and its list; only `Celeb-real/id27_0005`, of one frame, is missing."""
    names = REFERENCE / "celebdf_v2_video_names.txt"
    if not names.is_file():
        pytest.skip(f"needs the names of Celeb-DF's videos in {REFERENCE}, which are not in the repository")
    root = tmp_path_factory.mktemp("names") / "celeb"
    for folder in ("Celeb-real", "YouTube-real", "Celeb-synthesis"):
        (root / folder).mkdir(parents=True)
    for name in names.read_text().split():
        (root / name).touch()
    (root / LIST).write_bytes((REFERENCE / "List_of_testing_videos_celebdf_v2.txt").read_bytes())
    return root


def test_the_real_names(all_names: Path) -> None:
    assert recognise_layout(all_names).dataset is CELEB
    found = list(CELEB.survey(all_names))
    entries = [item for item in found if isinstance(item, VideoEntry)]
    assert len(entries) == 6528
    assert found[6528:] == [Ignored(path=LIST, reason=IgnoredReason.AUXILIARY)]
    assert Counter(entry.collection for entry in entries) == {
        "Celeb-real": 589,
        "YouTube-real": 300,
        "Celeb-synthesis": 5639,
    }
    listed = Counter(entry.label for entry in entries if entry.listed_split == "test")
    assert listed == {"real": 178, "fake": 340}


def test_the_real_people_form_three_circles_and_one_is_alone(all_names: Path) -> None:
    people: dict[str, set[str]] = defaultdict(set)
    for entry in CELEB.scan(all_names):
        people[entry.group_id].update(filter(None, (entry.target_identity, entry.source_id)))
    circles = [members for members in people.values() if members]
    assert sorted(len(members) for members in circles) == [1, 10, 10, 38]
    assert {"id36"} in circles
    assert {f"id{number}" for number in range(39, 49)} in circles
    assert {f"id{number}" for number in range(49, 59)} in circles
    assert sum(not members for members in people.values()) == 300


def test_the_real_circles_are_split_whole(all_names: Path) -> None:
    assigned = assign(CELEB.scan(all_names), policy="group")
    counts = counts_by_split(assigned)
    shares = {split: round(count / 5639, 3) for split, count in counts["Celeb-synthesis"].items()}
    assert shares == {"train": 0.743, "val": 0.128, "test": 0.129}
    youtube = Counter(entry.split for entry in assigned if entry.collection == "YouTube-real")
    assert youtube == {"train": 210, "val": 45, "test": 45}
    splits: dict[str, set[str | None]] = defaultdict(set)
    for entry in assigned:
        for shared in (f"footage {entry.target_id}", f"person {entry.target_identity}", f"person {entry.source_id}"):
            splits[shared].add(entry.split)
    del splits["person None"]
    assert len(splits) == 889 + 59  # real videos, of which each fake's footage is one, and people
    assert all(len(found) == 1 for found in splits.values())
