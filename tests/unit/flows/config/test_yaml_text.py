"""YAML that PyYAML would accept silently is refused, and reading it is bounded."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from flows.config.yaml_text import FAULTS, parse_yaml, parse_yaml_file

BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcde", "bcdef", strict=True)
)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("frames:\n  count: 8\n  seed: 1\n  count: 9\n", "'count' in line 2 and again in line 4"),
        ("frames: {count: 8, 'count': 9}", "'count' in line 1 and again in line 1"),
        ("crop: {}\nframes: {}\ncrop: {}\n", "'crop' in line 1 and again in line 3"),
        ("tests:\n- root: a\n  root: b\n", "'root' in line 2 and again in line 3"),
        (BOMB, "more than 20,000 values"),
        ("a: &a {b: *a}", "more than 20,000 values"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("a:\n\tb: 1\n", "cannot start any token"),
    ],
)
def test_what_is_ambiguous_or_hostile_is_refused(text: str, fault: str) -> None:
    with pytest.raises(yaml.YAMLError, match=fault):
        parse_yaml(text)


def test_anchors_and_merged_mappings_stay_usable() -> None:
    text = "base: &base {count: 4, seed: 1}\nframes: {<<: *base, count: 8}\nagain: {<<: *base, seed: 2}\n"
    assert parse_yaml(text) == {
        "base": {"count": 4, "seed": 1},
        "frames": {"count": 8, "seed": 1},
        "again": {"count": 4, "seed": 2},
    }


def test_files_that_are_no_settings_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(10 * 2**30)
    (tmp_path / "latin").write_bytes(b"name: caf\xe9\n")
    (tmp_path / "deep").write_text("[" * 20_000)
    for name in ("pipe", "huge", "latin", "deep", "none", "."):
        with pytest.raises(FAULTS):
            parse_yaml_file(tmp_path / name)
    (tmp_path / "bom").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert parse_yaml_file(tmp_path / "bom") == {"a": 1}
