"""Contact sheet of a store: thumbnails of stored crops, by which a person checks that they show the right faces.

A store of few videos is shown with every stored frame. Of many videos a fixed sample is shown, which covers each
combination of split and kind. The sample depends on the manifest alone, so equal stores have equal sheets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import fsum
from operator import attrgetter
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manifests.entry import SPLITS
from manifests.errors import StoreCorrupt
from manifests.row import ManifestRow
from storage.files.layout import SHARDS_DIR, video_id_of
from storage.format.encoding import decode_record, read_arrays, read_header
from storage.format.images import decode_gray, decode_rgb, encode_rgb
from storage.format.record import FoundBy, Record
from storage.pages.environment import jpeg_uri
from storage.shard import ShardReader

FEW_VIDEOS = 8  # up to this number, every stored frame is shown
MAX_VIDEOS = 40  # sampled from more, unless there are more combinations of split and kind
FRAMES_OF_MANY = 10  # frames shown of each sampled video: as many as a usual clip has
MAX_FRAMES = 400  # on one sheet: a crop with its mask takes 9 kB as base64, so the page stays below 5 MB

THUMBNAIL_PX = 112
THUMBNAIL_QUALITY = 75
MASK_THRESHOLD = 128  # grey value from which a pixel counts as manipulated
TINT_RGB = (255, 0, 170)  # magenta: differs from skin for any colour vision
TINT_SHARE = 0.35
LANDMARK_RGB = (0, 255, 255)  # cyan: differs from skin, too
LANDMARK_RADIUS_PX = 1

# Searches that find a face which the detector missed (`frames.at_least`) → their names on the sheet.
FOUND_BY: dict[FoundBy, str] = {
    FoundBy.LOWER_THRESHOLDS: "lower thresholds",
    FoundBy.SECOND_DETECTOR: "second detector",
    FoundBy.NEIGHBOURS: "near neighbours",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetFrame:
    """One stored frame on the sheet."""

    key: str
    """Key of its record."""

    frame_index: int
    """Index in the whole video, from 0."""

    pts_seconds: float
    """Presentation time, seconds."""

    score: float
    """Detection score, 0..1; 0 if interpolated."""

    interpolated: bool
    """Whether the box was interpolated from neighbouring frames."""

    found_by: str
    """Name of the search that found the face (see FOUND_BY); empty for the detector itself."""

    is_bystander: bool
    """Whether the crop shows a person other than the main one of the video."""

    crop_uri: str
    """Data URI of the crop with its landmarks: a JPEG of THUMBNAIL_PX, or as large as the crop if that is smaller."""

    mask_uri: str | None
    """Data URI of the same crop with the mask tinted and outlined; None without a mask."""

    mask_share: float | None
    """Manipulated share of the crop, 0..1; None without a mask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetVideo:
    """One stored video on the sheet."""

    row: ManifestRow
    """Row of the manifest, with an entry that has a split."""

    num_frames: int
    """Stored frames, of which `frames` are shown."""

    score_min: float | None
    """Lowest detection score of the stored frames, interpolated ones left out; None if all are."""

    score_mean: float | None
    """Mean detection score of the same frames."""

    frames: tuple[SheetFrame, ...]
    """Frames in the order of the sheet."""

    @property
    def strips(self) -> list[list[SheetFrame]]:
        """Frames by rows of the sheet: one row for each clip, or one for all single frames."""
        clips = [list(frames) for _, frames in groupby(self.frames, key=attrgetter("key"))]
        return clips if any(len(clip) > 1 for clip in clips) else [list(self.frames)]


def contact_sheet(store_dir: Path, rows: Iterable[ManifestRow], kinds: Sequence[str]) -> tuple[SheetVideo, ...]:
    """Return thumbnails of a sample of the stored videos; one video is read at a time.

    Args:
        store_dir: folder of the store.
        rows: rows of its manifest; those that are not stored are ignored.
        kinds: `real` and the manipulations, in the order of the sheet.

    Raises:
        StoreCorrupt: a shard or a record cannot be read.
    """
    stored = [row for row in rows if row.status == "stored"]
    chosen = choose_videos(stored, kinds)
    frames_per_video = MAX_FRAMES // max(len(chosen), 1)
    if len(stored) > FEW_VIDEOS:
        frames_per_video = min(frames_per_video, FRAMES_OF_MANY)
    return tuple(_sheet_video(store_dir, row, frames_per_video) for row in chosen)


def choose_videos(stored: Iterable[ManifestRow], kinds: Sequence[str]) -> list[ManifestRow]:
    """Return all videos if there are few, or else a sample with equal numbers from each split and kind where possible.

    Args:
        stored: rows of stored videos, in any order.
        kinds: `real` and the manipulations, in the order of the result.

    Returns:
        The chosen rows, ordered by split (train, val, test), kind and video_id.
    """
    ordered = sorted(stored, key=lambda row: row.video_id)
    of_place = {(split, kind): list[ManifestRow]() for split in SPLITS for kind in kinds}
    for row in ordered:
        if row.entry is not None and row.entry.split is not None:
            of_place[row.entry.split, row.entry.kind].append(row)
    places = [members for members in of_place.values() if members]
    num_wanted = len(ordered) if len(ordered) <= FEW_VIDEOS else max(MAX_VIDEOS, len(places))
    num_taken = _shared_out(num_wanted, [len(members) for members in places])
    return [
        members[position]
        for members, count in zip(places, num_taken, strict=True)
        for position in evenly_spaced(len(members), count)
    ]


