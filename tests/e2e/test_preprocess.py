"""The main job, whole: a dataset on disk becomes a store, once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.preprocess import UNLESS_DONE, preprocess_ffpp
from manifests.errors import NothingStored, StoreBusy, StoreChanged
from manifests.videos_table import read_table
from storage.files.layout import lock_store
from storage.format.encoding import encode_record
from storage.index import read_index
from storage.shard import ShardReader
from storage.store import RecordStore
from storage.verify import verify_store
from tests.helpers.deployed import Server
from tests.helpers.plugins import NAME, VERSION
from tests.helpers.processes import QUICK, children_of, command_line, is_alive, setting_words, wait_for
from tests.helpers.toys import FAMILIES, install_toys

pytestmark = [pytest.mark.e2e, pytest.mark.usefixtures("prefect_server")]

Configure = Callable[..., Any]
NUM_VIDEOS = 20
YOUTUBE = "original_sequences/youtube/c23/videos"
SERVER_SECONDS = 60  # the server stores task runs a moment after they end
SHARDS = ["train-00000.lmdb", "train-00001.lmdb", "val-00000.lmdb", "val-00001.lmdb"]
FIRST = {
    "index": ("Completed", None, []),
    "probe": ("Completed", None, ["index"]),
    "split-and-audit": ("Completed", None, ["probe"]),
}


def contents(store_dir: Path) -> dict[str, bytes]:
    """Every record's bytes by its key."""
    with RecordStore(store_dir) as store:
        return {record.key: encode_record(record) for record in store}


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Modification time and size of every file but the lock."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in files}


def fates(store_dir: Path) -> dict[str, str]:
    """What became of each indexed file: `stored`, or the reason of its rejection."""
    return {row.video_id: str(row.reason or row.status) for row in read_table(store_dir / "videos.parquet")}


def test_every_video_is_stored_and_the_store_proves_itself(finished: tuple[Path, dict[str, Any]]) -> None:
    out, totals = finished
    assert totals["videos_processed"] == NUM_VIDEOS
    assert set(fates(out).values()) == {"stored"}
    report = verify_store(out)
    assert report.problems == ()
    assert report.num_records == NUM_VIDEOS * 3
    names = {"index.json", "videos.parquet", "records.parquet", "report.json", "report.html", "config.yaml"}
    assert {path.name for path in out.iterdir()} == names | {"ignored.json", "shards", "versions", ".lock"}
    assert sorted(path.name for path in (out / "shards").iterdir()) == [
        "train-00000.lmdb",
        "train-00001.lmdb",
        "val-00000.lmdb",
        "val-00001.lmdb",
    ]


def test_records_say_what_they_are(finished: tuple[Path, dict[str, Any]]) -> None:
    out, _ = finished
    with RecordStore(out) as store:
        groups = {record.group_id: record.split for record in store}
        for record in store:
            assert record.crops.shape == (1, 64, 64, 3)
            assert record.label == (0 if record.manipulation is None else 1)
            assert record.split == groups[record.group_id]
            assert record.config_digest == read_index(out).config_digest
            if record.label == 1:
                assert record.masks is not None
                assert record.masks.max() > 200
            else:
                assert record.masks is None
            left_eye, right_eye, *_ = record.landmarks[0]
            assert 10 < left_eye[0] < 32 < right_eye[0] < 54
    assert sorted(groups.values()) == ["train", "val"]


