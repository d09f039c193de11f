"""Surveys of dataset folders: a miniature has a name of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from manifests.datasets import DATASETS
from manifests.indexing import MINIATURE_MARKER, survey_dataset
from manifests.miniature.tree import Parameters
from manifests.splits.policies import assign

MARKER = json.dumps(Parameters().as_json())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of two original videos and their fakes."""
    for path in (
        "original_sequences/youtube/c23/videos/00{}.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/00{}_00{}.mp4",
    ):
        for target in (0, 1):
            video = tmp_path / path.format(target, 1 - target)
            video.parent.mkdir(parents=True, exist_ok=True)
            video.touch()
    return tmp_path


def test_a_miniature_is_called_miniature(root: Path) -> None:
    (root / MINIATURE_MARKER).write_text(MARKER)
    entries = survey_dataset(DATASETS["ffpp"], root).entries
    assert {entry.dataset for entry in entries} == {"miniature-ffpp"}
    assert entries[0].video_id == "ffpp/Deepfakes/c23/000_001"  # as before miniatures had a name of their own
    lists = root / "lists"
    lists.mkdir()
    for split, pairs in (("train", [["000", "001"]]), ("val", []), ("test", [])):
        (lists / f"{split}.json").write_text(json.dumps(pairs))
    assigned = assign(entries, "official", official_dir=lists)
    assert {entry.split for entry in assigned} == {"train"}


@pytest.mark.parametrize("marker", [None, "{", "[]", '{"made_by": "me"}', "[" * 50_000, "a folder", "a pipe"])
def test_a_users_dataset_is_not(root: Path, marker: str | None) -> None:
    path = root / MINIATURE_MARKER
    if marker == "a folder":
        path.mkdir()
    elif marker == "a pipe":
        os.mkfifo(path)
    elif marker is not None:
        path.write_text(marker)
    assert {entry.dataset for entry in survey_dataset(DATASETS["ffpp"], root).entries} == {"ffpp"}
