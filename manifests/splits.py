"""Splits at video level that leak nothing: whole groups only, seeded, sticky.

A *group* is what must not cross splits: for FaceForensics++ the target–source pair. A naive video-level 70/15/15 puts
the donor of 46.7 % of FF++'s fakes into another split than their footage.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from manifests.entry import SPLITS, Split, VideoEntry
from manifests.errors import SplitError
from manifests.groups import connected_groups

Ratios = tuple[float, float, float]  # shares of train, val and test; they sum to 1
DEFAULT_RATIOS: Ratios = (0.70, 0.15, 0.15)


def assign(
    entries: Iterable[VideoEntry],
    policy: str = "group",
    ratios: Ratios = DEFAULT_RATIOS,
    seed: int = 0,
    official_dir: Path | None = None,
) -> list[VideoEntry]:
    """Return the entries with their splits, in the order given; groups that share a person have become one.

    Entries that already have a split keep it, and so do new members of their group. The result does not depend on the
    order of the entries, nor on the platform.

    Args:
        entries: videos of any number of datasets, with `group_id`; some may have a `split` from an earlier run.
        policy: a name in `POLICIES`.
        ratios: shares of the videos for train, val and test.
        seed: which of the many fair splits.
        official_dir: folder with the dataset's three split lists, for the policy `official`.

    Raises:
        SplitError: unknown policy, unusable ratios or lists, or a group that would cross splits.
    """
    if policy not in POLICIES:
        raise SplitError(f"split.policy: got {policy!r}, expected one of {list(POLICIES)}")
    if len(ratios) != len(SPLITS) or min(ratios) < 0 or not math.isclose(sum(ratios), 1.0, abs_tol=1e-6):
        raise SplitError(f"split.ratios: got {ratios}, expected three shares of train, val and test that sum to 1")
    listed = with_common_groups(entries)
    split_of_video = POLICIES[policy](listed, ratios, seed, official_dir)
    assigned = [replace(entry, split=entry.split or split_of_video.get(entry.video_id)) for entry in listed]
    require_no_leakage(assigned)
    return assigned


def with_common_groups(entries: Iterable[VideoEntry]) -> list[VideoEntry]:
    """Return the entries with one group_id for all groups that share a target or source.

    A dataset makes groups from what lies on disk at the time. Entries of an earlier run may carry groups that were made
    when a video which ties two people together was there, or not there yet.
    """
    listed = list(entries)
    people = (
        (f"person {entry.dataset}/{person_id}", f"group {entry.group_id}")
        for entry in listed
        for person_id in (entry.target_id, entry.source_id)
        if person_id is not None
    )
    # "group …" sorts before "person …", so that each component is named after its smallest group.
    common = connected_groups(people)
    return [replace(entry, group_id=common[f"group {entry.group_id}"].removeprefix("group ")) for entry in listed]


def require_no_leakage(entries: Iterable[VideoEntry]) -> None:
    """Raise unless every group lies in one split.

    Raises:
        SplitError: a group crosses splits; the message names up to three of them.
    """
    crossing = {group_id: found for group_id, found in _splits_by_group(entries).items() if len(found) > 1}
    if crossing:
        examples = "; ".join(f"{group_id} in {sorted(found)}" for group_id, found in sorted(crossing.items())[:3])
        raise SplitError(
            f"leakage groups: got {len(crossing)} in more than one split ({examples}), expected each in one; "
            "a new fake may tie together videos that were split before: split anew with --reprocess"
        )


def counts_by_split(entries: Iterable[VideoEntry]) -> dict[str, Counter[str]]:
    """Count videos: kind (`real` or the manipulation) → split → number of videos."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for entry in entries:
        if entry.split is not None:
            counts[entry.manipulation or "real"][entry.split] += 1
    return dict(counts)


def _splits_by_group(entries: Iterable[VideoEntry]) -> dict[str, set[Split]]:
    """Return the splits in which each group has been seen."""
    found: dict[str, set[Split]] = defaultdict(set)
    for entry in entries:
        if entry.split is not None:
            found[entry.group_id].add(entry.split)
    return found


def _by_group(entries: list[VideoEntry], ratios: Ratios, seed: int, _official_dir: Path | None) -> dict[str, Split]:
    """Put each new group where the ratio lacks most videos, the largest group first.

    With groups of one size this meets the ratios exactly whenever whole groups can: 500 FF++ pairs become 350/75/75.
    """
    require_no_leakage(entries)
    split_of_group = {group_id: min(found) for group_id, found in _splits_by_group(entries).items()}
    size_of_group = Counter(entry.group_id for entry in entries)
    lacking = {split: share * len(entries) for split, share in zip(SPLITS, ratios, strict=True)}
    for group_id, split in split_of_group.items():
        lacking[split] -= size_of_group[group_id]

    def draw(group_id: str) -> tuple[int, str]:
        return -size_of_group[group_id], hashlib.sha256(f"{seed}:{group_id}".encode()).hexdigest()

    for group_id in sorted(size_of_group.keys() - split_of_group.keys(), key=draw):
        split = max(SPLITS, key=lambda name: lacking[name])
        split_of_group[group_id] = split
        lacking[split] -= size_of_group[group_id]
    return {entry.video_id: split_of_group[entry.group_id] for entry in entries}


def _official(entries: list[VideoEntry], _ratios: Ratios, _seed: int, official_dir: Path | None) -> dict[str, Split]:
    """Read FaceForensics++'s three lists of [id, id] pairs; videos whose target no list names get no split.

    Source: the `dataset/splits` folder of the authors' repository: 360, 70 and 70 pairs.
    """
    split_of_id: dict[str, Split] = {}
    for split in SPLITS:
        for person_id in _read_pairs(official_dir, split):
            if split_of_id.setdefault(person_id, split) != split:
                raise SplitError(f"official lists: got id {person_id} in {split_of_id[person_id]} and {split}")
    return {entry.video_id: split_of_id[entry.target_id] for entry in entries if entry.target_id in split_of_id}


def official_lists_digest(official_dir: Path | None) -> str:
    """Hex SHA-256 over the three lists' bytes.

    Raises:
        SplitError: no folder, or not all three lists in it.
    """
    return hashlib.sha256(b"".join(_list_path(official_dir, split).read_bytes() for split in SPLITS)).hexdigest()


def _list_path(official_dir: Path | None, split: Split) -> Path:
    """Return the file of one list, which is `<split>.json` or ends in `_<split>.json`."""
    if official_dir is None:
        raise SplitError(
            "split.official_dir: got none, expected the folder with the dataset's train, val and test lists; "
            "FaceForensics++ publishes them beside its download script (dataset/splits/*.json)"
        )
    candidates = [official_dir / f"{split}.json", *sorted(official_dir.glob(f"*_{split}.json"))]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise SplitError(f"official lists: got no {split}.json in {official_dir}, expected the three lists there")
    return path


def _read_pairs(official_dir: Path | None, split: Split) -> list[str]:
    """Return the ids of one list."""
    path = _list_path(official_dir, split)
    try:
        pairs = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SplitError(
            f"official list {path}: got {error}, expected JSON pairs such as [['071', '054'], …]"
        ) from error
    well_formed = isinstance(pairs, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in pairs)
    if not well_formed:
        raise SplitError(f"official list {path}: got another shape, expected a list of pairs such as ['071', '054']")
    return [str(person_id) for pair in pairs for person_id in pair]


Policy = Callable[[list[VideoEntry], Ratios, int, Path | None], dict[str, Split]]

POLICIES: dict[str, Policy] = {
    "group": _by_group,
    "official": _official,
}
