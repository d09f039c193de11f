"""Published figures with their sources, for comparison.

No independent study has reproduced the 97.93 % of M2TR's authors on c23: their weights gave 91.9 % on other crops.
Crops, frames per video, level and split differ between papers, so differences of a few points are not meaningful.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from manifests.entry import MINIATURE
from training.evaluation.statistics.metrics import Figure, GroupMetrics

M2TR_PAPER = "arXiv 2104.09770"
M2TR_ISSUE = "PyDeepFakeDet, issue 17: published weights, own crops"
ROBUSTNESS_STUDY = "robustness study on a c23 subset"
OTHER_STUDIES = "other studies; all fail on videos from the internet"
ATTRIBUTION = "ff_attribution, WACVW 2025, 5 classes"

# (dataset, compression) of a store → name in papers.
DATA_NAMES: dict[tuple[str, str | None], str] = {
    ("ffpp", "raw"): "FF++ raw",
    ("ffpp", "c23"): "FF++ c23",
    ("ffpp", "c40"): "FF++ c40",
    ("celeb_df", None): "Celeb-DF",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """A published result of a model on some data."""

    model: str
    """Name of the model in the source."""

    data: str
    """Test data."""

    accuracy: float | None
    """0..1; None if not published."""

    auc: float | None
    """0..1; None if not published."""

    source: str
    """Publication."""

    perturbation: str | None = None
    """Name in PERTURBATIONS; None for unperturbed images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One line of the table of published and measured results."""

    model: str
    """Name of the model."""

    data: str
    """Test data."""

    level: str
    """Frame or video; empty where the source does not state it."""

    accuracy: Figure
    """Accuracy at 0.5."""

    auc: Figure
    """Area under the ROC curve."""

    source: str
    """Publication; empty for measured results."""


def _paper(model: str, data: str, accuracy: float, auc: float | None = None) -> PublishedFigure:
    return PublishedFigure(model=model, data=data, accuracy=accuracy, auc=auc, source=M2TR_PAPER)


def _study(model: str, perturbation: str | None, accuracy: float, auc: float) -> PublishedFigure:
    return PublishedFigure(
        model=model,
        data="FF++ c23",
        accuracy=accuracy,
        auc=auc,
        source=ROBUSTNESS_STUDY,
        perturbation=perturbation,
    )


PUBLISHED: tuple[PublishedFigure, ...] = (
    _paper("M2TR", "FF++ raw", 0.9950, 0.9992),
    _paper("M2TR", "FF++ c23", 0.9793, 0.9951),
    _paper("M2TR", "FF++ c40", 0.9289, 0.9531),
    _paper("M2TR", "Celeb-DF", 0.9976, 0.998),
    _paper("Xception", "FF++ raw", 0.9784),
    _paper("Xception", "FF++ c23", 0.9524),
    _paper("Xception", "FF++ c40", 0.8627),
    _paper("Xception", "Celeb-DF", 0.9905),
    _paper("EfficientNet-B4", "FF++ raw", 0.9789),
    _paper("EfficientNet-B4", "FF++ c23", 0.9561),
    _paper("EfficientNet-B4", "FF++ c40", 0.8712),
    _paper("EfficientNet-B4", "Celeb-DF", 0.9944),
    PublishedFigure(model="M2TR", data="FF++ c23", accuracy=0.919, auc=None, source=M2TR_ISSUE),
    PublishedFigure(model="M2TR", data="FF++ c40", accuracy=0.583, auc=None, source=M2TR_ISSUE),
    _study("M2TR", None, 0.906, 0.983),
    _study("M2TR", "rotation", 0.677, 0.790),
    _study("M2TR", "noise", 0.494, 0.497),
    _study("M2TR", "blur", 0.600, 0.873),
    _study("M2TR", "crop", 0.844, 0.982),
    _study("Xception", None, 0.963, 0.996),
    _study("Xception", "rotation", 0.767, 0.829),
    _study("Xception", "noise", 0.494, 0.528),
    _study("Xception", "blur", 0.669, 0.838),
    _study("Xception", "crop", 0.950, 0.994),
    PublishedFigure(
        model="M2TR, Swin-Tiny", data="FF++, Deepfakes only", accuracy=0.9698, auc=0.9915, source=OTHER_STUDIES
    ),
    PublishedFigure(
        model="EfficientNet-B4, 20 epochs",
        data="FF++, four manipulations",
        accuracy=0.935,
        auc=0.9708,
        source=OTHER_STUDIES,
    ),
    PublishedFigure(
        model="EfficientNet-B4, 20 epochs", data="FF++ and Celeb-DF", accuracy=0.9902, auc=0.9983, source=OTHER_STUDIES
    ),
    PublishedFigure(model="EfficientNetV2-B0", data="FF++, 5 classes", accuracy=0.9626, auc=0.9970, source=ATTRIBUTION),
)


def beside_published(models: Mapping[str, Sequence[GroupMetrics]]) -> list[Comparison]:
    """Return measured and published results of unperturbed images by data, measured ones first.

    Published results are limited to the measured data, unless there are none for these: then all are shown. Results on
    a miniature are compared with nothing.

    Args:
        models: name of each evaluated model → its metrics; those of single manipulations are ignored.
    """
    ours = [line for model, groups in models.items() for line in _ours(model, groups)]
    measured = {line.data for line in ours}
    theirs = [
        Comparison(
            model=found.model,
            data=found.data,
            level="",
            accuracy=Figure(value=found.accuracy, reason=None if found.accuracy is not None else "not published"),
            auc=Figure(value=found.auc, reason=None if found.auc is not None else "not published"),
            source=found.source,
        )
        for found in PUBLISHED
        if found.perturbation is None
    ]
    if any(models.values()) and not ours:
        return []
    known = [line for line in theirs if line.data in measured]
    return sorted([*ours, *(known or theirs)], key=lambda line: line.data)


def published_robustness(model: str) -> list[PublishedFigure]:
    """Return the results of a model in the robustness study, unperturbed first; empty for models that it lacks.

    Args:
        model: name of the model, with or without its folder in brackets.
    """
    name = model.partition(" (")[0].lower()
    return [
        found
        for found in PUBLISHED
        if found.source == ROBUSTNESS_STUDY and found.model.lower() in (name, name.removeprefix("legacy_"))
    ]


def data_name(dataset: str | None, compression: str | None) -> str:
    """Return the name of a dataset and compression in papers."""
    if dataset is None:
        return "all"
    return DATA_NAMES.get((dataset, compression), f"{dataset} {compression or ''}".strip())


def _ours(model: str, groups: Sequence[GroupMetrics]) -> Iterator[Comparison]:
    for group in groups:
        if group.manipulation is None and group.dataset is not None and not group.dataset.startswith(MINIATURE):
            yield Comparison(
                model=model,
                data=data_name(group.dataset, group.compression),
                level=group.level,
                accuracy=group.figures["accuracy"],
                auc=group.figures["auc"],
                source="",
            )
