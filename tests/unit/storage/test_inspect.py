"""Looking at a store: verification finds what was broken on purpose, and the command line shows what is there."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.errors import StoreMissing
from storage import verify as verify_module
from storage.format.encoding import encode_record
from storage.format.images import encode_gray, encode_rgb
from storage.format.record import Record
from storage.index import StoreIndex, read_index, write_index
from storage.inspect import main
from storage.records_table import write_records_table
from storage.shard import ShardWriter
from storage.verify import verify_store

SIZE_PX = 20
REAL, FAKE = "ffpp/youtube/c23/010", "ffpp/FaceSwap/c23/004_982"

# What the store holds: three shards, six records, four masks, a clip among them.
CONTENTS: dict[tuple[str, int], list[tuple[str, dict[str, Any]]]] = {
    ("train", 0): [(FAKE, {"frame": 0}), (FAKE, {"frame": 5}), (REAL, {"frame": 0})],
    ("train", 1): [("ffpp/youtube/c23/011", {"frame": 3, "image_format": "jpeg"})],
    ("test", 0): [("ffpp/FaceSwap/c23/7_8", {"frame": 2, "num_frames": 2}), ("ffpp/youtube/c23/9", {"frame": 1})],
}
NUM_RECORDS, NUM_IMAGES = 6, 7 + 4
STORED = {FAKE: 2, REAL: 1, "ffpp/youtube/c23/011": 1, "ffpp/FaceSwap/c23/7_8": 1, "ffpp/youtube/c23/9": 1}


def make_record(video_id: str, shard_split: str, *, frame: int, num_frames: int = 1, **changes: Any) -> Record:
    """Consecutive frames: each crop of one colour, with a mask if it is fake."""
    name = video_id.rpartition("/")[2]
    target, _, source = name.partition("_")
    image_format = changes.pop("image_format", "png")
    crops = [np.full((SIZE_PX, SIZE_PX, 3), (frame + row, 100, 200), np.uint8) for row in range(num_frames)]
    values: dict[str, Any] = {
        **{"key": f"{video_id}/00/{frame:06d}", "video_id": video_id, "dataset": "ffpp", "compression": "c23"},
        **{"manipulation": "FaceSwap" if source else None, "label": int(bool(source)), "split": shard_split},
        **{"target_id": target, "source_id": source or None, "group_id": f"ffpp/{name}", "track_id": 0},
        "crops_encoded": tuple(encode_rgb(crop, image_format, 95) for crop in crops),
        "masks_encoded": tuple(encode_gray(crop[..., 0]) for crop in crops) if source else None,
        "boxes_xyxy": np.full((num_frames, 4), 1.5, np.float32),
        "landmarks": np.zeros((num_frames, 5, 2), np.float32),
        "matrices": np.zeros((num_frames, 2, 3), np.float64),
        "frame_indices": np.arange(frame, frame + num_frames, dtype=np.int64),
        "pts_seconds": np.arange(frame, frame + num_frames) / 25,
        "scores": np.ones(num_frames, np.float32),
        "interpolated": np.zeros(num_frames, np.bool_),
        **{"content_digest": "c0" * 32, "config_digest": "d1" * 32},
    }
    return Record(**(values | changes))


def write_shard(store_dir: Path, split: str, number: int, items: list[tuple[str, bytes]], videos: set[str]) -> None:
    """Write a shard over whatever has its name, and list it."""
    with ShardWriter(store_dir / "shards", split, number, "d1" * 32) as writer:
        for key, value in items:
            writer.put(key, value)
        entry = writer.finish([{"video_id": video, "content_digest": ""} for video in sorted(videos)], {})
    index = read_index(store_dir)
    others = tuple(shard for shard in index.shards if shard.name != entry.name)
    write_index(store_dir, replace(index, shards=(*others, entry)))


def write_videos(store_dir: Path, stored: dict[str, int], **others: str) -> None:
    """Write the columns of `videos.parquet` that storage reads."""
    ids, counts = [*stored, *others], [*stored.values(), *(0 for _ in others)]
    statuses = [*("stored" for _ in stored), *others.values()]
    pq.write_table(pa.table({"video_id": ids, "status": statuses, "num_records": counts}), store_dir / "videos.parquet")


@pytest.fixture(scope="module")
def intact_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with its tables."""
    path = tmp_path_factory.mktemp("store")
    values: dict[str, Any] = {"faceshards_version": "0.1.0", "config_digest": "d1" * 32, "config": {"size": SIZE_PX}}
    write_index(path, StoreIndex(complete=True, shards=(), **values))
    for (split, number), contents in CONTENTS.items():
        records = [make_record(video_id, split, **options) for video_id, options in contents]
        items = [(record.key, encode_record(record)) for record in records]
        write_shard(path, split, number, items, {video_id for video_id, _ in contents})
    write_records_table(path)
    write_videos(path, STORED, rejected_one="rejected")
    return path


