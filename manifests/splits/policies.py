"""Split policies: which videos are for training, for validation and for testing.

A *leakage group* is a set of videos that belong in one split: for FaceForensics++ the target–source pair, together
with other pairs that were cut from the same YouTube video; for Celeb-DF the people whose faces were swapped. If single
videos of FF++ are split at 70/15/15, the donor of 46.7 % of the fakes is in another split than the footage.
The policies:

    group      whole groups, as near to the ratios as possible; byte-identical files are one group
    official   the dataset's own lists; videos in none of them go to train and val by whole groups
    video      single videos, for comparison only
    file       the user's own CSV

`group` and `file` promise that no group crosses splits. `official` and `video` do not; their leakage is printed.
Assignments of earlier runs never change. The result depends on the seed, but not on the order of the videos or the
platform.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from manifests.datasets import DATASETS, recordings_of
from manifests.datasets.dataset import listed_splits
from manifests.entry import MINIATURE, SPLITS, Split, VideoEntry
from manifests.errors import SplitError
from manifests.groups import connected_groups
from manifests.splits.balance import Ratios, place
from manifests.splits.lists import splits_of_file

DEFAULT_RATIOS: Ratios = (0.70, 0.15, 0.15)

# The policies that promise that no group crosses splits.
POLICIES_THAT_KEEP_GROUPS = frozenset({"group", "file"})
# The policies that aim at the ratios in every dataset; the others follow lists.
POLICIES_WITH_RATIOS = frozenset({"group", "video"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Settings of a split policy."""

    ratios: Ratios
    """Shares of train, val and test."""

    seed: int
    """Seed of the random order of groups."""

    official_dir: Path | None
    """Folder with official lists, for datasets whose lists do not come with the videos."""

    split_file: Path | None
    """The user's own CSV; None for a list in the dataset's folder."""

    test_datasets: frozenset[str]
    """Datasets whose videos are all in test, under every policy."""


def assign(
    entries: Iterable[VideoEntry],
    policy: str = "group",
    ratios: Ratios = DEFAULT_RATIOS,
    seed: int = 0,
    official_dir: Path | None = None,
    split_file: Path | None = None,
    *,
    test_datasets: Collection[str] = (),
    allow_leakage: bool = False,
) -> list[VideoEntry]:
    """Return the entries with their splits, in the order given; groups that share a person are merged.

    Entries that have a split keep it, and new members of their group get the same one. The result does not depend on
    the order of the entries or the platform. Videos that no list names keep the split None.

    Args:
        entries: videos of any number of datasets, with `group_id`; some may have a `split` from an earlier run.
        policy: a name in `POLICIES`.
        ratios: shares of the videos for train, val and test.
        seed: seed of the random order of groups.
        official_dir: folder with official lists, for the policy `official`, if they do not come with the videos.
        split_file: CSV with `video_id` (or `path`) and `split` for the policy `file`; None: the list in the dataset.
        test_datasets: datasets whose videos are all for testing, under every policy.
        allow_leakage: accept that a policy breaks its promise of whole groups.

    Raises:
        SplitError: unknown policy, unusable ratios or lists, or a group that would cross splits.
    """
    if policy not in POLICIES:
        raise SplitError(f"split.policy: got {policy!r}, expected one of {list(POLICIES)}")
    if len(ratios) != len(SPLITS) or min(ratios) < 0 or not math.isclose(sum(ratios), 1.0, abs_tol=1e-6):
        raise SplitError(f"split.ratios: got {ratios}, expected three shares of train, val and test that sum to 1")
    rule = Rule(
        ratios=ratios,
        seed=seed,
        official_dir=official_dir,
        split_file=split_file,
        test_datasets=frozenset(test_datasets),
    )
    grouped = with_common_groups(entries)
    listed = [_for_testing(entry) if entry.dataset in test_datasets else entry for entry in grouped]
    if policy in POLICIES_THAT_KEEP_GROUPS and not allow_leakage:
        require_no_leakage(listed)
    split_of_video = POLICIES[policy](listed, rule)
    assigned = [replace(entry, split=entry.split or split_of_video.get(entry.video_id)) for entry in listed]
    if policy in POLICIES_THAT_KEEP_GROUPS and not allow_leakage:
        require_no_leakage(assigned)
    return assigned


