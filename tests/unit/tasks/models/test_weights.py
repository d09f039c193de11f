"""Weight files: found in the right folder, fetched whole and right or not at all, read without running their code."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from manifests.errors import ConfigError, StageMissing
from tasks.download.file_kind import Content, refusal
from tasks.download.partial_file import BYTES_PREFIX
from tasks.models import weights
from tasks.models.weights import (
    WEIGHTS,
    WEIGHTS_VARIABLE,
    WeightFile,
    fetch,
    find,
    hub_dir,
    load_state,
    require,
    verify,
)
from tests.helpers.servers import WebServer, answers, drops_after, without_length
from training.models import PAPER_WEIGHTS

NAME = "2dfan4"
FILE = WEIGHTS[NAME].file_name
STATE = {"conv.weight": torch.arange(300_000, dtype=torch.float32), "conv.bias": torch.ones(4, dtype=torch.float16)}
NO_PORT = "http://127.0.0.1:9/" + FILE  # discard: nobody listens there


def saved(state: object, *, is_old: bool = False) -> bytes:
    """The bytes that torch.save writes."""
    file = io.BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=not is_old)
    return file.getvalue()


BYTES = saved(STATE)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home; no folder of the machine's own is looked in."""
    home = tmp_path / "home"
    monkeypatch.setenv("HOME", str(home))
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", WEIGHTS_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def dirs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The three folders, in the order in which they are looked in; only their names."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(tmp_path / "variable"))
    return [tmp_path / "configured", tmp_path / "variable", tmp_path / "torch" / "hub" / "checkpoints"]


def publish_at(monkeypatch: pytest.MonkeyPatch, url: str, **more: Any) -> None:
    values = {"sha256": hashlib.sha256(BYTES).hexdigest(), "num_bytes": None} | more
    published = WeightFile(name=NAME, file_name=FILE, url=url, licence="ours", used_by="tests", **values)
    monkeypatch.setitem(WEIGHTS, NAME, published)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, web: WebServer) -> WebServer:
    """A server that publishes BYTES as the weight file."""
    web.files["/" + FILE] = BYTES
    publish_at(monkeypatch, f"{web.url}/{FILE}")
    monkeypatch.setattr("tasks.download.fetcher.FIRST_WAIT_SECONDS", 0.01)
    return web


