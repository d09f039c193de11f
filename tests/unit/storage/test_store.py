"""Reading a store: the right records in the right order, in any process; a table of them all; all of them as files."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from manifests.errors import StoreCorrupt, StoreError, StoreIncomplete, StoreMissing
from storage import store as store_module
from storage.exports.plain_files import PlainFiles
from storage.format.encoding import ARRAY_DTYPES, PREFIX, decode_record, encode_record
from storage.format.images import encode_gray, encode_rgb
from storage.format.record import OPTIONAL_ARRAYS, FoundBy, Record
from storage.index import StoreIndex, read_index, write_index
from storage.records_table import COLUMN_TYPES, write_records_table
from storage.shard import ShardWriter
from storage.store import RecordStore

SIZE_PX = 24
CONFIG_DIGEST = "d1" * 32

# Shards in no particular order, two videos of two frames in each; the fake of 004 and 982 is superseded once.
SHARDS = {
    ("val", 0): ("010", "011"),
    ("train", 2): ("004_982", "020"),
    ("test", 0): ("030",),
    ("train", 10): ("004_982",),
}
OLD, NEW = 0, 1  # what the records of 004_982 show in shard 2 and in shard 10

READ_IN_WORKERS = """
import multiprocessing, os, sys, zlib
from storage.store import RecordStore

def read(position):
    record = store[position]
    return record.key, zlib.crc32(record.crops.tobytes()), os.getpid()

def start(given):
    global store
    store = given

if __name__ == "__main__":
    method, path = sys.argv[1:]
    store = RecordStore(path)
    here = [read(position)[:2] for position in range(len(store))]  # opens every shard before the workers start
    context = multiprocessing.get_context(method)
    inherit = {"initializer": start, "initargs": (store,)} if method == "spawn" else {}
    with context.Pool(2, **inherit) as pool:
        there = pool.map(read, range(len(store)), chunksize=1)
    assert [found[:2] for found in there] == here, there
    assert os.getpid() not in {found[2] for found in there}
    assert [read(position)[:2] for position in range(len(store))] == here, "the parent reads on"
    print(len(here))
"""

READ_AFTER_FORK = """
import os, signal, sys
from pathlib import Path
from storage.files import lmdb_files as environments
from storage.shard import ShardReader
from storage.store import RecordStore

