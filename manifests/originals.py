"""A fake and its footage: which real video a fake was made from, and what a fake tells about its original."""

from __future__ import annotations

from collections.abc import Iterable

from manifests.entry import REAL, VideoEntry


def originals_of(entries: Iterable[VideoEntry]) -> dict[str, VideoEntry]:
    """Return the original of each fake whose footage is among the entries at the same compression, by video_id.

    Frames of the two have the same numbers, as far as both last.
    """
    listed = list(entries)
    footage = {_footage(entry): entry for entry in listed if entry.label == REAL}
    fakes = (entry for entry in listed if entry.label == "fake" and entry.has_known_footage)
    return {entry.video_id: footage[_footage(entry)] for entry in fakes if _footage(entry) in footage}


def masked_fakes_of(entries: Iterable[VideoEntry]) -> dict[str, list[VideoEntry]]:
    """Return of each real video those of its fakes that have a mask, by video_id of the real one, sorted.

    A mask says who of several people is manipulated, whatever the fake's compression: masks have none.
    """
    listed = sorted(entries, key=lambda entry: entry.video_id)
    fakes: dict[tuple[str, str], list[VideoEntry]] = {}
    for entry in listed:
        if entry.label == "fake" and entry.mask_path is not None and entry.has_known_footage:
            fakes.setdefault((entry.dataset, entry.target_id), []).append(entry)
    reals = ((entry.video_id, fakes.get((entry.dataset, entry.target_id))) for entry in listed if entry.label == REAL)
    return {video_id: found for video_id, found in reals if found is not None}


def _footage(entry: VideoEntry) -> tuple[str, str | None, str]:
    return entry.dataset, entry.compression, entry.target_id
