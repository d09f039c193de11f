"""Metrics on bootstrap resamples: counts per unit are computed once, and a resample is a matrix product.

Units are videos with all their frames and persons. `training.evaluation.statistics.metrics` computes intervals from
the values.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.evaluation.statistics.calibration import NUM_BINS, FloatArray, IntArray, calibration_bin

DEFAULT_THRESHOLD = 0.5  # score from which a row is called fake

FPR_OF: dict[str, float] = {"tpr_at_1_fpr": 0.01, "tpr_at_0.1_fpr": 0.001}
AT_THRESHOLD = "_at_threshold"

# Maximum number of distinct scores of resampled curves; tables with fewer are computed exactly. With more, the grid
# keeps the highest scores of reals, which determine the TPR at low FPR, and quantiles of the others.
MAX_GRID = 4096
_RESAMPLES_AT_ONCE = 250  # × MAX_GRID × float64 = 8 MB an array


def resample(
    labels: IntArray,
    p_fake: FloatArray,
    units: IntArray,
    strata: IntArray,
    names: list[str],
    threshold: float | None,
    seed: int,
    num_resamples: int,
) -> dict[str, FloatArray]:
    """Compute (R,) float64 values of metrics on resampled units.

    Args:
        labels: (N,) int64, 0 real, 1 fake.
        p_fake: (N,) float64, 0..1.
        units: (N,) int64, unit 0..U-1 of each row; rows of a unit are drawn together.
        strata: (U,) int64, class of each unit; classes are drawn separately.
        names: keys of METRICS.
        threshold: 0..1, chosen on the validation split; None without one.
        seed: seed of the draws.
        num_resamples: R.
    """
    rng = np.random.default_rng(seed)
    bins = _UnitCounts(labels, p_fake, units, len(strata), threshold)
    parts: dict[str, list[FloatArray]] = {name: [] for name in names}
    for start in range(0, num_resamples, _RESAMPLES_AT_ONCE):
        weights = draw(strata, rng, min(_RESAMPLES_AT_ONCE, num_resamples - start))
        for name, values in bins.values(weights, names).items():
            parts[name].append(values)
    return {name: np.concatenate(values) for name, values in parts.items()}


def draw(strata: IntArray, rng: np.random.Generator, num_resamples: int) -> FloatArray:
    """Draw units with replacement, as many of each class as there are; return (R,U) float64 counts."""
    weights = np.zeros((num_resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.nonzero(strata == stratum)[0]
        shares = np.full(len(members), 1.0 / len(members))
        weights[:, members] = rng.multinomial(len(members), shares, size=num_resamples)
    return weights


class _UnitCounts:
    """Counts of each unit for every metric, from which a resample is a matrix product."""

    def __init__(
        self, labels: IntArray, p_fake: FloatArray, units: IntArray, num_units: int, threshold: float | None
    ) -> None:
        grid = _grid(labels, p_fake)
        place = len(grid) - np.searchsorted(grid, p_fake, side="right")  # 0: the highest scores
        shape = (len(grid) + 1, num_units)
        fake = labels == 1
        ones = np.ones(len(labels))
        # (B,U) number of rows by position on the grid, highest score first
        self._reals, self._fakes = (
            sparse.coo_matrix((ones[mask], (place[mask], units[mask])), shape=shape).tocsr() for mask in (~fake, fake)
        )
        decisions = {"": p_fake >= DEFAULT_THRESHOLD}
        if threshold is not None:
            decisions[AT_THRESHOLD] = p_fake >= threshold
        self._decided = {
            suffix: sums_of(units, num_units, [fake & called, fake & ~called, ~fake & called, ~fake & ~called])
            for suffix, called in decisions.items()
        }
        bin_of = calibration_bin(p_fake)
        columns = np.zeros((num_units, NUM_BINS))
        np.add.at(columns, (units, bin_of), p_fake - labels)
        self._miscalibrated = columns  # (U,bins) predicted minus true
        self._num_rows = np.bincount(units, minlength=num_units).astype(np.float64)

    def values(self, weights: FloatArray, names: list[str]) -> dict[str, FloatArray]:
        """Return (R,) values by name for (R,U) weights."""
        found: dict[str, FloatArray] = {}
        for suffix, decided in self._decided.items():
            found |= {name + suffix: values for name, values in _decisions(weights @ decided).items()}
        found["ece"] = abs(weights @ self._miscalibrated).sum(axis=1) / (weights @ self._num_rows)
        if set(names) - set(found):
            found |= _curves(np.asarray(self._reals @ weights.T).T, np.asarray(self._fakes @ weights.T).T)
        return {name: found[name] for name in names}


def sums_of(units: IntArray, num_units: int, chosen: list[npt.NDArray[np.bool_]]) -> FloatArray:
    """Return the (U,k) float64 number of rows of each unit that each of k masks selects."""
    return np.stack([np.bincount(units[mask], minlength=num_units) for mask in chosen], axis=1).astype(np.float64)


def _decisions(counts: FloatArray) -> dict[str, FloatArray]:
    """Compute metrics from (R,4) counts of true positives, false negatives, false positives, true negatives."""
    found, missed, false_alarms, passed = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):  # undefined with one class, and then not used
        balanced = (found / (found + missed) + passed / (false_alarms + passed)) / 2.0
        f1 = 2.0 * found / (2.0 * found + missed + false_alarms)
    return {"accuracy": (found + passed) / counts.sum(axis=1), "balanced_accuracy": balanced, "f1": f1}


def _curves(reals: FloatArray, fakes: FloatArray) -> dict[str, FloatArray]:
    """Compute metrics of the ROC and the precision-recall curve from (R,B) counts, highest score first."""
    zero = np.zeros((len(reals), 1))
    false, true = np.hstack([zero, reals.cumsum(axis=1)]), np.hstack([zero, fakes.cumsum(axis=1)])
    fpr, tpr = false / false[:, -1:], true / true[:, -1:]
    called = false[:, 1:] + true[:, 1:]
    precision = np.divide(true[:, 1:], called, out=np.zeros_like(called), where=called > 0)
    curves = {
        "auc": (np.diff(fpr, axis=1) * (tpr[:, 1:] + tpr[:, :-1])).sum(axis=1) / 2.0,
        "ap": (np.diff(tpr, axis=1) * precision).sum(axis=1),
        "eer": _crossing(fpr + tpr - 1.0, fpr, np.argmax(fpr + tpr >= 1.0, axis=1) - 1, 0.0),
    }
    for name, at in FPR_OF.items():
        curves[name] = _crossing(fpr, tpr, (fpr <= at).sum(axis=1) - 1, at)
    return curves


def _crossing(x: FloatArray, y: FloatArray, before: IntArray, at: float) -> FloatArray:
    """Return (R,) y at x = `at`, interpolated between point `before` and the next one of (R,B) curves."""
    rows = np.arange(len(x))
    x0, x1, y0, y1 = x[rows, before], x[rows, before + 1], y[rows, before], y[rows, before + 1]
    return np.asarray(y0 + (at - x0) / (x1 - x0) * (y1 - y0))


def _grid(labels: IntArray, p_fake: FloatArray) -> FloatArray:
    """Return rising scores, MAX_GRID at most; resampled curves do not distinguish scores between two of them."""
    distinct = np.unique(p_fake)
    if len(distinct) <= MAX_GRID:
        return distinct
    quarter = MAX_GRID // 4
    top = np.unique(p_fake[labels == 0])[-quarter:]
    shares = np.linspace(0.0, 1.0, quarter)
    of_classes = [np.quantile(p_fake[labels == label], shares, method="lower") for label in np.unique(labels)]
    return np.unique(np.concatenate([distinct[:1], top, *of_classes]))
