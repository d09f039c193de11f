"""Network file systems, on which LMDB must not write.

LMDB maps its file into memory for writing, and a network file system does not keep such a map and the file equal: pages
are lost without an error. A shard for such a folder is written on a local disk first, then copied.
"""

from __future__ import annotations

import re
from pathlib import Path

# File-system types of Linux whose files lie on other machines. A FUSE type counts unless it is known to be local.
NETWORK_TYPES = frozenset(
    {"9p", "afs", "beegfs", "ceph", "cifs", "glusterfs", "gpfs", "lustre", "nfs", "nfs4", "orangefs", "smb3", "smbfs"}
)
LOCAL_FUSE_TYPES = frozenset({"fuseblk", "fuse.ntfs-3g", "fuse.fuse-overlayfs"})

_OCTAL = re.compile(r"\\([0-7]{3})")  # how the kernel writes spaces in paths: `\040`


def is_on_network(path: Path, mounts: Path = Path("/proc/self/mounts")) -> bool:
    """Return whether a path lies on a network file system; False if the system does not tell.

    Args:
        path: need not exist.
        mounts: the kernel's list: device, folder, type and more on each line.
    """
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return False
    place = path.resolve()
    kind, depth = "", -1
    for line in lines:
        folder, found = line.split(" ")[1:3]
        mounted = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), folder))
        if place.is_relative_to(mounted) and len(mounted.parts) >= depth:  # the later of two mounts hides the earlier
            kind, depth = found, len(mounted.parts)
    return kind in NETWORK_TYPES or (kind.startswith("fuse") and kind not in LOCAL_FUSE_TYPES)
