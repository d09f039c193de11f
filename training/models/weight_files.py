"""Files of weights: reading state dicts without executing code, and comparing them with a network."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from manifests.errors import ConfigError
from manifests.files import open_regular

# Exceptions of torch and safetensors for damaged files and files of other formats.
UNREADABLE = (
    pickle.UnpicklingError,
    SafetensorError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
_FORBIDDEN = re.compile(r"GLOBAL (\S+)")  # in torch's message about what it refuses to run
MAX_REASON = 200  # characters quoted from the message of safetensors
MAX_NAMED = 8  # keys named in a message; the others are counted

# A counter of batch normalisation. Nothing here reads it, and files from before PyTorch 0.4.1 lack it.
COUNTER = ".num_batches_tracked"


def read_weights(path: Path, *, mapped: bool = False) -> object:
    """Read the content of a torch or `.safetensors` file; no code in it is executed.

    Args:
        path: the file.
        mapped: leave the tensors of a torch file on disk, which reads structure and names only.

    Raises:
        ConfigError: the file is missing or damaged, or holds more than tensors and plain values.
    """
    try:
        with open_regular(path):  # torch would wait for ever for what a pipe does not send
            pass
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about formats of files that are refused below
            return torch.load(path, "cpu", weights_only=True, mmap=mapped)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: got no file, expected one of weights; check the path") from error
    except UNREADABLE as error:
        reason = _reason(error)
        way_out = "fetch the file again, or save only its state dict: torch.save(checkpoint['model_state'], path)"
        raise ConfigError(f"{path}: got {reason}, expected tensors and plain values only; {way_out}") from error


def _reason(error: Exception) -> str:
    """Return why a file cannot be read; torch's own message advises to load it unsafely."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, SafetensorError):
        return " ".join(str(error).split())[:MAX_REASON]
    forbidden = _FORBIDDEN.search(str(error))
    if forbidden:
        return f"a file that wants {forbidden[1]} to be run, which is refused"
    return "bytes that PyTorch cannot read, or a file that was cut off"


def require_intact(path: Path) -> None:
    """Require that the checksums in a torch file are those of its bytes; torch itself does not compare them.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        if not is_zipfile(path):  # a file of PyTorch before 1.6, or another format, without checksums
            return
        with ZipFile(path) as archive:
            damaged = archive.testzip()
    except (BadZipFile, OSError, NotImplementedError, RuntimeError) as error:
        damaged = str(error)
    if damaged is not None:
        raise ConfigError(f"{path}: got damaged bytes ({damaged}), expected those that were saved; copy the file again")


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a state dict, at the top or under `model_state`; see `read_weights`.

    Raises:
        ConfigError: the file is missing or damaged, or holds no state dict.
    """
    held = read_weights(path)
    state = held.get("model_state", held) if isinstance(held, dict) else held
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        what = f"a dict of {sorted(map(str, state))[:MAX_NAMED]}" if isinstance(state, dict) else type(state).__name__
        raise ConfigError(f"{path}: got {what}, expected a state dict or one under `model_state`; name another file")
    return state


def without_missing_counters(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the expected tensors without the counters that a file lacks."""
    return {key: value for key, value in expected.items() if key in found or not key.endswith(COUNTER)}


def require_same(path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Require that a state dict has the expected keys and shapes.

    Raises:
        ConfigError: they differ; the message names the first differences.
    """
    wrong = {
        "missing": [key for key in expected if key not in found],
        "unknown": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {tuple(found[key].shape)} for {tuple(value.shape)}"
            for key, value in expected.items()
            if key in found and found[key].shape != value.shape
        ],
    }
    differences = [f"{len(keys)} {what} ({', '.join(keys[:MAX_NAMED])})" for what, keys in wrong.items() if keys]
    if differences:
        way_out = "weights fit only the model and the img_size that they were trained with"
        raise ConfigError(f"{path}: got keys {'; '.join(differences)}, expected {len(expected)} that match; {way_out}")
