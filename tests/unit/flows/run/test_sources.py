"""One manifest of several datasets, each found by looking."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.config.preprocess import DatasetSettings, HeldOutSettings
from flows.run.sources import index_sources, require_apart, survey_sources
from manifests.errors import ConfigError, DatasetError
from tests.helpers.trees import touch


@pytest.fixture
def ffpp(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "ffpp",
        "original_sequences/youtube/c23/videos/001.mp4",
        "original_sequences/youtube/c23/videos/odd.mp4",
        "manipulated_sequences/Deepfakes/c23/videos/001_002.mp4",
    )


@pytest.fixture
def celeb_df(tmp_path: Path) -> Path:
    root = touch(tmp_path / "celeb", "Celeb-real/id0_0000.mp4", "Celeb-real/odd.mp4", "YouTube-real/00000.mp4")
    (root / "List_of_testing_videos.txt").write_text("1 Celeb-real/id0_0000.mp4\n1 YouTube-real/00009.mp4\n")
    return root


def test_the_layout_is_found_or_named(ffpp: Path, celeb_df: Path) -> None:
    (source,) = survey_sources(DatasetSettings(root=ffpp))
    assert (source.survey.dataset.name, source.why) == ("ffpp", "found original_sequences/ and manipulated_sequences/")
    (source,) = survey_sources(DatasetSettings(root=celeb_df, name="celeb_df"))
    assert (source.survey.dataset.name, source.why) == ("celeb_df", "as named")
    with pytest.raises(DatasetError, match=r"Celeb-DF v1, v2 or \+\+: got"):
        index_sources(survey_sources(DatasetSettings(root=ffpp, name="celeb_df")), probing=False)


def test_one_manifest_of_two_datasets(ffpp: Path, celeb_df: Path) -> None:
    held_out = (HeldOutSettings(root=celeb_df),)
    indexed = index_sources(survey_sources(DatasetSettings(root=ffpp), held_out), probing=False)
    assert {row.video_id: row.status for row in indexed.rows} == {
        "celeb_df/Celeb-real/id0_0000": "pending",
        "celeb_df/YouTube-real/00000": "pending",
        "celeb_df/YouTube-real/00009": "rejected",
        # Files of no known name go by their paths, those of another dataset's folder with the layout's name before it.
        "celeb_df:Celeb-real/odd.mp4": "rejected",
        "ffpp/Deepfakes/c23/001_002": "pending",
        "ffpp/youtube/c23/001": "pending",
        "original_sequences/youtube/c23/videos/odd.mp4": "rejected",
    }
    assert indexed.roots == {"ffpp": ffpp, "celeb_df": celeb_df}
    assert indexed.test_datasets == ("celeb_df",)


def test_a_miniature_to_test_on_has_its_own_name_and_the_same_video_ids(ffpp: Path, celeb_df: Path) -> None:
    (celeb_df / "miniature.json").write_text('{"made_by": "faceshards sample"}')
    sources = survey_sources(DatasetSettings(root=ffpp), (HeldOutSettings(root=celeb_df),))
    assert str(sources[1]).startswith(f"{celeb_df}: a miniature of Celeb-DF v1, v2 or ++ (found ")
    assert str(sources[0]).startswith(f"{ffpp}: FaceForensics++, official tree (found ")
    indexed = index_sources(sources, probing=False)
    assert indexed.test_datasets == ("miniature-celeb_df",)
    assert {"celeb_df/YouTube-real/00009", "celeb_df:Celeb-real/odd.mp4"} <= {row.video_id for row in indexed.rows}


def test_only_the_listed_videos_of_a_test_dataset(ffpp: Path, celeb_df: Path) -> None:
    indexed = index_sources(
        survey_sources(DatasetSettings(root=ffpp), (HeldOutSettings(root=celeb_df, only_listed=True),)), probing=False
    )
    of_celeb = [row.video_id for row in indexed.rows if row.entry and row.entry.dataset == "celeb_df"]
    assert of_celeb == ["celeb_df/Celeb-real/id0_0000"]


def test_a_dataset_of_which_nothing_was_asked_for(ffpp: Path) -> None:
    with pytest.raises(DatasetError, match=r"none of the requested videos \(manipulations FaceSwap"):
        index_sources(
            survey_sources(DatasetSettings(root=ffpp, name="ffpp", manipulations=("FaceSwap",), compressions=("c40",))),
            probing=False,
        )


def test_one_dataset_in_two_folders_is_refused(ffpp: Path, tmp_path: Path) -> None:
    copy = touch(tmp_path / "copy", "original/001.mp4", "Deepfakes/001_002.mp4")
    with pytest.raises(ConfigError, match=f"got ffpp in {ffpp} and in {copy}"):
        index_sources(survey_sources(DatasetSettings(root=ffpp), (HeldOutSettings(root=copy),)), probing=False)


def test_test_datasets_of_earlier_runs_stay_apart(ffpp: Path, celeb_df: Path) -> None:
    alone = index_sources(survey_sources(DatasetSettings(root=ffpp)), probing=False)
    assert require_apart(alone, ("dfdc",)) == ("dfdc",)
    both = index_sources(survey_sources(DatasetSettings(root=ffpp), (HeldOutSettings(root=celeb_df),)), probing=False)
    assert require_apart(both, ("dfdc",)) == ("celeb_df", "dfdc")
    with pytest.raises(ConfigError, match="got ffpp, which this store keeps for testing only"):
        require_apart(alone, ("ffpp",))