@pytest.fixture
def store_dir(intact_store: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(intact_store, tmp_path / "store"))


def shard_path(store_dir: Path, name: str = "train-00000.lmdb") -> Path:
    return store_dir / "shards" / name


def test_an_intact_store_is_as_promised(store_dir: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = verify_store(store_dir, lambda done, total: calls.append((done, total)))
    assert (report.problems, report.ok) == ((), True)
    assert (report.num_shards, report.num_records, report.num_images) == (3, NUM_RECORDS, NUM_IMAGES)
    assert calls == [(done, NUM_RECORDS) for done in range(1, NUM_RECORDS + 1)]


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: os.truncate(path, 8192), r"got 8192 bytes, expected \d+; copy it again"),
        (lambda path: os.truncate(path, 0), "got 0 bytes, expected"),
        (flip_a_byte, "got SHA-256 [0-9a-f]{64}, expected [0-9a-f]{64}"),
        (lambda path: path.unlink(), "got No such file or directory, expected a file of"),
        (lambda path: path.write_bytes(pickle.dumps("x" * (path.stat().st_size - 29))), "got (SHA-256|\\d+ bytes)"),
    ],
)  # fmt: skip
def test_a_damaged_shard_is_one_problem_and_no_crash(
    store_dir: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(shard_path(store_dir))
    report = verify_store(store_dir)
    (problem,) = report.problems
    assert problem.startswith("shard train-00000.lmdb: ")
    assert re.search(message, problem)
    assert (report.ok, report.num_shards, report.num_records) == (False, 2, 3)


def rewritten(store_dir: Path, value: bytes | Record, key: str | None = None, split: str = "train") -> tuple[str, ...]:
    """Problems of the store after a shard of one record has been put in place of train-00001 by a defective writer."""
    data = value if isinstance(value, bytes) else encode_record(value)
    key = key or (value.key if isinstance(value, Record) else "ffpp/youtube/c23/011/00/000003")
    write_shard(store_dir, split, 1, [(key, data)], {key.rsplit("/", 2)[0]})
    for table in ("videos.parquet", "records.parquet"):
        (store_dir / table).unlink()
    return verify_store(store_dir).problems


def one(**changes: Any) -> Record:
    return make_record("ffpp/youtube/c23/011", "train", frame=3, **changes)


SMALL = encode_rgb(np.zeros((8, 8, 3), np.uint8), "png", 95)
OBLONG = encode_rgb(np.zeros((SIZE_PX, 8, 3), np.uint8), "png", 95)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pickle.dumps(["a", "payload"]), "got first bytes .*expected b'FSR1'"),
        (encode_record(one())[:-1], "got CRC-32"),
        (one(crops_encoded=(b"no image",)), "image: got 8 bytes that start with b'no image'"),
        (one(masks_encoded=(SMALL,)), r"image: got uint8 of shape \(8, 8, 3\), expected \(S, S\) uint8"),
        (one(crops_encoded=(SMALL,)), "image 0: got 8×8 pixels, expected 20×20"),
        (one(crops_encoded=(OBLONG,)), "image 0: got 20×8 pixels, expected 20×20"),
        (one(masks_encoded=(encode_gray(np.zeros((8, 8), np.uint8)),)), "image 1: got 8×8 pixels"),
        (one(split="val"), "split: got 'val', expected 'train'"),
        (one(label=1), "label: got 1, expected 0"),
        (one(config_digest="e2"), "config_digest: got 'e2', expected 'd1"),
        (one(track_id=3), "video, person and first frame: got 'ffpp/youtube/c23/011/03/000003'"),
    ],
)
def test_a_defective_record_is_named(store_dir: Path, value: bytes | Record, message: str) -> None:
    (problem,) = rewritten(store_dir, value)
    assert "ffpp/youtube/c23/011/00/000003" in problem
    assert re.search(message, problem), problem


