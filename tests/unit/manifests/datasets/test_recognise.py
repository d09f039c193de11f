"""Which layout a folder is recognised as, and what is said where that cannot be told."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.recognise import dataset_within, recognise_layout
from manifests.datasets.walk import NUM_FOLDERS_SEARCHED
from manifests.errors import DatasetError
from tests.helpers.trees import touch

OFFICIAL = "original_sequences/youtube/c23/videos/000.mp4"
CELEB = "Celeb-real/id0_0000.mp4"
SWAP = "Deepfakes/000_003.mp4"
OWN = ("real/a.mp4", "fake/a.mp4")
PART = '{"a.mp4": {"label": "REAL"}}'


def said_of(root: Path) -> str:
    with pytest.raises(DatasetError) as caught:
        recognise_layout(root)
    return str(caught.value)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder with nothing of other tests near it."""
    (tmp_path / "home" / "data").mkdir(parents=True)
    return tmp_path / "home" / "data"


@pytest.mark.parametrize(("paths", "name", "why"), [
    ((OFFICIAL,), "ffpp", "original_sequences/"),
    ((OFFICIAL, "manipulated_sequences/x"), "ffpp", "original_sequences/ and manipulated_sequences/"),
    ((SWAP,), "ffpp_kaggle", "Deepfakes/"),
    ((CELEB, "YouTube-real/00170.mp4"), "celeb_df", "Celeb-real/ and YouTube-real/"),
    (OWN, "folder", "fake/ and real/"),
])  # fmt: skip
def test_one_layout_fits(root: Path, paths: tuple[str, ...], name: str, why: str) -> None:
    found = recognise_layout(touch(root, *paths))
    assert (found.dataset, found.why) == (DATASETS[name], why)


@pytest.mark.parametrize(("paths", "names"), [
    ((OFFICIAL, SWAP), ("ffpp", "ffpp_kaggle")),
    ((OFFICIAL, CELEB), ("ffpp", "celeb_df")),
    ((SWAP, *OWN), ("ffpp_kaggle", "folder")),
    ((OFFICIAL, SWAP, CELEB, *OWN), ("ffpp", "ffpp_kaggle", "celeb_df", "folder")),
])  # fmt: skip
def test_several_layouts_fit(root: Path, paths: tuple[str, ...], names: tuple[str, ...]) -> None:
    said = said_of(touch(root, *paths))
    assert f"got {root}, in which {len(names)} layouts fit: " in said
    assert all(f"{name} ({DATASETS[name].recognise(root)})" in said for name in names)
    ways_out = (f"`faceshards preprocess {name} {root} …`, `faceshards index {root} --layout {name}`" for name in names)
    assert said.endswith(f"name it: {' or '.join(ways_out)}")


def test_a_list_of_labels_makes_any_dataset_one_of_ones_own_too(root: Path) -> None:
    touch(root, CELEB)
    (root / "labels.csv").write_text("path,label\n")
    said = said_of(root)
    assert "celeb_df (Celeb-real/); folder (labels.csv with the columns path and label)" in said


@pytest.mark.parametrize("paths", [(OFFICIAL,), (SWAP,), (CELEB,), OWN])
def test_one_level_too_high(root: Path, paths: tuple[str, ...]) -> None:
    touch(root / "inner", *paths)
    touch(root, "another/notes.txt", "notes.txt")
    assert f"(holding another, inner, notes.txt), in which no layout fits; name {root}/inner instead. " in said_of(root)


def test_one_level_above_several(root: Path) -> None:
    for number in range(5):
        touch(root / f"copy{number}", CELEB)
    assert f"; name {root}/copy0 or {root}/copy1 or {root}/copy2 instead. " in said_of(root)


def test_parts_are_found_where_an_archive_put_them(root: Path) -> None:
    (root / "a/dfdc_train_part_00/dfdc_train_part_0").mkdir(parents=True)
    (root / "a/dfdc_train_part_00/dfdc_train_part_0/metadata.json").write_text(PART)
    assert recognise_layout(root / "a").why == "dfdc_train_part_00/dfdc_train_part_0/metadata.json"
    # A folder above is not taken for the dataset: other ones may lie in it, too.
    assert f"; name {root}/a instead. " in said_of(root)


