"""A registry lists our implementations and those of entry points, and says in one line what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from manifests.errors import ConfigError
from manifests.registry import Registry
from tests.helpers.plugins import NAME, VERSION, install

GROUP = "faceshards.toys"
SOURCE = """
class Toy:
    def play(self): return "played"
"""


def registry() -> Registry[type]:
    return Registry("toy", GROUP, {"ours": int}, needs=("play",))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"theirs": "labs_own:Toy", "gone": "labs_own:Gone", "other": "labs_own:__name__", "ours": "labs_own:Toy"}
    install(tmp_path, {GROUP: names}, SOURCE, monkeypatch)


def test_ours_alone() -> None:
    assert dict(registry()) == {"ours": int}
    assert registry().origin("ours") is None


@pytest.mark.usefixtures("plugin")
def test_entry_points_follow_ours() -> None:
    toys = registry()
    assert list(toys) == ["ours", "gone", "other", "theirs"]
    assert len(toys) == 4
    assert "theirs" in toys
    assert "nobodys" not in toys
    assert toys["theirs"]().play() == "played"
    assert toys.origin("theirs") == (NAME, VERSION)
    with pytest.raises(KeyError):
        toys["nobodys"]


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", r"toy gone: got AttributeError .* from labs-own 1\.2 \(faceshards\.toys: labs_own:Gone\)"),
        ("other", r"toy other: got an object without play from labs-own 1\.2"),
        ("ours", r"toy ours: got a second one from labs-own 1\.2"),
    ],
)
def test_a_wrong_entry_point_is_told_in_one_line(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        registry()[name]
    assert "\n" not in str(caught.value)


def test_a_process_may_add_its_own() -> None:
    toys = registry()
    toys["mine"] = str
    assert toys["mine"] is str
    del toys["mine"]
    assert list(toys) == ["ours"]
