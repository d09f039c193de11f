"""Confounds: differences between real and fake videos that have nothing to do with the face.

A detector learns the easiest difference. If fakes are larger, longer or more compressed than real videos, if their
originals are missing, or if nearly every video is fake, a good score may have nothing to do with the forgery.
Confounds are warnings: no split policy promises that a dataset is free of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from manifests.entry import LABEL_AS_INTEGER, REAL, REAL_CLASS, SPLITS, VideoEntry

ALL = "all"  # in place of a split's name: the videos of all splits together

# Least difference that is reported: 0 means equal distributions, 1 that one threshold separates real from fake. With a
# Kolmogorov-Smirnov distance D the best threshold on a column is right for (1 + D) / 2 of balanced real and fake
# videos, 60 % at this limit. Cramér's V of two equally frequent labels and two values is the same difference of shares.
# Without this limit, a difference of one pixel would be significant among thousands of videos.
LEAST_STATISTIC = 0.2
# Largest p-value that is reported. Without this limit, five videos would be enough for a warning. Five columns, tested
# in three splits and in all together, make 20 tests: fewer than 1 in 50 manifests without confounds get a warning.
MAX_P = 0.001
# Smallest ratio of the classes that is reported: always giving the same answer is right for 80 % of the videos.
LEAST_CLASS_RATIO = 4.0
# Products of sample sizes up to which p is computed exactly, within milliseconds: SciPy's formula for large samples
# gives 0 for three values against three that do not overlap, where 0.1 is right.
MAX_EXACT_PAIRS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Confound:
    """One difference between real and fake videos, as a warning."""

    kind: str
    """A name in KINDS."""

    split: str
    """`train`, `val`, `test` or `all`."""

    message: str
    """A sentence that does not name the split, without a full stop."""

    statistic: float | None
    """Kolmogorov-Smirnov distance, Cramér's V, share of fakes without original, or larger class over smaller."""

    p: float | None
    """P-value of the statistic; None where there is no test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Column:
    """A measured property in which real and fake may differ."""

    value: Callable[[VideoEntry], float | None]
    """Returns the property of a video; None if it was not measured."""

    unit: str
    """Unit, in the form that follows a number."""

    digits: int
    """Number of decimals that are shown."""


def _bits_per_pixel(entry: VideoEntry) -> float | None:
    """Return the bits of the file per pixel of each frame, sound included: how strongly it is compressed."""
    if not (entry.num_bytes and entry.num_frames and entry.width and entry.height):
        return None
    return 8 * entry.num_bytes / (entry.num_frames * entry.width * entry.height)


COLUMNS: dict[str, _Column] = {
    "height": _Column(value=lambda entry: entry.height, unit="pixels", digits=0),
    "bits per pixel": _Column(value=_bits_per_pixel, unit="bits", digits=3),
    "fps": _Column(value=lambda entry: float(entry.fps) if entry.fps else None, unit="a second", digits=2),
    "length": _Column(value=lambda entry: entry.num_frames, unit="frames", digits=0),
}
COMPRESSION, ORIGINALS, CLASS_BALANCE, MISSING_CLASS = "compression", "originals", "class balance", "missing class"
BOTH_LABELS = "both labels"
KINDS = (BOTH_LABELS, MISSING_CLASS, CLASS_BALANCE, ORIGINALS, *COLUMNS, COMPRESSION)


def find_confounds(entries: Iterable[VideoEntry]) -> tuple[Confound, ...]:
    """Return every warning, ordered by kind and split; entries without a split are left out.

    Columns that were not measured are skipped: without probing, only names and labels are compared.
    """
    assigned = sorted((entry for entry in entries if entry.split is not None), key=lambda entry: entry.video_id)
    found = [*_both_labels(assigned), *_without_originals(assigned)]
    for split in (ALL, *SPLITS):
        members = [entry for entry in assigned if split in (ALL, entry.split)]
        found += _classes(split, members)
        for name, column in COLUMNS.items():
            found += _differing(split, name, column, members)
        found += _differing_compression(split, members)
    return tuple(sorted(found, key=lambda confound: KINDS.index(confound.kind)))


def _classes(split: str, members: Sequence[VideoEntry]) -> list[Confound]:
    """Warn where one label is missing or rare."""
    counts = Counter(entry.label_as_integer for entry in members)
    num_real, num_fake = counts[REAL_CLASS], counts[LABEL_AS_INTEGER["fake"]]
    fewer, more = sorted((num_real, num_fake))
    if more == 0 or more < LEAST_CLASS_RATIO * fewer:
        return []
    if fewer == 0:
        message = f"no {'real' if num_real == 0 else 'fake'} video among {more:,}: there is nothing to tell apart"
        return [Confound(kind=MISSING_CLASS, split=split, message=message, statistic=None, p=None)]
    message = (
        f"{num_real:,} real and {num_fake:,} fake videos, 1 : {more / fewer:.1f}; "
        f"always answering '{'fake' if num_fake > num_real else 'real'}' is right for {more / (more + fewer):.0%}"
    )
    return [Confound(kind=CLASS_BALANCE, split=split, message=message, statistic=round(more / fewer, 4), p=None)]


def _both_labels(assigned: Sequence[VideoEntry]) -> list[Confound]:
    """Warn of files that are in the dataset both as real and as fake."""
    labels: dict[str, dict[str, str]] = defaultdict(dict)
    for entry in assigned:
        if entry.sha256 is not None:
            labels[entry.sha256].setdefault(entry.label, entry.video_id)
    both = [found for found in labels.values() if len(found) > 1]
    if not both:
        return []
    example = min(" and ".join(sorted(found.values())) for found in both)
    counted = "1 of the files is" if len(both) == 1 else f"{len(both):,} of the files are"
    message = f"{counted} here as real and, with the same bytes, as fake: {example}"
    return [Confound(kind=BOTH_LABELS, split=ALL, message=message, statistic=None, p=None)]


def _without_originals(assigned: Sequence[VideoEntry]) -> list[Confound]:
    """Warn of fakes whose real footage is not in the manifest, by manipulation."""
    footage = {(entry.dataset, entry.target_id) for entry in assigned if entry.label == REAL}
    fakes: dict[str, list[VideoEntry]] = defaultdict(list)
    for entry in assigned:
        if entry.manipulation is not None:
            fakes[f"{entry.dataset} {entry.manipulation}"].append(entry)
    found: list[Confound] = []
    for name, made in sorted(fakes.items()):
        missing = sum((entry.dataset, entry.target_id) not in footage for entry in made)
        if missing:
            message = _about_originals(name, made, missing)
            share = round(missing / len(made), 4)
            found.append(Confound(kind=ORIGINALS, split=ALL, message=message, statistic=share, p=None))
    return found


def _about_originals(name: str, made: Sequence[VideoEntry], missing: int) -> str:
    """Return how many of a manipulation's fakes lack their originals, and what that means."""
    if not any(entry.has_known_footage for entry in made):
        return f"{name}: the footage of its {len(made):,} fakes is unknown, so it may or may not be here"
    if missing < len(made):
        return f"{name}: {missing:,} of {len(made):,} fakes are here without their original"
    return (
        f"{name}: none of its {missing:,} fakes has its original here; "
        "a model trained on it against other real videos learns the scene, not the forgery"
    )


