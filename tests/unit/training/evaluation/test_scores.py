from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.errors import UserError
from training.evaluation.scores import Scores, join_scores, read_scores, scores_from_columns, to_videos, write_scores

# Two forgeries of one pair of people (same file name), and a real video with two persons.
COLUMNS: dict[str, Any] = {
    "key": ["a/00/000000", "a/00/000005", "b/00/000000", "b/00/000005", "r/00/000000", "r/01/000000"],
    "dataset": ["ffpp"] * 6,
    "video_id": ["ffpp/Deepfakes/c23/033_097"] * 2 + ["ffpp/FaceSwap/c23/033_097"] * 2 + ["ffpp/original/c23/033"] * 2,
    "track_id": [0, 0, 0, 0, 0, 1],
    "frame_index": [0, 5, 0, 5, 0, 0],
    "manipulation": ["Deepfakes"] * 2 + ["FaceSwap"] * 2 + [None] * 2,
    "compression": ["c23"] * 6,
    "label": [1, 1, 1, 1, 0, 0],
    "p_fake": [0.5, 1.0, 0.25, 0.75, 0.0, 0.125],
}
CLASSES: dict[str, Any] = {
    "class_names": ("Real", "Deepfakes", "FaceSwap"),
    "class_label": [1, 1, 2, 2, 0, 0],
    "class_probabilities": [[0.5, 0.5, 0], [0, 1, 0], [0.75, 0, 0.25], [0.25, 0.25, 0.5], [1, 0, 0], [0.875, 0.125, 0]],
}


def same(one: Scores, other: Scores) -> bool:
    return all(
        np.array_equal(getattr(one, item.name), getattr(other, item.name))
        if isinstance(getattr(one, item.name), np.ndarray)
        else getattr(one, item.name) == getattr(other, item.name)
        for item in fields(Scores)
    )


def test_forgeries_of_one_pair_and_persons_of_one_video_stay_apart() -> None:
    videos = to_videos(scores_from_columns(COLUMNS | CLASSES))
    assert videos.p_fake.tolist() == [0.75, 0.5, 0.0, 0.125]
    assert videos.manipulation.tolist() == ["Deepfakes", "FaceSwap", None, None]
    assert videos.num_frames.tolist() == [2, 2, 1, 1]
    assert videos.key.tolist()[-1] == "ffpp/original/c23/033/01"
    assert videos.class_probabilities is not None
    assert videos.class_probabilities[0].tolist() == [0.25, 0.75, 0.0]


def test_videos_of_videos_are_the_same() -> None:
    videos = to_videos(scores_from_columns(COLUMNS))
    assert same(to_videos(videos), videos)


def test_a_video_with_two_labels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"label of 'ffpp/Deepfakes/c23/033_097'"):
        to_videos(scores_from_columns(COLUMNS | {"label": [1, 0, 1, 1, 0, 0]}))


@pytest.mark.parametrize("classes", [{}, CLASSES])
def test_parquet_gives_back_what_was_written(tmp_path: Path, classes: dict[str, Any]) -> None:
    scores = scores_from_columns(COLUMNS | classes)
    write_scores(tmp_path / "scores.parquet", scores)
    assert same(read_scores(tmp_path / "scores.parquet"), scores)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.parquet"]


def test_an_empty_table_can_be_written(tmp_path: Path) -> None:
    scores = scores_from_columns({name: [] for name in COLUMNS})
    write_scores(tmp_path / "scores.parquet", scores)
    assert len(read_scores(tmp_path / "scores.parquet")) == len(to_videos(scores)) == 0


def test_another_file_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(UserError, match=r"x\.parquet: got .* expected a table of scores"):
        read_scores(tmp_path / "x.parquet")


def test_rows_of_a_samplers_padding_count_once() -> None:
    scores = scores_from_columns(COLUMNS)
    joined = join_scores(
        [scores.where(np.array([0, 2, 4])), scores.where(np.array([1, 3, 5])), scores.where(np.array([0]))]
    )
    assert sorted(joined.key) == sorted(scores.key)
    with pytest.raises(ValueError, match=r"got 1 rows twice.*join_scores"):
        scores.where(np.array([0, 1, 0]))
    with pytest.raises(ValueError, match="classes of scores"):
        join_scores([scores, scores_from_columns(COLUMNS | CLASSES)])
    with pytest.raises(ValueError, match="got none"):
        join_scores([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p_fake": [0.5, float("nan"), 0, 0, 0, 0]}, "got nan for 'a/00/000005'.*diverged"),
        ({"p_fake": [0.5, 1.5, 0, 0, 0, 0]}, "got 1.5"),
        ({"label": [2, 1, 1, 1, 0, 0]}, r"Scores\.label"),
        ({"track_id": [0]}, r"Scores\.track_id: got shape"),
        ({"more": [0]}, "columns of scores"),
        ({"class_names": ("Real", "Fake")}, "only some of class_names"),
        (CLASSES | {"class_label": [3, 1, 2, 2, 0, 0]}, "class_label"),
        (CLASSES | {"class_probabilities": np.full((6, 3), 0.1)}, "rows with another sum"),
        (CLASSES | {"class_probabilities": np.full((6, 3), 1 / 3)}, r"1 − p\(Real\)"),
    ],
)
def test_what_is_no_table_of_scores_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scores_from_columns(COLUMNS | change)


def test_arrays_of_another_type_are_refused() -> None:
    scores = scores_from_columns(COLUMNS)
    arrays = {item.name: getattr(scores, item.name) for item in fields(Scores)}
    with pytest.raises(TypeError, match=r"Scores\.p_fake: got dtype float32"):
        Scores(**arrays | {"p_fake": scores.p_fake.astype(np.float32)})