def with_common_groups(entries: Iterable[VideoEntry]) -> list[VideoEntry]:
    """Return the entries with one group_id for all groups that share footage, a person or identical files.

    A dataset forms groups from the videos on disk. Entries of an earlier run may have other groups, because a video
    that links two people has been added or removed since then.
    """
    listed = list(entries)
    # The digit sorts groups before links: each component is named after its smallest group.
    links = ((f"1 {tie}", f"0 {entry.group_id}") for entry in listed for tie in _ties(entry))
    common = connected_groups(links)
    return [replace(entry, group_id=common[f"0 {entry.group_id}"][2:]) for entry in listed]


def require_no_leakage(entries: Iterable[VideoEntry]) -> None:
    """Raise unless every group lies in one split.

    Raises:
        SplitError: a group crosses splits; the message names up to three of them.
    """
    crossing = crossing_groups(entries)
    if crossing:
        examples = "; ".join(f"{group_id} in {list(splits)}" for group_id, splits in list(crossing.items())[:3])
        raise SplitError(
            f"leakage groups: got {len(crossing)} in more than one split ({examples}), expected each in one; "
            "a new fake may link videos that were split before: split again with --reprocess, or accept it with "
            "--allow-leakage, which the store records"
        )


def crossing_groups(entries: Iterable[VideoEntry]) -> dict[str, tuple[Split, ...]]:
    """Return group_id → splits of each leakage group in more than one split, ordered by group_id."""
    found: dict[str, set[Split]] = defaultdict(set)
    for entry in entries:
        if entry.split is not None:
            found[entry.group_id].add(entry.split)
    return {
        group_id: tuple(split for split in SPLITS if split in splits)
        for group_id, splits in sorted(found.items())
        if len(splits) > 1
    }


def counts_by_split(entries: Iterable[VideoEntry]) -> dict[str, Counter[str]]:
    """Count videos: kind (`real` or the manipulation) → split → number of videos."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.split is not None:
            counts[entry.kind][entry.split] += 1
    return dict(counts)


def _ties(entry: VideoEntry) -> Iterable[str]:
    """Yield keys of a video; two videos that share a key belong in one group."""
    yield from _own_ties(entry)
    yield from (f"recording {recording}" for recording in recordings_of(entry))


def _own_ties(entry: VideoEntry) -> Iterable[str]:
    """Yield the keys that follow from a video's own names and bytes."""
    yield f"footage {entry.dataset}/{entry.target_id}"
    yield f"person {entry.dataset}/{entry.target_identity or entry.target_id}"
    if entry.source_id is not None:
        yield f"person {entry.dataset}/{entry.source_id}"
    if entry.sha256 is not None:
        yield f"content {entry.sha256}"


def _for_testing(entry: VideoEntry) -> VideoEntry:
    """Return an entry of a test dataset with the split test.

    Raises:
        SplitError: an earlier run assigned another split.
    """
    if entry.split not in (None, "test"):
        raise SplitError(
            f"test dataset {entry.dataset}: got {entry.video_id} in {entry.split} from an earlier run, expected test; "
            "process into a new folder, or split again with --reprocess"
        )
    return replace(entry, split="test")


def _by_group(entries: list[VideoEntry], rule: Rule) -> dict[str, Split]:
    """Assign whole groups. In a group that an earlier run has split, new videos follow their own footage and people."""
    split_of_group = place(entries, lambda entry: entry.group_id, rule.ratios, rule.seed)
    crossing = crossing_groups(entries)
    members = [entry for entry in entries if entry.group_id in crossing]
    part_of = connected_groups((tie, f"video {entry.video_id}") for entry in members for tie in _own_ties(entry))
    parts = {entry.video_id: part_of[f"video {entry.video_id}"] for entry in members}
    split_of_part = {parts[entry.video_id]: entry.split for entry in members if entry.split is not None}
    return {
        entry.video_id: split_of_part.get(parts.get(entry.video_id, ""), split_of_group[entry.group_id])
        for entry in entries
    }


