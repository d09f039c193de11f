"""Watchdog over a worker's memory, and the limit that a machine allows.

What a video needs is planned (`tasks/video/memory.py`). If a library takes much more, the watchdog ends the worker
before the kernel ends another process: that costs the video, and the pool starts a new worker. Only Linux tells the
resident memory of a process while it runs; elsewhere there is no watchdog.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Exit code of a process that was ended by the watchdog.
EXIT_CODE = 74
SECONDS_BETWEEN_LOOKS = 0.1
TOLERANCE = 1.5  # of the planned memory: allocators keep some of what was freed
# For what is loaded and compiled with the first video: 250 MiB with MTCNN on a CPU.
LOADED_LATER_BYTES = 512 * 2**20

# The default per worker. The least lets 1080p pass.
LEAST_BYTES, MOST_BYTES = 768 * 2**20, 2 * 2**30
CGROUPS = Path("/sys/fs/cgroup")
STATM, OWN_CGROUPS = Path("/proc/self/statm"), Path("/proc/self/cgroup")


def end_process_above(max_bytes: int) -> None:
    """End this whole process, with EXIT_CODE, when its resident memory has grown by much more than this from now on.

    For worker processes only, once: nothing is cleaned up. Shared memory counts.

    Args:
        max_bytes: memory that was planned for one video.
    """
    if not STATM.exists():
        return
    most = _resident_bytes() + TOLERANCE * max_bytes + LOADED_LATER_BYTES

    def watch() -> None:
        while _resident_bytes() <= most:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        os._exit(EXIT_CODE)

    threading.Thread(target=watch, daemon=True, name="memory watchdog").start()


def default_bytes(num_workers: int) -> int:
    """Return the memory that each of this many workers on this machine may use for one video."""
    return max(LEAST_BYTES, min(MOST_BYTES, machine_bytes() // num_workers))


def machine_bytes() -> int:
    """Return the memory of this machine, or of the container or job that this process runs in if that is less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *_cgroup_limits()])


def _cgroup_limits() -> Iterator[int]:
    """Yield the limits of the control groups of this process and of those above, versions 1 and 2."""
    lines = OWN_CGROUPS.read_text(encoding="utf-8").splitlines() if OWN_CGROUPS.exists() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (CGROUPS, "memory.max")
        group = root / path.lstrip("/")  # in a container it may not exist, but its root is the container's group
        for folder in (group, *group.parents):
            if folder.is_relative_to(root):
                with suppress(OSError, ValueError):  # `max` is no number
                    yield int((folder / name).read_text(encoding="utf-8"))


def _resident_bytes() -> int:
    return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