def test_a_group_in_two_splits_is_named(store_dir: Path) -> None:
    (problem,) = rewritten(store_dir, one(group_id="ffpp/7_8"))
    assert "split of leakage group ffpp/7_8: got 'test', expected 'train'" in problem


@pytest.mark.parametrize(
    "told",
    [
        {"config": {"split": {"policy": "official"}}},
        {"config": {"split": {"policy": "video"}}},
        {"leakage_allowed": True},
    ],
)
def test_a_group_in_two_splits_is_no_fault_where_no_promise_was_made(store_dir: Path, told: dict[str, Any]) -> None:
    write_index(store_dir, replace(read_index(store_dir), **told))
    assert rewritten(store_dir, one(group_id="ffpp/7_8")) == ()


def test_a_video_in_two_shards_is_named(store_dir: Path) -> None:
    problems = rewritten(store_dir, make_record(REAL, "train", frame=0))
    assert problems == (
        f"record {REAL}/00/000000, the only shard of its video: got 'train-00001.lmdb', expected 'train-00000.lmdb'",
    )


def test_a_video_without_outcome_is_named(store_dir: Path) -> None:
    record = one()
    write_shard(store_dir, "train", 1, [(record.key, encode_record(record))], {"another"})
    (problem,) = verify_store(store_dir).problems
    assert problem.endswith("got a video without an outcome in train-00001.lmdb, expected one for each video")


def test_superseded_records_are_not_counted(store_dir: Path) -> None:
    index = read_index(store_dir)
    shards = tuple(shard.supersede({FAKE: 2}) if shard.name == "train-00000.lmdb" else shard for shard in index.shards)
    write_index(store_dir, replace(index, shards=shards))
    write_records_table(store_dir)
    write_videos(store_dir, {video: count for video, count in STORED.items() if video != FAKE})
    report = verify_store(store_dir)
    assert report.problems == ()
    assert report.num_records == NUM_RECORDS - 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"num_records": 4}, "num_records: got 3 in the shard, expected 4 as in the index"),
        ({"num_records": 4}, "shard train-00000.lmdb: got 3 records, expected 4 as in the index"),
        ({"num_videos": 9}, "videos: got 2 in the shard, expected 9"),
        ({"config_digest": "e2"}, "config_digest: got 'd1d1"),
        ({"records_sha256": "0" * 64}, "in the shard, expected '000"),
        ({"num_superseded_records": 1}, "got 3 records that count, expected 2 as in the index"),
    ],
)
def test_an_index_that_says_otherwise_is_named(store_dir: Path, changes: dict[str, Any], expected: str) -> None:
    index = read_index(store_dir)
    shards = tuple(replace(shard, **changes) if shard.name == "train-00000.lmdb" else shard for shard in index.shards)
    write_index(store_dir, replace(index, shards=shards))
    problems = verify_store(store_dir).problems
    assert any(expected in problem for problem in problems), problems


def test_stray_files_are_named(store_dir: Path) -> None:
    for name in ("train-00007.lmdb", ".partial-train-00008-4.lmdb", "notes.txt"):
        shard_path(store_dir, name).write_bytes(b"")
    assert [problem.partition(", expected")[0] for problem in verify_store(store_dir).problems] == [
        "shards/.partial-train-00008-4.lmdb: got a file left by a run that was killed",
        "shards/notes.txt: got a file not in the index",
        "shards/train-00007.lmdb: got a file not in the index",
    ]


def test_an_interrupted_store_says_so_and_may_have_pending_videos(store_dir: Path) -> None:
    write_videos(store_dir, STORED, waiting="pending")
    (problem,) = verify_store(store_dir).problems
    assert problem == "videos.parquet, waiting: got status 'pending', expected one of ['stored', 'rejected']"
    write_index(store_dir, replace(read_index(store_dir), complete=False))
    (problem,) = verify_store(store_dir).problems
    assert problem.startswith("index.json: got a store whose last run did not finish")


def test_tables_that_count_otherwise_are_named(store_dir: Path) -> None:
    write_videos(store_dir, STORED | {REAL: 7, "ffpp/ghost": 1})
    table = pq.read_table(store_dir / "records.parquet")
    pq.write_table(table.slice(0, NUM_RECORDS - 1), store_dir / "records.parquet")
    assert set(verify_store(store_dir).problems) == {
        "records.parquet, ffpp/youtube/c23/9: got 0 records in the table, expected 1 as in the shards",
        f"videos.parquet, {REAL}: got 7 records in the table, expected 1 as in the shards",
        "videos.parquet, ffpp/ghost: got 1 records in the table, expected 0 as in the shards",
    }


