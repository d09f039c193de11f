"""A checkpoint that cannot be resumed from is one line that names the file and the way out."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from manifests.errors import ConfigError
from training.fit.resume import NEEDED, require_checkpoint


class Hostile:
    """An object whose unpickling would make a folder."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("unpickled",)


def write_good(path: Path) -> None:
    torch.save({**dict.fromkeys(NEEDED), "state_dict": {"weight": torch.ones(5000)}}, path)


def write_cut(path: Path) -> None:
    write_good(path)
    os.truncate(path, 9000)


def write_flipped(path: Path) -> None:
    write_good(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 255
    path.write_bytes(data)


def test_no_checkpoint_and_a_good_one_are_fine(tmp_path: Path) -> None:
    require_checkpoint(tmp_path)
    write_good(tmp_path / "last.ckpt")
    require_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("write", "got"),
    [
        (write_cut, "a damaged file"),
        (write_flipped, "a damaged file"),
        (lambda path: path.touch(), "a damaged file"),
        (lambda path: path.write_bytes(os.urandom(5000)), "a damaged file"),
        (lambda path: path.mkdir(), "a damaged file"),
        (os.mkfifo, "a damaged file"),
        (lambda path: path.write_bytes(pickle.dumps(Hostile())), "a damaged file"),
        (lambda path: torch.save({"state_dict": Hostile()}, path), "a damaged file"),
        (lambda path: torch.save({"state": torch.ones(3)}, path), "another file of PyTorch"),
        (lambda path: torch.save([1, 2], path), "another file of PyTorch"),
    ],
    ids=["cut", "flipped", "empty", "random", "folder", "pipe", "pickle", "code", "model", "list"],
)
def test_a_checkpoint_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], got: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "last.ckpt")
    with pytest.raises(ConfigError) as refused:
        require_checkpoint(tmp_path)
    assert str(refused.value) == (
        f"run {tmp_path}/last.ckpt: got {got}, expected the checkpoint of a run; "
        "delete it to begin the run again, or choose another --run"
    )
    assert not Path("unpickled").exists()
