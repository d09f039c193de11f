"""Devices that networks run on: what a setting such as `auto` means on this machine."""

from __future__ import annotations

from pathlib import Path

from manifests.errors import ConfigError


def resolve_devices(device: str, setting: str = "detect.device") -> tuple[str, ...]:
    """Return the devices that a setting stands for.

    Args:
        device: `auto` (every GPU, or else the CPU), `cpu`, `cuda` (every GPU) or `cuda:N`.
        setting: its name, for the message.

    Raises:
        ConfigError: a requested GPU does not exist.
    """
    if device == "cpu":
        return ("cpu",)
    num_gpus = _count_gpus()
    if device == "auto" and num_gpus == 0:
        return ("cpu",)
    available = tuple(f"cuda:{number}" for number in range(num_gpus))
    if device in ("auto", "cuda") and available:
        return available
    if device in available:
        return (device,)
    raise ConfigError(
        f"{setting}: got {device!r}, expected one of auto, cpu{''.join(f', {name}' for name in available)}; "
        f"PyTorch sees {num_gpus} GPUs here"
    )


def _count_gpus() -> int:
    """Return the number of GPUs that PyTorch can use; 0 without a driver's device file, which saves the import."""
    if not (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists()):
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0
