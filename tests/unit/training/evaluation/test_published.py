from __future__ import annotations

from training.evaluation.perturbations.perturb import PERTURBATIONS
from training.evaluation.published import PUBLISHED, beside_published, published_markdown, published_robustness
from training.evaluation.results import (
    Evaluation,
)


def test_published_figures_stand_beside_ours(evaluation: Evaluation) -> None:
    lines = beside_published("m2tr", evaluation.groups)
    assert {line.data for line in lines} == {"FF++ c23"}
    assert [line.level for line in lines if not line.source] == ["frame", "video"]
    text = published_markdown(lines)
    assert "| FF++ c23 | M2TR | – | 97.93 | 99.51 | arXiv 2104.09770 |" in text
    assert "| FF++ c23 | M2TR | – | 91.90 | – |" in text
    assert text.count("**m2tr**") == 2
    assert len([line for line in beside_published("m2tr", []) if line.source]) == len(
        [found for found in PUBLISHED if found.perturbation is None]
    )
    assert [found.perturbation for found in published_robustness("m2tr")] == [None, "rotation", "noise", "blur", "crop"]
    assert {found.perturbation for found in PUBLISHED} - {None} <= set(PERTURBATIONS)
    assert published_robustness("m2tr (runs/a)") == published_robustness("M2TR")
    assert published_robustness("resnet50") == []
