"""Main tables of an evaluation as Markdown, and remarks on how its numbers were obtained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from storage.pages.markdown import escaped, table
from training.evaluation.published import Comparison, beside_published
from training.evaluation.results import NO_EXTRAS, CrossDataset, Evaluation, Extras, RobustnessRow
from training.evaluation.statistics.bootstrap import DEFAULT_THRESHOLD
from training.evaluation.statistics.metrics import LEVELS, Figure, Level

# Titles of columns, in the order of METRICS; an asterisk stands for "at the validation threshold".
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
MARKDOWN_METRICS = ("auc", "accuracy", "accuracy_at_threshold", "eer", "ap", "tpr_at_1_fpr", "ece")
NOT_COMPARED = "Results on a miniature are not comparable with published ones."


def evaluation_markdown(evaluation: Evaluation, extras: Extras = NO_EXTRAS) -> str:
    """Return the main tables as Markdown: percent, with intervals in brackets."""
    lines = [f"# Evaluation of {escaped(evaluation.model)}", ""]
    lines += [f"- {escaped(name)}: {escaped(value)}" for name, value in evaluation.about.items()]
    lines += [f"- {sentence}" for sentence in remarks(evaluation)]
    models = [evaluation, *(model.evaluation for model in extras.beside)]
    for model in models[1:]:
        lines += ["", f"Beside it, {escaped(model.model)}:", ""]
        lines += [f"- {escaped(name)}: {escaped(value)}" for name, value in model.about.items() if name != "model"]
        lines += [f"- {sentence}" for sentence in remarks(model)]
    for level in LEVELS:
        lines += ["", f"## By {level}", "", *_group_table(models, level)]
    lines += ["", "## Comparison with published results", ""]
    comparisons = beside_published({model.model: model.groups for model in models})
    lines += [*(published_table(comparisons) if comparisons else [NOT_COMPARED]), ""]
    if extras.cross is not None:
        title = f"## Trained on (rows), tested on (columns): {HEADS[extras.cross.metric]} by {extras.cross.level}"
        lines += [title, "", *_cross_table(extras.cross)]
    if extras.robustness:
        lines += ["", "## Robustness", "", *_robustness_table(extras.robustness)]
    return "\n".join(lines).rstrip("\n") + "\n"


def remarks(evaluation: Evaluation) -> Iterator[str]:
    """Yield sentences on the threshold, the intervals and videos without a score."""
    if evaluation.threshold is None:
        yield f"No threshold was chosen on a validation split: decisions are made at {DEFAULT_THRESHOLD} only."
    else:
        yield (
            f"The threshold chosen on the validation split is {evaluation.threshold:.4f}; metrics with an asterisk are "
            f"decided there, the others at {DEFAULT_THRESHOLD}."
        )
    if not evaluation.has_intervals:
        yield "There are no intervals: the videos are too few, or none were asked for."
    else:
        yield (
            f"Intervals are {evaluation.confidence:.0%} bootstrap intervals over videos: {evaluation.num_resamples:,} "
            f"resamples, seed {evaluation.seed}, real and fake videos resampled separately."
        )
    missing = evaluation.missing
    if missing is None:
        yield "Videos without a crop have no score and are left out; their number is not known."
    elif missing.num_reals + missing.num_fakes:
        accuracy = percent(Figure(value=missing.accuracy_if_wrong))
        yield (
            f"{missing.num_reals:,} real and {missing.num_fakes:,} fake videos have no crop and are left out; "
            f"counted as errors, they would make the accuracy of videos {accuracy} %."
        )
    else:
        yield "Every video of the evaluated splits has a crop."


def published_table(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """Return the lines of a table of published results and of this evaluation, whose model is in bold."""
    rows = []
    for line in comparisons:
        model = escaped(line.model) if line.source else f"**{escaped(line.model)}**"
        figures = (percent(line.accuracy), percent(line.auc))
        rows.append((escaped(line.data), model, line.level or "–", *figures, line.source or "this evaluation"))
    return table(("Data", "Model", "Level", "Accuracy", "AUC", "Source"), "lllrrl", rows)


def percent(figure: Figure) -> str:
    """Return a figure in percent with its interval, such as `97.93 [97.1, 98.6]`; a dash if there is no value."""
    if figure.value is None:
        return "–"
    text = f"{100 * figure.value:.2f}"
    if figure.low is None or figure.high is None:
        return text
    return f"{text} [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"


def _group_table(models: Sequence[Evaluation], level: Level) -> Iterator[str]:
    """Return the lines of a level's table; with several models, the first column names them."""
    rows = []
    for model in models:
        for group in (group for group in model.groups if group.level == level):
            names = (escaped(name or "all") for name in (group.dataset, group.compression, group.manipulation))
            values = (percent(group.figures[name]) for name in MARKDOWN_METRICS)
            row = (*names, f"{group.num_reals:,}", f"{group.num_fakes:,}", *values)
            rows.append((escaped(model.model), *row) if len(models) > 1 else row)
    heads = (
        *(("Model",) if len(models) > 1 else ()),
        "Dataset",
        "Compression",
        "Manipulation",
        "Real",
        "Fake",
        *(escaped(HEADS[name]) for name in MARKDOWN_METRICS),
    )
    return table(heads, "lllr" if len(models) == 1 else "llllr", rows)


def _cross_table(cross: CrossDataset) -> Iterator[str]:
    rows = ((escaped(name), *map(percent, figures)) for name, figures in zip(cross.rows, cross.figures, strict=True))
    return table(("", *map(escaped, cross.columns)), "lr", rows)


def _robustness_table(rows: Sequence[RobustnessRow]) -> Iterator[str]:
    """Return a line per perturbation and level, with AUC and accuracy of videos for each model."""
    models = list(dict.fromkeys(row.model for row in rows))
    found = {(row.model, row.perturbation, row.level): row for row in rows}
    lines = []
    for name, level in dict.fromkeys((row.perturbation, row.level) for row in rows):
        of_models = [found.get((model, name, level)) for model in models]
        parameter = next((row.parameter for row in of_models if row is not None), None)
        cells = [
            "–" if row is None else percent(row.video[metric]) for row in of_models for metric in ("auc", "accuracy")
        ]
        lines.append((name, f"{level}", "–" if parameter is None else f"{parameter:g}", *cells))
    heads = [f"{escaped(model)} {metric}" for model in models for metric in ("AUC", "accuracy")]
    return table(("Perturbation", "Level", "Parameter", *heads), "lr", lines)
