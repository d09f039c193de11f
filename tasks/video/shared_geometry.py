"""Geometry that a fake takes from its original: the main face alone, or all of it.

An original has up to six fakes, processed by several workers. The first worker that needs its geometry finds and
writes it; the others wait and read it. The files are deleted at the end of the run.

    <digest>.npz        the geometry
    <digest>.rejected   there is none: the original shows no face, or cannot be decoded
    <digest>.lock       held by the worker that searches the original
    <digest>.begun      a worker began. If the lock is free and the first two files are missing, the original killed
                        that worker. Its fakes are then rejected as crashed, and the next run tries all of them again:
                        with geometry of their own, some might differ from fakes that were stored before
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from manifests.errors import VideoRejected
from manifests.files import locked, write_atomically
from tasks.decode.sampling import Samples
from tasks.media import FaceTrack, Reason, Stage
from tasks.track.main_face import ChosenTrack
from tasks.video.context import VideoContext
from tasks.video.geometry import Geometry, find_geometry

# Rejections of an original that may be usable in the next run; its fakes wait for that run.
PASSING = frozenset({Reason.CRASHED, Reason.TOO_LARGE, Reason.UNREADABLE})

TRACK_ARRAYS = ("frame_indices", "boxes_xyxy", "landmarks", "scores", "interpolated", "landmark_scores", "found_by")


def geometry_of_original(original: VideoContext) -> Geometry | None:
    """Return the geometry of a fake's original, or None if the original was rejected permanently.

    Raises:
        VideoRejected: the original, and so the fake, may be usable in another run.
    """
    try:
        return kept_geometry(original, is_own=False)
    except VideoRejected as rejection:
        if rejection.reason in PASSING:
            raise
        return None  # the original's own row has the reason


def kept_geometry(video: VideoContext, *, is_own: bool = True) -> Geometry:
    """Return the geometry of an original: the kept one, or else find it and keep it for its fakes.

    Args:
        video: the original.
        is_own: whether the original itself is processed; a fake does not retry an original that killed a worker.

    Raises:
        VideoRejected: the original cannot be used.
    """
    job = video.job
    if job.geometry_dir is None:
        return find_geometry(video)
    identity = (job.entry.video_id, job.entry.content_digest, job.choice_mask or "", job.config_digest)
    place = job.geometry_dir / hashlib.sha256("\n".join(identity).encode()).hexdigest()
    place.parent.mkdir(parents=True, exist_ok=True)
    with locked(place.with_suffix(".lock")):
        kept, rejected, begun = (place.with_suffix(suffix) for suffix in (".npz", ".rejected", ".begun"))
        if kept.exists():
            return _read(kept)
        if not is_own and begun.exists():
            reason = Reason(rejected.read_text()) if rejected.exists() else Reason.CRASHED
            detail = f"its original, {job.entry.path}, cannot be used: {reason}"
            raise VideoRejected(Stage.DETECT, reason, detail)
        begun.touch()
        try:
            geometry = find_geometry(video)
        except VideoRejected as rejection:
            rejected.write_text(rejection.reason)
            raise
        _write(kept, geometry)
    return geometry


def _write(path: Path, geometry: Geometry) -> None:
    """Write a geometry: arrays, and one JSON text that describes them."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    for number, chosen in enumerate(geometry.tracks):
        for name in TRACK_ARRAYS:
            if (array := getattr(chosen.track, name)) is not None:
                arrays[f"{name}/{number}"] = array
    about = {
        "tracks": [{"track_id": chosen.track.track_id, "choice": chosen.choice} for chosen in geometry.tracks],
        "records": [record.tolist() for record in geometry.samples.records],
        "num_faces": geometry.num_faces,
        "num_tracks": geometry.num_tracks,
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    written = io.BytesIO()
    np.savez(written, allow_pickle=False, **arrays)
    write_atomically(path, written.getvalue())


def _read(path: Path) -> Geometry:
    with np.load(path, allow_pickle=False) as arrays:
        about = json.loads(arrays["about"].tobytes())
        tracks = tuple(
            ChosenTrack(track=_track(arrays, number, track["track_id"]), choice=track["choice"])
            for number, track in enumerate(about["tracks"])
        )
    return Geometry(
        tracks=tracks,
        samples=Samples(records=tuple(np.array(record, dtype=np.int64) for record in about["records"])),
        num_faces=about["num_faces"],
        num_tracks=about["num_tracks"],
    )


def _track(arrays: Mapping[str, npt.NDArray[Any]], number: int, track_id: int) -> FaceTrack:
    names = (name for name in TRACK_ARRAYS if f"{name}/{number}" in arrays)
    return FaceTrack(track_id=track_id, **{name: arrays[f"{name}/{number}"] for name in names})
