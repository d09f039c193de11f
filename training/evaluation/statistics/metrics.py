"""Metrics of p(fake) for frames and for videos, with bootstrap intervals over videos.

The values are those of scikit-learn and torchmetrics; EER and TPR at a fixed FPR are interpolated linearly on the ROC
of scikit-learn. A metric that is undefined on the data is None with a reason: one class only, too few reals for the
FPR, no threshold. A score equal to the threshold counts as fake.

Intervals are percentile bootstrap intervals. Videos are drawn with replacement (with all their frames and persons),
reals and fakes separately, since their numbers are a choice of the dataset. An interval of zero width means that no
resample differed, not that the value is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from training.evaluation.scores import Scores, group_rows, to_videos
from training.evaluation.statistics.bootstrap import AT_THRESHOLD, DEFAULT_THRESHOLD, FPR_OF, draw, resample, sums_of
from training.evaluation.statistics.calibration import NUM_BINS, FloatArray, IntArray, expected_calibration_error

Level = Literal["frame", "video"]
LEVELS: tuple[Level, ...] = get_args(Level)

NUM_RESAMPLES = 1000
CONFIDENCE = 0.95
MIN_VIDEOS = 5  # of a class; with fewer, an interval would be meaningless
NOT_SAID = "not said"  # compression of the other videos of a dataset that names one for some videos only

# Name → description, in the order of tables.
METRICS: dict[str, str] = {
    "auc": "area under the ROC curve, ties by rank",
    "ap": "average precision",
    "eer": "equal error rate, interpolated",
    "accuracy": "accuracy at 0.5",
    "balanced_accuracy": "mean of the two recalls at 0.5",
    "f1": "F1 of the fakes at 0.5",
    "accuracy_at_threshold": "accuracy at the validation threshold",
    "balanced_accuracy_at_threshold": "mean of the two recalls at the validation threshold",
    "f1_at_threshold": "F1 of the fakes at the validation threshold",
    "tpr_at_1_fpr": "true positive rate at 1 % false positives, interpolated",
    "tpr_at_0.1_fpr": "true positive rate at 0.1 % false positives, interpolated",
    "ece": f"expected calibration error of p(fake), {NUM_BINS} bins",
}
LOWER_IS_BETTER = frozenset({"eer", "ece"})
# Measured: at 340 videos with an error of 5.0 % the interval was 5.4–11.1 %.
_NO_ECE_INTERVAL = "no interval: the noise of resampling itself raises a calibration error, so it would lie too high"
_WITH_ONE_CLASS = frozenset({"accuracy", "accuracy_at_threshold", "ece"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a table, or the reason why it is missing."""

    value: float | None
    """0..1; None if it is undefined."""

    low: float | None = None
    """0..1, lower end of the interval."""

    high: float | None = None
    """0..1, upper end of the interval."""

    reason: str | None = None
    """Reason why there is no value, or no interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetrics:
    """All metrics of a group of rows at one level."""

    level: Level
    """Whether rows are frames or videos."""

    dataset: str | None
    """Dataset; None: all datasets together."""

    compression: str | None
    """Compression; None: all of them, or the dataset has none."""

    manipulation: str | None
    """Manipulation of the fakes, against all reals of dataset and compression; None: all fakes."""

    num_reals: int
    """Rows of reals."""

    num_fakes: int
    """Rows of fakes."""

    figures: dict[str, Figure]
    """Metrics by name, as in METRICS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confusion:
    """Confusion matrix of reals and fakes at a threshold."""

    level: Level
    """Whether rows are frames or videos."""

    threshold: float
    """0..1, score from which a row is called fake."""

    real_as_real: int
    """Rows: true negatives."""

    real_as_fake: int
    """Rows: false positives."""

    fake_as_real: int
    """Rows: false negatives."""

    fake_as_fake: int
    """Rows: true positives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MultiClass:
    """Metrics over several classes, for rows whose class the model has."""

    level: Level
    """Whether rows are frames or videos."""

    class_names: tuple[str, ...]
    """C names of classes, the real one first."""

    num_rows: int
    """Rows of these classes."""

    num_unknown: int
    """Rows of other classes, which are excluded."""

    accuracy: Figure
    """Share of rows whose most probable class is the true one."""

    macro_auc: Figure
    """Mean over the classes of the AUC of one class against the others."""

    confusion: tuple[tuple[int, ...], ...]
    """(C,C) rows of the table by true class (row) and most probable class (column)."""


def measure(labels: IntArray, p_fake: FloatArray, *, threshold: float | None = None) -> dict[str, Figure]:
    """Compute every metric without intervals.

    Args:
        labels: (N,) int64, 0 real, 1 fake.
        p_fake: (N,) float64, 0..1.
        threshold: 0..1, chosen on the validation split; None without one.
    """
    num_reals, num_fakes = int((labels == 0).sum()), int((labels == 1).sum())
    figures = {}
    for name in METRICS:
        reason = _why_undefined(name, num_reals, num_fakes, threshold)
        at = threshold if name.endswith(AT_THRESHOLD) and threshold is not None else DEFAULT_THRESHOLD
        figures[name] = Figure(value=None if reason else _value(name, labels, p_fake, at), reason=reason)
    return figures


def measure_with_intervals(
    scores: Scores, *, threshold: float | None = None, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> dict[str, Figure]:
    """Compute every metric of a table of frames or videos, with bootstrap intervals over videos.

    Args:
        scores: table of frames or videos.
        threshold: 0..1, chosen on the validation split; None without one.
        seed: seed of the resampling; the same seed and rows give the same intervals.
        num_resamples: number of resamples; 0 for no intervals.
    """
    figures = measure(scores.label, scores.p_fake, threshold=threshold)
    if not num_resamples or not len(scores):
        return figures
    units, first = group_rows(scores.dataset, scores.video_id)
    strata = scores.label[first]
    fewest = min(int((strata == label).sum()) for label in np.unique(strata))
    if fewest < MIN_VIDEOS:
        reason = f"no interval: {fewest} videos of a class, at least {MIN_VIDEOS} needed"
        return {
            name: figure if figure.value is None else Figure(value=figure.value, reason=reason)
            for name, figure in figures.items()
        }
    if figures["ece"].value is not None:
        figures["ece"] = Figure(value=figures["ece"].value, reason=_NO_ECE_INTERVAL)
    wanted = [name for name, figure in figures.items() if figure.value is not None and name != "ece"]
    resampled = resample(scores.label, scores.p_fake, units, strata, wanted, threshold, seed, num_resamples)
    tail = (1.0 - CONFIDENCE) / 2.0
    for name, values in resampled.items():
        low, high = np.quantile(values, (tail, 1.0 - tail))
        figures[name] = Figure(value=figures[name].value, low=float(low), high=float(high))
    return figures


def measure_groups(
    frames: Scores, *, threshold: float | None = None, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> tuple[GroupMetrics, ...]:
    """Compute all metrics at both levels: for all data, each dataset, each of its compressions and manipulations.

    Args:
        frames: scores of frames.
        threshold: 0..1, chosen on the validation split; None without one.
        seed: seed of the resampling.
        num_resamples: number of resamples; 0 for no intervals.
    """
    found = []
    for level, rows in zip(LEVELS, (frames, to_videos(frames)), strict=True):
        for (dataset, compression, manipulation), chosen in _groups(rows):
            group = rows.where(chosen)
            figures = measure_with_intervals(group, threshold=threshold, seed=seed, num_resamples=num_resamples)
            num_fakes = int(group.label.sum())
            found.append(
                GroupMetrics(
                    level=level,
                    dataset=dataset,
                    compression=compression,
                    manipulation=manipulation,
                    num_reals=len(group) - num_fakes,
                    num_fakes=num_fakes,
                    figures=figures,
                )
            )
    return tuple(found)


def measure_classes(
    scores: Scores, level: Level, *, seed: int = 0, num_resamples: int = NUM_RESAMPLES
) -> MultiClass | None:
    """Compute the metrics over several classes; None for a model with two classes."""
    from sklearn.metrics import confusion_matrix

    if scores.class_names is None or scores.class_label is None or scores.class_probabilities is None:
        return None
    known = scores.class_label >= 0
    truth, probabilities = scores.class_label[known], scores.class_probabilities[known]
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(truth, predicted, labels=np.arange(len(scores.class_names)))
    return MultiClass(
        level=level,
        class_names=scores.class_names,
        num_rows=len(truth),
        num_unknown=int((~known).sum()),
        accuracy=_class_accuracy(scores.where(known), truth == predicted, seed, num_resamples),
        macro_auc=_macro_auc(truth, probabilities, scores.class_names),
        confusion=tuple(tuple(int(count) for count in row) for row in confusion),
    )


def confusion_at(scores: Scores, level: Level, threshold: float) -> Confusion:
    """Count true and false decisions at a threshold."""
    called_fake, fake = scores.p_fake >= threshold, scores.label == 1
    return Confusion(
        level=level,
        threshold=threshold,
        real_as_real=int((~fake & ~called_fake).sum()),
        real_as_fake=int((~fake & called_fake).sum()),
        fake_as_real=int((fake & ~called_fake).sum()),
        fake_as_fake=int((fake & called_fake).sum()),
    )


def choose_threshold(labels: IntArray, p_fake: FloatArray) -> float | None:
    """Choose the threshold with the best balanced accuracy on a validation split; None if a class is missing.

    It is halfway between the lowest score called fake and the highest one called real; of several equally good ones,
    the nearest to 0.5 is taken.

    Args:
        labels: (N,) int64, 0 real, 1 fake.
        p_fake: (N,) float64, 0..1.
    """
    from sklearn.metrics import roc_curve

    if len(np.unique(labels)) < 2:
        return None
    fpr, tpr, thresholds = roc_curve(labels, p_fake, drop_intermediate=False)
    distinct = thresholds[1:]  # the first one is infinite: nothing is called fake
    below = np.append(distinct[1:], 0.0)
    candidates = np.append(min(1.0, distinct[0] + 1e-9), (distinct + below) / 2.0)
    gain = tpr - fpr
    best = candidates[gain >= gain.max() - 1e-12]
    return float(best[np.argmin(abs(best - DEFAULT_THRESHOLD))])


def roc(labels: IntArray, p_fake: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return false and true positive rates, rising from (0, 0) to (1, 1); both classes are required."""
    from sklearn.metrics import roc_curve

    fpr, tpr, _ = roc_curve(labels, p_fake)
    return fpr, tpr