def _by_video(entries: list[VideoEntry], rule: Rule) -> dict[str, Split]:
    """Assign single videos; only the compressions of one video stay together."""
    split_of_clip = place(entries, lambda entry: entry.clip_id, rule.ratios, rule.seed)
    return {entry.video_id: split_of_clip[entry.clip_id] for entry in entries}


def _official(entries: list[VideoEntry], rule: Rule) -> dict[str, Split]:
    """Follow the lists of each dataset; videos without a listed split go to train and val by whole groups."""
    split_of_video: dict[str, Split] = {}
    by_dataset: dict[str, list[VideoEntry]] = defaultdict(list)
    for entry in entries:
        if entry.dataset not in rule.test_datasets:
            by_dataset[entry.dataset].append(entry)
    for dataset, members in by_dataset.items():
        known = DATASETS.get(dataset.removeprefix(MINIATURE))
        listed = known.official_splits(members, rule.official_dir) if known else listed_splits(members)
        assigned = {video_id: split for video_id, split in listed.items() if split is not None}
        open_to_training = [entry for entry in members if listed.get(entry.video_id, "test") is None]
        if open_to_training:
            assigned |= _train_and_val(open_to_training, rule)
        _require_kept(members, assigned)
        split_of_video |= assigned
    return split_of_video


def _train_and_val(rest: list[VideoEntry], rule: Rule) -> dict[str, Split]:
    """Assign videos without a listed split to train and val by whole groups, in the proportion of these two ratios."""
    train, val, _ = rule.ratios
    if train + val == 0:
        raise SplitError(
            f"split.ratios: got {rule.ratios}, expected shares of train and val for videos that no list names"
        )
    return _by_group(rest, replace(rule, ratios=(train / (train + val), val / (train + val), 0.0)))


def _from_file(entries: list[VideoEntry], rule: Rule) -> dict[str, Split]:
    """Follow the user's own list: a CSV, or a list in the dataset's folder."""
    entries = [entry for entry in entries if entry.dataset not in rule.test_datasets]
    if rule.split_file is not None:
        listed = splits_of_file(entries, rule.split_file)
    else:
        own = [entry for entry in entries if _has_users_lists(entry.dataset)]
        listed = {entry.video_id: entry.listed_split for entry in own if entry.listed_split is not None}
    if entries and not listed:
        raise SplitError("split.file: got none, expected a CSV with the columns video_id (or path) and split")
    _require_kept(entries, listed)
    return listed


def _has_users_lists(dataset: str) -> bool:
    """Whether a dataset's lists are the user's own; lists of a dataset that is not installed count as its authors'."""
    known = DATASETS.get(dataset)
    return known is not None and known.has_users_lists


def _require_kept(entries: list[VideoEntry], listed: dict[str, Split]) -> None:
    """Raise if a list contradicts an assignment of an earlier run, because assignments never change.

    Raises:
        SplitError: a video has another split than the list gives it.
    """
    moved = {
        entry.video_id: entry.split
        for entry in entries
        if entry.split is not None and listed.get(entry.video_id, entry.split) != entry.split
    }
    if moved:
        video_id, split = min(moved.items())
        raise SplitError(
            f"split lists: got {len(moved)} videos that an earlier run put elsewhere ({video_id}: was {split}, "
            f"listed as {listed[video_id]}), expected the same; split again with --reprocess"
        )


Policy = Callable[[list[VideoEntry], Rule], dict[str, Split]]

POLICIES: dict[str, Policy] = {
    "group": _by_group,
    "official": _official,
    "video": _by_video,
    "file": _from_file,
}
