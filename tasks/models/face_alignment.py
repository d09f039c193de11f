"""Shared code of face-alignment's networks: the package, loading of weights, upload of pictures to the device."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from manifests.errors import StageMissing
from tasks.models.weights import load_state, require

if TYPE_CHECKING:
    from torch import Tensor, device, nn

# `Implementation.packages` of implementations with a network of face-alignment.
PACKAGES: Final = {"face_alignment": "face-alignment 1.5.0; pip install it"}
MAX_DETAIL_CHARS = 200  # quoted from PyTorch's list of tensors that do not fit


def load_network(network: nn.Module, name: str, weights_dir: Path | None, device: device) -> nn.Module:
    """Return a network with the weights of a file, ready to run on a device with channels-last images.

    Args:
        network: network of the right architecture, with any weights.
        name: one of `tasks.models.weights.WEIGHTS`.
        weights_dir: folder that is searched first for weight files.
        device: device that it will run on.

    Raises:
        StageMissing: the file is missing or does not fit.
    """
    import torch

    path = require(name, weights_dir)
    state = load_state(path, name)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())[:MAX_DETAIL_CHARS]
        raise StageMissing(
            f"weights {name}: {path}: got tensors that do not fit ({detail}…), expected those of the published file; "
            "`faceshards weights verify` tells whether it is that file; delete it to fetch the published file"
        ) from error
    ready: nn.Module = network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # stubs know no memory format with a device
    return ready


def upload(images: npt.NDArray[np.uint8], device: device) -> Tensor:
    """Return (N,H,W,3) uint8 images on a device as (N,3,H,W) float32, 0..255, in channels-last memory format."""
    import torch

    pixels = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    if device.type == "cuda":
        pixels = pixels.pin_memory()  # the copy from pinned memory runs while this thread continues
    return pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
