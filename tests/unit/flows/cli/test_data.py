"""`faceshards index` on empty files: names and lists alone are enough for layout, split and leakage report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.cli.parser import main
from manifests.videos_table import read_table
from tests.helpers.trees import touch

Output = pytest.CaptureFixture[str]


@pytest.fixture
def celeb_df(tmp_path: Path) -> Path:
    """Four people in two leakage groups, and a list of test videos that splits one of the groups."""
    root = tmp_path / "Celeb-DF"
    names = [
        *(f"Celeb-real/id{person}_0000" for person in range(4)),
        *("Celeb-synthesis/id0_id1_0000", "Celeb-synthesis/id1_id0_0000"),
        *("Celeb-synthesis/id2_id3_0000", "Celeb-synthesis/id3_id2_0000"),
    ]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.mp4").touch()
    (root / "List_of_testing_videos.txt").write_text("1 Celeb-real/id0_0000.mp4\n0 Celeb-synthesis/id1_id0_0000.mp4")
    return root


def index(*words: object) -> int:
    return main(["index", *map(str, words), "--names-only"])


def test_what_it_is_and_why(celeb_df: Path, capsys: Output) -> None:
    assert index(celeb_df) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{celeb_df}: Celeb-DF v1, v2 or ++ (found Celeb-real/ and Celeb-synthesis/)\n")
    assert "8 files, 0 rejected" in said
    assert "No leakage found by names" in said


def test_another_policy_and_its_leakage(celeb_df: Path, tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "leakage.json"
    assert index(celeb_df, "--set", "split.policy=official", "--report", out) == 0
    said = capsys.readouterr().out
    assert "1/1 test fakes are made from footage whose real video is in train or val" in said
    assert f"Leakage report: {out}" in said
    report = json.loads(out.read_text())
    assert report["held_out"][0]["num_test_fakes_from_other_footage"] == 1
    assert report["num_videos"]["test"] == 2


def test_a_broken_promise_is_shown_and_is_the_status(celeb_df: Path, tmp_path: Path, capsys: Output) -> None:
    own = tmp_path / "own.csv"
    lines = [
        f"{path.relative_to(celeb_df)},{'train' if 'real' in str(path) else 'test'}" for path in celeb_df.rglob("*.mp4")
    ]
    own.write_text("\n".join(["path,split", *lines]))
    assert index(celeb_df, "--set", "split.policy=file", "--set", f"split.file={own}") == 1
    said = capsys.readouterr().out
    assert "Leakage: the splits share 4 targets, 4 identities and 2 groups." in said
    assert "split.policy file: got 4 targets in more than one split" in said


def test_the_manifest(celeb_df: Path, tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "manifest.parquet"
    assert index(celeb_df, "--out", out) == 0
    rows = read_table(out)
    assert [row.status for row in rows] == ["pending"] * 8
    first = rows[0].entry
    assert first is not None
    assert (first.target_identity, first.listed_split, first.is_probed) == ("id0", "test", False)


@pytest.mark.parametrize("name", ["manifest", "manifest.xlsx", "manifest.json"])
def test_a_manifest_in_a_format_that_is_not_written(celeb_df: Path, tmp_path: Path, capsys: Output, name: str) -> None:
    assert index(celeb_df, "--out", tmp_path / name) == 2
    assert f"got {tmp_path / name}, expected a name that ends in one of .parquet, .csv, .tsv" in capsys.readouterr().err


def test_a_second_dataset_for_testing(celeb_df: Path, tmp_path: Path, capsys: Output) -> None:
    mine = tmp_path / "mine"
    for name in ("real/a.mp4", "fake/b.mp4"):
        (mine / name).parent.mkdir(parents=True)
        (mine / name).touch()
    assert index(celeb_df, "--test", mine) == 0
    said = capsys.readouterr().out
    assert f"{mine}: your own videos (found fake/ and real/)" in said


def test_rejections_are_few_lines(celeb_df: Path, capsys: Output) -> None:
    for number in range(25):
        (celeb_df / "Celeb-real" / f"odd{number:02d}.mp4").touch()
    assert index(celeb_df) == 0
    said = capsys.readouterr().out
    assert said.count("rejected Celeb-real/odd") == 20
    assert "and 5 more rejected" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "nothing=1"], "nothing: got an unknown setting, expected one of dataset.compressions"),
        (["--set", "split.policy=best"], "split.policy: got 'best', expected one of group, official, video, file"),
        (["--layout", "dfdc"], "DFDC: got"),
        (["--out", "/nowhere/manifest.parquet"], "--out: got /nowhere/manifest.parquet, expected a file in a folder"),
        (["--report", "/"], "--report: got /, expected a file"),
    ],
)
def test_mistakes(celeb_df: Path, capsys: Output, words: list[str], message: str) -> None:
    assert index(celeb_df, *words) == 2
    assert message in capsys.readouterr().err


def test_settings_of_other_commands_are_left_aside(celeb_df: Path, tmp_path: Path) -> None:
    """The config.yaml of a store has sections that `index` does not use."""
    (tmp_path / "config.yaml").write_text("frames:\n  count: 8\nsplit:\n  policy: video\n")
    assert index(celeb_df, "--config", tmp_path / "config.yaml") == 0


def test_an_empty_split_is_remarked_on(tmp_path: Path, capsys: Output) -> None:
    for name in ("real/a.mp4", "fake/b.mp4"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert index(tmp_path) == 0
    message = (
        "No video in val and test: leakage groups are not divided, and no other assignment comes nearer to the ratios."
    )
    assert message in capsys.readouterr().out


def test_a_folder_of_which_nothing_can_be_used(celeb_df: Path, capsys: Output) -> None:
    assert main(["index", str(celeb_df)]) == 1  # opened, every file is empty
    said = capsys.readouterr().out
    assert "8 files, 8 rejected" in said
    assert "No video has a split, so there is nothing to compare." in said
    assert "not named by the dataset" not in said


def test_a_class_without_videos_is_the_first_line_and_the_status(tmp_path: Path, capsys: Output) -> None:
    touch(tmp_path / "data", "real/a.mp4", "real/b.WMV", "fake/clip/1.png", "fake/clip/2.png", "fake/c.mp4.part")
    report = tmp_path / "leakage.json"
    assert index(tmp_path / "data", "--report", report) == 1
    said = capsys.readouterr()
    assert said.err.startswith(f"no fake video: {tmp_path}/data: fake/ has no video, but 2 files (picture): ")
    parts = "2 videos + 0 rejected by name or list + 0 beside them (masks, lists, .json) + 3 ignored"
    assert f"5 files in {tmp_path}/data = {parts}" in said.out
    assert "ignored 2 files (picture): fake/clip (2: 1.png, 2.png); pictures are not taken" in said.out
    assert "ignored 1 file (unfinished_download): fake/c.mp4.part; finish such downloads" in said.out
    assert json.loads(report.read_text())["ignored"] == [
        {"path": "fake/c.mp4.part", "reason": "unfinished_download", "num_files": 1, "names": []},
        {"path": "fake/clip", "reason": "picture", "num_files": 2, "names": ["1.png", "2.png"]},
    ]


def test_a_folder_without_videos_beside_others_of_its_class_is_told(tmp_path: Path, capsys: Output) -> None:
    touch(tmp_path, "Celeb-real/id0_0000.mp4", "YouTube-real/1.png", "Celeb-synthesis/id0_id1_0000.mp4")
    assert index(tmp_path) == 0
    assert capsys.readouterr().err.startswith(f"no video: {tmp_path}: YouTube-real/ has no video, but 1 file (picture)")


def test_names_cannot_write_to_the_terminal(tmp_path: Path, capsys: Output) -> None:
    root = tmp_path / "\x1b[31mdata"
    touch(root, "real/a.mp4", "fake/\x1b[2Jswap/b.mp4")
    assert index(root) == 0
    assert index(root / "\x1b[5mfake") == 2
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert "folder \\x1b[2Jswap: the footage" in said
    assert "/\\x1b[31mdata: your own videos" in said
    assert "/\\x1b[5mfake, expected a folder" in said
