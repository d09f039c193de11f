"""DFDC by the metadata of its parts: names of files say nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.recognise import recognise_layout
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected

DFDC = DATASETS["dfdc"]
REAL: dict[str, Any] = {"label": "REAL", "split": "train"}
FAKE: dict[str, Any] = {"label": "FAKE", "split": "train", "original": "aaa.mp4"}
PART = "dfdc_train_part_0"


def part(folder: Path, metadata: Any, *names: str) -> Path:
    """Make a part: its metadata, and the videos that it names or those of `names`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.json").write_text(json.dumps(metadata))
    for name in names or metadata:
        (folder / name).touch()
    return folder


def rejections(root: Path) -> dict[str, Reason]:
    return {item.video_id: item.reason for item in DFDC.survey(root) if isinstance(item, Rejected)}


def details(root: Path) -> list[str]:
    return [item.detail for item in DFDC.survey(root) if isinstance(item, Rejected)]


def test_an_original_and_its_fakes_are_a_group(tmp_path: Path) -> None:
    part(tmp_path / PART, {"zzz.mp4": FAKE, "aaa.mp4": REAL, "bbb.mp4": {"label": "REAL", "original": None}})
    assert list(DFDC.scan(tmp_path)) == [
        VideoEntry(
            video_id="dfdc/fake/zzz",
            path=f"{PART}/zzz.mp4",
            dataset="dfdc",
            label="fake",
            manipulation="DFDC",
            target_id="aaa",
            group_id="dfdc/aaa",
            listed_split="train",
        ),
        VideoEntry(
            video_id="dfdc/real/aaa",
            path=f"{PART}/aaa.mp4",
            dataset="dfdc",
            label="real",
            target_id="aaa",
            group_id="dfdc/aaa",
            listed_split="train",
        ),
        VideoEntry(
            video_id="dfdc/real/bbb",
            path=f"{PART}/bbb.mp4",
            dataset="dfdc",
            label="real",
            target_id="bbb",
            group_id="dfdc/bbb",
        ),
    ]


@pytest.mark.parametrize("folder", [".", PART, f"{PART}/{PART}", "a/b/c/d"])
def test_a_part_may_lie_anywhere(tmp_path: Path, folder: str) -> None:
    part(tmp_path / folder, {"aaa.mp4": REAL, "zzz.mp4": FAKE})
    prefix = "" if folder == "." else f"{folder}/"
    assert [entry.path for entry in DFDC.scan(tmp_path)] == [f"{prefix}zzz.mp4", f"{prefix}aaa.mp4"]


def test_fakes_and_originals_of_different_parts_are_a_group(tmp_path: Path) -> None:
    part(tmp_path / PART, {"aaa.mp4": REAL})
    part(tmp_path / "dfdc_train_part_10", {"zzz.mp4": FAKE})
    assert {entry.group_id for entry in DFDC.scan(tmp_path)} == {"dfdc/aaa"}


@pytest.mark.parametrize(("word", "split"), [
    ("train", "train"), ("validation", "val"), ("val", "val"), ("test", "test"), (None, None),
])  # fmt: skip
def test_words_for_splits(tmp_path: Path, word: str | None, split: str | None) -> None:
    (entry,) = DFDC.scan(part(tmp_path, {"aaa.mp4": {"label": "REAL", "split": word}}))
    assert entry.listed_split == split


@pytest.mark.parametrize(
    "line",
    [
        {"label": "real"},
        {"label": 0},
        {"label": ["REAL"]},
        {"label": None},
        {},
        "REAL",
        None,
        {"label": "FAKE"},
        {"label": "FAKE", "original": None},
        {"label": "FAKE", "original": ""},
        {"label": "FAKE", "original": 3},
        {"label": "FAKE", "original": "\ud800.mp4"},
        {"label": "REAL", "original": "aaa.mp4"},
        {"label": "REAL", "original": 3},
        {"label": "REAL", "split": "holdout"},
        {"label": "REAL", "split": ["train"]},
    ],
)
def test_a_line_that_makes_no_sense_is_a_conflict(tmp_path: Path, line: Any) -> None:
    part(tmp_path / PART, {"aaa.mp4": REAL, "bbb.mp4": line})
    assert rejections(tmp_path) == {f"{PART}/bbb.mp4": Reason.METADATA_CONFLICT}
    (detail,) = details(tmp_path)
    assert detail.startswith("metadata.json: got ")
    assert detail.encode()
    assert [entry.video_id for entry in DFDC.scan(tmp_path)] == ["dfdc/real/aaa"]


