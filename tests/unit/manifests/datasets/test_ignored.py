"""Ignored files in words and on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.datasets.ignored import Ignored, IgnoredReason, describe, num_files_of, read_ignored, write_ignored
from manifests.errors import StoreCorrupt

PICTURES = Ignored(path="fake/a", reason=IgnoredReason.PICTURE, num_files=300, names=tuple("abcdefghij"))
PART = Ignored(path="real/x.mp4.part", reason=IgnoredReason.UNFINISHED)
MASK = Ignored(path="masks/1.mp4", reason=IgnoredReason.AUXILIARY)


def test_each_reason_is_a_line_with_its_way_out() -> None:
    assert describe((PART, MASK, PICTURES)) == [
        "300 files (picture): fake/a (300: a, b, c, d, e, …); pictures are not taken, even if they are the frames of a "
        "video; give the videos",
        "1 file (unfinished_download): real/x.mp4.part; finish such downloads, or fetch the files again",
    ]


def test_only_some_places_are_named() -> None:
    many = [Ignored(path=f"f{number}", reason=IgnoredReason.TEXT, num_files=2, names=("x", "y")) for number in range(7)]
    (line,) = describe(many)
    assert line.startswith("14 files (text): f0 (2: x, y), f1 (2: x, y), ")
    assert line.endswith("f4 (2: x, y), and in 2 more places")


def test_files_are_counted_by_reason() -> None:
    assert num_files_of((PART, MASK, PICTURES, PART)) == {
        IgnoredReason.PICTURE: 300,
        IgnoredReason.UNFINISHED: 2,
        IgnoredReason.AUXILIARY: 1,
    }


def test_a_list_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "ignored.json"
    assert read_ignored(path) == ()
    write_ignored(path, (PICTURES, PART))
    assert read_ignored(path) == (PICTURES, PART)


@pytest.mark.parametrize("text", ["{", "[1]", '[{"path": "a", "reason": "unheard", "names": []}]', "7"])
def test_what_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "ignored.json"
    path.write_text(text)
    with pytest.raises(StoreCorrupt, match=r"ignored\.json: got .*, expected a list of ignored files; delete it"):
        read_ignored(path)