@pytest.mark.parametrize(("paths", "inside"), [
    ((OFFICIAL,), "original_sequences"),
    (("manipulated_sequences/Deepfakes/c23/videos/000_003.mp4",), "manipulated_sequences"),
    ((CELEB,), "Celeb-real"),
    (OWN, "fake"),
])  # fmt: skip
def test_one_level_too_low(root: Path, paths: tuple[str, ...], inside: str) -> None:
    assert f"; name {root} instead. " in said_of(touch(root, *paths) / inside)


def test_a_neighbour_is_no_reason_to_name_the_folder_above(root: Path) -> None:
    touch(root, "mine/notes.txt", CELEB)
    assert "; check the path, or name the layout: `faceshards preprocess LAYOUT " in said_of(root / "mine")


@pytest.mark.parametrize(("paths", "holding"), [
    ((), "nothing"),
    (("notes.txt",), "notes.txt"),
    (tuple(f"{letter}.mp4" for letter in "hgfedcba"), "a.mp4, b.mp4, c.mp4, d.mp4, e.mp4, f.mp4, …"),
])  # fmt: skip
def test_no_layout_fits(root: Path, paths: tuple[str, ...], holding: str) -> None:
    said = said_of(touch(root, *paths))
    assert said.startswith(f"dataset root: got {root} (holding {holding}), in which no layout fits; check the path")
    for name, dataset in DATASETS.items():
        assert f"\n  {name}: {dataset.title}: {dataset.expects}" in said


def test_names_that_are_not_utf_8_can_be_printed(root: Path) -> None:
    (root / os.fsdecode(b"\xff")).mkdir()
    assert "(holding \\udcff)" in said_of(root).encode().decode()


def test_hints_are_looked_for_in_the_first_folders_only(root: Path) -> None:
    for number in range(NUM_FOLDERS_SEARCHED):
        (root / f"{number:04d}").mkdir()
    touch(root / "last", CELEB)
    assert "; check the path" in said_of(root)
    (root / "0000").rmdir()
    assert f"; name {root}/last instead" in said_of(root)


def test_no_folder(root: Path) -> None:
    (root / "data.zip").touch()
    for path in (root / "data.zip", root / "nowhere", root / "data.zip" / "below"):
        assert said_of(path) == f"dataset root: got {path}, expected a folder; check the path"


def test_a_folder_that_nobody_may_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(root, "closed/x", f"inner/{CELEB}")
    listed: dict[str, Callable[..., object]] = {"listdir": os.listdir, "scandir": os.scandir}

    def refuse(name: str, path: str | Path) -> object:
        if "closed" in Path(path).parts:
            raise PermissionError(13, "Permission denied", str(path))
        return listed[name](path)

    for name in listed:
        monkeypatch.setattr(os, name, lambda path=".", name=name: refuse(name, path))
    assert f"; name {root}/inner instead" in said_of(root)
    assert said_of(root / "closed") == f"folder: got {root}/closed (Permission denied), expected to read it"


def test_the_root_may_be_a_link(root: Path) -> None:
    touch(root / "disk2", CELEB)
    (root / "link").symlink_to(root / "disk2")
    assert recognise_layout(root / "link").dataset is DATASETS["celeb_df"]
    assert [entry.path for entry in DATASETS["celeb_df"].scan(root / "link")] == [CELEB]


@pytest.mark.parametrize("below", ["", "Celeb-DF-v2"])
def test_the_next_command_names_the_folder_that_holds_the_dataset(tmp_path: Path, below: str) -> None:
    """Archives often hold a dataset in a folder of its own."""
    (tmp_path / "archives").mkdir()
    (tmp_path / below / "Celeb-real").mkdir(parents=True)
    assert dataset_within(tmp_path) == tmp_path / below


def test_where_no_dataset_is_recognised_the_folder_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    assert dataset_within(tmp_path) == tmp_path
