"""A store through the nights of a schedule, and through releases: what changed is done and told, and can be undone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

from flows.cli.parser import main
from flows.config.preprocess import load_config
from flows.preprocess import preprocess_ffpp
from flows.report.difference import read_difference
from flows.reprocess import reprocess
from manifests.errors import DatasetError
from manifests.videos_table import read_table
from storage.files.layout import RECORDS_VERSION, RECORDS_VERSION_KEY
from storage.format.encoding import encode_record
from storage.index import read_index
from storage.store import RecordStore
from storage.upkeep.versions import list_versions, roll_back
from storage.verify import verify_store
from tasks.video.provenance import made_with

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("prefect_server")]

Configure = Callable[..., Any]
NUM_VIDEOS = 20
YOUTUBE = "original_sequences/youtube/c23/videos"
MADE = Path(__file__).resolve().parents[1] / "fixtures" / "store_0.1.0"
DIGEST = "dfc7904210cd29b1aa7c6d70fa5f1501938e0743be27510b7a7acc4d1a8e0f47"
FAKES = "manipulated_sequences/Deepfakes/c23/videos"
LATE = "ffpp/Deepfakes/c23/001_000"
SWAPS = "manipulated_sequences/FaceSwap/c23/videos"


@pytest.fixture
def out(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A store after its first night, which a test may change."""
    return Path(shutil.copytree(finished[0], tmp_path / "store"))


def contents(store_dir: Path) -> dict[str, bytes]:
    """Every record's bytes by its key."""
    with RecordStore(store_dir) as store:
        return {record.key: encode_record(record) for record in store}


