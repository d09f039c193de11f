"""Videos of one's own: by two folders, or by a table."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.datasets.recognise import recognise_layout
from manifests.entry import VideoEntry
from manifests.errors import DatasetError
from manifests.rejected import Reason, Rejected
from tests.helpers.trees import touch

FOLDER = DATASETS["folder"]
TABLE = "list.csv"


def tree(root: Path, *paths: str, table: str | None = None) -> Path:
    touch(root, *paths)
    if table is not None:
        (root / TABLE).write_text(table, encoding="utf-8")
    return root


def rejections(root: Path) -> dict[str, Reason]:
    return {item.video_id: item.reason for item in FOLDER.survey(root) if isinstance(item, Rejected)}


def details(root: Path) -> list[str]:
    return [item.detail for item in FOLDER.survey(root) if isinstance(item, Rejected)]


def groups(root: Path) -> dict[str, str]:
    return {entry.path: entry.group_id for entry in FOLDER.scan(root)}


def test_two_folders(tmp_path: Path) -> None:
    root = tree(tmp_path, "real/a.mp4", "real/day 1/a.mov", "fake/a.mp4", "fake/Swap/b.mp4", "fake/Swap/day 1/b.MP4")
    entries = list(FOLDER.scan(root))
    assert [(entry.video_id, entry.label, entry.manipulation) for entry in entries] == [
        ("folder/Swap/b", "fake", "Swap"),
        ("folder/Swap/day%201/b", "fake", "Swap"),
        ("folder/fake/a", "fake", "fake"),
        ("folder/real/a", "real", None),
        ("folder/real/day%201/a", "real", None),
    ]
    assert entries[0] == VideoEntry(
        video_id="folder/Swap/b",
        path="fake/Swap/b.mp4",
        dataset="folder",
        label="fake",
        manipulation="Swap",
        target_id="Swap/b",
        group_id="folder/Swap/b",
    )
    assert len({entry.group_id for entry in entries}) == len(entries)  # nobody knows who is seen


@pytest.mark.parametrize(("kept", "twin"), [
    ("real/a.avi", "real/a.mp4"),
    ("Real/a.mp4", "real/a.mp4"),
])  # fmt: skip
def test_one_name_twice_is_a_duplicate(tmp_path: Path, kept: str, twin: str) -> None:
    root = tree(tmp_path, "real/z.mp4", "fake/z.mp4", kept, twin)
    assert rejections(root) == {twin: Reason.DUPLICATE}
    assert details(root) == [f"same video_id as {kept}: keep one of the two"]


def test_only_videos_below_the_two_folders_count(tmp_path: Path) -> None:
    root = tree(tmp_path, "REAL/a.mp4", "Fake/b.webm", "real.mp4", "other/c.mp4", "REAL/a.txt", "REAL/.mp4", "REAL/b.")
    assert list(groups(root)) == ["Fake/b.webm", "REAL/a.mp4"]
    assert rejections(root) == dict.fromkeys(("other", "real.mp4"), Reason.UNRECOGNISED_NAME)


def test_a_fake_takes_no_name_of_a_real_video(tmp_path: Path) -> None:
    root = tree(tmp_path, "real/a.mp4", "fake/real/a.mp4", "fake/Fake/a.mp4")
    assert {entry.video_id: entry.label for entry in FOLDER.scan(root)} == {
        "folder/fake/Fake/a": "fake",
        "folder/fake/real/a": "fake",
        "folder/real/a": "real",
    }
    table = tree(tmp_path / "table", "a.mp4", table="path,label,manipulation\na.mp4,fake,real\n")
    with pytest.raises(DatasetError, match="line 2: got manipulation 'real'"):
        rejections(table)


def test_names_in_a_store_are_ascii_and_short(tmp_path: Path) -> None:
    long = "/".join(["n" * 120] * 5)
    root = tree(tmp_path, "real/Müller.mp4", "fake/a.mp4", f"fake/{long}.mp4")
    other = root / f"fake/{long}.mp4".replace("n.mp4", "m.mp4")
    other.touch()  # its video_id differs from the other long one only in the digest
    ids = [entry.video_id for entry in FOLDER.scan(root)]
    assert (ids[0], ids[3]) == ("folder/fake/a", "folder/real/M%C3%BCller")
    assert ids[1][:-24] == ids[2][:-24]
    assert ids[1] != ids[2]
    assert [len(video_id) for video_id in ids[1:3]] == [480, 480]
    assert rejections(root) == {}


@pytest.mark.parametrize(
    "name",
    ["新" * 83, "ы" * 125, "🎭" * 62, "a b" * 80, "x" * 251, "two\nlines", "tab\there", "\x1b[31mred", "%2F", "C:\\x"],
)
def test_every_name_that_a_file_system_takes_is_kept(tmp_path: Path, name: str) -> None:
    """A file system takes 255 bytes for each part of a path."""
    root = tree(tmp_path, f"real/{name}/{name}.mp4", f"fake/{name}/{name}.mp4", "fake/a.mp4")
    entries = list(FOLDER.scan(root))
    assert {entry.path for entry in entries} == {f"real/{name}/{name}.mp4", f"fake/{name}/{name}.mp4", "fake/a.mp4"}
    assert all(len(entry.video_id) <= 480 and entry.video_id.isascii() for entry in entries)
    assert all(entry.video_id.isprintable() for entry in entries)
    assert len({entry.video_id for entry in entries}) == 3
    assert {entry.manipulation for entry in entries} == {None, name, "fake"}
    assert rejections(root) == {}


def test_the_table_counts_and_says_so(tmp_path: Path) -> None:
    root = tree(tmp_path, "real/a.mp4", "fake/b.mp4", table="path,label\nreal/a.mp4,fake\nfake/b.mp4,fake\n")
    said = FOLDER.recognise(root)
    assert said == "list.csv with the columns path and label, which is used instead of the folders real and fake"
    assert {entry.label for entry in FOLDER.scan(root)} == {"fake"}


def test_absolute_paths_below_a_root_that_is_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree(tmp_path / "mine", "a.mp4", table=f"path,label\n{tmp_path}/mine/a.mp4,real\n")
    monkeypatch.chdir(tmp_path)
    assert [entry.path for entry in FOLDER.scan(Path("mine"))] == ["a.mp4"]


def test_names_that_are_not_utf_8_are_rejections_like_any_other(tmp_path: Path) -> None:
    root = tree(tmp_path, "real/a.mp4", "fake/a.mp4", "real/Zoë.mp4")
    (root / "real" / os.fsdecode(b"\xff.mp4")).touch()
    (root / "fake" / os.fsdecode(b"\xff")).mkdir()
    (root / "fake" / os.fsdecode(b"\xff") / "b.mp4").touch()
    assert rejections(root) == dict.fromkeys(("real/\\udcff.mp4", "fake/\\udcff/b.mp4"), Reason.UNRECOGNISED_NAME)
    assert list(groups(root)) == ["fake/a.mp4", "real/Zoë.mp4", "real/a.mp4"]
    assert all(detail.encode() for detail in details(root))


@pytest.mark.parametrize(("paths", "why"), [
    (("real/a.mp4", "fake/a.mp4"), "fake/ and real/"),
    (("Real/a.mp4", "real/b.mp4", "FAKE/a.mp4"), "FAKE/ and Real/ and real/"),
    (("real/a.mp4",), None),
    (("real/a.mp4", "Real/b.mp4"), None),
    (("fakes/a.mp4", "reals/a.mp4"), "fakes/ and reals/"),
    (("0_real/a.mp4", "1_fake/a.mp4"), "0_real/ and 1_fake/"),
    (("Original/a.mp4", "Manipulated Videos/a.mp4"), "Manipulated Videos/ and Original/"),
    (("train/real/a.mp4", "Test/FAKE/a.mp4"), "Test/FAKE/ and train/real/"),
    (("holiday/real/a.mp4", "holiday/fake/a.mp4"), None),
    (("unreal/a.mp4", "notfake/a.mp4"), None),
])  # fmt: skip
def test_what_gives_the_folders_away(tmp_path: Path, paths: tuple[str, ...], why: str | None) -> None:
    assert FOLDER.recognise(tree(tmp_path, *paths)) == why


@pytest.mark.parametrize("order", ["{split}/{label}", "{label}/{split}"])
def test_folders_of_splits_stand_above_or_below_the_label(tmp_path: Path, order: str) -> None:
    names = [("Train", "real/a.mp4"), ("dev", "fake/b.mp4"), ("testing", "fake/Swap/c.mp4")]
    paths = (order.format(split=split, label=name.split("/")[0]) + name[4:] for split, name in names)
    found = FOLDER.scan(tree(tmp_path, *paths))
    assert [(entry.video_id, entry.manipulation, entry.listed_split) for entry in found] == [
        ("folder/Swap/testing/c", "Swap", "test"),
        ("folder/fake/dev/b", "fake", "val"),
        ("folder/real/Train/a", None, "train"),
    ]


@pytest.mark.parametrize(("table", "is_found"), [
    ("path,label\n", True),
    ("Label , PATH,split\n", True),
    ("\ufeffpath,label\n", True),
    ("path,label", True),
    ("path;label\n", True),
    ("path\tlabel\n", True),
    ("path|label\n", True),
    ("sep=;\npath;label\n", True),
    ("# made by hand\n\n# path label\npath,label\n", True),
    ("# path,label\n", True),
    ('"path";"label"\n', True),
    ("path,split\n", False),
    ("word,label\n", False),
    ("path,label of it\n", False),
    ("", False),
])  # fmt: skip
def test_what_gives_the_table_away(tmp_path: Path, table: str, is_found: bool) -> None:
    why = FOLDER.recognise(tree(tmp_path, table=table))
    assert why == (f"{TABLE} with the columns path and label" if is_found else None)


def test_a_folder_that_is_called_csv_is_no_table(tmp_path: Path) -> None:
    (tmp_path / TABLE).mkdir()
    assert FOLDER.recognise(tmp_path) is None
    assert list(groups(tree(tmp_path, "real/a.mp4", "fake/a.mp4"))) == ["fake/a.mp4", "real/a.mp4"]


def test_with_a_table_the_folders_say_nothing(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "real/a.mp4",
        "fake/b.mp4",
        "c.mp4",
        table="path,label,manipulation,split\nreal/a.mp4,FAKE,Swap,Validation\nfake/b.mp4, Real ,,\n./c.mp4,fake,,TEST",
    )
    assert list(FOLDER.scan(root)) == [
        VideoEntry(
            video_id="folder/Swap/real/a",
            path="real/a.mp4",
            dataset="folder",
            label="fake",
            manipulation="Swap",
            target_id="Swap/real/a",
            group_id="folder/real/a",
            listed_split="val",
        ),
        VideoEntry(
            video_id="folder/fake/c",
            path="c.mp4",
            dataset="folder",
            label="fake",
            manipulation="fake",
            target_id="fake/c",
            group_id="folder/c",
            listed_split="test",
        ),
        VideoEntry(
            video_id="folder/real/fake/b",
            path="fake/b.mp4",
            dataset="folder",
            label="real",
            target_id="real/fake/b",
            group_id="folder/fake/b",
        ),
    ]


def test_targets_sources_and_groups_tie_videos_together(tmp_path: Path) -> None:
    lines = (
        "a.mp4,real,ann,,",
        "b.mp4,fake,bob,ann,",
        "c.mp4,real,bob,,",
        "d.mp4,real,dan,,studio",
        "e.mp4,real,eve,,studio",
        "f.mp4,real,fay,,",
        "g.mp4,real,,ann,",
    )
    names = [line[:5] for line in lines]
    root = tree(tmp_path, *names, table="\n".join(("path,label,target,source,group", *lines)))
    found = groups(root)
    assert found["a.mp4"] == found["b.mp4"] == found["c.mp4"]
    assert found["d.mp4"] == found["e.mp4"] == "folder/studio"
    assert len({found[name] for name in ("a.mp4", "d.mp4", "f.mp4", "g.mp4")}) == 4  # a real video has no donor
    people = {entry.path: (entry.target_identity, entry.source_id) for entry in FOLDER.scan(root)}
    assert people["b.mp4"] == ("bob", "ann")
    assert people["g.mp4"] == (None, None)


def test_paths_may_be_absolute_below_the_root(tmp_path: Path) -> None:
    root = tree(tmp_path, "v/a.mp4", table=f"path,label\n{tmp_path}/v/a.mp4,real\n")
    assert list(groups(root)) == ["v/a.mp4"]


@pytest.mark.parametrize("path", ["/elsewhere/a.mp4", "../a.mp4", "v/../../a.mp4", "", ".", "/"])
def test_a_path_that_leaves_the_root_is_refused(tmp_path: Path, path: str) -> None:
    root = tree(tmp_path, "a.mp4", table=f"path,label\na.mp4,real\n{path},real\n")
    with pytest.raises(DatasetError, match=rf"{TABLE}, line 3: got path '{path}', expected one below"):
        list(FOLDER.survey(root))


@pytest.mark.parametrize("label", ["1", "0", "", "true", "REAL?"])
def test_labels_are_words(tmp_path: Path, label: str) -> None:
    root = tree(tmp_path, "a.mp4", table=f"label,path\n{label},a.mp4\n")
    with pytest.raises(DatasetError, match=r"line 2: got label '.*', expected real or fake; numbers are ambiguous"):
        list(FOLDER.survey(root))


@pytest.mark.parametrize(("column", "value"), [
    ("split", "holdout"),
    ("manipulation", "a/b"),
    ("manipulation", ".."),
    ("manipulation", "."),
])  # fmt: skip
def test_words_that_are_refused(tmp_path: Path, column: str, value: str) -> None:
    root = tree(tmp_path, "a.mp4", table=f"path,label,{column}\na.mp4,fake,{value}\n")
    with pytest.raises(DatasetError, match=f"line 2: got {column} '{value}', expected"):
        list(FOLDER.survey(root))


@pytest.mark.parametrize("again", ["a.mp4", "./a.mp4"])
def test_a_video_that_is_listed_twice(tmp_path: Path, again: str) -> None:
    root = tree(tmp_path, "a.mp4", table=f"path,label\na.mp4,real\n\n{again},real\n")
    with pytest.raises(DatasetError, match=r"line 4: got a\.mp4 a second time"):
        list(FOLDER.survey(root))


def test_what_the_table_does_not_say_and_what_is_not_there(tmp_path: Path) -> None:
    table = "path,label\na.mp4,real\nb.mp4,fake\nnotes.txt,real\n"
    root = tree(tmp_path, "a.mp4", "deep/er/c.mkv", "notes.txt", table=table)
    assert rejections(root) == {
        "folder/fake/b": Reason.MISSING_FILE,
        "folder/real/notes": Reason.MISSING_FILE,
        "deep/er/c.mkv": Reason.UNRECOGNISED_NAME,
    }
    assert details(root) == [
        f"{TABLE}, line 3: got b.mp4, which is no video on disk; expected a file there",
        f"{TABLE}, line 4: got notes.txt, which is no video on disk; expected a file there",
        f"{TABLE}: got no line for deep/er/c.mkv, expected one that says its label",
    ]
    assert list(groups(root)) == ["a.mp4"]


def test_one_name_with_two_suffixes_in_a_table(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4", "a.avi", table="path,label\na.mp4,real\na.avi,real\n")
    assert rejections(root) == {"a.avi": Reason.DUPLICATE}


def test_an_unlisted_name_that_is_not_utf_8(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4", table="path,label\na.mp4,real\n")
    (root / os.fsdecode(b"\xff.mp4")).touch()
    assert rejections(root) == {"\\udcff.mp4": Reason.UNRECOGNISED_NAME}
    assert all(detail.encode() for detail in details(root))


def test_lines_may_be_short_or_long(tmp_path: Path) -> None:
    table = "path,label,group,split\na.mp4,real\nb.mp4,fake,g,train,more,and more\n"
    root = tree(tmp_path, "a.mp4", "b.mp4", table=table)
    assert groups(root) == {"b.mp4": "folder/g", "a.mp4": "folder/a"}


def test_two_tables_are_one_too_many(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4", table="path,label\na.mp4,real\n")
    (root / "other.CSV").write_text("label,path\n")
    (root / "notes.csv").write_text("who,what\n")
    assert FOLDER.recognise(root) == f"{TABLE} and other.CSV with the columns path and label"
    with pytest.raises(DatasetError, match=rf"got {TABLE}, other\.CSV, expected one CSV .*; move the others away"):
        list(FOLDER.survey(root))


def test_a_table_that_is_no_text_is_told_and_not_passed_over(tmp_path: Path) -> None:
    root = tree(tmp_path, "real/a.mp4", "fake/a.mp4")
    (root / TABLE).write_bytes(b"path,label\nreal/\xff.mp4,real\n")
    assert FOLDER.recognise(root) is not None
    with pytest.raises(DatasetError, match=rf"{TABLE}, line 2: got bytes that are not text in UTF-8, .* save it as"):
        list(FOLDER.survey(root))


def test_a_field_without_end_is_told(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4", table='path,label\n"' + "x" * 200_000)
    with pytest.raises(
        DatasetError, match=rf"{TABLE}, line 2: got field larger than .*, expected a line of a CSV file"
    ):
        list(FOLDER.survey(root))


def test_neither_folders_nor_table(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holding real\), expected real/ and fake/"):
        list(FOLDER.survey(tree(tmp_path, "real/a.mp4")))


@pytest.mark.parametrize("table", [None, "path,label\n"])
def test_an_empty_tree_is_no_dataset(tmp_path: Path, table: str | None) -> None:
    root = tree(tmp_path, "real/notes.txt", "fake/notes.txt", table=table)
    with pytest.raises(DatasetError, match=f"with no video in {'it' if table else 'fake, real'}, expected"):
        list(FOLDER.survey(root))


def test_nothing_is_claimed_that_could_be_measured(tmp_path: Path) -> None:
    assert FOLDER.claims(tree(tmp_path, "real/a.mp4", "fake/a.mp4")) == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_a_table_as_spreadsheets_write_it(tmp_path: Path, encoding: str, end: str, separator: str) -> None:
    root = tree(tmp_path, "real/Zoë.mp4", "fake/b c.mp4")
    lines = ["path;label;split", "real/Zoë.mp4;Fake;test", "", "# a remark", '"fake/b c.mp4";REAL;']
    (root / TABLE).write_bytes(end.join(lines).replace(";", separator).encode(encoding))
    found = {entry.path: (entry.label, entry.listed_split) for entry in FOLDER.scan(root)}
    assert found == {"real/Zoë.mp4": ("fake", "test"), "fake/b c.mp4": ("real", None)}


@pytest.mark.parametrize(("header", "real", "fake"), [
    ("filename,label", "real", "FAKE"),
    ("File Name,Class", "original", "manipulated"),
    ("video_path,ground_truth", "Real", "deepfake"),
    ("filename,is_fake", "0", "1"),
    ("file,isFake", "False", "True"),
    ("video,is_real", "1", "0"),
    ("name,fake", "no", "yes"),
    ("filepath,is_deepfake", "real", "fake"),
    ('"path", "label"', ' "bona fide"', ' "spoof"'),
])  # fmt: skip
def test_a_table_in_other_words(tmp_path: Path, header: str, real: str, fake: str) -> None:
    root = tree(tmp_path, "a.mp4", "b.mp4", table=f"{header}\na.mp4,{real}\nb.mp4,{fake}\n")
    columns = " and ".join(name.lower().strip(' "') for name in header.split(","))
    assert FOLDER.recognise(root) == f"{TABLE} with the columns {columns}"
    assert {entry.path: entry.label for entry in FOLDER.scan(root)} == {"a.mp4": "real", "b.mp4": "fake"}


@pytest.mark.parametrize(("table", "message"), [
    ("filename,label\na.mp4,1\n", "line 2: got label '1', .*: if 1 means fake, name the column is_fake, .* is_real"),
    ("filename,is_fake\na.mp4,0\nb.mp4,perhaps\n", "line 3: got is_fake 'perhaps', expected 1 or 0, true or false"),
    ("path;label\na.mp4;\n", "line 2: got label '', expected real or fake"),
    ("path,label\nC:\\\\data\\\\a.mp4,real\n", "line 2: got path .*expected one below"),
    ("path,label,Label\na.mp4,real,fake\n", "line 1: got the column label twice"),
])  # fmt: skip
def test_a_line_of_a_table_that_cannot_be_read_is_named(tmp_path: Path, table: str, message: str) -> None:
    root = tree(tmp_path, "a.mp4", "b.mp4", table=table.replace("\\\\", "\\"))
    with pytest.raises(DatasetError, match=message):
        list(FOLDER.survey(root))


def test_paths_of_windows_and_of_macos_find_their_files(tmp_path: Path) -> None:
    composed, apart = "Zo\u00eb.mp4", "Ren\u0065\u0301.mp4"
    table = f"path,label\nreal\\day 1\\{composed},real\n.\\fake\\Ren\u00e9.mp4,fake\nodd\\name.mp4,real\n"
    root = tree(tmp_path, f"real/day 1/{composed}", f"fake/{apart}", "odd\\name.mp4", table=table)
    assert {entry.path for entry in FOLDER.scan(root)} == {f"real/day 1/{composed}", f"fake/{apart}", "odd\\name.mp4"}
    assert rejections(root) == {}


def test_beside_folders_a_table_in_other_words_is_not_used_and_said_so(tmp_path: Path) -> None:
    root = tree(tmp_path, "real/a.mp4", "fake/b.mp4", table="filename,label\na.mp4,fake\n")
    assert FOLDER.recognise(root) == (
        f"fake/ and real/; {TABLE} has the columns filename, label, not path and label, so it is not used"
    )
    assert {entry.path: entry.label for entry in FOLDER.scan(root)} == {"real/a.mp4": "real", "fake/b.mp4": "fake"}


def test_beside_folders_a_table_that_cannot_be_read_is_not_used_and_said_so(tmp_path: Path) -> None:
    root = tree(tmp_path, "real/a.mp4", "fake/b.mp4")
    os.mkfifo(root / TABLE)
    assert FOLDER.recognise(root) == (
        f"fake/ and real/; {root / TABLE}: got a pipe, not a regular file, expected a list that can be read, so it "
        "is not used"
    )


def test_a_table_in_other_words_gives_way_to_a_dataset(tmp_path: Path) -> None:
    """DFDC's test set has a metadata.json, and beside it a labels.csv with the columns filename and label."""
    root = tree(tmp_path, "a.mp4", table="filename,label\na.mp4,1\n")
    assert FOLDER.recognise(root) is not None
    assert not FOLDER.is_certain(root)
    assert recognise_layout(root).dataset is FOLDER
    (root / "metadata.json").write_text('{"a.mp4": {"is_fake": 1}}')
    assert recognise_layout(root).dataset is DATASETS["dfdc"]