def equal_error_rate(labels: IntArray, p_fake: FloatArray) -> float:
    """Return the FPR at which the linearly interpolated ROC crosses FPR = 1 − TPR; both classes are required."""
    fpr, tpr = roc(labels, p_fake)
    return float(np.interp(0.0, fpr + tpr - 1.0, fpr))


def tpr_at_fpr(labels: IntArray, p_fake: FloatArray, fpr: float) -> float:
    """Return the true positive rate of the linearly interpolated ROC at a false positive rate."""
    found_fpr, tpr = roc(labels, p_fake)
    return float(np.interp(fpr, found_fpr, tpr))  # of several points at one FPR `interp` takes the last, the highest


def _why_undefined(name: str, num_reals: int, num_fakes: int, threshold: float | None) -> str | None:
    """Return why a metric is undefined on these numbers of rows; None if it is defined."""
    if not num_reals + num_fakes:
        return "no rows"
    if name.endswith(AT_THRESHOLD) and threshold is None:
        return "no threshold was chosen on a validation split"
    if name in _WITH_ONE_CLASS:
        return None
    if not num_reals or not num_fakes:
        return f"only {'fakes' if num_fakes else 'reals'}: both are needed"
    fpr = FPR_OF.get(name)
    if fpr is not None and num_reals * fpr < 1.0:
        return f"{num_reals} reals cannot show {100 * fpr:g} % of false positives: {1 / fpr:.0f} are needed"
    return None