def test_a_table_with_a_video_twice_is_named(store_dir: Path) -> None:
    columns = {"video_id": [*STORED, "x", "x"], "status": ["stored"] * 5 + ["rejected"] * 2}
    table = pa.table(columns | {"num_records": [*STORED.values(), 0, 0]})
    pq.write_table(table, store_dir / "videos.parquet")
    assert verify_store(store_dir).problems == ("videos.parquet, x: got 2 rows, expected 1",)


@pytest.mark.parametrize("name", ["records.parquet", "videos.parquet"])
def test_a_broken_table_is_named(store_dir: Path, name: str) -> None:
    (store_dir / name).write_bytes(b"PAR1 not really")
    assert f"{name}: got" in "".join(verify_store(store_dir).problems)
    pq.write_table(pa.table({"other": [1]}), store_dir / name)
    assert f"{name}: got" in "".join(verify_store(store_dir).problems)


def test_many_broken_records_are_counted(store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "MAX_PROBLEMS_PER_SHARD", 2)
    items = [(f"ffpp/youtube/c23/011/00/{frame:06d}", b"broken") for frame in range(9)]
    write_shard(store_dir, "train", 1, items, {"ffpp/youtube/c23/011"})
    write_videos(store_dir, STORED | {"ffpp/youtube/c23/011": 9})
    (store_dir / "records.parquet").unlink()
    first, second, rest = verify_store(store_dir).problems
    assert first.startswith("record ffpp/youtube/c23/011/00/000000: got 6 bytes")
    assert second.startswith("record ffpp/youtube/c23/011/00/000001: got 6 bytes")
    assert rest == "shard train-00001.lmdb: got 7 more problems of this kind"


def test_a_broken_index_is_a_problem_and_a_missing_one_an_error(store_dir: Path) -> None:
    (store_dir / "index.json").write_text("{}")
    (problem,) = verify_store(store_dir).problems
    assert "index.json: got" in problem
    (store_dir / "index.json").unlink()
    with pytest.raises(StoreMissing):
        verify_store(store_dir)


def test_summary_says_what_there_is(store_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(store_dir)]) == 0
    out = capsys.readouterr().out
    assert "complete         yes" in out
    assert "records          6 with 7 crops" in out
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert cells == [
        ["train", "real", "2", "2", "2"],
        ["train", "FaceSwap", "1", "2", "2"],
        ["test", "real", "1", "1", "1"],
        ["test", "FaceSwap", "1", "1", "2"],
    ]