def test_a_table_without_known_columns_is_named_where_nothing_else_is_there(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4", table="Datei;Klasse\na.mp4;echt\n")
    fault = rf"{TABLE} has the columns datei, klasse, not path and label"
    with pytest.raises(DatasetError, match=fault):
        recognise_layout(root)
    with pytest.raises(DatasetError, match=rf"expected real/ and fake/.*; {fault}"):
        list(FOLDER.survey(root))


def test_two_files_whose_names_differ_in_accents_only(tmp_path: Path) -> None:
    composed, apart = "Zo\u00eb.mp4", "Zoe\u0308.mp4"
    root = tree(tmp_path, composed, apart, table=f"path,label\n{composed},real\n{apart},fake\n")
    assert {entry.path: entry.label for entry in FOLDER.scan(root)} == {composed: "real", apart: "fake"}


def test_a_list_under_the_name_of_a_text_counts_where_nothing_else_is_there(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4")
    (root / "list.txt").write_text("path\tlabel\na.mp4\treal\n")
    (root / "notes.txt").write_text("one, two\n")
    assert FOLDER.recognise(root) == "list.txt with the columns path and label"
    tree(root, "real/a.mp4", "fake/b.mp4")
    assert FOLDER.recognise(root) == "fake/ and real/"


def test_a_list_that_is_no_file_is_named(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4")
    os.mkfifo(root / TABLE)
    with pytest.raises(DatasetError, match=rf"{TABLE}: got a pipe, not a regular file"):
        recognise_layout(root)


def test_missing_names_with_control_characters_are_escaped(tmp_path: Path) -> None:
    root = tree(tmp_path, "a.mp4", table="path,label\na.mp4,real\n\x1b[31mb.mp4,fake\n")
    assert details(root) == [rf"{TABLE}, line 3: got \x1b[31mb.mp4, which is no video on disk; expected a file there"]
