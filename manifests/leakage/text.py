"""Leakage report in words: lines for a terminal, and messages about broken promises of a split policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from manifests.entry import SPLITS
from manifests.errors import SplitError
from manifests.leakage.audit import NEAR_DUPLICATE, PAIRS, RECORDING, VALUES, Example, HeldOut, LeakageReport, Shared
from manifests.leakage.confounds import ALL, ORIGINALS, Confound

MAX_EXAMPLES_IN_MESSAGE = 3
MAX_EXAMPLES_SHOWN = 2  # examples of each kind on a terminal; recordings are all shown
KIND_WIDTH, COLUMN_WIDTH = 21, 11  # widths of the table's columns, characters

PLURALS = {kind: f"{kind}s" for kind in VALUES} | {"identity": "identities", NEAR_DUPLICATE: "near-duplicate pairs"}
# Shown for a kind of which no value was compared.
WHY_NOTHING = dict.fromkeys(VALUES, "not named by the dataset") | {
    "identical file": "not compared: the files have not been opened",
    NEAR_DUPLICATE: "not compared: no frames have been hashed",
}

# Kinds of values that a policy promises not to share. Near-duplicates are in none of them: hashes can agree by chance,
# so a person has to compare the videos.
PROMISES: dict[str, frozenset[str]] = {
    "group": frozenset(VALUES),
    "file": frozenset(VALUES),
    "official": frozenset({"video"}),
    "video": frozenset({"video"}),
}
POLICIES_BY_LIST = frozenset({"file", "official"})


def broken_promises(report: LeakageReport, policy: str) -> tuple[str, ...]:
    """Return a message for each kind that splits share although the policy promises that they do not.

    Raises:
        SplitError: no such policy.
    """
    if policy not in PROMISES:
        raise SplitError(f"split.policy: got {policy!r}, expected one of {list(PROMISES)}")
    remedy = "correct the list" if policy in POLICIES_BY_LIST else "split the store again with `preprocess --reprocess`"
    return tuple(
        f"split.policy {policy}: got {counted(found)} in more than one split ({_some(found)}), expected none; "
        f"{remedy}, or accept it with `preprocess --allow-leakage`, which the store records"
        for found in report.shared
        if found.kind in PROMISES[policy] and found.num_shared
    )


def describe(report: LeakageReport) -> list[str]:
    """Return the report as lines for a terminal: summary, table, test compared with the rest, examples, warnings."""
    if not sum(report.num_videos.values()):
        return [_verdict(report), *_warnings(report)]
    lines = [_verdict(report), *_table(report)]
    for held_out in report.held_out:
        lines += sentences_about_test(held_out)
    if any(donors.num_fakes for donors in report.donors):
        counts = (f"{donors.num_elsewhere:,} of {donors.num_fakes:,} in {donors.split}" for donors in report.donors)
        lines.append(f"Fakes whose donor's own video lies in another split: {', '.join(counts)}.")
    for found in report.shared:
        for example in found.examples if found.kind == RECORDING else found.examples[:MAX_EXAMPLES_SHOWN]:
            lines.append(f"Example, {found.kind}: {_placed(example)}: {', '.join(example.video_ids)}")
    return [*lines, *_warnings(report)]


def _verdict(report: LeakageReport) -> str:
    """Return the report in one sentence."""
    if not sum(report.num_videos.values()):
        return "No video has a split, so there is nothing to compare."
    shared = [counted(found) for found in report.shared if found.num_shared and found.kind != NEAR_DUPLICATE]
    near = report.by_kind[NEAR_DUPLICATE]
    if shared:
        return f"Leakage: the splits share {_listed(shared)}."
    if near.num_shared:
        return (
            f"No name and no file is in two splits, but videos look alike; near-duplicate pairs: {near.num_shared:,}."
        )
    if not report.num_digested:
        return "No leakage found by names: the splits share none. The files have not been opened."
    return "No leakage found: the splits share no name, no file and no similar video."


def _table(report: LeakageReport) -> list[str]:
    """Return a line for each kind: how many values there are, how many are shared, and between which splits."""
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
    """Return the comparison of test with train and val as sentences, without those whose counts would all be 0."""
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
    """Return confounds, each once with all its splits, and the numbers of videos that could not be compared."""
    places: dict[tuple[str, str], list[Confound]] = defaultdict(list)
    for confound in report.confounds:
        name = confound.message if confound.kind == ORIGINALS else ""
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
        lines.append(f"Videos without a split, not in this report: {report.num_without_split:,}.")
    return lines


def counted(found: Shared) -> str:
    """Return the number of shared values in words, such as `4 targets`."""
    return f"{found.num_shared:,} {found.kind if found.num_shared == 1 else PLURALS[found.kind]}"


def _some(found: Shared) -> str:
    return "; ".join(_placed(example) for example in found.examples[:MAX_EXAMPLES_IN_MESSAGE])


def _placed(example: Example) -> str:
    return f"{example.value} in {_listed(example.splits)}"


def _listed(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
