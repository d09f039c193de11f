"""Which files of FaceForensics++ a choice comes to: exactly the official tree's, and no path out of it."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.datasets.ffpp import FaceForensicsPP
from manifests.datasets.ffpp_server import (
    ACTORS_LIST,
    COMPRESSIONS,
    MANIPULATIONS,
    PAIRS_LIST,
    PAPER_MANIPULATIONS,
    ServerChoice,
    lists_needed,
    paths_on_server,
)
from manifests.datasets.ignored import Ignored, IgnoredReason
from manifests.errors import ConfigError, DatasetError

REFERENCE = Path(__file__).resolve().parents[5] / "shared" / "reference"
PAIRS = [["071", "054"], ["087", "081"], ["000", "003"]]
ACTORS = {
    "actors": ["01__exit_phone_room", "02__talking"],
    "DeepFakesDetection": ["01_02__exit_phone_room__YVGY8LOK", "02_01__talking__ABCDEFG1"],
}
LISTS: dict[str, object] = {PAIRS_LIST: PAIRS, ACTORS_LIST: ACTORS}


def names(choice: ServerChoice, folder: str) -> list[str]:
    return [PurePosixPath(path).stem for path in paths_on_server(choice, LISTS) if path.startswith(folder)]


def test_each_pair_stands_for_two_originals_and_both_directions() -> None:
    paths = paths_on_server(ServerChoice(manipulations=("Deepfakes",)), {PAIRS_LIST: [["071", "054"]]})
    assert paths == (
        "original_sequences/youtube/c23/videos/071.mp4",
        "original_sequences/youtube/c23/videos/054.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/071_054.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/054_071.mp4",
    )


def test_a_choice_of_everything_is_the_official_tree(tmp_path: Path) -> None:
    choice = ServerChoice(manipulations=MANIPULATIONS, compressions=COMPRESSIONS, masks=True)
    paths = paths_on_server(choice, LISTS)
    assert len(set(paths)) == len(paths) == 3 * (6 + 5 * 6 + 2 + 2) + 4 * 6 + 2
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    survey = list(FaceForensicsPP().survey(tmp_path))
    entries = list(FaceForensicsPP().scan(tmp_path))
    assert len(entries) == 3 * (6 + 5 * 6 + 2 + 2), "every file is recognised"
    others = [item for item in survey if isinstance(item, Ignored)]
    assert len(entries) + len(others) == len(survey)
    assert {item.reason for item in others} == {IgnoredReason.AUXILIARY}
    assert sum(item.num_files for item in others) == 4 * 6 + 2, "the masks"
    assert len(entries) == len([path for path in paths if "/masks/" not in path])
    without_mask = {entry.manipulation for entry in entries if entry.label == "fake" and entry.mask_path is None}
    assert without_mask == {"FaceShifter"}


@pytest.mark.parametrize(
    ("manipulations", "lists"),
    [
        (PAPER_MANIPULATIONS, (PAIRS_LIST,)),
        ((), (PAIRS_LIST,)),
        (("DeepFakeDetection",), (ACTORS_LIST,)),
        (("FaceSwap", "DeepFakeDetection"), (PAIRS_LIST, ACTORS_LIST)),
    ],
)
def test_only_the_lists_that_are_needed_are_asked_for(manipulations: Any, lists: Any) -> None:
    choice = ServerChoice(manipulations=manipulations)
    assert lists_needed(choice) == lists
    assert paths_on_server(choice, {path: LISTS[path] for path in lists})


def test_originals_are_those_that_the_fakes_were_made_from() -> None:
    actors = ServerChoice(manipulations=("DeepFakeDetection",))
    assert names(actors, "original_sequences/") == ACTORS["actors"]
    assert names(ServerChoice(manipulations=()), "original_sequences/youtube/") == [
        name for pair in PAIRS for name in pair
    ]
    assert names(ServerChoice(originals=False), "original_sequences/") == []


def test_videos_bring_the_fakes_of_their_footage() -> None:
    choice = ServerChoice(manipulations=MANIPULATIONS, videos=("054", "01__exit_phone_room"), masks=True)
    assert names(choice, "original_sequences/") == ["054", "01__exit_phone_room"]
    assert names(choice, "manipulated_sequences/Deepfakes/c23/") == ["054_071"]
    assert names(choice, "manipulated_sequences/Deepfakes/masks/") == ["054_071"]
    assert names(choice, "manipulated_sequences/DeepFakeDetection/c23/") == ["01_02__exit_phone_room__YVGY8LOK"]
    assert names(ServerChoice(videos=("054_071",)), "") == ["054_071"] * 4


def test_a_limit_takes_the_first_of_each_kind() -> None:
    choice = ServerChoice(manipulations=MANIPULATIONS, limit=2)
    assert names(choice, "original_sequences/youtube/") == ["071", "054"]
    assert names(choice, "manipulated_sequences/FaceSwap/") == ["071_054", "054_071"]
    assert len(names(choice, "manipulated_sequences/DeepFakeDetection/")) == 2
    assert names(ServerChoice(videos=("000",), limit=5), "original_sequences/") == ["000"]


def test_videos_that_do_not_exist_are_named() -> None:
    with pytest.raises(ConfigError, match=r"videos: got 999, 1\.mp4, which the server does not list, .* 000, 000_003"):
        paths_on_server(ServerChoice(videos=("000", "999", "1.mp4")), LISTS)


def test_an_empty_choice_is_refused() -> None:
    with pytest.raises(ConfigError, match="got neither originals nor manipulations"):
        paths_on_server(ServerChoice(manipulations=(), originals=False), LISTS)


WRONG_PAIRS: list[object] = [
    {}, [], "x", None, ["071", "054"], [["071"]], [["071", "054", "000"]], [[71, 54]], [["071", "../"]],
    [["071", "54"]], [["071", "054"], ["071", "003"]], [["071", "071"]],
]  # fmt: skip


@pytest.mark.parametrize("pairs", WRONG_PAIRS, ids=str)
def test_what_is_no_list_of_pairs_is_refused(pairs: object) -> None:
    with pytest.raises(DatasetError, match=r"v3/misc/filelist\.json on the server: got .*, expected"):
        paths_on_server(ServerChoice(), {PAIRS_LIST: pairs})


WRONG_ACTORS: list[object] = [
    [], {}, {"actors": ACTORS["actors"]}, ACTORS | {"actors": []}, ACTORS | {"actors": "01__talking"},
    ACTORS | {"DeepFakesDetection": ["../../etc/passwd"]}, ACTORS | {"actors": ["01__a", "01__a"]},
]  # fmt: skip


@pytest.mark.parametrize("actors", WRONG_ACTORS, ids=str)
def test_what_is_no_list_of_actors_is_refused(actors: object) -> None:
    with pytest.raises(DatasetError, match=r"v3/misc/deepfake_detection_filenames\.json on the server: got"):
        paths_on_server(ServerChoice(manipulations=("DeepFakeDetection",)), {ACTORS_LIST: actors})


TEXTS = st.one_of(st.text(st.sampled_from("0123./\\_ "), max_size=5), st.integers(), st.none())


@given(st.lists(st.lists(TEXTS, max_size=3), max_size=3))
def test_no_list_leads_out_of_the_tree(pairs: object) -> None:
    try:
        paths = paths_on_server(ServerChoice(), {PAIRS_LIST: pairs})
    except DatasetError:
        return
    assert all(".." not in path and path.count("/") == 4 and not path.startswith("/") for path in paths)


def test_the_whole_dataset() -> None:
    """All three official split lists together are the thousand originals."""
    if not REFERENCE.is_dir():
        pytest.skip(f"needs the official split lists in {REFERENCE}")
    parts = ("train", "val", "test")
    pairs = [pair for part in parts for pair in json.loads((REFERENCE / f"ff_{part}.json").read_text())]
    paths = paths_on_server(ServerChoice(manipulations=PAPER_MANIPULATIONS, masks=True), {PAIRS_LIST: pairs})
    assert len(paths) == 1000 + 4 * 1000 + 4 * 1000
