"""The main job on other layouts than FaceForensics++'s, on two datasets at once, and on splits that leak."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.preprocess import preprocess_ffpp
from manifests.errors import DatasetError, SplitError
from manifests.miniature import write_miniature
from manifests.videos_table import read_table
from storage.index import read_index
from storage.verify import verify_store
from tests.helpers.plugins import install
from tests.helpers.processes import QUICK, command_line, setting_words

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("prefect_server")]

Configure = Callable[..., Any]
WAIT_SECONDS = 120
COLLECTIONS = {"original": "youtube", "Deepfakes": "Deepfakes", "FaceSwap": "FaceSwap"}


@pytest.fixture(scope="module")
def celeb_df(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of Celeb-DF's shape, with a list of test videos that leaks as the real one does; not to be changed."""
    root = tmp_path_factory.mktemp("miniature") / "celeb"
    write_miniature(root, layout="celeb_df", num_pairs=2, seconds=(0.8, 1.0), seed=2)
    return root


@pytest.fixture
def kaggle(miniature: Path, tmp_path: Path) -> Path:
    """Four originals and some of their fakes in the folders of the copy on Kaggle."""
    root = tmp_path / "FaceForensics++_C23"
    for folder, collection in COLLECTIONS.items():
        kind = "original_sequences" if folder == "original" else "manipulated_sequences"
        shutil.copytree(miniature / kind / collection / "c23" / "videos", root / folder)
    return root


def report_of(store_dir: Path) -> dict[str, Any]:
    return dict(json.loads((store_dir / "report.json").read_text()))


def test_celeb_df_is_recognised_and_split_by_identity(celeb_df: Path, tmp_path: Path, configure: Configure) -> None:
    out = tmp_path / "store"
    totals = preprocess_ffpp(configure(celeb_df, out, "split.ratios=[0.7, 0.15, 0.15]"))
    assert totals["num_stored"] == totals["num_indexed"] == sum(1 for _ in celeb_df.rglob("*.mp4"))
    assert verify_store(out).problems == ()
    people: dict[str, set[str | None]] = {}
    for row in read_table(out / "videos.parquet"):
        assert row.entry is not None
        for person in filter(None, (row.entry.target_identity, row.entry.source_id)):
            people.setdefault(person, set()).add(row.entry.split)
    assert people
    assert all(len(splits) == 1 for splits in people.values())
    assert report_of(out)["leakage_allowed"] is False


@pytest.mark.long
def test_the_official_list_is_followed_and_its_leakage_told(
    celeb_df: Path, tmp_path: Path, configure: Configure
) -> None:
    out = tmp_path / "store"
    preprocess_ffpp(configure(celeb_df, out, "split.policy=official", "split.ratios=[0.7, 0.15, 0.15]"))
    listed = {
        line.split()[1].rpartition("/")[2].removesuffix(".mp4")
        for line in (celeb_df / "List_of_testing_videos.txt").read_text().splitlines()
    }
    tested = {
        row.video_id.rpartition("/")[2]
        for row in read_table(out / "videos.parquet")
        if row.entry and row.entry.split == "test"
    }
    assert tested == listed
    page = (out / "report.html").read_text()
    assert "made from footage" in page


@pytest.mark.long
def test_train_on_one_dataset_test_on_another(
    miniature: Path, celeb_df: Path, tmp_path: Path, configure: Configure
) -> None:
    out = tmp_path / "store"
    other = f"test_datasets=[{{root: {celeb_df}, only_listed: true}}]"
    preprocess_ffpp(configure(miniature, out, other))
    assert verify_store(out).problems == ()
    splits = {(row.entry.dataset, row.entry.split) for row in read_table(out / "videos.parquet") if row.entry}
    assert splits == {("miniature-ffpp", "train"), ("miniature-ffpp", "val"), ("miniature-celeb_df", "test")}
    assert read_index(out).test_datasets == ("miniature-celeb_df",)
    # What was asked for is the share of the dataset that is divided.
    shares = {split["split"]: split["share"] for split in report_of(out)["splits"]}
    assert shares == {"train": 0.5, "val": 0.5, "test": 0.0}
    assert preprocess_ffpp(configure(miniature, out, other))["videos_processed"] == 0


@pytest.mark.long
def test_the_copy_on_kaggle_gives_the_same_videos(
    miniature: Path, kaggle: Path, tmp_path: Path, configure: Configure
) -> None:
    out = tmp_path / "store"
    preprocess_ffpp(configure(kaggle, out))
    stored = {row.video_id: row.entry for row in read_table(out / "videos.parquet")}
    assert set(stored) == {
        f"ffpp/{collection}/c23/{path.stem}"
        for folder, collection in COLLECTIONS.items()
        for path in (kaggle / folder).iterdir()
    }


@pytest.mark.long
def test_metadata_that_describes_another_file_rejects_it(kaggle: Path, tmp_path: Path, configure: Configure) -> None:
    (kaggle / "csv").mkdir()
    name = min(path.name for path in (kaggle / "original").iterdir())
    (kaggle / "csv" / "FF++_Metadata.csv").write_text(
        "File Path,Label,Frame Count,Width,Height,Codec,File Size(MB)\n"
        f"original/{name},REAL,9999,1280,720,h264,1.0\n"
        "Deepfakes/998_999.mp4,FAKE,300,1280,720,h264,1.0\n"
    )
    out = tmp_path / "store"
    totals = preprocess_ffpp(configure(kaggle, out))
    rejected = {row.path: str(row.reason) for row in read_table(out / "videos.parquet") if row.status == "rejected"}
    assert rejected == {f"original/{name}": "metadata_conflict", "ffpp/Deepfakes/c23/998_999": "missing_file"}
    assert totals["num_indexed"] == totals["num_stored"] + 2


