"""Devices: which ones a setting means on a machine, and what is said where they are not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tasks.workers.devices
from manifests.errors import ConfigError
from tasks.workers.devices import resolve_devices

ROOT = Path(__file__).resolve().parents[4]


@pytest.mark.parametrize(
    ("device", "num_gpus", "devices"),
    [
        ("cpu", 0, ("cpu",)),
        ("cpu", 2, ("cpu",)),
        ("auto", 0, ("cpu",)),
        ("auto", 2, ("cuda:0", "cuda:1")),
        ("cuda", 2, ("cuda:0", "cuda:1")),
        ("cuda:1", 2, ("cuda:1",)),
    ],
)
def test_devices(monkeypatch: pytest.MonkeyPatch, device: str, num_gpus: int, devices: tuple[str, ...]) -> None:
    monkeypatch.setattr(tasks.workers.devices, "_count_gpus", lambda: num_gpus)
    assert resolve_devices(device) == devices


@pytest.mark.parametrize(
    ("device", "num_gpus", "allowed"),
    [("cuda:0", 0, "auto, cpu"), ("cuda", 0, "auto, cpu"), ("cuda:2", 2, "auto, cpu, cuda:0, cuda:1")],
)
def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch, device: str, num_gpus: int, allowed: str) -> None:
    monkeypatch.setattr(tasks.workers.devices, "_count_gpus", lambda: num_gpus)
    with pytest.raises(ConfigError) as refusal:
        resolve_devices(device)
    assert str(refusal.value) == (
        f"detect.device: got {device!r}, expected one of {allowed}; PyTorch sees {num_gpus} GPUs here"
    )


def test_without_a_device_file_torch_is_not_asked() -> None:
    """Importing it costs seconds: on a machine without a GPU, only the workers pay them."""
    if any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists():
        pytest.skip("this machine has the device file of a GPU")
    program = (
        "import sys; from tasks.workers.devices import resolve_devices as on; print(on('auto'), 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout == "('cpu',) False\n"
