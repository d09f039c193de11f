"""Leakage audit: what the splits of a manifest share, computed from its entries alone.

The leakage report of a store can therefore be computed again from `videos.parquet`. Entries without a split are only
counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations

from manifests.datasets import recordings_of
from manifests.entry import REAL, SPLITS, Split, VideoEntry
from manifests.leakage.confounds import Confound, find_confounds
from manifests.leakage.near_duplicates import find_near_duplicates

MAX_EXAMPLES = 5  # of each kind in the report
MAX_RECORDINGS = 10  # of recordings: the authors' lists of FaceForensics++ split seven, which are all named

PAIRS: tuple[tuple[Split, Split], ...] = tuple(combinations(SPLITS, 2))
BIT_OF_SPLIT = {split: 1 << number for number, split in enumerate(SPLITS)}


def _people(entry: VideoEntry) -> list[str]:
    """Return the person in the footage and the donor of the face, as far as the dataset names them."""
    return [f"{entry.dataset}/{person}" for person in (entry.target_identity, entry.source_id) if person is not None]


RECORDING = "recording"
NEAR_DUPLICATE = "near-duplicate"
# Kinds of values that splits can share: kind → the values of a video. `near-duplicate` is one more kind, whose values
# are pairs of videos.
VALUES: dict[str, Callable[[VideoEntry], list[str]]] = {
    "video": lambda entry: [entry.clip_id],
    "target": lambda entry: [f"{entry.dataset}/{entry.target_id}"] if entry.has_known_footage else [],
    "source": lambda entry: [] if entry.source_id is None else [f"{entry.dataset}/{entry.source_id}"],
    "identity": _people,
    RECORDING: recordings_of,
    "group": lambda entry: [entry.group_id],
    "identical file": lambda entry: [] if entry.sha256 is None else [entry.sha256],
}
KINDS = (*VALUES, NEAR_DUPLICATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One value that is shared."""

    value: str
    """A name or a digest; for a near-duplicate, how many bits of 64 the frames differ in."""

    splits: tuple[str, ...]
    """The splits that share it, in the order of SPLITS."""

    video_ids: tuple[str, ...]
    """The first video by name in each of these splits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """The values of one kind that lie in more than one split."""

    kind: str
    """A name in KINDS."""

    num_values: int
    """Distinct values, shared or not; for near-duplicates, the videos that were compared."""

    num_shared: int
    """Values in more than one split; for near-duplicates, pairs of videos."""

    by_splits: dict[str, int]
    """`train-val`, `train-test`, `val-test` → values in both splits; a value in all three counts in each pair."""

    num_videos: dict[str, int]
    """Split → videos that have a shared value."""

    examples: tuple[Example, ...]
    """The first shared values, ordered by value; near-duplicates nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The test videos of one dataset compared with its train and val videos.

    Footage belongs to the split of its real video, whatever the splits of the fakes made from it. Test identities are
    the people in test videos, real or fake, and the donors of their faces.
    """

    dataset: str
    """Name of the dataset."""

    num_test_fakes: int
    """Fakes in test whose footage is known."""

    num_test_fakes_from_other_footage: int
    """Of these, fakes made from footage whose real video is in train or val."""

    num_other_fakes: int
    """Fakes in train and val whose footage is known."""

    num_other_fakes_from_test_footage: int
    """Of these, fakes made from footage whose real video is in test."""

    num_test_identities: int
    """People in test."""

    num_test_identities_in_other_fakes: int
    """Of these, people whose footage or face is used in a fake of train or val."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Donors:
    """The fakes of one split whose donors have real videos in another split."""

    split: str
    """`train`, `val` or `test`."""

    num_fakes: int
    """Fakes whose donor the dataset names."""

    num_elsewhere: int
    """Of these, fakes with a real video of the donor in another split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageReport:
    """Values shared between splits, and differences between real and fake videos other than the forgery."""

    num_videos: dict[str, int]
    """Split → videos."""

    num_without_split: int
    """Videos without a split, which are left out."""

    num_measured: int
    """Videos with a split whose frames and size are known."""

    num_digested: int
    """Videos with a split whose bytes could be compared."""

    num_hashed: int
    """Videos with a split whose frames could be compared."""

    shared: tuple[Shared, ...]
    """Shared values of each kind, in the order of KINDS."""

    held_out: tuple[HeldOut, ...]
    """Comparison of test with train and val for each dataset with a video in test, ordered by name."""

    donors: tuple[Donors, ...]
    """Counts of donors for each split, in the order of SPLITS."""

    confounds: tuple[Confound, ...]
    """Warnings, ordered by kind and split."""

    @property
    def by_kind(self) -> dict[str, Shared]:
        """The shared values by the name of their kind."""
        return {found.kind: found for found in self.shared}


def audit(entries: Iterable[VideoEntry]) -> LeakageReport:
    """Return what the splits share; the order of the entries does not matter.

    Raises:
        ValueError: an entry's frame hashes are of another format.
    """
    listed = sorted(entries, key=lambda entry: entry.video_id)
    assigned = [entry for entry in listed if entry.split is not None]
    found = Counter(entry.split for entry in assigned)
    near = _near_duplicates(assigned)
    return LeakageReport(
        num_videos={split: found[split] for split in SPLITS},
        num_without_split=len(listed) - len(assigned),
        num_measured=sum(entry.num_frames is not None for entry in assigned),
        num_digested=sum(entry.sha256 is not None for entry in assigned),
        num_hashed=near.num_values,
        shared=(*(_shared(kind, values_of, assigned) for kind, values_of in VALUES.items()), near),
        held_out=_held_out(assigned),
        donors=_donors(assigned),
        confounds=find_confounds(assigned),
    )


def _shared(kind: str, values_of: Callable[[VideoEntry], list[str]], assigned: Sequence[VideoEntry]) -> Shared:
    """Count the values of a kind that are in more than one split; `assigned` is ordered by video_id."""
    splits_of: dict[str, int] = defaultdict(int)
    for entry in assigned:
        for value in values_of(entry):
            splits_of[value] |= _bit(entry)
    crossing = {value: splits for value, splits in splits_of.items() if splits.bit_count() > 1}
    num_videos: Counter[str | None] = Counter()
    first_video: dict[tuple[str, str | None], str] = {}
    for entry in assigned if crossing else ():
        carried = [value for value in values_of(entry) if value in crossing]
        num_videos[entry.split] += bool(carried)
        for value in carried:
            first_video.setdefault((value, entry.split), entry.video_id)
    examples = []
    for value in nsmallest(MAX_RECORDINGS if kind == RECORDING else MAX_EXAMPLES, crossing):
        splits = tuple(split for split in SPLITS if crossing[value] & BIT_OF_SPLIT[split])
        videos = tuple(first_video[value, split] for split in splits)
        examples.append(Example(value=value, splits=splits, video_ids=videos))
    return Shared(
        kind=kind,
        num_values=len(splits_of),
        num_shared=len(crossing),
        by_splits={
            f"{first}-{second}": sum(
                bool(splits & BIT_OF_SPLIT[first] and splits & BIT_OF_SPLIT[second]) for splits in crossing.values()
            )
            for first, second in PAIRS
        },
        num_videos={split: num_videos[split] for split in SPLITS},
        examples=tuple(examples),
    )


def _near_duplicates(assigned: Sequence[VideoEntry]) -> Shared:
    """Count the pairs of similar videos in different splits."""
    found = find_near_duplicates(assigned, max_examples=MAX_EXAMPLES)
    examples = []
    for pair in found.closest:
        bits = ", ".join("–" if distance is None else str(distance) for distance in pair.bits)
        examples.append(Example(value=f"{bits} bits of 64 apart", splits=pair.splits, video_ids=pair.video_ids))
    return Shared(
        kind=NEAR_DUPLICATE,
        num_values=found.num_compared,
        num_shared=sum(found.by_splits.values()),
        by_splits={f"{first}-{second}": count for (first, second), count in found.by_splits.items()},
        num_videos={split: found.num_videos[split] for split in SPLITS},
        examples=tuple(examples),
    )


def _bit(entry: VideoEntry) -> int:
    return BIT_OF_SPLIT[entry.split] if entry.split is not None else 0


def _held_out(assigned: Sequence[VideoEntry]) -> tuple[HeldOut, ...]:
    """Compare test with train and val, dataset by dataset."""
    by_dataset: dict[str, list[VideoEntry]] = defaultdict(list)
    for entry in assigned:
        by_dataset[entry.dataset].append(entry)
    return tuple(
        _held_out_of(dataset, members)
        for dataset, members in sorted(by_dataset.items())
        if any(entry.split == "test" for entry in members)
    )


def _held_out_of(dataset: str, members: Sequence[VideoEntry]) -> HeldOut:
    test_footage = {entry.target_id for entry in members if entry.label == REAL and entry.split == "test"}
    other_footage = {entry.target_id for entry in members if entry.label == REAL and entry.split != "test"}
    fakes = [entry for entry in members if entry.label == "fake" and entry.has_known_footage]
    test_fakes = [entry for entry in fakes if entry.split == "test"]
    other_fakes = [entry for entry in fakes if entry.split != "test"]
    test_people = {person for entry in members if entry.split == "test" for person in _people(entry)}
    return HeldOut(
        dataset=dataset,
        num_test_fakes=len(test_fakes),
        num_test_fakes_from_other_footage=sum(entry.target_id in other_footage for entry in test_fakes),
        num_other_fakes=len(other_fakes),
        num_other_fakes_from_test_footage=sum(entry.target_id in test_footage for entry in other_fakes),
        num_test_identities=len(test_people),
        num_test_identities_in_other_fakes=len(test_people & {p for entry in other_fakes for p in _people(entry)}),
    )


def _donors(assigned: Sequence[VideoEntry]) -> tuple[Donors, ...]:
    """Count the fakes whose donor has a real video in another split."""
    splits_of: dict[tuple[str, str], int] = defaultdict(int)
    for entry in assigned:
        if entry.label == REAL:
            splits_of[entry.dataset, entry.target_identity or entry.target_id] |= _bit(entry)
    num_fakes: Counter[str | None] = Counter()
    num_elsewhere: Counter[str | None] = Counter()
    for entry in assigned:
        if entry.source_id is not None:
            num_fakes[entry.split] += 1
            num_elsewhere[entry.split] += bool(splits_of.get((entry.dataset, entry.source_id), 0) & ~_bit(entry))
    return tuple(
        Donors(split=split, num_fakes=num_fakes[split], num_elsewhere=num_elsewhere[split]) for split in SPLITS
    )