def test_a_listed_video_that_is_not_there_is_told(tmp_path: Path) -> None:
    part(tmp_path / PART, {"aaa.mp4": REAL, "bbb.mp4": REAL}, "aaa.mp4")
    assert rejections(tmp_path) == {f"{PART}/bbb.mp4": Reason.MISSING_FILE}
    assert details(tmp_path) == [f"{PART}/metadata.json: got bbb.mp4, which is not on disk; unpack the archive again"]


def test_a_video_without_a_line_is_told(tmp_path: Path) -> None:
    part(tmp_path, {"aaa.mp4": REAL}, "aaa.mp4", "ccc.mp4", "notes.txt")
    assert rejections(tmp_path) == {"ccc.mp4": Reason.UNRECOGNISED_NAME}
    assert details(tmp_path) == ["metadata.json: got no line for ccc.mp4, expected one that says its label"]


def test_videos_of_a_part_without_metadata_are_told(tmp_path: Path) -> None:
    part(tmp_path / PART, {"aaa.mp4": REAL})
    for path in ("dfdc_train_part_1/bbb.mp4", f"{PART}/deeper/ccc.mp4", "ddd.mp4", "dfdc_train_part_1/notes.txt"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    odd = ("dfdc_train_part_1/bbb.mp4", f"{PART}/deeper/ccc.mp4", "ddd.mp4")
    assert rejections(tmp_path) == dict.fromkeys(odd, Reason.UNRECOGNISED_NAME)
    assert set(details(tmp_path)) == {
        "got no metadata.json beside it, expected one that says its label; unpack the archive again"
    }


def test_a_name_in_two_parts_is_a_duplicate(tmp_path: Path) -> None:
    part(tmp_path / PART, {"aaa.mp4": REAL})
    part(tmp_path / "dfdc_train_part_1", {"aaa.mp4": REAL})
    assert rejections(tmp_path) == {"dfdc_train_part_1/aaa.mp4": Reason.DUPLICATE}
    assert details(tmp_path) == [f"same name as {PART}/aaa.mp4: keep one of the two"]


def test_names_that_are_not_utf_8_are_rejections_like_any_other(tmp_path: Path) -> None:
    odd = os.fsdecode(b"\xff.mp4")
    part(tmp_path / PART, {"aaa.mp4": REAL, odd: REAL, "\ud800.mp4": REAL}, "aaa.mp4", odd)
    assert rejections(tmp_path) == {
        f"{PART}/\\udcff.mp4": Reason.UNRECOGNISED_NAME,
        f"{PART}/\\ud800.mp4": Reason.MISSING_FILE,
    }
    assert all(detail.encode() for detail in details(tmp_path))


@pytest.mark.parametrize("text", ["{", "", '{"aaa.mp4": ', b"\xff\xfe", "[" * 100_000])
def test_broken_metadata_is_refused(tmp_path: Path, text: str | bytes) -> None:
    part(tmp_path, {"aaa.mp4": REAL})
    (tmp_path / "metadata.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert DFDC.recognise(tmp_path) is None
    with pytest.raises(DatasetError, match=r"metadata\.json: got .*, expected JSON; unpack the archive again"):
        list(DFDC.survey(tmp_path))


@pytest.mark.parametrize(("metadata", "kind"), [([], "list"), ("REAL", "str"), (None, "NoneType")])
def test_metadata_of_another_shape_is_refused(tmp_path: Path, metadata: Any, kind: str) -> None:
    part(tmp_path, metadata, "aaa.mp4")
    assert DFDC.recognise(tmp_path) is None
    with pytest.raises(DatasetError, match=rf"got a {kind}, expected an object with a line for each video"):
        list(DFDC.survey(tmp_path))


def test_without_metadata_it_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / PART).mkdir()
    (tmp_path / PART / "aaa.mp4").touch()
    assert DFDC.recognise(tmp_path) is None
    with pytest.raises(DatasetError, match=rf"holding {PART}\), expected dfdc_train_part_<N>/ with metadata.json"):
        list(DFDC.survey(tmp_path))


def test_an_empty_part_is_no_dataset(tmp_path: Path) -> None:
    part(tmp_path / PART, {})
    with pytest.raises(DatasetError, match="with no video in it"):
        list(DFDC.survey(tmp_path))


@pytest.mark.parametrize(("folder", "why"), [
    (".", "metadata.json"),
    (PART, f"{PART}/metadata.json"),
    (f"{PART}/{PART}", f"{PART}/{PART}/metadata.json"),
    ("a/b/c", None),
])  # fmt: skip
def test_what_gives_it_away(tmp_path: Path, folder: str, why: str | None) -> None:
    part(tmp_path / folder, {"aaa.mp4": REAL})
    assert DFDC.recognise(tmp_path) == why


@pytest.mark.parametrize(
    "metadata", [{"version": 1}, {"clip": {"label": {"REAL": 1}}}, {"clip": {"label": "real"}}, []]
)
def test_metadata_of_something_else_is_passed_over(tmp_path: Path, metadata: Any) -> None:
    part(tmp_path / "a", metadata, "aaa.mp4")
    assert DFDC.recognise(tmp_path) is None
    part(tmp_path / PART, {"aaa.mp4": REAL})
    assert DFDC.recognise(tmp_path) == f"{PART}/metadata.json"


def test_nothing_is_claimed_that_could_be_measured(tmp_path: Path) -> None:
    assert DFDC.claims(part(tmp_path, {"aaa.mp4": REAL})) == {}


def test_one_name_in_two_parts_is_a_duplicate_whatever_its_label(tmp_path: Path) -> None:
    part(tmp_path / PART, {"aaa.mp4": REAL})
    part(tmp_path / "dfdc_train_part_1", {"aaa.mp4": FAKE | {"original": "bbb.mp4"}, "bbb.mp4": REAL})
    assert rejections(tmp_path) == {"dfdc_train_part_1/aaa.mp4": Reason.DUPLICATE}


def test_lines_that_name_no_video_promise_none(tmp_path: Path) -> None:
    part(tmp_path / PART, {"aaa.mp4": REAL})
    part(tmp_path / "frames", {"author": "somebody", "size": 224}, "0.png")
    assert rejections(tmp_path) == {}


@pytest.mark.parametrize("flag", [1, 1.0, True, "1", "TRUE", "fake"])
def test_flags_of_the_test_set(tmp_path: Path, flag: object) -> None:
    part(tmp_path, {"aaa.mp4": {"is_fake": flag}})
    assert DFDC.recognise(tmp_path) == "metadata.json"
    assert [entry.label for entry in DFDC.scan(tmp_path)] == ["fake"]


@pytest.mark.parametrize(("text", "fault"), [
    ('{"aaa.mp4": {"label": "fake"}}', r'has \["aaa.mp4", {"label": "fake"}\], not a label REAL or FAKE, or is_fake'),
    ('{"aaa.mp4": {"is_fake": 2}}', r'has \["aaa.mp4", {"is_fake": 2}\], not'),
    ('["aaa.mp4"]', r'has \["aaa.mp4"\], not'),
    ('{"aaa.mp4": ', "is not JSON that can be read"),
])  # fmt: skip
def test_other_metadata_is_named_where_nothing_else_is_there(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "part").mkdir()
    (tmp_path / "part/metadata.json").write_text(text)
    with pytest.raises(DatasetError, match=f"part/metadata.json {fault}"):
        recognise_layout(tmp_path)
