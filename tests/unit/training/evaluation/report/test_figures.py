from __future__ import annotations

import re
from pathlib import Path

from tests.helpers.evaluations import made
from training.evaluation.report.figures import CSS_VARIABLES, draw_figures
from training.evaluation.results import (
    Evaluation,
)


def test_plots_take_the_pages_colours_and_keep_their_own_as_files(out_dir: Path) -> None:
    page = (out_dir / "evaluation.html").read_text()
    inlined = "".join(re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL))
    assert inlined.count("<svg") == 6
    assert not [colour for colour in CSS_VARIABLES if colour in inlined]
    assert "var(--ink)" in inlined
    names = {path.stem for path in (out_dir / "figures").iterdir()}
    assert names == {"roc", "histograms", "confusion", "calibration", "training", "robustness"}
    assert "var(" not in (out_dir / "figures" / "roc.svg").read_text()
    assert all(page.count(f" {variable}:") == 3 for variable in CSS_VARIABLES.values())  # light, dark, print


def test_a_roc_of_many_frames_stays_small(evaluation: Evaluation) -> None:
    many = made(num_videos=4000)
    plots = {plot.name: plot for plot in draw_figures(evaluation, many)}
    assert len(plots["roc"].svg) < 100_000
