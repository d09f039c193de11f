"""Check of stored crops: the share in which MTCNN, at the settings of facenet-pytorch, finds a face again."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.errors import StageMissing
from manifests.row import ManifestRow
from storage.files.layout import SHARDS_DIR, video_id_of
from storage.format.encoding import decode_record
from storage.format.images import decode_rgb
from storage.shard import ShardReader
from tasks.detect.mtcnn.detector import MTCNNDetector
from tasks.media import FrameBatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAgain:
    """Checked crops of one kind."""

    kind: str
    """`real` or the manipulation."""

    num_crops: int
    """Crops that were checked."""

    num_found: int
    """Those of them in which MTCNN found a face."""

    share: float
    """`num_found` over `num_crops`."""


def found_again(
    store_dir: Path, stored: Sequence[ManifestRow], kinds: Sequence[str], num_crops: int
) -> tuple[FoundAgain, ...]:
    """Return, for each kind with records, in how many crops of a sample MTCNN finds a face.

    Args:
        store_dir: folder of the store.
        stored: rows of stored videos.
        kinds: `real` and the manipulations, in the order of the result.
        num_crops: crops of each kind that are checked; they depend on the names of videos and records alone.

    Raises:
        StoreCorrupt: a shard or a record cannot be read.
    """
    if not num_crops:
        return ()
    try:
        detector = MTCNNDetector()
    except StageMissing as missing:
        logger.info("crops not checked: %s", missing)
        return ()
    found = []
    for kind in kinds:
        rows = [row for row in stored if row.entry is not None and row.entry.kind == kind]
        with _one_thread():
            has_face = [bool(detector.detect(_as_frame(crop))[0]) for crop in _sample(store_dir, rows, num_crops)]
        if has_face:
            num_found, share = sum(has_face), round(sum(has_face) / len(has_face), 6)
            found.append(FoundAgain(kind=kind, num_crops=len(has_face), num_found=num_found, share=share))
    return tuple(found)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let torch use one thread: several wait for each other on small pictures, for 16 times the processor time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _sample(store_dir: Path, rows: Iterable[ManifestRow], num_crops: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield up to `num_crops` (S,S,3) crops: from as many videos as possible, the same number from each."""
    chosen = sorted(rows, key=lambda row: _rank(row.video_id))[:num_crops]
    per_video = -(-num_crops // max(1, len(chosen)))
    left = num_crops
    for row in chosen:
        with ShardReader(store_dir / SHARDS_DIR / str(row.shard)) as reader:
            names = reader.keys()
            keys = sorted((key for key in names if video_id_of(key) == row.video_id), key=_rank)
            for key in keys[: min(per_video, left)]:
                crops = decode_record(reader.get(key), key).crops_encoded
                yield decode_rgb(crops[int(_rank(key), 16) % len(crops)])
                left -= 1


def _rank(name: str) -> str:
    """Return a digest of a name, by which names come in a random order that is always the same."""
    return hashlib.sha256(name.encode()).hexdigest()


def _as_frame(crop: npt.NDArray[np.uint8]) -> FrameBatch:
    return FrameBatch(
        data=crop[None], frame_indices=np.zeros(1, dtype=np.int64), pts_seconds=np.zeros(1, dtype=np.float64)
    )
