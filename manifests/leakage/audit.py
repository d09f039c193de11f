"""The leakage report: what the splits of a manifest share, counted, and what a policy promises of it.

Everything is computed from the entries alone, so the report of a store can be made anew from its table.

    audit            entries with splits → LeakageReport; `dataclasses.asdict` makes it JSON
    broken_promises  what a policy promises and the report disproves, as messages
    describe         the report as lines for a terminal, the verdict first

Entries without a split belong to nothing and are only counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import combinations

from manifests.entry import REAL, SPLITS, Split, VideoEntry
from manifests.errors import SplitError
from manifests.leakage.confounds import ALL, Confound, find_confounds
from manifests.leakage.near_duplicates import find_near_duplicates

MAX_EXAMPLES = 5  # of each kind in the report
MAX_EXAMPLES_IN_MESSAGE = 3
MAX_EXAMPLES_SHOWN = 2  # of each kind on a terminal
KIND_WIDTH, COLUMN_WIDTH = 21, 11  # of the table, characters

PAIRS: tuple[tuple[Split, Split], ...] = tuple(combinations(SPLITS, 2))
BIT_OF_SPLIT = {split: 1 << number for number, split in enumerate(SPLITS)}


def _people(entry: VideoEntry) -> list[str]:
    """The person in the footage and the donor of the face, as far as the dataset says."""
    return [f"{entry.dataset}/{person}" for person in (entry.target_identity, entry.source_id) if person is not None]


NEAR_DUPLICATE = "near-duplicate"
# What can be shared: name → the values that a video carries. `near-duplicate` follows as the last kind; its values are
# pairs of videos and no names.
VALUES: dict[str, Callable[[VideoEntry], list[str]]] = {
    "video": lambda entry: [entry.clip_id],
    "target": lambda entry: [f"{entry.dataset}/{entry.target_id}"] if entry.has_known_footage else [],
    "source": lambda entry: [] if entry.source_id is None else [f"{entry.dataset}/{entry.source_id}"],
    "identity": _people,
    "group": lambda entry: [entry.group_id],
    "identical file": lambda entry: [] if entry.sha256 is None else [entry.sha256],
}
PLURALS = {kind: f"{kind}s" for kind in VALUES} | {"identity": "identities", NEAR_DUPLICATE: "near-duplicate pairs"}
KINDS = tuple(PLURALS)
# Why there is nothing of a kind.
WHY_NOTHING = dict.fromkeys(VALUES, "not named by the dataset") | {
    "identical file": "not compared: the files have not been opened",
    NEAR_DUPLICATE: "not compared: there are no hashes of frames",
}

# What a policy promises not to share. Near-duplicates are no promise: a hash may be wrong, and a person has to look.
PROMISES: dict[str, frozenset[str]] = {
    "group": frozenset(VALUES),
    "file": frozenset(VALUES),
    "official": frozenset({"video"}),
    "video": frozenset({"video"}),
}
POLICIES_BY_LIST = frozenset({"file", "official"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One value that is shared."""

    value: str
    """The name, the digest, or of a near-duplicate how many bits of 64 the frames are apart."""

    splits: tuple[str, ...]
    """In which splits, in the order of SPLITS."""

    video_ids: tuple[str, ...]
    """The first video by name in each of these splits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What the splits share of one kind."""

    kind: str
    """A name in KINDS."""

    num_values: int
    """Distinct values, shared or not; of near-duplicates, videos that were compared."""

    num_shared: int
    """Values in more than one split; of near-duplicates, pairs of videos."""

    by_splits: dict[str, int]
    """`train-val`, `train-test`, `val-test` → values in both; one that is in all three counts in each."""

    num_videos: dict[str, int]
    """Split → videos that carry a shared value."""

    examples: tuple[Example, ...]
    """Up to MAX_EXAMPLES, by value; near-duplicates nearest first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """The test videos of one dataset against its other ones.

    Footage is known by its real video: what counts is where that lies, wherever the fakes lie. Test identities are the
    people seen in a test video, real or fake, and the donors of their faces.
    """

    dataset: str
    """Its name."""

    num_test_fakes: int
    """Fakes in test of which the footage is known."""

    num_test_fakes_from_other_footage: int
    """Of these, made from footage whose real video is in train or val."""

    num_other_fakes: int
    """Fakes in train and val of which the footage is known."""

    num_other_fakes_from_test_footage: int
    """Of these, made from footage whose real video is in test."""

    num_test_identities: int
    """People in test."""

    num_test_identities_in_other_fakes: int
    """Of these, people whose footage or face is in a fake of train or val."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Donors:
    """Where the donors of one split's fakes are seen themselves."""

    split: str
    """`train`, `val` or `test`."""

    num_fakes: int
    """Fakes whose donor the dataset names."""

    num_elsewhere: int
    """Of these, with a real video of the donor in another split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakageReport:
    """What the splits share, and where real and fake differ in more than the forgery."""

    num_videos: dict[str, int]
    """Split → videos."""

    num_without_split: int
    """Videos that were left out because no split has been assigned."""

    num_measured: int
    """Videos with a split whose frames and size are known."""

    num_digested: int
    """Videos with a split whose bytes could be compared."""

    num_hashed: int
    """Videos with a split whose frames could be compared."""

    shared: tuple[Shared, ...]
    """In the order of KINDS."""

    held_out: tuple[HeldOut, ...]
    """By dataset, of those that have a video in test."""

    donors: tuple[Donors, ...]
    """In the order of SPLITS."""

    confounds: tuple[Confound, ...]
    """Warnings, ordered by kind and split."""

    @property
    def by_kind(self) -> dict[str, Shared]:
        """The shared things by the name of their kind."""
        return {found.kind: found for found in self.shared}


def audit(entries: Iterable[VideoEntry]) -> LeakageReport:
    """Count what the splits share; the order of the entries does not matter.

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