def _value(name: str, labels: IntArray, p_fake: FloatArray, at: float) -> float:
    """Compute a metric that is defined."""
    from sklearn.metrics import (
        accuracy_score,
        average_precision_score,
        balanced_accuracy_score,
        f1_score,
        roc_auc_score,
    )

    called = (p_fake >= at).astype(np.int64)
    ways: dict[str, Callable[[], float]] = {
        "auc": lambda: roc_auc_score(labels, p_fake),
        "ap": lambda: average_precision_score(labels, p_fake),
        "eer": lambda: equal_error_rate(labels, p_fake),
        "accuracy": lambda: accuracy_score(labels, called),
        "balanced_accuracy": lambda: balanced_accuracy_score(labels, called),
        "f1": lambda: f1_score(labels, called, zero_division=0.0),
        "ece": lambda: expected_calibration_error(labels, p_fake),
    }
    if name in FPR_OF:
        return tpr_at_fpr(labels, p_fake, FPR_OF[name])
    return float(ways[name.removesuffix(AT_THRESHOLD)]())


def _groups(rows: Scores) -> Iterator[tuple[tuple[str | None, str | None, str | None], npt.NDArray[np.bool_]]]:
    """Yield groups as (dataset, compression, manipulation), None for all, with the (N,) mask of their rows."""
    datasets = sorted(set(rows.dataset))
    if len(datasets) > 1:
        yield (None, None, None), np.ones(len(rows), dtype=np.bool_)
    for dataset in datasets:
        of_dataset = rows.dataset == dataset
        compressions = sorted(set(rows.compression[of_dataset]), key=str)
        if len(compressions) > 1:
            yield (dataset, None, None), of_dataset
        for compression in compressions:
            of_compression = of_dataset & (rows.compression == compression)
            name = NOT_SAID if compression is None and len(compressions) > 1 else compression
            yield (dataset, name, None), of_compression
            fakes = of_compression & (rows.label == 1)
            for manipulation in sorted({str(found) for found in rows.manipulation[fakes] if found is not None}):
                of_manipulation = fakes & (rows.manipulation == manipulation)
                yield (dataset, name, manipulation), (of_compression & (rows.label == 0)) | of_manipulation