def count_open_shards():
    links = [os.readlink(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd")[:-1]]
    return sum(link.endswith(".lmdb") for link in links)

store = RecordStore(sys.argv[1])
first, last = store[0].key, store[9].key
reader = ShardReader(Path(sys.argv[1], "shards", "test-00000.lmdb"))
assert count_open_shards() == 2
locks = (store._lock, environments._open_files.guard)
assert all(lock.acquire() for lock in locks)  # as if other threads were reading at this moment
child = os.fork()
if child == 0:
    signal.alarm(20)
    assert count_open_shards() == 0, "what the parent opened is closed"
    assert store[0].key == first
    assert last in reader.keys()
    assert store[9].key == last
    assert count_open_shards() == 2, "opened by the child itself"
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
for lock in locks:
    lock.release()
assert (store[0].key, reader.keys()[-1]) == (first, last), "the parent reads on"
"""


def make_record(video: str, split: str, frame: int, shade: int = 0) -> Record:
    """One frame: a crop of one colour, with a mask if it is fake, and numbers that follow from the frame's."""
    target, _, source = video.partition("_")
    video_id = f"ffpp/{'FaceSwap' if source else 'youtube'}/c23/{video}"
    crop = np.full((SIZE_PX, SIZE_PX, 3), (frame, shade, len(video)), np.uint8)
    values: dict[str, Any] = {
        **{"key": f"{video_id}/00/{frame:06d}", "video_id": video_id, "dataset": "ffpp", "compression": "c23"},
        **{"manipulation": "FaceSwap" if source else None, "label": int(bool(source)), "split": split},
        **{"target_id": target, "source_id": source or None, "group_id": f"ffpp/{video}", "track_id": 0},
        "crops_encoded": (encode_rgb(crop, "png", 95),),
        "masks_encoded": (encode_gray(crop[..., 0]),) if source else None,
        "boxes_xyxy": np.array([[frame, 20, frame + 30, 60.5]], np.float32),
        "landmarks": np.zeros((1, 5, 2), np.float32),
        "matrices": np.zeros((1, 2, 3), np.float64),
        "frame_indices": np.array([frame], np.int64),
        "pts_seconds": np.array([frame / 25], np.float64),
        "scores": np.array([0.5], np.float32),
        "interpolated": np.array([frame == 5]),
        **{"content_digest": "c0" * 32, "config_digest": CONFIG_DIGEST},
    }
    return Record(**values)


@pytest.fixture(scope="module")
def intact_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of ten live records and two superseded ones."""
    path = tmp_path_factory.mktemp("store")
    shards = []
    for (split, number), videos in SHARDS.items():
        with ShardWriter(path / "shards", split, number, CONFIG_DIGEST) as writer:
            for video in videos:
                for frame in (0, 5):
                    record = make_record(video, split, frame, shade=NEW if number == 10 else OLD)
                    writer.put(record.key, encode_record(record))
            outcomes = [{"video_id": video, "content_digest": ""} for video in videos]
            entry = writer.finish(outcomes, {})
        shards.append(entry.supersede({"ffpp/FaceSwap/c23/004_982": 2}) if number == 2 else entry)
    values: dict[str, Any] = {"faceshards_version": "0", "config_digest": CONFIG_DIGEST, "config": {}}
    write_index(path, StoreIndex(complete=True, shards=tuple(shards), **values))
    return path


@pytest.fixture
def store_dir(intact_store: Path, tmp_path: Path) -> Path:
    """A copy that a test may break."""
    return Path(shutil.copytree(intact_store, tmp_path / "store"))


LIVE_KEYS = [
    f"ffpp/{video}/00/{frame:06d}"
    for video in ("youtube/c23/020", "FaceSwap/c23/004_982", "youtube/c23/010", "youtube/c23/011", "youtube/c23/030")
    for frame in (0, 5)
]


def test_order_is_split_then_number_then_key(store_dir: Path) -> None:
    with RecordStore(store_dir) as store:
        assert len(store) == 10
        assert store.keys() == LIVE_KEYS
        assert [record.key for record in store] == LIVE_KEYS
        assert [store[position].key for position in range(10)] == LIVE_KEYS
        assert [store[position].key for position in range(-10, 0)] == LIVE_KEYS
        assert [key for _, key, _ in store.views()] == LIVE_KEYS


def test_a_record_has_its_pixels_and_its_numbers(store_dir: Path) -> None:
    with RecordStore(str(store_dir)) as store:
        record = store[3]
    assert record.crops.shape == (1, SIZE_PX, SIZE_PX, 3)
    assert record.crops[0, 7, 9].tolist() == [5, NEW, 7]
    assert record.masks is not None
    assert (record.masks == 5).all()
    assert record.pts_seconds.tolist() == [0.2]


def test_superseded_records_are_gone_and_their_successors_are_there(store_dir: Path) -> None:
    with RecordStore(store_dir, split="train") as store:
        assert [int(record.crops[0, 0, 0, 1]) for record in store if record.label] == [NEW, NEW]
        assert int(store.get("ffpp/FaceSwap/c23/004_982/00/000000").crops[0, 0, 0, 1]) == NEW


@pytest.mark.parametrize(
    ("split", "keys"), [("train", LIVE_KEYS[:4]), ("val", LIVE_KEYS[4:8]), ("test", LIVE_KEYS[8:])]
)
def test_a_split_is_a_store_of_its_own(store_dir: Path, split: str, keys: list[str]) -> None:
    with RecordStore(store_dir, split=split) as store:
        assert store.keys() == keys
        assert len(store) == len(keys)
        assert {record.split for record in store} == {split}
        assert store.get(keys[-1]).key == keys[-1]


def test_positions_are_integers_of_any_kind(store_dir: Path) -> None:
    with RecordStore(store_dir) as store:
        assert store[np.int64(3)].key == store[np.uint8(3)].key == LIVE_KEYS[3]
        assert store.encoded(3)[0] == LIVE_KEYS[3]
        key, data = store.encoded(-1)
        assert decode_record(data, key).key == LIVE_KEYS[-1]
        with pytest.raises(TypeError):
            _ = store["3"]  # type: ignore[index]


@pytest.mark.parametrize("position", [10, -11, 10**20])
def test_positions_beyond_the_end_are_refused(store_dir: Path, position: int) -> None:
    with RecordStore(store_dir) as store, pytest.raises(IndexError, match=rf"got {position}, expected -10\.\.9"):
        _ = store[position]


@pytest.mark.parametrize("key", ["", "ffpp", LIVE_KEYS[0] + "0", LIVE_KEYS[0] + "ä", LIVE_KEYS[-1], "__faceshards__"])
def test_keys_that_are_not_there_are_refused(store_dir: Path, key: str) -> None:
    with (
        RecordStore(store_dir, split="train") as store,
        pytest.raises(KeyError, match="not in split 'train', expected"),
    ):
        store.get(key)


def test_an_empty_store_is_a_store(store_dir: Path) -> None:
    index = read_index(store_dir)
    write_index(store_dir, replace(index, shards=()))
    with RecordStore(store_dir) as store:
        assert (len(store), store.keys(), list(store)) == (0, [], [])
        with pytest.raises(IndexError):
            _ = store[0]


def test_an_unknown_split_is_refused_with_the_known_ones(store_dir: Path) -> None:
    with pytest.raises(ValueError, match=r"split: got 'valid', expected one of \['train', 'val', 'test'\]"):
        RecordStore(store_dir, split="valid")


def test_no_store_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StoreMissing):
        RecordStore(tmp_path)


def test_an_interrupted_store_is_read_on_request_only(store_dir: Path) -> None:
    write_index(store_dir, replace(read_index(store_dir), complete=False))
    with pytest.raises(StoreIncomplete, match="run the same command again to complete it, or open it with allow_inc"):
        RecordStore(store_dir)
    with RecordStore(store_dir, allow_incomplete=True) as store:
        assert store.keys() == LIVE_KEYS


def test_a_shard_that_is_gone_or_cut_off_is_named(store_dir: Path) -> None:
    os.truncate(store_dir / "shards" / "test-00000.lmdb", 8192)
    (store_dir / "shards" / "val-00000.lmdb").unlink()
    with RecordStore(store_dir) as store:
        assert store[0].key == LIVE_KEYS[0]
        with pytest.raises(StoreCorrupt, match=r"val-00000.lmdb: got No such file"):
            _ = store[4]
        with pytest.raises(StoreCorrupt, match=r"test-00000.lmdb: got 8192 bytes"):
            _ = store[8]


def test_an_index_that_counts_otherwise_is_noticed(store_dir: Path) -> None:
    index = read_index(store_dir)
    wrong = [replace(shard, num_records=shard.num_records + 1) for shard in index.shards]
    write_index(store_dir, replace(index, shards=tuple(wrong)))
    with RecordStore(store_dir) as store, pytest.raises(StoreCorrupt, match=r"got 2 records, expected 3"):
        _ = store[0]
    with pytest.raises(StoreCorrupt, match="got 10, expected 14 as in the index"):
        write_records_table(store_dir)
    assert not (store_dir / "records.parquet").exists()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_the_same_records(store_dir: Path, tmp_path: Path, method: str) -> None:
    program = tmp_path / "read_in_workers.py"
    program.write_text(READ_IN_WORKERS)
    run = subprocess.run([sys.executable, program, method, store_dir], capture_output=True, text=True, check=False)
    assert (run.stdout, run.stderr) == ("10\n", "")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts file descriptors in /proc")
def test_a_forked_child_opens_its_own_files(store_dir: Path) -> None:
    command = [sys.executable, "-c", READ_AFTER_FORK, str(store_dir)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_a_store_travels_without_its_open_files(store_dir: Path) -> None:
    with RecordStore(store_dir, split="val") as store:
        assert store[0].key == LIVE_KEYS[4]
        packed = pickle.dumps(store)
        with pickle.loads(packed) as copy:
            assert copy.keys() == store.keys()
            assert copy[3].key == store[3].key
            assert repr(copy) == repr(store) == f"RecordStore({str(store_dir)!r}, split='val'): 4 records"
    assert len(packed) < 5000


def test_two_stores_of_one_folder_live_side_by_side(store_dir: Path) -> None:
    with RecordStore(store_dir) as everything:
        with RecordStore(store_dir, split="train") as train:
            assert train[0].key == everything[0].key
        assert everything[1].key == LIVE_KEYS[1], "closing one leaves the other open"


def open_shards() -> int:
    """File descriptors of this process that belong to shards."""
    targets = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            targets.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # the one that listed the folder
    return sum(target.endswith(".lmdb") for target in targets)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts file descriptors in /proc")
def test_open_files_are_bounded(store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_OPEN_SHARDS", 2)
    before = open_shards()
    with RecordStore(store_dir) as store:
        assert open_shards() == before, "opening a store opens no shard"
        for position in [0, 3, 5, 9, 0, 9, 3, 5, 1]:
            assert store[position].key == LIVE_KEYS[position]
            assert open_shards() <= before + 2
        assert len(list(store)) == 10
        assert open_shards() <= before + 2
    assert open_shards() == before


def test_a_closed_store_opens_again(store_dir: Path) -> None:
    store = RecordStore(store_dir)
    assert store[0].key == LIVE_KEYS[0]
    store.close()
    assert store[9].key == LIVE_KEYS[9]
    store.close()


def test_threads_share_a_store(store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_OPEN_SHARDS", 1)
    with RecordStore(store_dir) as store, ThreadPoolExecutor(8) as pool:
        positions = list(range(10)) * 20
        assert [record.key for record in pool.map(store.__getitem__, positions)] == LIVE_KEYS * 20


@pytest.mark.parametrize("module", ["storage.store", "storage.inspect", "storage.verify", "storage.records_table"])
def test_reading_needs_numpy_and_lmdb_and_nothing_heavy(module: str) -> None:
    program = f"import {module}, sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "prefect", "pandas", "cv2", "pyarrow", "rich", "pydantic"} & set(run.stdout.split())


def test_the_table_has_a_row_for_each_live_record(store_dir: Path) -> None:
    assert write_records_table(store_dir) == 10
    table = pq.read_table(store_dir / "records.parquet")
    assert {field.name: str(field.type) for field in table.schema} == {
        name: {"float32": "float", "float64": "double"}.get(kind, kind) for name, kind in COLUMN_TYPES.items()
    }
    rows = table.to_pylist()
    assert [row["key"] for row in rows] == LIVE_KEYS
    row = rows[3]
    num_bytes = len(encode_record(make_record("004_982", "train", 5, NEW)))
    assert row == {
        **{"key": LIVE_KEYS[3], "video_id": "ffpp/FaceSwap/c23/004_982", "dataset": "ffpp", "manipulation": "FaceSwap"},
        **{"compression": "c23", "split": "train", "label": 1, "target_id": "004", "source_id": "982"},
        **{"group_id": "ffpp/004_982", "track_id": 0, "num_frames": 1, "frame_index": 5, "pts_seconds": 0.2},
        **{"score": 0.5, "num_interpolated": 1, "left": 5.0, "top": 20.0, "right": 35.0, "bottom": 60.5},
        **{"has_mask": True, "crop_px": SIZE_PX, "num_bytes": num_bytes, "shard": "train-00010.lmdb"},
        **{"content_digest": "c0" * 32, "config_digest": CONFIG_DIGEST},
        **{"track_choice": None, "geometry_from": None, "found_by": None, "mask_source": None},
    }
    assert [row["has_mask"] for row in rows] == [False] * 2 + [True] * 2 + [False] * 6
    assert {row["manipulation"] for row in rows} == {None, "FaceSwap"}


def test_the_table_of_an_empty_store_has_its_columns(store_dir: Path) -> None:
    write_index(store_dir, replace(read_index(store_dir), shards=(), complete=False))
    assert write_records_table(store_dir) == 0
    assert pq.read_table(store_dir / "records.parquet").column_names == list(COLUMN_TYPES)


def test_the_table_is_written_in_bounded_groups(store_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.records_table.ROWS_PER_GROUP", 4)
    assert write_records_table(store_dir) == 10
    metadata = pq.read_metadata(store_dir / "records.parquet")
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [4, 4, 2]
    assert not [path for path in store_dir.iterdir() if path.name.startswith(".partial-")]


def add_shard(store_dir: Path, split: str, record: Record, data: bytes | None = None) -> None:
    """Put a shard of one record behind the others."""
    with ShardWriter(store_dir / "shards", split, 99, CONFIG_DIGEST) as writer:
        writer.put(record.key, encode_record(record) if data is None else data)
        entry = writer.finish([{"video_id": record.video_id, "content_digest": ""}], {})
    index = read_index(store_dir)
    write_index(store_dir, replace(index, shards=(*index.shards, entry)))


def clip_of(*records: Record, **changes: Any) -> Record:
    """One record of all the frames of some."""
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(record, name) for record in records])
        for name in ARRAY_DTYPES.keys() - OPTIONAL_ARRAYS
    }
    for name in ("crops_encoded", "masks_encoded"):
        joined[name] = tuple(getattr(record, name)[0] for record in records)
    return replace(records[0], **(joined | changes))


def test_a_record_says_how_its_face_was_found_and_chosen(store_dir: Path) -> None:
    scores = np.linspace(0, 1, 10, dtype=np.float32).reshape(2, 5)
    clip = clip_of(
        *(make_record("7_8", "test", frame) for frame in (2, 3)),
        landmark_scores=scores,
        found_by=np.array([FoundBy.SECOND_DETECTOR, FoundBy.DETECTOR], np.uint8),
        **{"track_choice": "original", "geometry_from": "ffpp/youtube/c23/7", "mask_source": "difference"},
    )
    add_shard(store_dir, "test", clip)
    with RecordStore(store_dir) as store:
        found, other = store.get(clip.key), store.get(LIVE_KEYS[0])
    assert found.found_by is not None
    assert found.found_by.tolist() == [2, 0]
    np.testing.assert_array_equal(found.landmark_scores, scores, strict=True)
    assert (found.track_choice, found.geometry_from, found.mask_source) == (
        "original",
        "ffpp/youtube/c23/7",
        "difference",
    )
    assert [other.found_by, other.landmark_scores, other.track_choice, other.mask_source] == [None] * 4


def test_the_table_says_how_faces_were_found_and_chosen(store_dir: Path) -> None:
    """Of a clip's frames the most doubtful counts."""
    clip = clip_of(
        *(make_record("7_8", "test", frame) for frame in (2, 3)),
        found_by=np.array([FoundBy.SECOND_DETECTOR, FoundBy.DETECTOR], np.uint8),
        **{"track_choice": "bystander", "geometry_from": "ffpp/youtube/c23/7", "mask_source": "dataset"},
    )
    add_shard(store_dir, "test", clip)
    write_records_table(store_dir)
    names = ["key", "track_choice", "geometry_from", "found_by", "mask_source"]
    rows = pq.read_table(store_dir / "records.parquet", columns=names).to_pylist()
    assert rows[-1] == {
        **{"key": clip.key, "track_choice": "bystander", "geometry_from": "ffpp/youtube/c23/7"},
        **{"found_by": 2, "mask_source": "dataset"},
    }
    assert all(value is None for row in rows[:-1] for name, value in row.items() if name != "key")


def test_a_store_of_the_first_writers_is_read_and_listed(store_dir: Path) -> None:
    """Their records say nothing of choice, origin and mask source, and their format version is the same."""
    record = make_record("040", "test", 2)
    data = encode_record(record)
    magic, header_size, _ = PREFIX.unpack_from(data)
    header = json.loads(data[PREFIX.size : PREFIX.size + header_size])
    for name in ("geometry_from", "mask_source", "track_choice"):
        header.pop(name, None)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode("ascii")
    body = text + data[PREFIX.size + header_size :]
    add_shard(store_dir, "test", record, PREFIX.pack(magic, len(text), zlib.crc32(body)) + body)
    with RecordStore(store_dir, split="test") as store:
        assert store.get(record.key).track_choice is None
    assert write_records_table(store_dir) == 11
    row = pq.read_table(store_dir / "records.parquet").to_pylist()[-1]
    assert row["key"] == record.key
    assert [row[name] for name in ("track_choice", "geometry_from", "found_by", "mask_source")] == [None] * 4


def test_an_export_is_the_stored_bytes(store_dir: Path, tmp_path: Path) -> None:
    first, second = make_record("7_8", "test", 2), make_record("7_8", "test", 3)
    clip = clip_of(first, second)
    add_shard(store_dir, "test", clip)
    folder = tmp_path / "deep" / "files"
    with RecordStore(store_dir) as store:
        assert PlainFiles().export(store, folder) == 11
        frame = store[3]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")}
    assert len(files) == 10 + 2 + 2 + 2 + 1, "crops, masks of frames, crops and masks of the clip, the table"
    assert frame.masks_encoded is not None
    assert files[f"{frame.key}.png"] == frame.crops_encoded[0]
    assert files[f"{frame.key}_mask.png"] == frame.masks_encoded[0]
    assert (files[f"{clip.key}/000.png"], files[f"{clip.key}/001.png"]) == clip.crops_encoded
    assert clip.masks_encoded is not None
    assert (files[f"{clip.key}/000_mask.png"], files[f"{clip.key}/001_mask.png"]) == clip.masks_encoded

    with (folder / "records.csv").open(newline="") as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    assert list(rows) == [*LIVE_KEYS, clip.key]
    assert (rows[frame.key]["image"], rows[frame.key]["mask"]) == (f"{frame.key}.png", f"{frame.key}_mask.png")
    assert (rows[clip.key]["image"], rows[clip.key]["num_frames"]) == (f"{clip.key}/000.png", "2")
    assert (rows[LIVE_KEYS[0]]["mask"], rows[LIVE_KEYS[0]]["crop_px"]) == ("", str(SIZE_PX))


def test_an_export_is_not_encoded_again(store_dir: Path, tmp_path: Path) -> None:
    jpeg = encode_rgb(np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8), "jpeg", 40)
    record = replace(make_record("040", "test", 2), crops_encoded=(jpeg,))
    add_shard(store_dir, "test", record)
    with RecordStore(store_dir, split="test") as store:
        PlainFiles().export(store, tmp_path / "files")
    assert (tmp_path / "files" / f"{record.key}.jpg").read_bytes() == jpeg


def test_an_export_touches_no_folder_with_files(store_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").write_text("mine")
    (tmp_path / "file").touch()
    with RecordStore(store_dir) as store:
        with pytest.raises(StoreError, match="got a folder with files in it, expected an empty folder or a new one"):
            PlainFiles().export(store, tmp_path / "full")
        with pytest.raises(StoreError, match="expected a folder to write to"):
            PlainFiles().export(store, tmp_path / "file")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["precious"]


@pytest.mark.parametrize(
    "key", ["/absolute/00/000001", "a/../../b/00/000001", "a//00/000001", "./00/000001", "c:/00/1"]
)
def test_an_export_stays_in_its_folder(store_dir: Path, tmp_path: Path, key: str) -> None:
    add_shard(store_dir, "test", replace(make_record("040", "test", 2), key=key))
    with RecordStore(store_dir) as store, pytest.raises(StoreCorrupt, match="expected parts without"):
        PlainFiles().export(store, tmp_path / "out" / "files")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["files"]
