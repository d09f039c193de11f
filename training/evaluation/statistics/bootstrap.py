"""Metrics on resampled units: what each unit adds to every metric is counted once, a resample is a product of matrices.

Units are videos with all their frames and persons; see
`training.evaluation.statistics.metrics` for what is done with the values.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from scipy import sparse

from training.evaluation.statistics.calibration import NUM_BINS, FloatArray, IntArray, calibration_bin

DEFAULT_THRESHOLD = 0.5  # p(fake) from which a row is called fake

FPR_OF: dict[str, float] = {"tpr_at_1_fpr": 0.01, "tpr_at_0.1_fpr": 0.001}
AT_THRESHOLD = "_at_threshold"

# Resampled curves are computed on so many distinct scores at most; a table with fewer is treated exactly. With more,
# the grid keeps the highest scores of reals apart (low FPR is decided there) and takes quantiles for the rest.
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
    """Return (R,) values of metrics on resampled units.

    Args:
        labels: (N,) 0 real, 1 fake.
        p_fake: (N,) 0..1.
        units: (N,) 0..U-1, which rows are drawn together.
        strata: (U,) of which class each unit is: classes are drawn separately.
        names: of METRICS.
        threshold: chosen on the validation split.
        seed: of the draws.
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
    """Return (R,U) how often each unit is drawn, with replacement, as many of each class as there are."""
    weights = np.zeros((num_resamples, len(strata)))
    for stratum in np.unique(strata):
        members = np.nonzero(strata == stratum)[0]
        shares = np.full(len(members), 1.0 / len(members))
        weights[:, members] = rng.multinomial(len(members), shares, size=num_resamples)
    return weights


class _UnitCounts:
    """What each unit adds to every metric, so that a resample is a product of matrices."""

    def __init__(
        self, labels: IntArray, p_fake: FloatArray, units: IntArray, num_units: int, threshold: float | None
    ) -> None:
        grid = _grid(labels, p_fake)
        place = len(grid) - np.searchsorted(grid, p_fake, side="right")  # 0: the highest scores
        shape = (len(grid) + 1, num_units)
        fake = labels == 1
        ones = np.ones(len(labels))
        # (B,U) rows by place on the grid, highest first
        self._reals, self._fakes = (
            sparse.coo_matrix((ones[mask], (place[mask], units[mask])), shape=shape).tocsr() for mask in (~fake, fake)
        )
        self._decided = {
            suffix: sums_of(units, num_units, [fake & called, fake & ~called, ~fake & called, ~fake & ~called])
            for suffix, called in (("", p_fake >= DEFAULT_THRESHOLD), *_called(p_fake, threshold))
        }
        bin_of = calibration_bin(p_fake)
        columns = np.zeros((num_units, NUM_BINS))
        np.add.at(columns, (units, bin_of), p_fake - labels)
        self._miscalibrated = columns  # (U,bins) said minus true
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


def _called(p_fake: FloatArray, threshold: float | None) -> Iterator[tuple[str, npt.NDArray[np.bool_]]]:
    if threshold is not None:
        yield AT_THRESHOLD, p_fake >= threshold


def sums_of(units: IntArray, num_units: int, chosen: list[npt.NDArray[np.bool_]]) -> FloatArray:
    """Return (U,k) how many rows of each unit are chosen by each mask."""
    return np.stack([np.bincount(units[mask], minlength=num_units) for mask in chosen], axis=1).astype(np.float64)


def _decisions(counts: FloatArray) -> dict[str, FloatArray]:
    """Return metrics of (R,4) counts: fakes found, fakes missed, reals accused, reals let go."""
    found, missed, accused, let_go = counts.T
    with np.errstate(invalid="ignore", divide="ignore"):  # one class only: not asked for
        balanced = (found / (found + missed) + let_go / (accused + let_go)) / 2.0
        f1 = 2.0 * found / (2.0 * found + missed + accused)
    return {"accuracy": (found + let_go) / counts.sum(axis=1), "balanced_accuracy": balanced, "f1": f1}


def _curves(reals: FloatArray, fakes: FloatArray) -> dict[str, FloatArray]:
    """Return metrics of the ROC and of precision over recall from (R,B) counts by falling score."""
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
    """Return (R,) y where x passes `at`, on the line from point `before` to the next one, of (R,B) points."""
    rows = np.arange(len(x))
    x0, x1, y0, y1 = x[rows, before], x[rows, before + 1], y[rows, before], y[rows, before + 1]
    return np.asarray(y0 + (at - x0) / (x1 - x0) * (y1 - y0))


def _grid(labels: IntArray, p_fake: FloatArray) -> FloatArray:
    """Return rising scores between which resampled curves take no notice of differences; MAX_GRID at most."""
    distinct = np.unique(p_fake)
    if len(distinct) <= MAX_GRID:
        return distinct
    quarter = MAX_GRID // 4
    top = np.unique(p_fake[labels == 0])[-quarter:]
    shares = np.linspace(0.0, 1.0, quarter)
    of_classes = [np.quantile(p_fake[labels == label], shares, method="lower") for label in np.unique(labels)]
    return np.unique(np.concatenate([distinct[:1], top, *of_classes]))