def _shared_out(num_wanted: int, sizes: Sequence[int]) -> list[int]:
    """Return how many to take from each place: one from each in turn until there are enough, at most its size."""
    turns = sorted((turn, place) for place, size in enumerate(sizes) for turn in range(min(size, num_wanted)))
    num_taken = Counter(place for _, place in turns[:num_wanted])
    return [num_taken[place] for place in range(len(sizes))]


def evenly_spaced(num_items: int, num_wanted: int) -> list[int]:
    """Return at most `num_wanted` of the positions 0..num_items−1, evenly spaced, with the first and the last."""
    positions = np.linspace(0, num_items - 1, min(num_items, num_wanted), dtype=np.int64)
    return [int(position) for position in positions]


def _sheet_video(store_dir: Path, row: ManifestRow, frames_per_video: int) -> SheetVideo:
    """Read one stored video: scores of all its frames, thumbnails of at most `frames_per_video`."""
    if row.entry is None or row.shard is None:
        raise StoreCorrupt(f"row of {row.video_id}: got no entry or no shard, expected both for a stored video")
    frames: list[tuple[str, int]] = []  # (key, position in its record) of each stored frame
    scores: list[float] = []  # of frames that were not interpolated
    with ShardReader(store_dir / SHARDS_DIR / row.shard) as reader:
        keys_of_shard = reader.keys()
        for key in (key for key in keys_of_shard if video_id_of(key) == row.video_id):
            data = reader.get(key)
            arrays = read_arrays(data, read_header(data, key))
            frames += [(key, position) for position in range(len(arrays["scores"]))]
            scores += arrays["scores"][~arrays["interpolated"]].tolist()
        shown = _chosen_frames(frames, frames_per_video)
        pictures = tuple(_sheet_frame(decode_record(reader.get(key), key), position) for key, position in shown)
    return SheetVideo(
        row=row,
        num_frames=len(frames),
        score_min=min(scores, default=None),
        score_mean=fsum(scores) / len(scores) if scores else None,
        frames=pictures,
    )


def _chosen_frames(frames: Sequence[tuple[str, int]], num_wanted: int) -> list[tuple[str, int]]:
    """Return at most `num_wanted` (key, position): of one clip, which shows how steady it is, or spread evenly."""
    if len(frames) > num_wanted and any(position for _, position in frames):
        clip = frames[len(frames) // 2][0]
        return [frame for frame in frames if frame[0] == clip][:num_wanted]
    return [frames[position] for position in evenly_spaced(len(frames), num_wanted)]


def _sheet_frame(record: Record, position: int) -> SheetFrame:
    """Return one frame of a record with its thumbnails."""
    whole = decode_rgb(record.crops_encoded[position])
    crop = _shrunk(whole)
    mask = None if record.masks_encoded is None else decode_gray(record.masks_encoded[position])
    return SheetFrame(
        key=record.key,
        frame_index=int(record.frame_indices[position]),
        pts_seconds=float(record.pts_seconds[position]),
        score=float(record.scores[position]),
        interpolated=bool(record.interpolated[position]),
        found_by="" if record.found_by is None else FOUND_BY.get(FoundBy(int(record.found_by[position])), ""),
        is_bystander=record.track_choice == "bystander",
        crop_uri=_thumbnail(_dotted(crop, record.landmarks[position], len(crop) / len(whole))),
        mask_uri=None if mask is None else _thumbnail(_tinted(crop, _shrunk(mask))),
        mask_share=None if mask is None else float((mask >= MASK_THRESHOLD).mean()),
    )


def _shrunk(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return a square image shrunk to THUMBNAIL_PX; a smaller one is returned unchanged."""
    import cv2

    if len(image) <= THUMBNAIL_PX:
        return image
    return cv2.resize(image, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def _dotted(crop: npt.NDArray[np.uint8], landmarks: npt.NDArray[np.float32], scale: float) -> npt.NDArray[np.uint8]:
    """Return the (S,S,3) crop with its (K,2) landmarks drawn, which are in pixels of a crop 1/scale as large."""
    import cv2

    dotted = crop.copy()
    for x, y in ((landmarks + 0.5) * scale - 0.5).round().astype(int).tolist():
        cv2.circle(dotted, (x, y), LANDMARK_RADIUS_PX, LANDMARK_RGB, cv2.FILLED)
    return dotted


def _tinted(crop: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the (S,S,3) crop with the manipulated part of the (S,S) mask tinted and outlined."""
    import cv2

    inside = (mask >= MASK_THRESHOLD).astype(np.uint8)
    tinted = crop.copy()
    tinted[inside == 1] = (crop[inside == 1] * (1 - TINT_SHARE) + np.array(TINT_RGB) * TINT_SHARE).astype(np.uint8)
    outlines, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(tinted, outlines, -1, TINT_RGB, 1)
    return tinted


def _thumbnail(image: npt.NDArray[np.uint8]) -> str:
    """Return an RGB image as the data URI of a small JPEG."""
    return jpeg_uri(encode_rgb(image, "jpeg", THUMBNAIL_QUALITY))
