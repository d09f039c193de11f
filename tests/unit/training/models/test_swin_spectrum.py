"""Swin-Tiny with a spectrum branch."""

from __future__ import annotations

import torch

from training.models.swin_spectrum import SwinSpectrum


def test_the_spectrum_branch_sees_a_grid_that_pooling_hides() -> None:
    """A checkerboard of single pixels has the same mean as grey; its spectrum has a peak."""
    torch.manual_seed(0)
    model = SwinSpectrum(64).eval()
    grey = torch.zeros(1, 3, 64, 64)
    rows = torch.arange(64)
    grid = ((rows[:, None] + rows) % 2 * 2.0 - 1).expand(1, 3, 64, 64)
    with torch.inference_mode():
        assert not model.spectrum(grey).any()
        assert model.spectrum(grid).max() > 1e-4