def files(store_dir: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of every file but the lock."""
    paths = (path for path in store_dir.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in paths}


def numbers(store_dir: Path) -> list[int]:
    return [version.number for version in list_versions(store_dir)]


def test_a_night_without_news_writes_nothing(out: Path, miniature: Path, configure: Configure) -> None:
    assert (numbers(out), read_difference(out)) == ([1], None)
    before = files(out)
    done = reprocess(configure(miniature, out))
    assert (done["videos_processed"], done["videos_changed"]) == (0, 0)
    assert files(out) == before


def test_nights_with_news_are_told_and_can_be_taken_back(
    out: Path, dataset: Path, configure: Configure, capsys: pytest.CaptureFixture[str]
) -> None:
    first = contents(out)
    originals = sorted((dataset / YOUTUBE).glob("*.mp4"))
    shutil.copy(originals[0], dataset / YOUTUBE / "999.mp4")  # arrives
    swap, gone = sorted((dataset / SWAPS).glob("*.mp4"))[:2]
    shutil.copy(gone, swap)  # changes
    gone.unlink()  # vanishes
    assert reprocess(configure(dataset, out))["videos_changed"] == 2
    second = contents(out)
    difference = read_difference(out)
    assert difference is not None
    assert (difference.since, difference.totals, difference.num_vanished) == (1, {"added": 1, "changed": 1}, 1)
    assert [one.video_id for one in difference.listed] == ["ffpp/youtube/c23/999", f"ffpp/FaceSwap/c23/{swap.stem}"]
    assert json.loads((out / "report.json").read_text())["difference"]["since"] == 1
    page = (out / "report.html").read_text()
    assert 'id="changes"' in page
    assert "Since version 1: 1 added, 1 changed on disk." in page
    assert (numbers(out), verify_store(out).problems) == ([1, 2], ())

    assert main(["rollback", str(out)]) == 0
    assert contents(out) == first
    assert verify_store(out).problems == ()
    assert main(["versions", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "1 (current)" in shown
    assert "1 added" in shown
    # The next night does the work again: what was rolled back from may have been wrong.
    assert reprocess(configure(dataset, out))["videos_processed"] == 2
    assert contents(out) == second
    assert (numbers(out), verify_store(out).problems) == ([1, 3], ())


@pytest.mark.long
def test_the_first_night_is_a_run_as_any(out: Path, miniature: Path, tmp_path: Path, configure: Configure) -> None:
    assert reprocess(configure(miniature, tmp_path / "first"))["videos_processed"] == NUM_VIDEOS
    assert contents(tmp_path / "first") == contents(out)


@pytest.mark.long
def test_vanished_videos_go_where_they_are_told_to(out: Path, dataset: Path, configure: Configure) -> None:
    gone = min((dataset / SWAPS).glob("*.mp4"))
    gone.unlink()
    before = files(out)
    assert reprocess(configure(dataset, out))["videos_changed"] == 0
    assert files(out) == before
    done = reprocess(configure(dataset, out, "vanished=drop"))
    assert (done["videos_processed"], done["videos_changed"], done["num_stored"]) == (0, 1, NUM_VIDEOS - 1)
    assert not [key for key in contents(out) if key.startswith(f"ffpp/FaceSwap/c23/{gone.stem}/")]
    assert verify_store(out).problems == ()


@pytest.mark.long
def test_changed_settings_make_the_store_anew_and_the_old_one_comes_back(
    out: Path, miniature: Path, configure: Configure
) -> None:
    first, digest = contents(out), read_index(out).config_digest
    done = reprocess(configure(miniature, out, "frames.count=2"))
    assert (done["videos_processed"], done["num_records"]) == (NUM_VIDEOS, NUM_VIDEOS * 2)
    difference = read_difference(out)
    assert difference is not None
    assert (difference.totals, difference.settings) == ({"remade": NUM_VIDEOS}, ("frames.count: 3 → 2",))
    assert {one.why for one in difference.listed} == {"settings"}
    roll_back(out)
    assert (contents(out), read_index(out).config_digest) == (first, digest)
    assert verify_store(out).problems == ()


@pytest.mark.long
def test_what_another_records_version_made_is_told_and_made_again_on_demand(
    out: Path, miniature: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The store is of today's version, so tomorrow's is made up."""
    first, before = contents(out), files(out)
    tomorrow = {"faceshards": "99.0"}
    for module in ("flows.run.workload", "tasks.process"):
        monkeypatch.setattr(f"{module}.made_with", lambda settings: made_with(settings) | tomorrow)
    assert reprocess(configure(miniature, out, "remake=code"))["videos_processed"] == 0
    assert "Stored videos made with" not in caplog.text
    assert files(out) == before
    tomorrow[RECORDS_VERSION_KEY] = "99"
    assert reprocess(configure(miniature, out))["videos_processed"] == 0
    assert f"Stored videos made with records version {RECORDS_VERSION}: 20." in caplog.text
    assert files(out) == before
    assert reprocess(configure(miniature, out, "remake=code"))["videos_processed"] == NUM_VIDEOS
    difference = read_difference(out)
    assert difference is not None
    assert (difference.totals, difference.other_code) == ({"remade": NUM_VIDEOS}, {})
    assert {one.why for one in difference.listed} == {"code"}
    assert contents(out) == first
    assert reprocess(configure(miniature, out, "remake=code"))["videos_processed"] == 0


@pytest.mark.long
def test_much_that_no_longer_counts_is_left_behind(out: Path, dataset: Path, configure: Configure) -> None:
    """Half of a shard changes: the other half moves into a new one, byte for byte, and is no difference."""
    first = contents(out)
    shard = read_index(out).shards[0]
    rows = [row for row in read_table(out / "videos.parquet") if row.shard == shard.name and row.entry]
    fakes = [row for row in rows if row.entry and row.entry.label == "fake"]
    for row, other in islice(pairwise(fakes), shard.num_videos // 2):
        shutil.copy(dataset / other.path, dataset / "copied.mp4")
        (dataset / "copied.mp4").rename(dataset / row.path)
    done = reprocess(configure(dataset, out))
    assert done["videos_changed"] == done["videos_processed"] == shard.num_videos // 2
    index = read_index(out)
    assert shard.name not in [one.name for one in index.shards]
    assert sum(one.num_superseded_records for one in index.shards) == 0
    changed = {row.video_id for row in fakes[: shard.num_videos // 2]}
    untouched = {key: value for key, value in first.items() if key.rsplit("/", 2)[0] not in changed}
    later = contents(out)
    assert {key: later[key] for key in untouched} == untouched
    assert verify_store(out).problems == ()
    roll_back(out)
    assert contents(out) == first


@pytest.mark.long
def test_an_unmounted_disk_changes_nothing(out: Path, dataset: Path, configure: Configure) -> None:
    before = files(out)
    config = configure(dataset, out, "vanished=drop")
    shutil.rmtree(dataset)
    with pytest.raises(DatasetError, match=str(dataset)):
        reprocess(config)
    dataset.mkdir()  # the mount point is there, the disk is not
    with pytest.raises(DatasetError, match=str(dataset)):
        reprocess(config)
    assert files(out) == before


@pytest.mark.long
def test_a_night_that_was_interrupted_is_told_by_the_next(
    out: Path, dataset: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the shards were written: the difference is that of both runs together."""
    import flows.preprocess

    shutil.copy(min((dataset / YOUTUBE).glob("*.mp4")), dataset / YOUTUBE / "999.mp4")
    with monkeypatch.context() as patched:
        patched.setattr(flows.preprocess, "compact_sparse", lambda *_: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            preprocess_ffpp(configure(dataset, out))
    assert not read_index(out).complete
    done = reprocess(configure(dataset, out))
    assert (done["videos_processed"], done["videos_changed"]) == (0, 1)
    difference = read_difference(out)
    assert difference is not None
    assert difference.totals == {"added": 1}
    assert (numbers(out), verify_store(out).problems) == ([1, 2], ())


# A store that version 0.1.0 made is completed by its plain command.


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A copy of the store and its dataset, in folders `store` and `dataset`."""
    return Path(shutil.copytree(MADE, tmp_path / "made"))


def plain(made: Path, *assignments: str) -> Any:
    """The configuration of the plain command, without the settings that the store was made with."""
    base = {"dataset": {"name": "ffpp", "root": made / "dataset"}, "out": made / "store"}
    return load_config(None, ["runner.workers=1", *assignments], base)


def forget(made: Path, section: str, setting: str) -> None:
    """Take a setting out of the store's configuration, as if it had been made before the setting existed."""
    path = made / "store" / "index.json"
    index = json.loads(path.read_text())
    del index["config"][section][setting]
    path.write_text(json.dumps(index))


def arrive(made: Path) -> None:
    shutil.copy(made / "arrives_later/001_000.mp4", made / "dataset" / FAKES)


def test_a_store_of_version_0_1_0_opens_verifies_and_has_nothing_to_do(made: Path) -> None:
    out = made / "store"
    assert verify_store(out).problems == ()
    with RecordStore(out) as store:
        assert len(store) == 9
    first = contents(out)
    # A checkout gives the videos other times of modification: the table is written again, no record is.
    done = preprocess_ffpp(plain(made))
    assert (done["videos_processed"], done["videos_changed"]) == (0, 0)
    assert (contents(out), read_index(out).config_digest) == (first, DIGEST)
    before = files(out)
    assert preprocess_ffpp(plain(made))["videos_processed"] == 0
    assert files(out) == before


@pytest.mark.parametrize("newer", [None, ("encode", "quality")], ids=["as made", "a setting is newer than the store"])
def test_a_late_video_joins_a_store_of_version_0_1_0(made: Path, newer: tuple[str, str] | None) -> None:
    out = made / "store"
    if newer:
        forget(made, *newer)
    first, recorded = contents(out), read_index(out).config
    arrive(made)
    done = preprocess_ffpp(plain(made))
    assert (done["videos_processed"], done["videos_changed"], done["num_stored"]) == (1, 1, 4)
    later = contents(out)
    assert {key: later[key] for key in first} == first
    assert [key.rsplit("/", 2)[0] for key in later.keys() - first.keys()] == [LATE] * 3
    index = read_index(out)
    assert (index.config_digest, index.config) == (DIGEST, recorded)
    with RecordStore(out) as store:
        assert {(record.config_digest, record.crops.shape) for record in store} == {(DIGEST, (1, 64, 64, 3))}
    assert "count: 3\n" in (out / "config.yaml").read_text()
    assert verify_store(out).problems == ()
    assert numbers(out) == [1, 2]
    roll_back(out)
    assert contents(out) == first


def test_another_value_than_the_stores_is_refused_by_name(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["preprocess", "ffpp", str(made / "dataset"), "--out", str(made / "store"), "--set", "crop.size_px=96"]
    assert main(words) == 2
    complaint = capsys.readouterr().err
    assert "(stored → asked for):\n  crop.size_px: 64 → 96\nexpected the same" in complaint
    assert "frames.count" not in complaint
