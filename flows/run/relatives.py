"""Relatives of videos: the original of each fake, and for originals a fake whose mask shows the manipulated person."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from manifests.entry import REAL, VideoEntry
from manifests.row import ManifestRow
from tasks.settings import StageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Relatives:
    """Originals and mask footage of a set of videos."""

    originals: dict[str, VideoEntry]
    """video_id of a fake → its original."""

    masked: dict[str, VideoEntry]
    """video_id of a real video → one of its fakes that has a mask."""

    digests: dict[str, str]
    """video_id → hex SHA-256 of what its records depend on in other videos; only videos that depend on others."""

    reuses_geometry: bool
    """Whether fakes reuse the geometry of their originals."""

    @classmethod
    def among(
        cls, entries: Iterable[VideoEntry], settings: StageSettings, stored: Mapping[str, ManifestRow] | None = None
    ) -> Relatives:
        """Find the relatives of probed videos.

        If several fakes of an original have a mask, the mask of the first video_id chooses its main face. A mask that
        was used by an earlier run stays in use, even if fakes with earlier names are added.

        Args:
            entries: every usable video on disk.
            settings: the settings of the stages, which decide what fakes reuse from their originals.
            stored: rows of the store by video_id.
        """
        listed, stored = list(entries), stored or {}
        on_disk = {entry.video_id for entry in listed}
        known = [row.entry for name, row in stored.items() if name not in on_disk and row.entry and row.entry.is_probed]
        masked = {
            real: _chosen_before(fakes, stored.get(real)) for real, fakes in masked_fakes_of([*listed, *known]).items()
        }
        originals = originals_of(listed)
        reuses = settings.track.reuse_geometry
        digests: dict[str, str] = {}
        for entry in listed:
            original = originals.get(entry.video_id)
            if original is not None and _asks(entry, reuses):
                digests[entry.video_id] = _digest(original.content_digest, masked.get(original.video_id))
            elif entry.video_id in masked:
                digests[entry.video_id] = _digest("", masked[entry.video_id])
        return cls(originals=originals, masked=masked, digests=digests, reuses_geometry=reuses)

    @property
    def names(self) -> frozenset[str]:
        """video_ids of the originals of the fakes."""
        return frozenset(original.video_id for original in self.originals.values())

    def of(self, videos: Iterable[VideoEntry]) -> Relatives:
        """Return the relatives of the given videos and of their originals."""
        names = {entry.video_id for entry in videos}
        originals = {name: self.originals[name] for name in sorted(names & self.originals.keys())}
        names |= {original.video_id for original in originals.values()}
        return Relatives(
            originals=originals,
            masked={name: self.masked[name] for name in sorted(names & self.masked.keys())},
            digests={name: self.digests[name] for name in sorted(names & self.digests.keys())},
            reuses_geometry=self.reuses_geometry,
        )

    def asked_by(self, videos: Iterable[VideoEntry]) -> frozenset[str]:
        """Return the video_ids of originals whose geometry these videos may need."""
        asking = (entry.video_id for entry in videos if _asks(entry, self.reuses_geometry))
        return frozenset(self.originals[name].video_id for name in asking if name in self.originals)


def _asks(entry: VideoEntry, reuses_geometry: bool) -> bool:
    """Whether a fake may need the geometry of its original: to reuse it, or to choose the main face without a mask."""
    return reuses_geometry or entry.mask_path is None


def _chosen_before(fakes: Sequence[VideoEntry], row: ManifestRow | None) -> VideoEntry:
    """Return the fake whose mask was used before, or the first."""
    before = None if row is None else row.relatives_digest
    return next((fake for fake in fakes if _digest("", fake) == before), fakes[0])


def _digest(content_digest: str, masked: VideoEntry | None) -> str:
    """Hex SHA-256 of an original's content and of the mask by which its main face is chosen."""
    mask = "" if masked is None else f"{masked.mask_path}:{masked.mask_sha256}"
    return hashlib.sha256(f"{content_digest}:{mask}".encode()).hexdigest()


def originals_of(entries: Iterable[VideoEntry]) -> dict[str, VideoEntry]:
    """Return the original of each fake whose footage is among the entries at the same compression, by video_id.

    A fake and its original have the same frame numbers, up to the end of the shorter one.
    """
    listed = list(entries)
    footage = {_footage(entry): entry for entry in listed if entry.label == REAL}
    fakes = (entry for entry in listed if entry.label == "fake" and entry.has_known_footage)
    return {entry.video_id: footage[_footage(entry)] for entry in fakes if _footage(entry) in footage}


def masked_fakes_of(entries: Iterable[VideoEntry]) -> dict[str, list[VideoEntry]]:
    """Return video_id of each real video → its fakes that have a mask, sorted.

    A mask shows which of several people is manipulated. It serves every compression, since masks have none.
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