def test_the_report_tells_the_same_story(finished: tuple[Path, dict[str, Any]]) -> None:
    out, _ = finished
    report = json.loads((out / "report.json").read_text())
    assert report["totals"]["num_indexed"] == report["totals"]["num_stored"] == NUM_VIDEOS
    page = (out / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= NUM_VIDEOS * 3


def test_a_second_run_has_nothing_to_do_and_writes_nothing(
    finished: tuple[Path, dict[str, Any]], miniature: Path, configure: Configure
) -> None:
    out, _ = finished
    before = snapshot(out)
    assert preprocess_ffpp(configure(miniature, out))["videos_processed"] == 0
    assert snapshot(out) == before


def test_another_configuration_is_refused_and_the_difference_shown(
    finished: tuple[Path, dict[str, Any]], miniature: Path, configure: Configure
) -> None:
    out, _ = finished
    with pytest.raises(StoreChanged, match=r"frames\.count: 3 → 4") as refusal:
        preprocess_ffpp(configure(miniature, out, "frames.count=4"))
    assert "--reprocess" in str(refusal.value)
    # What changes no record may differ.
    assert preprocess_ffpp(configure(miniature, out, "decode.timeout_s=99"))["videos_processed"] == 0


def test_a_store_takes_one_run_at_a_time(dataset: Path, tmp_path: Path, configure: Configure) -> None:
    out = tmp_path / "store"
    with lock_store(out), pytest.raises(StoreBusy, match=str(os.getpid())):
        preprocess_ffpp(configure(dataset, out))


def test_bad_input_costs_itself_and_nothing_else(
    dataset: Path,
    tmp_path: Path,
    make_video: Callable[..., Path],
    make_audio: Callable[[Path], Path],
    configure: Configure,
) -> None:
    videos = dataset / YOUTUBE
    whole = make_video(tmp_path / "whole.mp4", 60).read_bytes()
    (videos / "900.mp4").touch()
    (videos / "901.mp4").write_text("a text with a video's name")
    (videos / "902.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    make_audio(videos / "903.mp4")
    make_video(videos / "904.mp4", 30)
    damaged = bytearray(whole)
    damaged[len(damaged) // 2 : len(damaged) * 3 // 4] = bytes(len(damaged) * 3 // 4 - len(damaged) // 2)
    (videos / "905.mp4").write_bytes(damaged)
    (videos / "notes.mp4").write_bytes(whole)
    (videos / "906.png").touch()
    out = tmp_path / "store"
    assert preprocess_ffpp(configure(dataset, out))["num_stored"] == NUM_VIDEOS
    found = {video_id: fate for video_id, fate in fates(out).items() if fate != "stored"}
    assert found == {
        "ffpp/youtube/c23/900": "empty_file",
        "ffpp/youtube/c23/901": "not_a_video",
        "ffpp/youtube/c23/902": "truncated",
        "ffpp/youtube/c23/903": "no_video_stream",
        "ffpp/youtube/c23/904": "no_face",
        "ffpp/youtube/c23/905": "decode_error",
        f"{YOUTUBE}/notes.mp4": "unrecognised_name",
    }
    assert verify_store(out).problems == ()
    report = json.loads((out / "report.json").read_text())
    picture = {"path": f"{YOUTUBE}/906.png", "reason": "picture", "num_files": 1, "names": []}
    assert [item for item in report["ignored"] if item["reason"] != "auxiliary"] == [picture]
    totals = report["totals"]
    assert (totals["num_indexed"], totals["num_stored"], totals["num_rejected"]) == (NUM_VIDEOS + 7, NUM_VIDEOS, 7)
    # Rejections are final until something changes: the next run tries none of them again.
    assert preprocess_ffpp(configure(dataset, out))["videos_processed"] == 0


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT], ids=["kill -9", "Ctrl-C"])
def test_a_run_that_is_ended_in_the_middle_is_completed_by_the_next(
    finished: tuple[Path, dict[str, Any]],
    miniature: Path,
    tmp_path: Path,
    prefect_server: str,
    configure: Configure,
    how: signal.Signals,
) -> None:
    out, shards = tmp_path / "store", tmp_path / "store" / "shards"
    words = ["preprocess", "ffpp", str(miniature), "--out", str(out), *setting_words(*QUICK, "shard.videos=2")]
    with command_line(*words, environment=os.environ | {"PREFECT_API_URL": prefect_server}) as run:
        wait_for(lambda: len(list(shards.glob("[!.]*.lmdb"))) >= 2 and list(shards.glob(".partial-*")), 90)
        workers = children_of(run.pid)
        assert len(workers) >= 2
        os.killpg(run.pid, how) if how == signal.SIGINT else run.kill()
        told, _ = run.communicate(timeout=60)
        wait_for(lambda: not any(map(is_alive, workers)), 90)
    if how == signal.SIGINT:
        assert run.returncode == 130
        assert "interrupted; run the same command again to resume" in told
        assert "Traceback" not in told
    num_done = len(list(shards.glob("[!.]*.lmdb")))
    assert 2 <= num_done < NUM_VIDEOS // 2
    assert not (out / "index.json").exists() or not read_index(out).complete

    totals = preprocess_ffpp(configure(miniature, out, "shard.videos=2"))
    assert totals["videos_processed"] == NUM_VIDEOS - 2 * num_done
    assert contents(out) == contents(finished[0])
    assert verify_store(out).problems == ()
    assert not list(shards.glob(".partial-*"))


@pytest.mark.long
def test_a_decoder_that_does_not_answer_is_ended_and_tried_again_next_time(
    dataset: Path, tmp_path: Path, configure: Configure
) -> None:
    """With a limit of a millisecond every decoder hangs; the kernel ends each worker, and the run goes on."""
    out = tmp_path / "store"
    shutil.rmtree(dataset / "manipulated_sequences")
    with pytest.raises(NothingStored, match="got no video that can be stored"):
        preprocess_ffpp(configure(dataset, out, "decode.timeout_s=0.001"))
    assert len(fates(out)) == 4
    assert set(fates(out).values()) == {"decode_timeout"}
    assert preprocess_ffpp(configure(dataset, out))["videos_processed"] == 4
    assert set(fates(out).values()) == {"stored"}
    assert verify_store(out).problems == ()


def test_what_arrives_changes_or_vanishes_later(
    finished: tuple[Path, dict[str, Any]], dataset: Path, tmp_path: Path, configure: Configure
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "store"))
    first = contents(out)
    splits = {row.video_id: row.entry.split for row in read_table(out / "videos.parquet") if row.entry}
    originals = sorted((dataset / YOUTUBE).glob("*.mp4"))
    shutil.copy(originals[0], dataset / YOUTUBE / "999.mp4")  # arrives
    changed = f"ffpp/youtube/c23/{originals[0].stem}"
    shutil.copy(originals[1], originals[0])  # changes
    gone = next(iter((dataset / "manipulated_sequences/FaceSwap/c23/videos").glob("*.mp4")))
    gone.unlink()

    assert preprocess_ffpp(configure(dataset, out))["videos_processed"] == 2
    later = contents(out)
    assert verify_store(out).problems == ()
    new_keys = [key for key in later if key.startswith("ffpp/youtube/c23/999/")]
    assert len(new_keys) == 3
    untouched = {key: value for key, value in first.items() if not key.startswith(f"{changed}/")}
    assert {key: later[key] for key in untouched} == untouched
    changed_keys = [key for key in later if key.startswith(f"{changed}/")]
    assert len(changed_keys) == 3
    assert all(later[key] != first.get(key) for key in changed_keys)
    rows = {row.video_id: row for row in read_table(out / "videos.parquet")}
    assert {video_id: rows[video_id].entry.split for video_id in splits} == splits  # type: ignore[union-attr]
    assert rows[f"ffpp/FaceSwap/c23/{gone.stem}"].status == "stored"


