"""Check of the free disk space before a download writes its first byte."""

from __future__ import annotations

import shutil
from pathlib import Path

from manifests.errors import ConfigError

# Space that a run leaves free: a full disk harms other programs as well.
DISK_MARGIN_BYTES = 1_000_000_000


def free_bytes(folder: Path) -> int:
    """Return how many bytes can be written below a folder, which need not exist yet."""
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def require_room(folder: Path, num_bytes: int) -> None:
    """Raise unless this many bytes and `DISK_MARGIN_BYTES` more are free.

    Raises:
        ConfigError: there is too little space.
    """
    free = free_bytes(folder)
    if num_bytes + DISK_MARGIN_BYTES > free:
        raise ConfigError(
            f"disk of {folder}: got {gigabytes(free)} free, expected {gigabytes(num_bytes + DISK_MARGIN_BYTES)} "
            f"({gigabytes(DISK_MARGIN_BYTES)} of it to spare); free some, choose less, or choose another disk"
        )


def gigabytes(num_bytes: float) -> str:
    """Return a number of bytes for a person, in GB of 10^9 bytes, or in MB below 1 GB."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
