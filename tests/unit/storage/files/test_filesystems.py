"""Which folders must not be mapped for writing, and that a shard for one is the same file all the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import shard as shard_module
from storage.files.filesystems import is_on_network
from storage.shard import ShardReader, ShardWriter

MOUNTS = """/dev/sda1 / ext4 rw,relatime 0 0
tmpfs /tmp tmpfs rw 0 0
server:/export /data nfs4 rw,vers=4.2 0 0
/dev/sdb1 /data/local xfs rw 0 0
//nas/films /mnt/my\\040films cifs rw 0 0
gcs /bucket fuse.gcsfuse rw 0 0
/dev/sdc1 /usb fuseblk rw 0 0
overlay /data/overlaid ext4 rw 0 0
server:/over /data/overlaid nfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/me/store", False),
        ("/data", True),
        ("/data/store/shards", True),
        ("/database", False),
        ("/data/local/store", False),
        ("/mnt/my films/store", True),
        ("/bucket/store", True),
        ("/usb/store", False),
        ("/data/overlaid/store", True),
    ],
)
def test_the_innermost_mount_decides(tmp_path: Path, path: str, expected: bool) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert is_on_network(Path(path), mounts) is expected


def test_a_system_that_does_not_say(tmp_path: Path) -> None:
    assert not is_on_network(Path("/data"), tmp_path / "missing")


def test_a_shard_for_a_network_folder_is_written_elsewhere_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = {}
    for name in ("local", "network"):
        monkeypatch.setattr(shard_module, "is_on_network", lambda _path, name=name: name == "network")
        with ShardWriter(tmp_path / name, "train", 0, "c" * 64) as writer:
            for number in range(100):
                writer.put(f"v/{number:03d}", bytes([number]) * 2000)
            assert bool(list((tmp_path / name).iterdir())) is (name == "local")
            entries[name] = writer.finish([], {})
        assert [path.name for path in (tmp_path / name).iterdir()] == ["train-00000.lmdb"]
    assert entries["local"] == entries["network"]
    with ShardReader(tmp_path / "network" / "train-00000.lmdb") as reader:
        assert reader.get("v/042") == bytes([42]) * 2000


def test_what_is_not_finished_leaves_nothing_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(shard_module, "is_on_network", lambda _path: True)
    monkeypatch.setattr(shard_module, "gettempdir", lambda: str(scratch))
    with ShardWriter(tmp_path / "shards", "train", 0, "c" * 64) as writer:
        writer.put("v/0", b"x")
        assert not list(scratch.iterdir())  # nor is there anything to be left, were it killed now
        assert not list((tmp_path / "shards").iterdir())
    assert not list(scratch.iterdir())
    assert not list((tmp_path / "shards").iterdir())