@pytest.mark.long
def test_a_vanished_video_still_binds_its_group(
    finished: tuple[Path, dict[str, Any]], dataset: Path, tmp_path: Path, configure: Configure
) -> None:
    """All of a group is unmounted, and a new fake of it arrives: it must not land in another split."""
    out = Path(shutil.copytree(finished[0], tmp_path / "store"))
    groups = {row.entry.group_id: row.entry.split for row in read_table(out / "videos.parquet") if row.entry}
    val_group = next(group_id for group_id, split in groups.items() if split == "val")
    first = int(val_group.rpartition("/")[2])
    fakes = dataset / "manipulated_sequences/FaceSwap/c40/videos"
    fakes.mkdir(parents=True)
    name = f"{first:03d}_{first + 1:03d}.mp4"
    shutil.copy(dataset / "manipulated_sequences/FaceSwap/c23/videos" / name, fakes / "new.mp4")
    for path in dataset.rglob("c23/videos/*.mp4"):
        if f"{first:03d}" in path.stem or f"{first + 1:03d}" in path.stem:
            path.unlink()
    (fakes / "new.mp4").rename(fakes / name)
    assert preprocess_ffpp(configure(dataset, out))["videos_processed"] == 1
    rows = {row.video_id: row for row in read_table(out / "videos.parquet")}
    arrived = rows[f"ffpp/FaceSwap/c40/{first:03d}_{first + 1:03d}"].entry
    assert arrived is not None
    assert (arrived.group_id, arrived.split) == (val_group, "val")
    assert verify_store(out).problems == ()


