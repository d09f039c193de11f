"""Files of weights: reading state dicts without executing code, and comparing them with a network."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from manifests.errors import ConfigError

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
MAX_REASON = 200  # characters quoted from the message of torch
MAX_NAMED = 8  # keys named in a message; the others are counted

COUNTER = (
    ".num_batches_tracked"  # of batch normalisation; nothing here reads it, and files before PyTorch 0.4.1 lack it
)


def read_weights(path: Path) -> object:
    """Read the content of a torch or `.safetensors` file; no code in it is executed.

    Raises:
        ConfigError: the file is missing or damaged, or holds more than tensors and plain values.
    """
    try:
        return load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ConfigError(f"{path}: got no file, expected one of weights; check the path") from error
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:MAX_REASON] or type(error).__name__
        way_out = "fetch the file again, or save only its state dict: torch.save(checkpoint['model_state'], path)"
        raise ConfigError(f"{path}: got {reason}, expected tensors and plain values only; {way_out}") from error


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