def test_summary_says_what_the_splits_are_worth(store_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_index(store_dir, replace(read_index(store_dir), test_datasets=("celeb_df",), leakage_allowed=True))
    assert main([str(store_dir)]) == 0
    out = capsys.readouterr().out
    assert "test only        celeb_df\n" in out
    assert "leakage          allowed by `preprocess --allow-leakage`" in out


@pytest.mark.parametrize("table", ["there", "not there", "of an earlier run"])
def test_summary_as_json_is_the_same_with_and_without_table(
    store_dir: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    if table == "not there":
        (store_dir / "records.parquet").unlink()
    if table == "of an earlier run":
        pq.write_table(pq.read_table(store_dir / "records.parquet").slice(0, 1), store_dir / "records.parquet")
        write_index(store_dir, replace(read_index(store_dir), complete=False))
    assert main([str(store_dir), "--json", "--split", "test"]) == 0
    summary = json.loads(capsys.readouterr().out)
    num_bytes = shard_path(store_dir, "test-00000.lmdb").stat().st_size
    assert summary == {
        **{"store": str(store_dir), "split": "test", "complete": table != "of an earlier run", "format_version": 1},
        **{
            "faceshards_version": "0.1.0",
            "test_datasets": [],
            "leakage_allowed": False,
            "crossing_groups": [],
            "config_digest": "d1" * 32,
            "store_sha256": read_index(store_dir).store_sha256,
        },
        "config": {"size": SIZE_PX},
        "totals": {
            **{"num_shards": 1, "num_bytes": num_bytes, "num_records": 2, "num_superseded": 0, "num_crops": 3},
            "bytes_per_crop": round(num_bytes / 3),
        },
        "rows": [
            {"split": "test", "manipulation": None, "num_videos": 1, "num_records": 1, "num_crops": 1},
            {"split": "test", "manipulation": "FaceSwap", "num_videos": 1, "num_records": 1, "num_crops": 2},
        ],
    }


def test_a_record_is_shown_with_shapes(store_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "ffpp/FaceSwap/c23/7_8/00/000002"
    assert main([str(store_dir), "--key", key]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["key"] == key
    assert lines["frame_indices"] == "(2) int64  [2, 3]"
    assert lines["boxes_xyxy"].startswith("(2, 4) float32  [[1.5")
    assert lines["crops"].startswith("2 × png of 20×20 px, ")
    assert (lines["source_id"], lines["manipulation"]) == ("8", "FaceSwap")
    assert main([str(store_dir), "--key", f"{REAL}/00/000000"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (lines["masks"], lines["manipulation"]) == ("–", "–")

    assert main([str(store_dir), "--json", "--key", key]) == 0
    fields = json.loads(capsys.readouterr().out)
    assert fields["frame_indices"] == {"shape": [2], "dtype": "int64", "values": [2, 3]}
    assert [crop["size_px"] for crop in fields["crops"]] == [[SIZE_PX, SIZE_PX]] * 2
    assert fields["track_id"] == 0


def test_the_start_of_a_key_lists_its_records(store_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(store_dir), "--key", FAKE]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{FAKE}/00/000000", f"{FAKE}/00/000005"]
    assert main([str(store_dir), "--key", "ffpp/youtube/c23/0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"keys": [f"{REAL}/00/000000", "ffpp/youtube/c23/011/00/000003"]}


def test_verification_has_an_exit_status(store_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(store_dir), "--verify"]) == 0
    assert capsys.readouterr().out == f"{store_dir}: 6 records and 11 images in 3 shards: no problems\n"
    flip_a_byte(shard_path(store_dir))
    assert main([str(store_dir), "--verify"]) == 1
    problem, verdict = capsys.readouterr().out.splitlines()
    assert problem.startswith("shard train-00000.lmdb: got SHA-256")
    assert verdict.endswith("3 records and 6 images in 2 shards: 1 problem")
    assert main([str(store_dir), "--verify", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["num_shards"], len(report["problems"])) == (False, 2, 1)


def test_export_takes_one_split(store_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(store_dir), "--split", "test", "--export", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out'}: 2 records\n"
    assert len(list((tmp_path / "out").rglob("*.png"))) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{store}/nowhere"], "got no index.json"),
        (
            ["{store}", "--key", "celeb"],
            "--key: got 'celeb', expected a record's key or the start of one, such as 'ffpp/",
        ),
        (["{store}", "--export", "{store}"], "expected an empty folder or a new one"),
        (
            ["{store}/nowhere", "--export", "x", "--export-as", "zip"],
            "--export-as: got 'zip', expected one of plain_files",
        ),
        (["{store}/nowhere", "--verify", "--json"], "got no index.json"),
    ],
)
def test_mistakes_are_one_line_and_status_2(
    store_dir: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main([argument.format(store=store_dir) for argument in arguments]) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert message in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: OUT"),
        (["OUT", "--split", "dev"], "invalid choice: 'dev'"),
        (["OUT", "--verify", "--key", "k"], "not allowed with argument"),
        (["OUT", "--verify", "--split", "val"], "a store is verified as a whole"),
        (["OUT", "--export-as", "plain_files"], "got it without --export, expected both"),
    ],
)
def test_wrong_options_have_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("options", [[], ["--json"], ["--key", "ffpp"], ["--verify"]])
def test_a_closed_pipe_is_no_error(store_dir: Path, options: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # nobody will ever read
    command = [sys.executable, "-m", "storage.inspect", str(store_dir), *options]
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    run = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    os.close(writing)
    assert (run.returncode, run.stderr) == (0, "")


def test_help_needs_nothing_heavy() -> None:
    program = (
        "import sys\nsys.argv = ['inspect', '--help']\nfrom storage.inspect import main\n"
        "try:\n    main()\nexcept SystemExit:\n    print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "--verify" in run.stdout
    heavy = {"torch", "prefect", "pandas", "cv2", "pyarrow", "rich", "numpy", "lmdb", "pydantic"}
    assert not heavy & set(run.stdout.split())
