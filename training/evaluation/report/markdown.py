"""The main tables of an evaluation as Markdown, and the sentences that a reader of its numbers has to know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from storage.pages.markdown import escaped, table
from training.evaluation.published import beside_published, percent, published_markdown
from training.evaluation.results import CrossDataset, Evaluation, RobustnessRow
from training.evaluation.statistics.metrics import LEVELS, Figure, Level

MARKDOWN_METRICS = ("auc", "accuracy", "accuracy_at_threshold", "eer", "ap", "tpr_at_1_fpr", "ece")


def evaluation_markdown(
    evaluation: Evaluation, robustness: Sequence[RobustnessRow] = (), cross: CrossDataset | None = None
) -> str:
    """Return the main tables as Markdown; percent with intervals in brackets."""
    lines = [f"# Evaluation of {escaped(evaluation.model)}", ""]
    lines += [f"- {escaped(name)}: {escaped(value)}" for name, value in evaluation.about.items()]
    lines += [f"- {sentence}" for sentence in remarks(evaluation)]
    for level in LEVELS:
        lines += ["", f"## By {level}", "", *_group_table(evaluation, level)]
    lines += ["", "## Beside published figures", ""]
    lines += [published_markdown(beside_published(escaped(evaluation.model), evaluation.groups))]
    if cross is not None:
        lines += [
            f"## Trained on (rows), tested on (columns): {cross.metric} by {cross.level}",
            "",
            *_cross_table(cross),
        ]
    if robustness:
        lines += ["", "## Robustness", "", *_robustness_table(robustness)]
    return "\n".join(lines).rstrip("\n") + "\n"


def remarks(evaluation: Evaluation) -> Iterator[str]:
    """Yield in sentences what a reader of the numbers has to know."""
    if evaluation.threshold is None:
        yield "No threshold was chosen on a validation split: accuracy is given at 0.5 only."
    else:
        yield f"The threshold chosen on the validation split is {evaluation.threshold:.4f}."
    if evaluation.num_resamples:
        yield (
            f"Intervals hold {evaluation.confidence:.0%} of {evaluation.num_resamples:,} resamples of videos (seed "
            f"{evaluation.seed}); reals and fakes are drawn separately."
        )
    missing = evaluation.missing
    if missing is None:
        yield "Videos without a crop are in no figure; how many there are is not known here."
    elif missing.num_reals + missing.num_fakes:
        accuracy = percent(Figure(value=missing.accuracy_if_wrong))
        yield (
            f"{missing.num_reals:,} real and {missing.num_fakes:,} fake videos have no crop and are in no figure; "
            f"counted as errors, they would make the accuracy of videos {accuracy} %."
        )
    else:
        yield "Every video of the evaluated splits has a crop."


def _group_table(evaluation: Evaluation, level: Level) -> Iterator[str]:
    """Return the lines of a level's table."""
    rows = []
    for group in evaluation.groups:
        if group.level == level:
            names = (escaped(name or "all") for name in (group.dataset, group.compression, group.manipulation))
            values = (percent(group.figures[name]) for name in MARKDOWN_METRICS)
            rows.append((*names, f"{group.num_reals:,}", f"{group.num_fakes:,}", *values))
    heads = ("Dataset", "Compression", "Manipulation", "Reals", "Fakes", *MARKDOWN_METRICS)
    return table(heads, rows, num_text_columns=3)


def _cross_table(cross: CrossDataset) -> Iterator[str]:
    rows = ((escaped(name), *map(percent, figures)) for name, figures in zip(cross.rows, cross.figures, strict=True))
    return table(("", *map(escaped, cross.columns)), rows, num_text_columns=1)


def _robustness_table(rows: Sequence[RobustnessRow]) -> Iterator[str]:
    """Return a line per perturbation and level, with AUC and accuracy of each model's videos."""
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
    return table(("Perturbation", "Level", "Parameter", *heads), lines, num_text_columns=1)