def _differing(split: str, name: str, column: _Column, members: Sequence[VideoEntry]) -> list[Confound]:
    """Warn where real and fake videos differ in a measured column."""
    values: dict[str, list[float]] = {"real": [], "fake": []}
    for entry in members:
        value = column.value(entry)
        if value is not None:
            values[entry.label].append(value)
    real, fake = values["real"], values["fake"]
    if not (real and fake):
        return []
    from scipy.stats import ks_2samp

    method: Literal["exact", "asymp"] = "exact" if len(real) * len(fake) <= MAX_EXACT_PAIRS else "asymp"
    test = ks_2samp(real, fake, method=method)
    if test.statistic < LEAST_STATISTIC or test.pvalue >= MAX_P:
        return []
    message = (
        f"real and fake differ in {name}: medians {median(real):.{column.digits}f} and "
        f"{median(fake):.{column.digits}f} {column.unit}; one threshold on it is right for "
        f"{(1 + test.statistic) / 2:.0%}"
    )
    return [_tested(name, split, message, test.statistic, test.pvalue)]


def _differing_compression(split: str, members: Sequence[VideoEntry]) -> list[Confound]:
    """Warn where real and fake videos differ in the name of their compression."""
    counts = Counter((entry.label, entry.compression or "none") for entry in members)
    names = sorted({name for _, name in counts})
    table = [[counts[label, name] for name in names] for label in LABEL_AS_INTEGER]
    if len(names) < 2 or not all(map(any, table)):
        return []
    from scipy.stats import chi2_contingency
    from scipy.stats.contingency import association

    statistic, p = association(table, method="cramer"), chi2_contingency(table).pvalue
    if statistic < LEAST_STATISTIC or p >= MAX_P:
        return []
    shares = (
        f"{name} {real / sum(table[0]):.0%} and {fake / sum(table[1]):.0%}"
        for name, real, fake in zip(names, *table, strict=True)
    )
    message = f"real and fake differ in {COMPRESSION}: {', '.join(shares)} of them"
    return [_tested(COMPRESSION, split, message, statistic, p)]


def _tested(kind: str, split: str, message: str, statistic: float, p: float) -> Confound:
    """Return a warning with rounded figures, which are equal on every platform."""
    return Confound(kind=kind, split=split, message=message, statistic=round(float(statistic), 4), p=float(f"{p:.3g}"))
