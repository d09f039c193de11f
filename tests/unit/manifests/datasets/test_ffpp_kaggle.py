"""FaceForensics++ as it lies on Kaggle: the videos of the official tree, and a table that is checked."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.dataset import Claim
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected
from manifests.splits.policies import assign, counts_by_split
from tests.helpers.trees import touch

KAGGLE = DATASETS["ffpp_kaggle"]
REFERENCE = Path(__file__).parents[5] / "shared" / "reference"
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter")
HEADER = "File Path,Label,Frame Count,Width,Height,Codec,File Size(MB)"
TABLE = "csv/FF++_Metadata.csv"


def tree(root: Path, *paths: str, table: str | None = None) -> Path:
    touch(root, *paths)
    if table is not None:
        (root / TABLE).parent.mkdir(parents=True, exist_ok=True)
        (root / TABLE).write_text(table)
    return root


def rejections(root: Path) -> dict[str, Reason]:
    return {item.video_id: item.reason for item in KAGGLE.survey(root) if isinstance(item, Rejected)}


def details(root: Path) -> list[str]:
    return [item.detail for item in KAGGLE.survey(root) if isinstance(item, Rejected)]


def test_videos_have_the_identity_that_they_have_in_the_official_tree(tmp_path: Path) -> None:
    names = {"original": ("033", "097"), "Deepfakes": ("033_097",), "FaceShifter": ("097_033",)}
    flat = tree(tmp_path / "flat", *(f"{folder}/{name}.mp4" for folder, found in names.items() for name in found))
    official = tree(
        tmp_path / "official",
        *(
            f"original_sequences/youtube/c23/videos/{name}.mp4"
            if folder == "original"
            else f"manipulated_sequences/{folder}/c23/videos/{name}.mp4"
            for folder, found in names.items()
            for name in found
        ),
    )
    found = {entry.video_id: (entry.target_id, entry.source_id, entry.group_id) for entry in KAGGLE.scan(flat)}
    wanted = DATASETS["ffpp"].scan(official)
    assert found == {entry.video_id: (entry.target_id, entry.source_id, entry.group_id) for entry in wanted}
    (fake, *_) = KAGGLE.scan(flat)
    assert fake == VideoEntry(
        video_id="ffpp/Deepfakes/c23/033_097",
        path="Deepfakes/033_097.mp4",
        dataset="ffpp",
        label="fake",
        manipulation="Deepfakes",
        compression="c23",
        target_id="033",
        target_identity="033",
        source_id="097",
        group_id="ffpp/youtube/033",
    )


def test_fakes_of_actors_lie_there_without_their_footage(tmp_path: Path) -> None:
    root = tree(tmp_path, "DeepFakeDetection/01_02__exit_phone_room__YVGY8LOK.mp4", "original/001.mp4")
    fake, real = KAGGLE.scan(root)
    assert (fake.target_id, fake.target_identity, fake.source_id) == ("01__exit_phone_room", "01", "02")
    assert (fake.group_id, real.group_id) == ("ffpp/actors/01", "ffpp/youtube/001")


@pytest.mark.parametrize(
    "path",
    [
        "original/33.mp4",
        "original/033_097.mp4",
        "original/033.avi",
        "Deepfakes/033.mp4",
        "Deepfakes/videos/033_097.mp4",
        "DeepFakeDetection/033_097.mp4",
    ],
)
def test_odd_files_are_rejected_and_not_lost(tmp_path: Path, path: str) -> None:
    root = tree(tmp_path, "original/000.mp4", "Deepfakes/000_003.mp4", path)
    assert rejections(root) == {path: Reason.UNRECOGNISED_NAME}
    assert len(list(KAGGLE.scan(root))) == 2


def test_what_makes_no_claim_to_be_a_video_is_left_alone(tmp_path: Path) -> None:
    root = tree(tmp_path, "original/000.mp4", "original/000.json", "Deepfakes/frames/0.png", "extra/x.txt")
    assert rejections(root) == {}


def test_videos_outside_the_datasets_folders_are_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "original/000.mp4", "Deepfakes/000_003.mp4", "Deepfake/003_000.mp4")
    assert rejections(root) == {"Deepfake": Reason.UNRECOGNISED_NAME}


def test_a_video_with_two_lines_that_differ(tmp_path: Path) -> None:
    root = tree(tmp_path, "Deepfakes/000_003.mp4")
    (root / "csv").mkdir()
    head, line = "File Path,Label,Frame Count,Width,Height\n", "Deepfakes/000_003.mp4,FAKE,300,640,480\n"
    (root / "csv" / "FF++_Metadata.csv").write_text(head + line + line)
    assert rejections(root) == {}
    (root / "csv" / "FF++_Metadata.csv").write_text(head + line + line.replace("300", "301"))
    with pytest.raises(DatasetError, match=r"line 3: got .* a second time, differently from line 2"):
        rejections(root)


def test_two_cases_of_a_folder_are_told_apart_loudly(tmp_path: Path) -> None:
    root = tree(tmp_path, "DeepFakes/000_003.mp4", "deepfakes/000_003.mp4", "deepfakes/003_000.mp4")
    assert rejections(root) == {"deepfakes/000_003.mp4": Reason.DUPLICATE}
    assert "DeepFakes/000_003.mp4" in details(root)[0]
    assert [entry.video_id for entry in KAGGLE.scan(root)] == [
        "ffpp/Deepfakes/c23/000_003",
        "ffpp/Deepfakes/c23/003_000",
    ]


def test_a_name_that_is_not_utf_8_is_a_rejection_like_any_other(tmp_path: Path) -> None:
    tree(tmp_path, "original/000.mp4")
    (tmp_path / "original" / os.fsdecode(b"\xff.mp4")).touch()
    assert rejections(tmp_path) == {"original/\\udcff.mp4": Reason.UNRECOGNISED_NAME}


def test_the_table_says_what_is_measured_later(tmp_path: Path) -> None:
    lines = ("Deepfakes/033_097.mp4,FAKE,459,1280,720,h264,2.31", "original/033.mp4,real, 460 ,1280,720,h264,2.4")
    root = tree(tmp_path, "Deepfakes/033_097.mp4", "original/033.mp4", table="\n".join((HEADER, *lines)))
    assert KAGGLE.claims(root) == {
        "ffpp/Deepfakes/c23/033_097": Claim(source=TABLE, num_frames=459, width=1280, height=720),
        "ffpp/youtube/c23/033": Claim(source=TABLE, num_frames=460, width=1280, height=720),
    }
    assert rejections(root) == {}


def test_a_table_with_a_byte_order_mark_and_an_index_is_read(tmp_path: Path) -> None:
    table = f"\ufeff,{HEADER}\r\n0,Original/033.mp4,REAL,460,1280,720,h264,2.4\r\n\r\n"
    root = tree(tmp_path, "original/033.mp4", table=table)
    assert list(KAGGLE.claims(root)) == ["ffpp/youtube/c23/033"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_table_that_a_spreadsheet_saved_again(tmp_path: Path, encoding: str) -> None:
    root = tree(tmp_path, "original/033.mp4", table="")
    line = "original\\033.mp4;REAL;460;1280;720;h264;2,4"
    (root / TABLE).write_bytes(f"{HEADER.replace(',', ';')}\r\n{line}\r\n".encode(encoding))
    assert list(KAGGLE.claims(root)) == ["ffpp/youtube/c23/033"]


def test_a_video_without_a_line_is_kept_and_without_a_table_all_are(tmp_path: Path) -> None:
    root = tree(tmp_path, "original/033.mp4", "Deepfakes/033_097.mp4")
    assert KAGGLE.claims(root) == {}
    assert len(list(KAGGLE.scan(root))) == 2
    tree(root, table=HEADER)
    assert KAGGLE.claims(root) == {}
    assert len(list(KAGGLE.scan(root))) == 2


def test_a_file_named_csv_is_no_table(tmp_path: Path) -> None:
    root = tree(tmp_path, "original/033.mp4", "Deepfakes/033_097.mp4", "csv")
    assert KAGGLE.claims(root) == {}
    assert rejections(root) == {}


def test_what_the_table_says_otherwise_is_rejected(tmp_path: Path) -> None:
    lines = (
        "original/033.mp4,FAKE,1,1,1,h264,1",
        "Deepfakes/033_097.mp4,FAKE,1,1,1,h264,1",
        "original/097.mp4,REAL,1,1,1,h,1",
    )
    root = tree(tmp_path, "original/033.mp4", "Deepfakes/033_097.mp4", table="\n".join((HEADER, *lines)))
    assert rejections(root) == {
        "ffpp/youtube/c23/033": Reason.METADATA_CONFLICT,
        "ffpp/youtube/c23/097": Reason.MISSING_FILE,
    }
    assert details(root) == [
        f"{TABLE}, line 2: got FAKE for original/033.mp4, expected REAL by its folder",
        f"{TABLE}, line 4: got original/097.mp4, which is not on disk; download it again",
    ]
    assert [entry.video_id for entry in KAGGLE.scan(root)] == ["ffpp/Deepfakes/c23/033_097"]


@pytest.mark.parametrize(
    "line",
    [
        "Elsewhere/033_097.mp4,FAKE,459,1280,720",
        "033_097.mp4,FAKE,459,1280,720",
        "Deepfakes/videos/033_097.mp4,FAKE,459,1280,720",
        "Deepfakes/033.mp4,FAKE,459,1280,720",
        "Deepfakes/033_097.avi,FAKE,459,1280,720",
        "Deepfakes/033_097.mp4,1,459,1280,720",
        "Deepfakes/033_097.mp4,FAKE,many,1280,720",
        "Deepfakes/033_097.mp4,FAKE,459,1280,-720",
        "Deepfakes/033_097.mp4,FAKE,459,1280",
        ",FAKE,459,1280,720",
    ],
)
def test_a_malformed_line_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    good = "Deepfakes/033_097.mp4,FAKE,459,1280,720"
    root = tree(tmp_path, "Deepfakes/033_097.mp4", table="\n".join((HEADER, good, line)))
    with pytest.raises(DatasetError, match=r"FF\+\+_Metadata\.csv, line 3: got .*expected File Path such as"):
        list(KAGGLE.survey(root))
    with pytest.raises(DatasetError, match="line 3"):
        KAGGLE.claims(root)


def test_a_table_with_other_columns_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "Deepfakes/033_097.mp4", table="name,is_fake\n033_097,1\n")
    with pytest.raises(DatasetError, match="got the columns name, is_fake, expected File Path, Label"):
        list(KAGGLE.survey(root))


def test_a_broken_table_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "Deepfakes/033_097.mp4", table=HEADER)
    (root / TABLE).write_bytes(HEADER.encode() + b"\n\xff\xfe")
    with pytest.raises(DatasetError, match=r"Metadata\.csv, line 2: got bytes that are not text in UTF-8"):
        list(KAGGLE.survey(root))


def test_a_folder_in_the_table_s_place_is_refused(tmp_path: Path) -> None:
    root = tree(tmp_path, "Deepfakes/033_097.mp4", f"{TABLE}/033_097.csv")
    with pytest.raises(DatasetError, match=r"Metadata\.csv: got Is a directory, expected a list that can be read"):
        KAGGLE.claims(root)


@pytest.mark.parametrize(("paths", "why"), [
    (("Deepfakes/000_003.mp4", "original/000.mp4"), "Deepfakes/ and original/"),
    (("FACESWAP/000_003.mp4",), "FACESWAP/"),
    ((TABLE,), TABLE),
    (("original/000.mp4", TABLE), f"original/ and {TABLE}"),
    (("original/000.mp4",), None),
    (("Celeb-real/id0_0000.mp4",), None),
    (("Deepfakes/c23/videos/000_003.mp4", "FaceSwap/raw/videos/000_003.mp4"), None),
])  # fmt: skip
def test_what_gives_it_away(tmp_path: Path, paths: tuple[str, ...], why: str | None) -> None:
    assert KAGGLE.recognise(tree(tmp_path, *paths)) == why


def test_a_root_of_another_dataset_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holding Celeb-real\), expected original/ and folders"):
        list(KAGGLE.survey(tree(tmp_path, "Celeb-real/id0_0000.mp4")))


def test_an_empty_tree_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "Deepfakes").mkdir()
    with pytest.raises(DatasetError, match="no video in Deepfakes, expected"):
        list(KAGGLE.survey(tmp_path))


def test_all_originals_are_split_as_in_the_official_tree(tmp_path: Path) -> None:
    lists = [REFERENCE / f"ff_{split}.json" for split in ("train", "val", "test")]
    if not lists[0].is_file():
        pytest.skip(f"needs the official split lists in {REFERENCE}, which are not in the repository")
    pairs = [pair for path in lists for pair in json.loads(path.read_text())]
    fakes = [name for first, second in pairs for name in (f"{first}_{second}", f"{second}_{first}")]
    names = {"original": [name for pair in pairs for name in pair]} | dict.fromkeys(METHODS, fakes)
    for folder, found in names.items():
        (tmp_path / folder).mkdir()
        for name in found:
            (tmp_path / folder / f"{name}.mp4").touch()
    entries = list(KAGGLE.scan(tmp_path))
    assert {entry.compression for entry in entries} == {"c23"}
    as_published = [
        f"ffpp/{'youtube' if folder == 'original' else folder}/c23/{name}" for folder in names for name in names[folder]
    ]
    assert sorted(entry.video_id for entry in entries) == sorted(as_published)
    assert len({entry.group_id for entry in entries}) == 478
    assigned = assign(entries)
    assert counts_by_split(assigned) == {kind: Counter(train=700, val=150, test=150) for kind in ("real", *METHODS)}
    assert len({(entry.group_id, entry.split) for entry in assigned}) == 478
    official = assign(entries, policy="official", official_dir=REFERENCE)
    assert counts_by_split(official) == {kind: Counter(train=720, val=140, test=140) for kind in ("real", *METHODS)}
