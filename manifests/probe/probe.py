"""Probing: measurements of a video from its container, its first frame and a few key frames."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from errno import EINVAL
from operator import attrgetter
from pathlib import Path
from stat import S_ISREG

from manifests.entry import VideoEntry
from manifests.errors import VideoRejected
from manifests.files import sha256_of
from manifests.probe.container import coded_stream, first_frame, frame_rate, open_video
from manifests.probe.frame_hashes import hash_frames
from manifests.probe.picture import UPRIGHT, layout_of, matrix_of, notes, refuse_odd_angle, shown_size
from manifests.probe.promised_length import require_whole
from manifests.rejected import Reason, Rejected, Stage

logger = logging.getLogger(__name__)

# Hashing and demuxing release the interpreter lock; more threads would only compete for the disk.
NUM_PROBE_THREADS = 4
# The fields of an entry that all stay equal as long as its files are the ones that were probed.
FINGERPRINT = attrgetter("path", "mask_path", "num_bytes", "mtime_ns", "mask_num_bytes", "mask_mtime_ns")


def probe_all(root: Path, entries: Sequence[VideoEntry]) -> Iterator[VideoEntry | Rejected]:
    """Probe many videos, a few at a time; a file that cannot be used becomes a `Rejected`.

    Results come in the order of the entries.
    """

    def probe_one(entry: VideoEntry) -> VideoEntry | Rejected:
        try:
            return probe(root, entry)
        except VideoRejected as rejection:
            return rejection.for_video(entry.video_id)
        except Exception as error:
            # A fault of a library that one file brings out must not end the index of all others.
            logger.exception("%s: unexpected failure", entry.video_id)
            detail = f"unexpected {type(error).__name__}: {error}"
            return Rejected(video_id=entry.video_id, stage=Stage.PROBE, reason=Reason.CRASHED, detail=detail)

    with ThreadPoolExecutor(NUM_PROBE_THREADS) as threads:
        yield from threads.map(probe_one, entries)


def probe(root: Path, entry: VideoEntry) -> VideoEntry:
    """Return the entry with frames, exact fps, size, rotation, digests and perceptual hashes.

    Raises:
        VideoRejected: the file is unreadable, empty, not a video, without pictures, or shorter than its header states.
    """
    path = root / entry.path
    try:
        found = _fingerprinted(root, entry)
        if found.num_bytes == 0:
            raise VideoRejected(Stage.PROBE, Reason.EMPTY_FILE, f"{entry.path}: got 0 bytes, expected a video")
        return replace(
            _measured(path, found),
            sha256=sha256_of(path),
            mask_sha256=sha256_of(root / entry.mask_path) if entry.mask_path else None,
        )
    except OSError as error:
        raise VideoRejected(Stage.PROBE, Reason.UNREADABLE, f"{entry.path}: {error.strerror or error}") from error


def is_unchanged(root: Path, found: VideoEntry, known: VideoEntry) -> bool:
    """Whether paths, size and modification time of a video and its mask are those of the earlier entry."""
    try:
        now = _fingerprinted(root, found)
    except OSError:
        return False
    return FINGERPRINT(now) == FINGERPRINT(known)


def _fingerprinted(root: Path, entry: VideoEntry) -> VideoEntry:
    """Return the entry with size and modification time of video and mask."""
    video, mask = (root / entry.path).stat(), (root / entry.mask_path).stat() if entry.mask_path else None
    if not all(S_ISREG(found.st_mode) for found in (video, mask) if found):
        raise OSError(EINVAL, "a pipe or a device, not a regular file")  # it may block, or have no end
    return replace(
        entry,
        num_bytes=video.st_size,
        mtime_ns=video.st_mtime_ns,
        mask_num_bytes=mask.st_size if mask else None,
        mask_mtime_ns=mask.st_mtime_ns if mask else None,
    )


def _measured(path: Path, entry: VideoEntry) -> VideoEntry:
    """Open the container, count its frames and decode the first; return the entry with these measurements.

    Raises:
        VideoRejected: it is no video, has no pictures, or fewer frames than its header states.
    """
    require_whole(path)
    with open_video(path, Stage.PROBE) as (container, stream):
        coded = coded_stream(container, stream, Stage.PROBE)
        # Only MP4's header counts packets: others count fields or estimates, so an AVI with B-frames may state twice
        # its frames. The header also counts frames in groups that an edit list hides as a whole; no reader gets these.
        num_promised = len(stream.index_entries)
        if "mp4" in container.format.name and num_promised > len(coded.packets):
            got = len(coded.packets)
            detail = f"{path.name}: got {got} frames, expected {num_promised} as its header says; copy it again"
            raise VideoRejected(Stage.PROBE, Reason.TRUNCATED, detail)
        first = first_frame(path, Stage.PROBE)
        if first is None:
            detail = f"{path.name}: got no decodable frame, expected at least 1; copy it again"
            raise VideoRejected(Stage.PROBE, Reason.TRUNCATED, detail)
        layout = layout_of(container, stream, Stage.PROBE)
        matrix = matrix_of(first)
        refuse_odd_angle(container, matrix, Stage.PROBE)
        width, height = shown_size(first, layout)
        num_frames = len(coded.times)
        return replace(
            entry,
            num_frames=num_frames,
            fps=frame_rate(stream),
            width=width,
            height=height,
            rotation_degrees=0 if matrix == UPRIGHT else -first.rotation % 360,
            picture=notes(first, layout),
            frame_hashes=hash_frames(container, stream, num_frames),
        )