def _class_accuracy(known: Scores, correct: npt.NDArray[np.bool_], seed: int, num_resamples: int) -> Figure:
    """Return the share of correct classes with its interval over videos, drawn per class."""
    if not len(known):
        return Figure(value=None, reason="no row is of a class of the model")
    value = float(correct.mean())
    units, first = group_rows(known.dataset, known.video_id)
    strata = np.zeros(0, dtype=np.int64) if known.class_label is None else known.class_label[first]
    fewest = min(int((strata == label).sum()) for label in np.unique(strata))
    if not num_resamples or fewest < MIN_VIDEOS:
        return Figure(value=value, reason=f"no interval: {fewest} videos of a class, at least {MIN_VIDEOS} needed")
    counts = sums_of(units, len(first), [correct, np.ones(len(known), dtype=np.bool_)])
    right, rows = (draw(strata, np.random.default_rng(seed), num_resamples) @ counts).T
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(right / rows, (tail, 1.0 - tail))
    return Figure(value=value, low=float(low), high=float(high))


def _macro_auc(truth: IntArray, probabilities: FloatArray, class_names: tuple[str, ...]) -> Figure:
    from sklearn.metrics import roc_auc_score

    missing = [name for number, name in enumerate(class_names) if not (truth == number).any()]
    if missing:
        return Figure(value=None, reason=f"no row of class {', '.join(missing)}: every class is needed")
    columns = [roc_auc_score(truth == number, probabilities[:, number]) for number in range(len(class_names))]
    return Figure(value=float(np.mean(columns)), reason="no interval: not resampled")
