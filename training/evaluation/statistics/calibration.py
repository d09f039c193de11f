"""Calibration of p(fake): what was said beside what was true, in bins of equal width."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

NUM_BINS = 15  # of the expected calibration error, equal widths: Guo et al. 2017 (arXiv 1706.04599) and torchmetrics


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationBin:
    """Rows whose p(fake) lies in one of NUM_BINS equal parts of 0..1."""

    low: float
    """Lower end of p(fake), included."""

    high: float
    """Upper end, included in the last bin only."""

    count: int
    """Rows."""

    mean_p_fake: float | None
    """What was said; None for an empty bin."""

    share_fake: float | None
    """What was true; None for an empty bin."""


def calibration(labels: IntArray, p_fake: FloatArray) -> tuple[CalibrationBin, ...]:
    """Return what was said and what was true in NUM_BINS equal parts of 0..1."""
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
    """Return the mean distance of said and true share of fakes over NUM_BINS bins, weighted by their rows."""
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    inside = np.minimum(p_fake, np.nextafter(1.0, 0.0))  # torchmetrics gives exactly 1 a bin of its own
    error = binary_calibration_error(torch.from_numpy(inside), torch.from_numpy(labels), n_bins=NUM_BINS, norm="l1")
    return float(error)


def calibration_bin(p_fake: FloatArray) -> IntArray:
    """Return (N,) the bin of each score; a bin has its lower end, the last one both."""
    edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
    return np.minimum(np.searchsorted(edges, p_fake, side="right") - 1, NUM_BINS - 1).astype(np.int64)
