"""One shard: what goes in comes out, in order; what was not finished is not there; what is broken is said so."""

from __future__ import annotations

import hashlib
import os
import pickle
import signal
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import lmdb
import pytest

from manifests.errors import StoreCorrupt, StoreError
from manifests.files import remove_partials
from storage import shard as shard_module
from storage.files.lmdb_files import MIN_LMDB_BYTES
from storage.index import ShardEntry
from storage.shard import META_KEY, ShardReader, ShardWriter, describe_shard

VIDEOS = [{"video_id": "v", "content_digest": "d1", "status": "stored", "seconds": 0.5}]
MADE_WITH = {"python": "3.11.7"}

# As strings: a record's key may sort before or after the shard's own description, which begins with an underscore.
ITEMS = [("A/00/000001", b"one"), ("Z/00/000002", b""), ("a/00/000003", b"three" * 5000), ("a/00/000004", b"four")]

WRITE_FOREVER = """
import os, sys
from pathlib import Path
from storage.shard import ShardWriter
with ShardWriter(Path(sys.argv[1]), "train", 0, "digest") as writer:
    for number in range(1_000_000):
        writer.put(f"v/00/{number:06d}", os.urandom(1000))
        if number == 3500:
            print("three transactions are on disk", flush=True)
"""

WRITE_BEYOND_A_LIMIT = """
import os, resource, signal, sys
from pathlib import Path
from manifests.errors import StoreError
from storage.shard import ShardWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    with ShardWriter(Path(sys.argv[1]), "train", 0, "digest") as writer:
        for number in range(2000):
            writer.put(f"v/00/{number:06d}", os.urandom(2000))
        writer.finish([], {})
except StoreError as error:
    print(error)
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def write(folder: Path, items: list[tuple[str, bytes]], **options: Any) -> ShardEntry:
    with ShardWriter(folder, "train", 0, "digest", **options) as writer:
        for key, value in items:
            writer.put(key, value)
        return writer.finish(VIDEOS, MADE_WITH)


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    entry = write(tmp_path / "new" / "shards", ITEMS)
    path = tmp_path / "new" / "shards" / "train-00000.lmdb"
    with ShardReader(path, entry.num_bytes) as reader:
        assert reader.keys() == [key for key, _ in ITEMS]
        assert [(key, bytes(view)) for key, view in reader.views()] == ITEMS
        assert [reader.get(key) for key, _ in ITEMS] == [value for _, value in ITEMS]
        meta = reader.meta
    assert (meta.split, meta.number, meta.config_digest, meta.num_records) == ("train", 0, "digest", 4)
    assert (meta.videos, meta.made_with) == (tuple(VIDEOS), MADE_WITH)
    assert names_in(path.parent) == [path.name]


def test_the_entry_describes_the_file(tmp_path: Path) -> None:
    entry = write(tmp_path, ITEMS)
    data = (tmp_path / entry.name).read_bytes()
    assert (entry.num_bytes, entry.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    digest = hashlib.sha256()
    for key, value in ITEMS:
        digest.update(struct.pack("<I", len(key)) + key.encode() + struct.pack("<I", len(value)) + value)
    assert entry.records_sha256 == digest.hexdigest()
    assert (entry.num_records, entry.num_videos, entry.config_digest) == (4, 1, "digest")
    assert describe_shard(tmp_path / entry.name) == entry


def test_plain_lmdb_reads_it(tmp_path: Path) -> None:
    write(tmp_path, ITEMS)
    path = str(tmp_path / "train-00000.lmdb")
    with lmdb.open(path, subdir=False, lock=False, readonly=True) as environment, environment.begin() as transaction:
        found = dict(transaction.cursor())
    assert found.keys() == {META_KEY, *(key.encode() for key, _ in ITEMS)}
    assert found[b"a/00/000004"] == b"four"


@pytest.mark.parametrize("default_version", ["0", "1"])
def test_the_data_format_is_the_one_that_every_lmdb_reads(tmp_path: Path, default_version: str) -> None:
    program = (
        "import sys; from pathlib import Path; from storage.shard import ShardWriter\n"
        "with ShardWriter(Path(sys.argv[1]), 'val', 7, '') as writer: writer.finish([], {})"
    )
    environment = os.environ | {"LMDB_DEFAULT_LIB_VERSION": default_version}
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, env=environment)
    # The first meta page: after 16 bytes of page header, MDB_MAGIC and MDB_DATA_VERSION (1 in LMDB 0.9, 3 in 1.0).
    head = (tmp_path / "val-00007.lmdb").read_bytes()[:24]
    assert struct.unpack_from("=II", head, 16) == (0xBEEFC0DE, 1)


def test_equal_records_have_equal_digests_however_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tmp_path / "one", ITEMS)
    monkeypatch.setattr(shard_module, "RECORDS_PER_TRANSACTION", 1)
    with ShardWriter(tmp_path / "two", "train", 0, "digest", map_bytes=2**16) as writer:
        for key, value in ITEMS:
            writer.put(key, value)
        second = writer.finish([VIDEOS[0] | {"seconds": 99}], {"python": "3.14"})
    assert second.records_sha256 == first.records_sha256
    assert second.sha256 != first.sha256
    assert write(tmp_path / "three", ITEMS[:-1]).records_sha256 != first.records_sha256


def test_length_prefixes_keep_keys_and_values_apart(tmp_path: Path) -> None:
    one = write(tmp_path / "one", [("ab", b"c")])
    other = write(tmp_path / "other", [("a", b"bc")])
    assert one.records_sha256 != other.records_sha256


def test_a_shard_without_records_is_a_shard(tmp_path: Path) -> None:
    entry = write(tmp_path, [])
    with ShardReader(tmp_path / entry.name, entry.num_bytes) as reader:
        assert (reader.keys(), list(reader.views()), reader.meta.num_records) == ([], [], 0)
    assert entry.records_sha256 == hashlib.sha256().hexdigest()


@pytest.mark.parametrize("map_bytes", [2**16, 2**20])
def test_the_map_grows(tmp_path: Path, map_bytes: int) -> None:
    items = [(f"v/00/{number:06d}", bytes([number % 256]) * 5000) for number in range(1500)]
    items.append(("w/00/000000", b"x" * 3_000_000))  # alone larger than either map
    entry = write(tmp_path, items, map_bytes=map_bytes)
    assert entry.num_bytes > 8 * map_bytes
    with ShardReader(tmp_path / entry.name, entry.num_bytes) as reader:
        assert [(key, bytes(view)) for key, view in reader.views()] == items


def test_many_bytes_are_committed_before_many_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "BYTES_PER_TRANSACTION", 100_000)
    with ShardWriter(tmp_path, "train", 0, "digest") as writer:
        for number in range(5):
            writer.put(f"v/00/{number:06d}", bytes(100_000))
        (partial,) = tmp_path.iterdir()
        assert partial.stat().st_size > 500_000


@pytest.mark.parametrize("second", ["v/00/000001", "v/00/000000", "V/00/000002"])
def test_keys_must_increase(tmp_path: Path, second: str) -> None:
    with ShardWriter(tmp_path, "train", 0, "digest") as writer:
        writer.put("v/00/000001", b"")
        with pytest.raises(ValueError, match=f"got '{second}' after 'v/00/000001', expected keys in increasing order"):
            writer.put(second, b"")


@pytest.mark.parametrize("key", ["", "v/Ä", "k" * 512, "v\0", "v\n", "__faceshards__"])
def test_keys_that_a_store_cannot_hold_are_refused(tmp_path: Path, key: str) -> None:
    with (
        ShardWriter(tmp_path, "train", 0, "digest") as writer,
        pytest.raises(ValueError, match="expected 1 to 511 printable ASCII characters"),
    ):
        writer.put(key, b"")


def test_the_longest_key_is_held(tmp_path: Path) -> None:
    entry = write(tmp_path, [("k" * 511, b"value")])
    with ShardReader(tmp_path / entry.name) as reader:
        assert reader.get("k" * 511) == b"value"


def test_outcomes_must_say_whose_they_are(tmp_path: Path) -> None:
    with (
        ShardWriter(tmp_path, "train", 0, "digest") as writer,
        pytest.raises(ValueError, match="expected a dict with video_id and content_digest"),
    ):
        writer.finish([{"video_id": "v"}], {})


def test_nothing_is_left_of_what_was_not_finished(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", 0, "digest") as writer:
        writer.put("v/00/000000", b"value")
        (partial,) = names_in(tmp_path)
        assert partial.startswith(".partial-train-00000-")
    assert names_in(tmp_path) == []

    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path, "train", 0, "digest") as writer:
        raise KeyboardInterrupt
    assert names_in(tmp_path) == []


def test_a_finished_writer_takes_no_more(tmp_path: Path) -> None:
    with ShardWriter(tmp_path, "train", 0, "digest") as writer:
        writer.finish([], {})
        with pytest.raises(ValueError, match="got a record after `finish`"):
            writer.put("v/00/000000", b"")


def test_a_killed_writer_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_FOREVER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline().startswith("three transactions")
        writer.kill()
        assert writer.wait() == -signal.SIGKILL
    (partial,) = names_in(tmp_path)
    assert partial.startswith(".partial-train-00000-")
    assert remove_partials(tmp_path) == (partial,)
    assert names_in(tmp_path) == []
    assert write(tmp_path, ITEMS).num_records == 4


def test_a_full_disk_is_an_error_and_no_shard(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITE_BEYOND_A_LIMIT, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "expected a disk with space; free some and run again" in run.stdout
    assert names_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="expected a folder to write to"):
        ShardWriter(tmp_path / "file" / "shards", "train", 0, "digest")


def test_readers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    entry = write(tmp_path, ITEMS)
    first, second = ShardReader(tmp_path / entry.name), ShardReader(tmp_path / entry.name)
    first.close()
    first.close()
    assert second.get("a/00/000004") == b"four"
    second.close()
    with pytest.raises(ValueError, match="got a closed reader"):
        second.keys()


@pytest.mark.parametrize("key", ["b", "", "ä", "k" * 600, "__faceshards__"])
def test_a_key_that_is_not_there(tmp_path: Path, key: str) -> None:
    entry = write(tmp_path, ITEMS)
    with ShardReader(tmp_path / entry.name) as reader, pytest.raises(KeyError, match="got no such key in train-00000"):
        reader.get(key)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.2, 0.5, 0.9, 0.9999])
def test_a_shard_cut_off_is_refused_before_it_is_mapped(tmp_path: Path, share: float) -> None:
    entry = write(tmp_path, [(f"v/00/{number:06d}", os.urandom(3000)) for number in range(200)])
    path = tmp_path / entry.name
    os.truncate(path, int(entry.num_bytes * share))
    for num_bytes in (entry.num_bytes, None):
        with pytest.raises(StoreCorrupt, match=r"train-00000.lmdb: got \d+ bytes, expected"):
            ShardReader(path, num_bytes)


@pytest.mark.parametrize("data", [b"", b"text", pickle.dumps({"a": "b" * 10**5}), bytes(10**5), os.urandom(10**5)])
def test_a_file_that_is_not_lmdb_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "train-00000.lmdb"
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt, match=r"train-00000.lmdb: got"):
        ShardReader(path)


def test_a_missing_file_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StoreCorrupt, match="got No such file or directory, expected a file"):
        ShardReader(tmp_path / "train-00000.lmdb")


def test_flipped_bytes_never_end_the_process(tmp_path: Path) -> None:
    """Readers check size, not digests: LMDB itself must survive what a bad disk makes of its pages."""
    entry = write(tmp_path, [(f"v/00/{number:06d}", os.urandom(500)) for number in range(60)])
    data = (tmp_path / entry.name).read_bytes()
    program = (
        "import sys; from pathlib import Path; from storage.shard import ShardReader\n"
        "from manifests.errors import StoreError\n"
        "for path in sorted(Path(sys.argv[1]).glob('flipped-*')):\n"
        "    try:\n"
        "        with ShardReader(path) as reader: [bytes(view) for _, view in reader.views()], reader.meta\n"
        "    except StoreError: pass\n"
    )
    positions = [*range(16, 168, 4), *range(MIN_LMDB_BYTES, len(data), len(data) // 60)]
    for position in positions:
        flipped = bytearray(data)
        flipped[position] ^= 0x5A
        (tmp_path / f"flipped-{position:06d}").write_bytes(flipped)
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def foreign(path: Path, items: dict[bytes, bytes]) -> None:
    with lmdb.open(str(path), subdir=False, lock=False) as environment, environment.begin(write=True) as transaction:
        for key, value in items.items():
            transaction.put(key, value)


@pytest.mark.parametrize("meta", [b"{", b"[]", b'{"format_version": 1}', pickle.dumps({"format_version": 1})])
def test_a_broken_description_is_refused(tmp_path: Path, meta: bytes) -> None:
    foreign(tmp_path / "train-00000.lmdb", {META_KEY: meta})
    with ShardReader(tmp_path / "train-00000.lmdb") as reader, pytest.raises(StoreCorrupt, match="description"):
        _ = reader.meta


def test_an_lmdb_file_of_someone_else_is_refused(tmp_path: Path) -> None:
    foreign(tmp_path / "train-00000.lmdb", {b"a": b"b", "ä".encode(): b""})
    with ShardReader(tmp_path / "train-00000.lmdb") as reader:
        with pytest.raises(StoreCorrupt, match="without b'__faceshards__', expected a shard"):
            _ = reader.meta
        with pytest.raises(StoreCorrupt, match="expected ASCII"):
            reader.keys()


def test_another_format_version_is_refused_with_both_numbers(tmp_path: Path) -> None:
    foreign(tmp_path / "train-00000.lmdb", {META_KEY: b'{"format_version": 2}'})
    with (
        ShardReader(tmp_path / "train-00000.lmdb") as reader,
        pytest.raises(StoreError, match="got format version 2, expected 1"),
    ):
        _ = reader.meta


def test_a_shard_under_another_name_is_not_described(tmp_path: Path) -> None:
    entry = write(tmp_path, ITEMS)
    (tmp_path / entry.name).rename(tmp_path / "val-00000.lmdb")
    with pytest.raises(StoreCorrupt, match=r"got the description of train-00000.lmdb"):
        describe_shard(tmp_path / "val-00000.lmdb")
