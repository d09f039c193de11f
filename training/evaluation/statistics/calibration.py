"""Calibration of p(fake): predicted and true share of fakes in bins of equal width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

NUM_BINS = 15  # bins of the expected calibration error: Guo et al. 2017 (arXiv 1706.04599) and torchmetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Rows with p(fake) in one of NUM_BINS equal parts of 0..1."""

    low: float
    """0..1, lower end, inclusive."""

    high: float
    """0..1, upper end, inclusive in the last bin only."""

    count: int
    """Rows in the bin."""

    mean_p_fake: float | None
    """0..1, mean of p(fake); None for an empty bin."""

    share_fake: float | None
    """0..1, true share of fakes; None for an empty bin."""


def calibration(labels: IntArray, p_fake: FloatArray) -> tuple[CalibrationBin, ...]:
    """Return predicted and true share of fakes in NUM_BINS equal parts of 0..1."""
    place = calibration_bin(p_fake)
    counts = np.bincount(place, minlength=NUM_BINS)
    said = np.bincount(place, weights=p_fake, minlength=NUM_BINS)
    true = np.bincount(place, weights=labels, minlength=NUM_BINS)
    return tuple(
        CalibrationBin(
            low=number / NUM_BINS,
            high=(number + 1) / NUM_BINS,
            count=int(count),
            mean_p_fake=float(said[number] / count) if count else None,
            share_fake=float(true[number] / count) if count else None,
        )
        for number, count in enumerate(counts)
    )


def expected_calibration_error(labels: IntArray, p_fake: FloatArray) -> float:
    """Return the mean difference of predicted and true share of fakes over NUM_BINS bins, weighted by rows."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    inside = np.minimum(p_fake, np.nextafter(1.0, 0.0))  # torchmetrics puts exactly 1 into another bin
    error = binary_calibration_error(torch.from_numpy(inside), torch.from_numpy(labels), n_bins=NUM_BINS, norm="l1")
    return float(error)


def calibration_bin(p_fake: FloatArray) -> IntArray:
    """Return the (N,) int64 bin of each score; bins include their lower end, the last one both ends."""
    edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
    return np.minimum(np.searchsorted(edges, p_fake, side="right") - 1, NUM_BINS - 1).astype(np.int64)
