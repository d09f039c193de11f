"""The page of an evaluation: one HTML file with everything inside, for light and dark, without a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from storage.pages.environment import page_environment
from training.evaluation.perturbations.perturb import PERTURBATIONS
from training.evaluation.published import beside_published, published_robustness
from training.evaluation.report.figures import Plot
from training.evaluation.report.markdown import remarks
from training.evaluation.results import UNPERTURBED, CrossDataset, Evaluation, Example, RobustnessRow
from training.evaluation.statistics.bootstrap import DEFAULT_THRESHOLD
from training.evaluation.statistics.metrics import LEVELS, LOWER_IS_BETTER, METRICS, Figure, GroupMetrics, Level

TEMPLATES_DIR = Path(__file__).parent / "templates"
TEMPLATE_NAME = "evaluation.html.j2"

# Short heads of columns, in the order of METRICS.
HEADS: dict[str, str] = {
    "auc": "AUC",
    "ap": "AP",
    "eer": "EER",
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced",
    "f1": "F1",
    "accuracy_at_threshold": "Accuracy*",
    "balanced_accuracy_at_threshold": "Balanced*",
    "f1_at_threshold": "F1*",
    "tpr_at_1_fpr": "TPR 1 %",
    "tpr_at_0.1_fpr": "TPR 0.1 %",
    "ece": "ECE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessTable:
    """One perturbation in the table: a line per model, a column per level."""

    name: str
    """Its key in PERTURBATIONS."""

    title: str
    """For people."""

    meaning: str
    """Of the parameter."""

    parameters: str
    """Of the levels, in their order."""

    by_model: dict[str, dict[int, RobustnessRow]]
    """Model → level → its metrics, level 0 as they are."""


def render_page(
    evaluation: Evaluation,
    figures: Sequence[Plot],
    *,
    examples: Sequence[Example] = (),
    cam_sheets: Mapping[str, bytes] | None = None,
    robustness: Sequence[RobustnessRow] = (),
    strips: Mapping[str, bytes] | None = None,
    cross: CrossDataset | None = None,
) -> str:
    """Return the page; whatever comes from names and files is escaped.

    Args:
        evaluation: all numbers.
        figures: plots, inlined by their names.
        examples: the most confusable crops, worst first.
        cam_sheets: caption → JPEG.
        robustness: rows of all models and perturbations.
        strips: perturbation → JPEG of a crop at each of its levels.
        cross: the matrix of datasets.
    """
    environment = page_environment(TEMPLATES_DIR)
    environment.filters["points"] = _points
    return environment.get_template(TEMPLATE_NAME).render(
        evaluation=evaluation,
        plots={plot.name: plot for plot in figures},
        headline=_headline(evaluation),
        levels=[(level, _columns(evaluation, level), _rows(evaluation, level)) for level in reversed(LEVELS)],
        heads=HEADS,
        meanings=METRICS,
        lower_is_better=LOWER_IS_BETTER,
        remarks=list(remarks(evaluation)),
        comparisons=beside_published(evaluation.model, evaluation.groups),
        accused=[found for found in examples if found.label == 0],
        missed=[found for found in examples if found.label == 1],
        threshold=DEFAULT_THRESHOLD,
        cam_sheets=cam_sheets or {},
        robustness=_robustness(robustness),
        strips=strips or {},
        robustness_levels=sorted({0} | {row.level for row in robustness}),
        published_robustness=[
            found for model in dict.fromkeys(row.model for row in robustness) for found in published_robustness(model)
        ],
        cross=cross,
    )


def _headline(evaluation: Evaluation) -> GroupMetrics | None:
    """Return the metrics of all videos together."""
    return next((group for group in evaluation.groups if group.level == "video"), None)


def _rows(evaluation: Evaluation, level: Level) -> list[tuple[str | None, list[GroupMetrics]]]:
    """Return the groups of a level by dataset."""
    groups = [group for group in evaluation.groups if group.level == level]
    return [(dataset, list(found)) for dataset, found in groupby(groups, key=lambda group: group.dataset)]


def _columns(evaluation: Evaluation, level: Level) -> list[str]:
    """Return the metrics that have a value in some group of the level."""
    groups = [group for group in evaluation.groups if group.level == level]
    return [name for name in METRICS if any(group.figures[name].value is not None for group in groups)]


def _robustness(rows: Sequence[RobustnessRow]) -> list[RobustnessTable]:
    """Return what the table says of each perturbation; level 0 of each are the images as they are."""
    clean = {row.model: row for row in rows if row.perturbation == UNPERTURBED}
    tables = []
    for name in dict.fromkeys(row.perturbation for row in rows if row.perturbation != UNPERTURBED):
        known = PERTURBATIONS.get(name)
        of_name = [row for row in rows if row.perturbation == name]
        parameters = {row.level: row.parameter for row in of_name if row.parameter is not None}
        by_model = {row.model: {0: clean[row.model]} if row.model in clean else {} for row in of_name}
        for row in of_name:
            by_model[row.model][row.level] = row
        tables.append(
            RobustnessTable(
                name=name,
                title=known.title if known else name,
                meaning=known.parameter if known else "",
                parameters=" · ".join(f"{parameters[level]:g}" for level in sorted(parameters)),
                by_model=by_model,
            )
        )
    return tables


def _points(figure: Figure) -> str:
    """Return the value in percent."""
    return "–" if figure.value is None else f"{100 * figure.value:.2f}"
