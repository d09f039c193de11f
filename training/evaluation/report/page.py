"""HTML page of an evaluation: one file that needs no other, in light and dark colours, without scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from manifests.entry import MINIATURE
from storage.pages.environment import page_environment
from training.evaluation.perturbations import PERTURBATIONS
from training.evaluation.published import beside_published, published_robustness
from training.evaluation.report.figures import Plot
from training.evaluation.report.markdown import HEADS, NOT_COMPARED, remarks
from training.evaluation.results import NO_EXTRAS, UNPERTURBED, Evaluation, Extras, RobustnessRow
from training.evaluation.statistics.bootstrap import DEFAULT_THRESHOLD
from training.evaluation.statistics.metrics import LEVELS, LOWER_IS_BETTER, METRICS, Figure, GroupMetrics, Level

TEMPLATES_DIR = Path(__file__).parent / "templates"
TEMPLATE_NAME = "evaluation.html.j2"


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessTable:
    """Robustness against one perturbation: a line per model, a column per level."""

    name: str
    """A name in PERTURBATIONS."""

    title: str
    """Name of the perturbation for people."""

    meaning: str
    """Meaning and unit of the parameter."""

    parameters: str
    """Parameters of the levels, in order."""

    by_model: dict[str, dict[int, RobustnessRow]]
    """Model → level → metrics; level 0 is unperturbed."""


def render_page(evaluation: Evaluation, figures: Sequence[Plot], extras: Extras = NO_EXTRAS) -> str:
    """Return the page as HTML.

    Args:
        evaluation: metrics of the model.
        figures: plots; the name of each decides its place.
        extras: further parts of the page.
    """
    environment = page_environment(TEMPLATES_DIR)
    environment.filters["points"] = _points
    has_miniature = any(name.startswith(MINIATURE) for name in evaluation.datasets)
    return environment.get_template(TEMPLATE_NAME).render(
        evaluation=evaluation,
        extras=extras,
        plots={plot.name: plot for plot in figures},
        headline=next((group for group in evaluation.groups if group.level == "video"), None),
        models=(models := [evaluation, *(model.evaluation for model in extras.beside)]),
        levels=[_level(models, level) for level in reversed(LEVELS)],
        heads=HEADS,
        meanings=METRICS,
        lower_is_better=LOWER_IS_BETTER,
        remarks=[
            f"{model.model}: {sentence}" if len(models) > 1 else sentence
            for model in models
            for sentence in remarks(model)
        ],
        comparisons=beside_published({model.model: model.groups for model in models}),
        not_compared=NOT_COMPARED,
        threshold=DEFAULT_THRESHOLD,
        robustness=_robustness(extras.robustness),
        robustness_levels=sorted({0} | {row.level for row in extras.robustness}),
        published_robustness=list(
            dict.fromkeys(
                found for row in extras.robustness for found in published_robustness(row.model) if not has_miniature
            )
        ),
    )


def _level(
    models: Sequence[Evaluation], level: Level
) -> tuple[Level, list[str], list[tuple[str, str | None, list[GroupMetrics]]]]:
    """Return a level, the metrics that have a value in one of its groups, and its groups by model and dataset."""
    groups = [(model.model, group) for model in models for group in model.groups if group.level == level]
    columns = [name for name in METRICS if any(group.figures[name].value is not None for _, group in groups)]
    parts = groupby(groups, key=lambda pair: (pair[0], pair[1].dataset))
    return level, columns, [(model, name, [group for _, group in found]) for (model, name), found in parts]


def _robustness(rows: Sequence[RobustnessRow]) -> list[RobustnessTable]:
    """Return a table for each perturbation."""
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
    """Return a value in percent, or a dash if there is none."""
    return "–" if figure.value is None else f"{100 * figure.value:.2f}"
