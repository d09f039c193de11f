from __future__ import annotations

from dataclasses import replace

from training.evaluation.perturbations import PERTURBATIONS
from training.evaluation.published import PUBLISHED, beside_published, published_robustness
from training.evaluation.results import (
    Evaluation,
)


def test_published_figures_stand_beside_ours(evaluation: Evaluation) -> None:
    lines = beside_published({"m2tr": evaluation.groups})
    assert {line.data for line in lines} == {"FF++ c23"}
    assert [line.level for line in lines if not line.source] == ["frame", "video"]
    assert len([line for line in beside_published({"m2tr": []}) if line.source]) == len(
        [found for found in PUBLISHED if found.perturbation is None]
    )
    assert [found.perturbation for found in published_robustness("m2tr")] == [None, "rotation", "noise", "blur", "crop"]
    assert {found.perturbation for found in PUBLISHED} - {None} <= set(PERTURBATIONS)
    assert published_robustness("m2tr (runs/a)") == published_robustness("M2TR")
    assert published_robustness("resnet50") == []


def test_a_miniature_never_stands_beside_published_figures(evaluation: Evaluation) -> None:
    miniature = [replace(group, dataset=f"miniature-{group.dataset}") for group in evaluation.groups]
    assert beside_published({"m2tr": miniature}) == []
    both = beside_published({"m2tr": [*evaluation.groups, *miniature]})
    assert both == beside_published({"m2tr": evaluation.groups})