def broken_promises(report: LeakageReport, policy: str) -> tuple[str, ...]:
    """Return a message for each kind that the policy promises not to share and the splits do share.

    Raises:
        SplitError: no such policy.
    """
    if policy not in PROMISES:
        raise SplitError(f"split.policy: got {policy!r}, expected one of {list(PROMISES)}")
    remedy = "correct the list" if policy in POLICIES_BY_LIST else "split a store anew with --reprocess"
    return tuple(
        f"split.policy {policy}: got {counted(found)} in more than one split ({_some(found)}), expected none; "
        f"{remedy}, or go on with --allow-leakage, which the store will say"
        for found in report.shared
        if found.kind in PROMISES[policy] and found.num_shared
    )


def describe(report: LeakageReport) -> list[str]:
    """Return the report as lines for a terminal: the verdict, the table, test against the rest, examples, warnings."""
    if not sum(report.num_videos.values()):
        return [_verdict(report), *_warnings(report)]
    lines = [_verdict(report), *_table(report)]
    for held_out in report.held_out:
        lines += sentences_about_test(held_out)
    if any(donors.num_fakes for donors in report.donors):
        counts = (f"{donors.num_elsewhere:,} of {donors.num_fakes:,} in {donors.split}" for donors in report.donors)
        lines.append(f"Fakes whose donor's own video lies in another split: {', '.join(counts)}.")
    for found in report.shared:
        for example in found.examples[:MAX_EXAMPLES_SHOWN]:
            lines.append(f"Example, {found.kind}: {_placed(example)}: {', '.join(example.video_ids)}")
    return [*lines, *_warnings(report)]


def _shared(kind: str, values_of: Callable[[VideoEntry], list[str]], assigned: Sequence[VideoEntry]) -> Shared:
    """Count what is in more than one split; `assigned` is ordered by video_id."""
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
    for value in nsmallest(MAX_EXAMPLES, crossing):
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
    """Count the pairs of videos that look alike, as the last kind of what is shared."""
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
    """Compare test with the rest, dataset by dataset."""
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
    """Count the fakes whose donor is seen, as a real video, in another split."""
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