@pytest.mark.long
def test_a_split_that_leaks_is_refused_unless_it_is_allowed(
    miniature: Path, tmp_path: Path, configure: Configure
) -> None:
    out, own = tmp_path / "store", tmp_path / "own.csv"
    videos = sorted(path.relative_to(miniature).as_posix() for path in miniature.rglob("c23/videos/*.mp4"))
    lines = [f"{path},{'train' if number % 2 else 'test'}" for number, path in enumerate(videos)]
    own.write_text("\n".join(["path,split", *lines]))
    asked = ("split.policy=file", f"split.file={own}")
    with pytest.raises(SplitError, match="--allow-leakage"):
        preprocess_ffpp(configure(miniature, out, *asked))
    assert not (out / "index.json").exists()
    assert not list((out / "shards").iterdir())
    preprocess_ffpp(configure(miniature, out, *asked, "split.allow_leakage=true"))
    assert read_index(out).leakage_allowed
    assert report_of(out)["leakage_allowed"] is True
    assert "allowed" in (out / "report.html").read_text()
    # The report keeps stating that leakage was allowed, whatever later runs ask for.
    assert preprocess_ffpp(configure(miniature, out, *asked, "split.allow_leakage=true"))["videos_processed"] == 0


@pytest.mark.long
def test_a_folder_of_ones_own(miniature: Path, tmp_path: Path, configure: Configure) -> None:
    root, out = tmp_path / "mine", tmp_path / "store"
    shutil.copytree(miniature / "original_sequences/youtube/c23/videos", root / "real")
    shutil.copytree(miniature / "manipulated_sequences/Deepfakes/c23/videos", root / "fake" / "Deepfakes")
    totals = preprocess_ffpp(configure(root, out))
    assert totals["num_stored"] == totals["num_indexed"] == 8


def test_a_folder_of_no_known_shape_is_refused(tmp_path: Path, configure: Configure) -> None:
    (tmp_path / "videos").mkdir()
    with pytest.raises(DatasetError, match="name the layout"):
        preprocess_ffpp(configure(tmp_path / "videos", tmp_path / "store"))


LAB_CLIPS = '''
from manifests.datasets.tree_dataset import TreeDataset
from manifests.entry import VideoEntry

SPLIT_OF_FOLDER = {"clips_1": "train", "clips_2": "test"}

class LabClips(TreeDataset):
    """`clips_1/` for training and `clips_2/` for testing, with `<person>.mp4` and `<person>_<donor>.mp4` in them."""

    name = "lab"
    title = "Clips of a lab"
    expects = "clips_1/ and clips_2/ with *.mp4"
    manipulations = ("LabSwap",)

    def recognise(self, root):
        return "clips_1/" if (root / "clips_1").is_dir() else None

    def folders_in(self, root):
        return [name for name in SPLIT_OF_FOLDER if (root / name).is_dir()]

    def read(self, root, files):
        for file in files:
            person, _, donor = file.stem.partition("_")
            yield VideoEntry(
                video_id=f"lab/{file.folders[0]}/{file.stem}",
                path=file.path,
                dataset="lab",
                label="fake" if donor else "real",
                manipulation="LabSwap" if donor else None,
                target_id=person,
                source_id=donor or None,
                group_id=f"lab/{min(person, donor or person)}",
            )

    def official_splits(self, entries, lists_dir):
        return {entry.video_id: SPLIT_OF_FOLDER[entry.collection] for entry in entries}

LAB = LabClips()
'''


def run(environment: dict[str, str], *words: str) -> tuple[int, str]:
    """Return the exit status of a command and what it printed."""
    with command_line(*words, environment=environment) as process:
        said, _ = process.communicate(timeout=WAIT_SECONDS)
        return process.returncode, said


def test_a_dataset_of_another_distribution(
    miniature: Path, prefect_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "site", {"faceshards.datasets": {"lab": "labs_own:LAB"}}, LAB_CLIPS, monkeypatch)
    environment = os.environ | {"PREFECT_API_URL": prefect_server}
    root, out = tmp_path / "root", tmp_path / "store"
    for number, names in (("1", "00[01]*.mp4"), ("2", "00[23]*.mp4")):
        (root / f"clips_{number}").mkdir(parents=True)
        for folder in ("original_sequences/youtube", "manipulated_sequences/FaceSwap"):
            for video in (miniature / folder / "c23" / "videos").glob(names):
                shutil.copy(video, root / f"clips_{number}")
    official = setting_words("split.policy=official")

    status, said = run(environment, "index", str(root), *official, "--names-only")
    assert (status, said.splitlines()[0]) == (0, f"{root}: Clips of a lab (found clips_1/)")

    status, said = run(environment, "preprocess", "lab_clips", str(root), "--out", str(out))
    assert (status, out.exists()) == (2, False)
    error = said.splitlines()[-1]
    assert "'lab_clips'" in error
    assert "'folder', 'lab'" in error

    settings = setting_words(*QUICK)
    status, said = run(environment, "preprocess", "auto", str(root), "--out", str(out), *settings, *official)
    assert status == 0, said
    assert verify_store(out).problems == ()
    stored = [row.entry for row in read_table(out / "videos.parquet") if row.entry and row.status == "stored"]
    assert Counter((entry.kind, entry.split) for entry in stored) == {
        (kind, split): 2 for kind in ("real", "LabSwap") for split in ("train", "test")
    }