@pytest.mark.long
def test_a_file_that_breaks_later_takes_its_records_along(
    finished: tuple[Path, dict[str, Any]], dataset: Path, tmp_path: Path, configure: Configure
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "store"))
    broken = min((dataset / YOUTUBE).glob("*.mp4"))
    broken.write_text("no longer a video")
    totals = preprocess_ffpp(configure(dataset, out))
    assert (totals["videos_processed"], totals["num_stored"], totals["num_rejected"]) == (0, NUM_VIDEOS - 1, 1)
    assert not [key for key in contents(out) if key.startswith(f"ffpp/youtube/c23/{broken.stem}/")]
    assert verify_store(out).problems == ()


@pytest.mark.long
def test_reprocess_makes_the_store_anew(
    finished: tuple[Path, dict[str, Any]], miniature: Path, tmp_path: Path, configure: Configure
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "store"))
    old = {path.name for path in (out / "shards").iterdir()}
    totals = preprocess_ffpp(configure(miniature, out, "frames.count=2", "reprocess=true", "versions.keep=1"))
    assert totals["videos_processed"] == NUM_VIDEOS
    with RecordStore(out) as store:
        assert len(store) == NUM_VIDEOS * 2
    assert not old & {path.name for path in (out / "shards").iterdir()}
    assert verify_store(out).problems == ()
    # The new settings are the store's own now.
    assert preprocess_ffpp(configure(miniature, out, "frames.count=2"))["videos_processed"] == 0


@pytest.mark.long
def test_a_shard_that_was_deleted_is_made_again(
    finished: tuple[Path, dict[str, Any]], miniature: Path, tmp_path: Path, configure: Configure
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "store"))
    (out / "shards" / "val-00001.lmdb").unlink()
    assert preprocess_ffpp(configure(miniature, out))["videos_processed"] == 2
    assert contents(out) == contents(finished[0])
    assert verify_store(out).problems == ()


@pytest.mark.long
@pytest.mark.samples
def test_the_real_clips(samples_dir: Path, tmp_path: Path, configure: Configure) -> None:
    """Four real clips: every frame shows the speaker, whose eyes lie where a speaker's eyes lie in a face crop."""
    out = tmp_path / "store"
    config = configure(samples_dir / "ffpp_c23", out, "frames.count=5", "crop.size_px=224", "split.ratios=[1, 0, 0]")
    assert preprocess_ffpp(config)["num_stored"] == 4
    assert verify_store(out).problems == ()
    with RecordStore(out) as store:
        assert len(store) == 20
        for record in store:
            left_eye, right_eye, nose, *_ = record.landmarks[0]
            assert 50 < left_eye[0] < nose[0] < right_eye[0] < 174, record.key
            assert 60 < min(left_eye[1], right_eye[1]) < nose[1] < 164, record.key
            assert record.scores[0] > 0.95
            # A speaker in front of a camera stays in his half of the picture: no jump to a face elsewhere.
            assert not record.interpolated[0]


