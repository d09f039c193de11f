"""Packing of aligned crops into records: encoded images with their geometry and identity."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage.format.images import encode_gray, encode_rgb
from storage.format.record import FoundBy, MaskSource, Record
from tasks.media import AlignedClip, FaceTrack
from tasks.settings import EncodeSettings
from tasks.track.main_face import ChosenTrack
from tasks.video.job import VideoJob


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedFrame:
    """One frame of one track in the form that records hold."""

    crop: bytes
    """Encoded RGB image of S×S pixels."""

    mask: bytes | None
    """PNG of S×S grey pixels; None where there is no mask."""

    box_xyxy: npt.NDArray[np.float32]
    """(4,) float32 pixels of the full frame."""

    landmarks: npt.NDArray[np.float32]
    """(K,2) float32 (x, y) in crop pixels."""

    landmark_scores: npt.NDArray[np.float32] | None
    """(K,) float32 landmark scores; None if the landmarker has none."""

    matrix: npt.NDArray[np.float64]
    """(2,3) float64, full-frame pixels → crop pixels."""

    frame_index: int
    """Position in the whole video, 0-based."""

    pts_seconds: float
    """Presentation time in seconds."""

    score: float
    """The detector's confidence 0..1; 0 where interpolated."""

    interpolated: bool
    """Whether box and landmarks come from neighbouring frames."""

    found_by: FoundBy
    """Method that found the face."""


def record_key(video_id: str, track_id: int, frame_index: int) -> str:
    """Return a key that sorts records by video, person and time."""
    return f"{video_id}/{track_id:02d}/{frame_index:06d}"


def encode_frames(
    rows: FaceTrack, clip: AlignedClip, has_mask: npt.NDArray[np.bool_], settings: EncodeSettings
) -> Iterator[EncodedFrame]:
    """Yield each of T aligned frames with its images encoded.

    Args:
        rows: the track's rows of exactly the clip's frames, full-frame pixels.
        clip: T crops.
        has_mask: (T,) bool, which of the clip's masks are real.
        settings: how images are encoded.
    """
    interpolated = rows.interpolated if clip.interpolated is None else rows.interpolated | clip.interpolated
    for row in range(len(clip.frame_indices)):
        is_seen = not interpolated[row]
        found_by = FoundBy.DETECTOR if rows.found_by is None else FoundBy(int(rows.found_by[row]))
        yield EncodedFrame(
            crop=encode_rgb(clip.crops[row], settings.image_format, settings.quality),
            mask=encode_gray(clip.masks[row]) if clip.masks is not None and has_mask[row] else None,
            box_xyxy=rows.boxes_xyxy[row],
            landmarks=clip.landmarks[row],
            landmark_scores=None if rows.landmark_scores is None else rows.landmark_scores[row] * np.float32(is_seen),
            matrix=clip.matrices[row],
            frame_index=int(clip.frame_indices[row]),
            pts_seconds=float(clip.pts_seconds[row]),
            score=float(rows.scores[row]) if is_seen else 0.0,
            interpolated=not is_seen,
            found_by=found_by if is_seen else FoundBy.NOT_FOUND,
        )


def pack_record(
    job: VideoJob, chosen: ChosenTrack, frames: Sequence[EncodedFrame], geometry_from: str | None
) -> Record:
    """Return the record of T frames of one track, in their order.

    It has masks if each of its frames has one.

    Args:
        job: the video.
        chosen: the track.
        frames: what is stored of it.
        geometry_from: video_id of the original whose boxes and landmarks these are; None for the video's own.

    Raises:
        ValueError: the entry has no split or has not been probed.
    """
    entry, track_id = job.entry, chosen.track.track_id
    if entry.split is None:
        raise ValueError(f"pack: got {entry.video_id} without a split, expected one of train, val and test")
    masks = [frame.mask for frame in frames if frame.mask is not None]
    has_masks = len(masks) == len(frames)
    mask_source: MaskSource = "dataset" if entry.mask_path is not None else "difference"
    scores = [frame.landmark_scores for frame in frames if frame.landmark_scores is not None]
    return Record(
        key=record_key(entry.video_id, track_id, frames[0].frame_index),
        video_id=entry.video_id,
        dataset=entry.dataset,
        manipulation=entry.manipulation,
        compression=entry.compression,
        split=entry.split,
        label=entry.label_as_integer,
        target_id=entry.target_id,
        source_id=entry.source_id,
        group_id=entry.group_id,
        track_id=track_id,
        track_choice=chosen.choice,
        geometry_from=geometry_from,
        mask_source=mask_source if has_masks else None,
        crops_encoded=tuple(frame.crop for frame in frames),
        masks_encoded=tuple(masks) if has_masks else None,
        boxes_xyxy=np.stack([frame.box_xyxy for frame in frames]),
        landmarks=np.stack([frame.landmarks for frame in frames]),
        landmark_scores=np.stack(scores) if len(scores) == len(frames) else None,
        matrices=np.stack([frame.matrix for frame in frames]),
        frame_indices=np.array([frame.frame_index for frame in frames], dtype=np.int64),
        pts_seconds=np.array([frame.pts_seconds for frame in frames], dtype=np.float64),
        scores=np.array([frame.score for frame in frames], dtype=np.float32),
        interpolated=np.array([frame.interpolated for frame in frames], dtype=np.bool_),
        found_by=np.array([frame.found_by for frame in frames], dtype=np.uint8),
        content_digest=entry.content_digest,
        config_digest=job.config_digest,
    )
