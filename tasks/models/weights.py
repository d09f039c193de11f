"""Weight files of networks: the published ones, where they are searched for, how they are fetched and read.

A file is searched for in the configured folder, then in that of `$FACESHARDS_WEIGHTS`, then in torch hub's cache. The
file is used without a check, since users may have weights of their own; `verify` tells whether it is the published one.
Downloads are always checked against their SHA-256.

No file is read in a way that could run code in it.
"""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from manifests.errors import ConfigError, StageMissing
from manifests.files import locked, open_regular, sha256_of
from tasks.download.connections import ConnectionSettings
from tasks.download.fetcher import Fetcher, Wanted, is_there
from tasks.download.file_kind import Content
from tasks.download.partial_file import Partial

if TYPE_CHECKING:
    from torch import Tensor

# Environment variable with the folder of weight files, for machines without a network and for containers.
WEIGHTS_VARIABLE: Final = "FACESHARDS_WEIGHTS"

# Without a network a download fails within 10 s: two tries of 4 s, with a wait of up to 1 s between them. A download
# that has begun gets two more tries after each MiB (tasks/download/fetcher).
MAX_TRIES = 2
CONNECT_TIMEOUT_SECONDS, READ_TIMEOUT_SECONDS = 4.0, 10.0

# Exceptions of torch.load with weights_only for damaged, foreign or forbidden bytes (found with 3,000 mutated files).
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_FORBIDDEN = re.compile(r"GLOBAL (\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFile:
    """A published weight file."""

    name: str
    """Name of the file in faceshards."""

    file_name: str
    """Name under which it is published and searched for."""

    url: str
    """Address at which it is published."""

    num_bytes: int | None
    """Its length in bytes; None if it is not known."""

    sha256: str
    """Hex digest of its bytes, or its first digits if no more are published, as in the file names of torch hub."""

    licence: str
    """Licences of code and training data, for a person."""

    used_by: str
    """The setting that needs it."""

    about_mb: int | None = None
    """Its size to the next megabyte, where its length is not published."""

    @property
    def size(self) -> str:
        """Its size, for a person."""
        if self.num_bytes is not None:
            return f"{self.num_bytes / 1e6:,.1f} MB"
        return "unknown size" if self.about_mb is None else f"about {self.about_mb} MB"


_TIMM: Final = "https://github.com/rwightman/pytorch-image-models/releases/download"
_PUBLISHED = (
    # URLs and the digests' first ten digits: face_alignment 1.5's api.py and detection/sfd/sfd_detector.py.
    WeightFile(
        name="2dfan4",
        file_name="2DFAN4-11f355bf06.pth.tar",
        url="https://www.adrianbulat.com/downloads/python-fan/2DFAN4-11f355bf06.pth.tar",
        num_bytes=None,
        sha256="11f355bf0693120222f5955ce3f9dc8fb5763ebb30a47d7906e509490d32e4aa",
        licence="code BSD-3-Clause; trained on 300-W-LP (research terms)",
        used_by="landmark.kind=fan",
    ),
    WeightFile(
        name="s3fd",
        file_name="s3fd-619a316812.pth",
        url="https://www.adrianbulat.com/downloads/python-fan/s3fd-619a316812.pth",
        num_bytes=89_843_225,
        sha256="619a31681264d3f7f7fc7a16a42cbbe8b23f31a256f75a366e5a1bcd59b33543",
        licence="code BSD-3-Clause; trained on WIDER FACE (research terms)",
        used_by="detect.kind=s3fd",
    ),
    # Backbones of training presets, by timm's names; URLs and licences are those of timm 1.0 (tests compare them).
    WeightFile(
        name="tf_efficientnet_b4.ap_in1k",
        file_name="tf_efficientnet_b4_ap-dedb23e6.pth",
        url=f"{_TIMM}/v0.1-weights/tf_efficientnet_b4_ap-dedb23e6.pth",
        num_bytes=None,
        about_mb=78,
        sha256="dedb23e6",
        licence="Apache-2.0; trained on ImageNet (research terms) with AdvProp",
        used_by="model.name=m2tr",
    ),
    WeightFile(
        name="legacy_xception.tf_in1k",
        file_name="xception-43020ad28.pth",
        url=f"{_TIMM}/v0.1-cadene/xception-43020ad28.pth",
        num_bytes=None,
        about_mb=92,
        sha256="43020ad28",
        licence="Apache-2.0; trained on ImageNet (research terms)",
        used_by="model.name=xception",
    ),
    WeightFile(
        name="tf_efficientnetv2_b0.in1k",
        file_name="tf_efficientnetv2_b0-c7cc451f.pth",
        url=f"{_TIMM}/v0.1-effv2-weights/tf_efficientnetv2_b0-c7cc451f.pth",
        num_bytes=None,
        about_mb=29,
        sha256="c7cc451f",
        licence="Apache-2.0; trained on ImageNet (research terms)",
        used_by="model.name=ff_attribution",
    ),
)
WEIGHTS: dict[str, WeightFile] = {weights.name: weights for weights in _PUBLISHED}


def weight_file(name: str) -> WeightFile:
    """Return the description of a weight file.

    Raises:
        ConfigError: no weight file has this name.
    """
    if name not in WEIGHTS:
        raise ConfigError(f"weights: got {name!r}, expected one of {', '.join(WEIGHTS)}")
    return WEIGHTS[name]


def hub_dir() -> Path:
    """Return the folder where torch hub keeps its downloads, without importing torch.

    The rules are those of `torch.hub._get_torch_home`, except that an empty variable counts as unset.
    """
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch")
    return _expanded(Path(home)) / "hub" / "checkpoints"


def search_dirs(weights_dir: Path | None = None) -> list[Path]:
    """Return the folders in which weight files are searched for, each once, in the order of the search.

    Args:
        weights_dir: the configured folder.
    """
    variable = os.environ.get(WEIGHTS_VARIABLE)
    named = [Path(folder) for folder in (weights_dir, variable) if folder]
    return list(dict.fromkeys([*map(_expanded, named), hub_dir()]))


def find(name: str, weights_dir: Path | None = None) -> Path | None:
    """Return the path of a weight file; None if no folder has it.

    An empty file does not count. The bytes are not checked.

    Raises:
        ConfigError: there is no weight file of this name.
    """
    file_name = weight_file(name).file_name
    for folder in search_dirs(weights_dir):
        try:
            if is_there(folder / file_name):
                return folder / file_name
        except PermissionError:  # another user's folder, such as root's cache in a container
            continue
    return None


def require(name: str, weights_dir: Path | None = None) -> Path:
    """Return the path of a weight file, without access to the network.

    Raises:
        ConfigError: there is no weight file of this name.
        StageMissing: no folder has it.
    """
    found = find(name, weights_dir)
    if found is None:
        raise StageMissing(_missing(name, weights_dir, "it was not downloaded yet"))
    return found


def fetch(
    name: str, weights_dir: Path | None = None, on_bytes: Callable[[int, int | None], None] | None = None
) -> Path:
    """Return the path of a weight file; if no folder has it, download it into the first of `search_dirs`.

    A download that breaks off is resumed by the next try or the next run. The file gets its name only after its
    SHA-256 was checked.

    Args:
        name: one of `WEIGHTS`.
        weights_dir: the configured folder.
        on_bytes: called during the download with the number of bytes so far and the total, if that is known.

    Raises:
        ConfigError: there is no weight file of this name.
        StageMissing: no folder has it and it cannot be downloaded.
    """
    found = find(name, weights_dir)
    if found is None:
        with _alone_in(search_dirs(weights_dir)[0]):
            found = find(name, weights_dir) or _download(name, weights_dir, on_bytes)
    return found


def verify(path: Path, name: str) -> str | None:
    """Return how a file's digest differs from the published one, for a person; None if they are equal.

    Raises:
        ConfigError: there is no weight file of this name.
        OSError: the file cannot be read.
    """
    expected = weight_file(name).sha256
    found = sha256_of(path)
    return None if found.startswith(expected) else f"got SHA-256 {found}, expected {expected}"


def load_state(path: Path, what: str) -> dict[str, Tensor]:
    """Read a file's tensors by name, onto the CPU, with the dtypes of the file; no code in it is run.

    Args:
        path: a file written by `torch.save`, in its present format or that before PyTorch 1.6.
        what: the network that needs it, for messages.

    Raises:
        StageMissing: the file cannot be read, is not a mapping of names to tensors, or would run code.
    """
    import torch  # takes seconds, so listing and fetching do not import it

    try:
        with warnings.catch_warnings(), open_regular(path):  # torch would wait for ever for what a pipe does not send
            warnings.simplefilter("ignore")  # about formats of files that are refused below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise StageMissing(_unusable(path, what, _reason(error))) from error
    wrong = _fault_of(state)
    if wrong is not None:
        raise StageMissing(_unusable(path, what, wrong))
    return dict(state)


def _expanded(folder: Path) -> Path:
    """Return a folder with `~` replaced; unchanged if the user has no home, as in some containers."""
    try:
        return folder.expanduser()
    except RuntimeError:
        return folder


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder while a file is downloaded; other processes wait, and then find the file."""
    with ExitStack() as stack:
        # Faults of the folder are reported by the download; some network file systems cannot lock a folder.
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(folder))
        yield


def _download(name: str, weights_dir: Path | None, on_bytes: Callable[[int, int | None], None] | None) -> Path:
    """Download a weight file into the first of `search_dirs`.

    Raises:
        StageMissing: it cannot be downloaded.
    """
    published = weight_file(name)
    wanted = Wanted(
        url=published.url,
        path=search_dirs(weights_dir)[0] / published.file_name,
        content=Content.WEIGHTS,
        num_bytes=published.num_bytes,
        sha256=published.sha256,
    )
    settings = ConnectionSettings(
        connections=1, connect_timeout_s=CONNECT_TIMEOUT_SECONDS, read_timeout_s=READ_TIMEOUT_SECONDS
    )
    count = _counting(wanted, on_bytes) if on_bytes else lambda _: None
    with Fetcher(settings, max_tries=MAX_TRIES, on_bytes=count) as fetcher:
        outcome = fetcher.fetch(wanted)
    if outcome.status == "failed":
        raise StageMissing(_missing(name, weights_dir, f"its download failed: {outcome.detail}"))
    return outcome.path


def _counting(wanted: Wanted, on_bytes: Callable[[int, int | None], None]) -> Callable[[int], None]:
    """Return a callback for the fetcher, which counts bytes, including those of an earlier run's partial file."""
    num_bytes, total = Partial(wanted.path).num_bytes, wanted.num_bytes

    def count(num_new: int) -> None:
        nonlocal num_bytes, total
        num_bytes += num_new
        if total is None and num_new > 0:
            total = Partial(wanted.path).total  # known from the server's answer before the first byte
        on_bytes(num_bytes, total)

    return count


def _missing(name: str, weights_dir: Path | None, why: str) -> str:
    """Return the message that a file is missing, with the searched folders and the way out."""
    published = weight_file(name)
    folders = ", ".join(str(folder) for folder in search_dirs(weights_dir))
    return (
        f"weights {name}: got no {published.file_name} in {folders}, expected it in one of them; {why}. "
        f"On a machine with a network, run `faceshards weights fetch {name} --weights-dir DIR`, which fetches "
        f"{published.url}; then copy the file from DIR into one of these folders, or set {WEIGHTS_VARIABLE} to a "
        "folder that has it"
    )


def _unusable(path: Path, what: str, got: str) -> str:
    return (
        f"weights {what}: {path}: got {got}, expected names and tensors, saved with torch.save(model.state_dict(), …); "
        "`faceshards weights verify` tells whether it is the published file; delete it to fetch that one"
    )


def _fault_of(state: object) -> str | None:
    """Return what a file holds instead of tensors by name; None if it holds these."""
    import torch

    if not isinstance(state, Mapping):
        return f"a file that holds one {type(state).__name__}"
    for key, value in state.items():
        if not isinstance(key, str):
            return f"a file with a {type(key).__name__} for a name"
        if not isinstance(value, torch.Tensor):
            return f"a file that holds a {type(value).__name__} under {key!r}"
    return None if state else "a file that holds nothing"


def _reason(error: Exception) -> str:
    """Return why torch.load failed; its own message advises to load the file unsafely."""
    if isinstance(error, OSError):
        return f"an error ({error.strerror or error})"
    forbidden = _FORBIDDEN.search(str(error))
    if isinstance(error, pickle.UnpicklingError) and forbidden:
        return f"a file that wants {forbidden[1]} to be run, which is refused"
    if "TorchScript" in str(error):
        return "a TorchScript archive, which holds code"
    return "bytes that PyTorch cannot read, or a file that was cut off"