def test_toys_of_every_family_at_once(
    miniature: Path, tmp_path: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lab's own decoder, detector, landmarker and aligner, from a distribution of its own, make a store."""
    grey, delay_s, score, shift_px = 77, 1000.0, 0.25, 3.0
    install_toys(tmp_path / "site", monkeypatch)
    (tmp_path / "grey").write_text(str(grey))
    options = (
        f"decode.options.delay_s={delay_s}",
        f"detect.options.score={score}",
        f"landmark.options.shift_px={shift_px}",
        f"crop.options.tint={tmp_path / 'grey'}",
    )
    config = configure(
        *(miniature, tmp_path / "store", "encode.image_format=png"), *(f"{name}=toy" for name in FAMILIES), *options
    )
    assert preprocess_ffpp(config)["num_stored"] == 20
    with RecordStore(tmp_path / "store") as store:
        records = list(store)
    assert len(records) == 60
    for record in records:
        assert (record.crops == grey).all()
        assert record.pts_seconds.min() >= delay_s
        assert record.scores == pytest.approx([score])
        scale = record.matrices[0][0, 0]
        left_top = record.matrices[0] @ [*record.boxes_xyxy[0][:2], 1.0]
        assert np.allclose(record.landmarks[0][0] - left_top, shift_px * scale, atol=0.01)
    index = read_index(tmp_path / "store")
    assert index.config["detect"]["options"] == {"score": score}
    for shard in index.shards:
        with ShardReader(tmp_path / "store" / "shards" / shard.name) as reader:
            assert reader.meta.made_with[NAME] == VERSION
    # The plain command finds nothing to do: the store keeps its toys and their settings.
    plain = configure(miniature, tmp_path / "store", "encode.image_format=png")
    assert preprocess_ffpp(plain)["videos_processed"] == 0


def graph_of(server: Server, name: str, num_nodes: int) -> dict[str, tuple[str, str | None, list[str]]]:
    """Return the nodes of the first run of this name: label → state, message of the state, labels before it."""
    body = {"flow_runs": {"name": {"like_": name}}, "sort": "START_TIME_ASC", "limit": 1}
    (run,) = server.ask("POST", "/flow_runs/filter", body)

    def ended() -> dict[str, Any]:
        of_run = {"flow_runs": {"id": {"any_": [run["id"]]}}}
        found = {row["id"]: row["state"] for row in server.ask("POST", "/task_runs/filter", of_run) if row["end_time"]}
        return found if len(found) == num_nodes else {}

    states = wait_for(ended, SERVER_SECONDS)
    nodes = {node["id"]: node for _, node in server.ask("GET", f"/flow_runs/{run['id']}/graph-v2")["nodes"]}
    return {
        node["label"]: (
            states[name]["name"],
            states[name]["message"] or None,
            sorted({nodes[edge["id"]]["label"] for edge in node["parents"]}),
        )
        for name, node in nodes.items()
    }


def test_the_graph_is_the_pipeline(server: Server, finished: tuple[Path, dict[str, Any]]) -> None:
    assert graph_of(server, f"%-{finished[0].name}-v1", 12) == {
        **FIRST,
        "plan": ("Completed", None, ["split-and-audit"]),
        **dict.fromkeys(SHARDS, ("Completed", None, ["plan"])),
        "compact: skipped": ("Skipped", "in no shard more than 30% of the records are superseded", SHARDS),
        "tables": ("Completed", None, ["compact: skipped"]),
        "report": ("Completed", None, ["tables"]),
        "keep": ("Completed", None, ["report"]),
    }


def test_needless_steps_are_skipped_and_a_refusal_is_that_of_its_step(
    server: Server,
    finished: tuple[Path, dict[str, Any]],
    miniature: Path,
    tmp_path: Path,
    configure: Configure,
) -> None:
    out = Path(shutil.copytree(finished[0], tmp_path / "graphed"))
    preprocess_ffpp(configure(miniature, out))
    names = [f"{name}: skipped" for name in UNLESS_DONE]
    befores = [["split-and-audit"], *([name] for name in names)]
    skipped = [("Skipped", "the store is up to date", before) for before in befores]
    assert graph_of(server, "%-graphed-v2", 9) == FIRST | dict(zip(names, skipped, strict=False))

    refused = Path(shutil.copytree(finished[0], tmp_path / "refused"))
    with pytest.raises(StoreChanged) as refusal:
        preprocess_ffpp(configure(miniature, refused, "frames.count=4"))
    message = f"Task run encountered an exception StoreChanged: {refusal.value}"
    assert graph_of(server, "%-refused-v2", 1) == {"index": ("Failed", message, [])}