def put(folder: Path, data: bytes = b"mine", name: str = FILE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_is_published() -> None:
    for name, published in WEIGHTS.items():
        assert published.name == name
        assert published.url.startswith("https://")
        assert published.url.endswith("/" + published.file_name)
        digits = published.file_name.partition(".")[0].rpartition("-")[2]  # torch hub's convention
        assert len(digits) >= 8
        assert published.sha256.startswith(digits)
        assert published.licence
        assert published.used_by


def test_the_urls_are_those_of_face_alignment() -> None:
    api = pytest.importorskip("face_alignment.api")
    sfd = pytest.importorskip("face_alignment.detection.sfd.sfd_detector")
    assert WEIGHTS["2dfan4"].url == api.models_urls["2DFAN-4"]
    assert WEIGHTS["s3fd"].url == sfd.models_urls["s3fd"]


@pytest.mark.parametrize("name", PAPER_WEIGHTS.values())
def test_backbones_are_those_of_timm(name: str) -> None:
    published, known = WEIGHTS[name], timm.get_pretrained_cfg(name)
    assert known is not None
    assert (published.url, published.licence.partition(";")[0].lower()) == (known.url, known.license)
    with torch.device("meta"):
        tensors = timm.create_model(name).state_dict().values()
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert published.about_mb == pytest.approx(num_bytes / 1e6, rel=0.02)


@pytest.mark.parametrize(("digits", "is_right"), [(8, True), (64, True), (0, False)])
def test_a_digest_of_which_only_the_first_digits_are_published(
    monkeypatch: pytest.MonkeyPatch, served: WebServer, tmp_path: Path, digits: int, is_right: bool
) -> None:
    right = hashlib.sha256(BYTES).hexdigest()
    publish_at(
        monkeypatch, f"{served.url}/{FILE}", sha256=right[:digits] if is_right else f"{~int(right[0], 16) & 15:x}"
    )
    if is_right:
        assert fetch(NAME, tmp_path).read_bytes() == BYTES
        assert verify(tmp_path / FILE, NAME) is None
    else:
        with pytest.raises(StageMissing, match="got bytes with SHA-256"):
            fetch(NAME, tmp_path)
        assert names_in(tmp_path) == []


@pytest.mark.parametrize("variables", [{}, {"XDG_CACHE_HOME": "/x"}, {"TORCH_HOME": "~/t", "XDG_CACHE_HOME": "/x"}])
def test_hub_dir_is_that_of_torch(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hub_dir() == Path(torch.hub.get_dir()) / "checkpoints"


def test_empty_variables_count_as_none(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    for name in ("TORCH_HOME", "XDG_CACHE_HOME", WEIGHTS_VARIABLE):
        monkeypatch.setenv(name, "")
    assert weights.search_dirs(None) == [home / ".cache" / "torch" / "hub" / "checkpoints"]


def test_folders_in_their_order_each_once(monkeypatch: pytest.MonkeyPatch, dirs: list[Path], home: Path) -> None:
    assert weights.search_dirs(dirs[0]) == dirs
    assert weights.search_dirs() == dirs[1:]
    assert weights.search_dirs(dirs[1]) == dirs[1:]
    monkeypatch.setenv(WEIGHTS_VARIABLE, "~/w")
    assert weights.search_dirs(Path("~/v"))[:2] == [home / "v", home / "w"]


def test_the_first_folder_that_has_it_counts(dirs: list[Path]) -> None:
    assert find(NAME, dirs[0]) is None
    for folder in reversed(dirs):
        path = put(folder)
        assert find(NAME, dirs[0]) == require(NAME, dirs[0]) == fetch(NAME, dirs[0]) == path


def test_an_empty_file_and_a_folder_are_no_weights(dirs: list[Path]) -> None:
    put(dirs[0], b"")
    (dirs[1] / FILE).mkdir(parents=True)
    assert find(NAME, dirs[0]) is None


def test_a_folder_that_may_not_be_looked_in(monkeypatch: pytest.MonkeyPatch, dirs: list[Path]) -> None:
    path = put(dirs[2])

    def is_there(asked: Path) -> bool:
        if asked.parent == dirs[0]:
            raise PermissionError(13, "Permission denied")
        return asked == path

    monkeypatch.setattr(weights, "is_there", is_there)
    assert find(NAME, dirs[0]) == path


def test_names_that_are_none() -> None:
    for call in (find, require, fetch):
        with pytest.raises(ConfigError, match=r"weights: got 'resnet', expected one of \w+, \w+"):
            call("resnet")


def test_a_missing_file_is_told_without_a_network(dirs: list[Path]) -> None:
    with pytest.raises(StageMissing) as caught:
        require(NAME, dirs[0])
    said = str(caught.value)
    assert ", ".join(map(str, dirs)) in said
    for words in (FILE, WEIGHTS[NAME].url, f"faceshards weights fetch {NAME} --weights-dir DIR", WEIGHTS_VARIABLE):
        assert words in said


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_download_goes_to_the_first_folder(
    monkeypatch: pytest.MonkeyPatch, served: WebServer, dirs: list[Path], first: int
) -> None:
    if first == 2:
        monkeypatch.delenv(WEIGHTS_VARIABLE)
    path = fetch(NAME, dirs[0] if first == 0 else None)
    assert path == dirs[first] / FILE
    assert path.read_bytes() == BYTES
    assert verify(path, NAME) is None
    assert names_in(path.parent) == [FILE]


def test_a_download_is_made_once_and_counted(served: WebServer, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    path = fetch(NAME, tmp_path, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(BYTES), len(BYTES))
    assert {total for done, total in told if done} == {len(BYTES)}
    assert fetch(NAME, tmp_path, lambda *_: pytest.fail("nothing to fetch")) == path
    assert len(served.asked("/" + FILE)) == 1


def test_a_download_that_breaks_off_goes_on(monkeypatch: pytest.MonkeyPatch, served: WebServer, tmp_path: Path) -> None:
    monkeypatch.setattr(weights, "MAX_TRIES", 1)
    served.faults["/" + FILE] = [drops_after(100_000)]
    with pytest.raises(StageMissing, match="its download failed"):
        fetch(NAME, tmp_path)
    arrived = (tmp_path / (BYTES_PREFIX + FILE)).stat().st_size
    assert 0 < arrived <= 100_000
    told: list[tuple[int, int | None]] = []
    fetch(NAME, tmp_path, lambda done, total: told.append((done, total)))
    assert told[0][0] > arrived
    assert told[-1] == (len(BYTES), len(BYTES))
    assert served.asked("/" + FILE)[-1].headers["range"] == f"bytes={arrived}-"


def test_wrong_bytes_leave_no_file(monkeypatch: pytest.MonkeyPatch, served: WebServer, tmp_path: Path) -> None:
    publish_at(monkeypatch, f"{served.url}/{FILE}", sha256="0" * 64)
    with pytest.raises(StageMissing, match=f"SHA-256 {hashlib.sha256(BYTES).hexdigest()}, expected {'0' * 64}"):
        fetch(NAME, tmp_path)
    assert names_in(tmp_path) == []


def test_a_web_page_and_a_wrong_length_leave_no_file(
    monkeypatch: pytest.MonkeyPatch, served: WebServer, tmp_path: Path
) -> None:
    served.faults["/" + FILE] = [answers(200, b"<!DOCTYPE html><html>" + bytes(1000), Content_Type="text/html")]
    with pytest.raises(StageMissing, match=r"got a web page \(sent as text/html\), expected a file that torch.save"):
        fetch(NAME, tmp_path)
    publish_at(monkeypatch, f"{served.url}/{FILE}", num_bytes=len(BYTES) + 1)
    with pytest.raises(StageMissing, match="its download failed"):
        fetch(NAME, tmp_path)
    assert names_in(tmp_path) == []


def test_a_part_does_not_pass_for_the_whole(served: WebServer, tmp_path: Path) -> None:
    served.faults["/" + FILE] = [without_length]
    with pytest.raises(StageMissing, match="SHA-256"):
        fetch(NAME, tmp_path)
    assert FILE not in names_in(tmp_path)


@pytest.mark.parametrize("url", [NO_PORT, "https://no-such-host.invalid/" + FILE])
def test_no_network_is_told_in_time_and_in_full(monkeypatch: pytest.MonkeyPatch, dirs: list[Path], url: str) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,no-such-host.invalid")
    publish_at(monkeypatch, url)
    begun_seconds = time.monotonic()
    with pytest.raises(StageMissing) as caught:
        fetch(NAME, dirs[0])
    assert time.monotonic() - begun_seconds < 5
    said = str(caught.value)
    assert "its download failed: " in said
    assert ", ".join(map(str, dirs)) in said
    for words in (FILE, url, f"faceshards weights fetch {NAME} --weights-dir DIR", WEIGHTS_VARIABLE):
        assert words in said
    assert "Errno" in said or "no host of this name" in said
    assert not any(names_in(folder) for folder in dirs)


def test_patience_without_an_answer_is_short() -> None:
    wait_seconds = 1.0  # before the second try, at most
    assert weights.MAX_TRIES * weights.CONNECT_TIMEOUT_SECONDS + wait_seconds < 10


def test_a_place_that_cannot_be_written_to(served: WebServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(StageMissing, match=r"its download failed: .*file"):
        fetch(NAME, tmp_path / "file")


def test_runs_at_the_same_time_fetch_it_once(served: WebServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(lambda _: fetch(NAME, tmp_path), range(4)))
    assert paths == [tmp_path / FILE] * 4
    assert names_in(tmp_path) == [FILE]
    assert len(served.asked("/" + FILE)) == 1


def test_a_file_of_the_users_own_is_used_and_told_apart(tmp_path: Path) -> None:
    path = put(tmp_path)
    assert fetch(NAME, tmp_path) == path
    assert verify(path, NAME) == (f"got SHA-256 {hashlib.sha256(b'mine').hexdigest()}, expected {WEIGHTS[NAME].sha256}")


@pytest.mark.parametrize("is_old", [False, True])
def test_tensors_come_back_as_they_were(tmp_path: Path, is_old: bool) -> None:
    data = saved(OrderedDict(STATE), is_old=is_old)
    assert refusal(data[:512], Content.WEIGHTS) is None
    state = load_state(put(tmp_path, data), NAME)
    assert type(state) is dict
    assert state.keys() == STATE.keys()
    for name, tensor in STATE.items():
        assert state[name].dtype == tensor.dtype
        assert state[name].device.type == "cpu"
        assert torch.equal(state[name], tensor)


class Evil:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_no_code_is_run(tmp_path: Path, form: str) -> None:
    proof = tmp_path / "executed"
    bad = {"conv.weight": Evil(proof)}
    data = pickle.dumps(bad, protocol=2) if form == "pickle" else saved(bad, is_old=form == "old")
    path = put(tmp_path, data)
    with pytest.raises(StageMissing, match=f"weights {NAME}: {path}: got ") as caught:
        load_state(path, NAME)
    assert not proof.exists()
    assert "weights_only" not in str(caught.value)  # torch's advice to load it unsafely
    if form != "pickle":
        assert "posix.mkdir to be run, which is refused" in str(caught.value)
    pickle.loads(pickle.dumps(bad))
    assert proof.exists()  # it would have


def torchscript() -> bytes:
    """What makes torch take a zip for a TorchScript archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps((), protocol=2))
        archive.writestr("archive/data.pkl", pickle.dumps((), protocol=2))
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, these are no weights\n", "bytes that PyTorch cannot read"),
        (b"<!DOCTYPE html><html></html>", "bytes that PyTorch cannot read"),
        (b"", "bytes that PyTorch cannot read"),
        (BYTES[: len(BYTES) // 2], "bytes that PyTorch cannot read"),
        (saved(STATE, is_old=True)[:-1000], "bytes that PyTorch cannot read"),
        (torchscript(), "a TorchScript archive"),
        (saved(torch.zeros(3)), "holds one Tensor"),
        (saved(None), "holds one NoneType"),
        (saved([torch.zeros(3)]), "holds one list"),
        (saved({}), "holds nothing"),
        (saved({"state_dict": STATE}), "holds a dict under 'state_dict'"),
        (saved({"epoch": 3} | STATE), "holds a int under 'epoch'"),
        (saved({1: torch.zeros(3)}), "a int for a name"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    with pytest.raises(StageMissing, match=words):
        load_state(put(tmp_path, data), NAME)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StageMissing, match="No such file"):
        load_state(tmp_path / "none.pth", NAME)


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    for whole in (saved({"a": torch.zeros(9)}), saved({"a": torch.zeros(9)}, is_old=True)):
        for _ in range(150):
            damaged = bytearray(whole)
            for position in torch.randint(min(len(whole), 600), (3,), generator=rng).tolist():
                damaged[position] = int(torch.randint(256, (1,), generator=rng))
            try:
                load_state(put(tmp_path, bytes(damaged)), NAME)
            except StageMissing:
                continue


@pytest.mark.parametrize(
    ("module", "late"),
    [
        ("tasks.models.weights", {"torch", "prefect"}),
        ("flows.cli.setup", {"torch", "prefect", "httpx", "rich.table"}),
    ],
)
def test_heavy_things_load_late(module: str, late: set[str]) -> None:
    program = f"import {module}, sys\nprint(*sys.modules)"
    folder = Path(weights.__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    assert not late & set(run.stdout.split())
