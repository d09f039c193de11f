"""Rejected videos in a store's report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from manifests.rejected import Reason, Stage
from manifests.row import ManifestRow


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """One rejected video."""

    video_id: str
    """Identity, or the path of a file that is no video of the dataset."""

    path: str
    """POSIX path relative to the dataset root."""

    stage: str
    """Stage that rejected it."""

    reason: str
    """Reason as one word, for programs."""

    detail: str
    """Reason as a sentence, for people."""


def rejections_of(rows: Iterable[ManifestRow]) -> tuple[Rejection, ...]:
    """Return the rejected videos among rows, by stage, reason and video_id."""
    stages, reasons = list(Stage), list(Reason)
    explained = [(row, row.stage, row.reason) for row in rows if row.stage is not None and row.reason is not None]
    explained.sort(key=lambda found: (stages.index(found[1]), reasons.index(found[2]), found[0].video_id))
    return tuple(
        Rejection(video_id=row.video_id, path=row.path, stage=stage.value, reason=reason.value, detail=row.detail or "")
        for row, stage, reason in explained
    )


def count_rejections(rejections: Iterable[Rejection]) -> dict[str, dict[str, int]]:
    """Return stage → reason → rejected videos, in the order of the stages."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for rejection in rejections:
        counts[rejection.stage][rejection.reason] += 1
    return {stage: dict(by_reason) for stage, by_reason in counts.items()}