def _verdict(report: LeakageReport) -> str:
    """Return the report in a sentence."""
    if not sum(report.num_videos.values()):
        return "No video has a split, so there is nothing to compare."
    shared = [counted(found) for found in report.shared if found.num_shared and found.kind != NEAR_DUPLICATE]
    near = report.by_kind[NEAR_DUPLICATE]
    if shared:
        return f"Leakage: the splits share {_listed(shared)}."
    if near.num_shared:
        return (
            f"No name and no file is in two splits, but pictures look alike; near-duplicate pairs: {near.num_shared:,}."
        )
    if not report.num_digested:
        return "No leakage as far as names tell: the splits share nothing. The files have not been opened."
    return "No leakage found: the splits share no name, no file and no picture that looks alike."


def _table(report: LeakageReport) -> list[str]:
    """Return a line for each kind: how much is there, how much is shared, and between which splits."""
    columns = ("compared", "shared", *(f"{first}–{second}" for first, second in PAIRS))
    head = f"{'':<{KIND_WIDTH}}{''.join(f'{name:>{COLUMN_WIDTH}}' for name in columns)}   videos in {', '.join(SPLITS)}"
    lines = [head]
    for found in report.shared:
        if found.num_values == 0:
            lines.append(f"{PLURALS[found.kind]:<{KIND_WIDTH}}   {WHY_NOTHING[found.kind]}")
            continue
        counts = (found.num_values, found.num_shared, *found.by_splits.values())
        cells = "".join(f"{count:>{COLUMN_WIDTH},}" for count in counts)
        videos = ", ".join(f"{count:,}" for count in found.num_videos.values())
        lines.append(f"{PLURALS[found.kind]:<{KIND_WIDTH}}{cells}   {videos}")
    return lines


def sentences_about_test(found: HeldOut) -> list[str]:
    """Return the comparison of test with the rest in sentences; without what there is none of."""
    sentences = (
        (
            found.num_test_fakes_from_other_footage,
            found.num_test_fakes,
            "test fakes are made from footage whose real video is in train or val",
        ),
        (
            found.num_other_fakes_from_test_footage,
            found.num_other_fakes,
            "train and val fakes are made from test footage",
        ),
        (
            found.num_test_identities_in_other_fakes,
            found.num_test_identities,
            "test identities recur in train and val fakes",
        ),
    )
    return [f"{found.dataset}: {part:,}/{whole:,} {what}." for part, whole, what in sentences if whole]


def _warnings(report: LeakageReport) -> list[str]:
    """Return confounds, each once with the splits where it is found, and what could not be looked at."""
    places: dict[tuple[str, str], list[Confound]] = defaultdict(list)
    for confound in report.confounds:
        name = confound.message if confound.kind == "originals" else ""
        places[confound.kind, name].append(confound)
    lines = []
    for found in places.values():
        also = [confound.split for confound in found[1:]]
        suffix = f" (also in {_listed(also)})" if also else ""
        where = "all splits together" if found[0].split == ALL else found[0].split
        lines.append(f"Warning, {where}: {found[0].message}{suffix}.")
    num_videos = sum(report.num_videos.values())
    if report.num_measured < num_videos:
        lines.append(
            f"Not measured: size, rate, length and bytes of {num_videos - report.num_measured:,} of {num_videos:,} "
            "videos; real and fake may differ there."
        )
    if report.num_without_split:
        lines.append(f"Videos without a split, which are not in this report: {report.num_without_split:,}.")
    return lines


def counted(found: Shared) -> str:
    """Return how many are shared, in words such as `4 targets`."""
    return f"{found.num_shared:,} {found.kind if found.num_shared == 1 else PLURALS[found.kind]}"


def _some(found: Shared) -> str:
    return "; ".join(_placed(example) for example in found.examples[:MAX_EXAMPLES_IN_MESSAGE])


def _placed(example: Example) -> str:
    return f"{example.value} in {_listed(example.splits)}"


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
