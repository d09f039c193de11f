"""Plots of an evaluation as SVG, drawn with matplotlib.

Files use the light colours of the page. On the page, CSS variables replace the colours, and dark mode changes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import product
from typing import TYPE_CHECKING, Literal

import numpy as np

from training.evaluation.perturbations import PERTURBATIONS
from training.evaluation.results import NO_EXTRAS, UNPERTURBED, Evaluation, Extras, RobustnessRow
from training.evaluation.scores import Scores, to_videos
from training.evaluation.statistics.calibration import FloatArray
from training.evaluation.statistics.metrics import LEVELS, Level, roc
from training.run_folder import CurvePoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes


# Light colours of the page; no two are equal, so that each is found in the SVG by its value.
INK, SOFT, LINE, REAL, FAKE = "#1d1b19", "#625d57", "#e2ded8", "#2f6db4", "#c8541b"
SERIES = ("#1f6f5d", "#b3401a", "#4a5fb8", "#8a6d00", "#8a3a8f", "#5d6b74")
CSS_VARIABLES: dict[str, str] = {  # colour → CSS variable of the page
    INK: "--ink",
    SOFT: "--soft",
    LINE: "--line",
    REAL: "--real",
    FAKE: "--fake",
    **{colour: f"--s{number}" for number, colour in enumerate(SERIES, start=1)},
}
MAX_POINTS = 400  # points of a drawn ROC, so that the page of many frames stays small
LOWEST_FPR = 1e-3  # left end of the logarithmic ROC with up to a thousand real rows
NUM_HISTOGRAM_BINS = 40
_TITLE_PT, _TEXT_PT = 10.5, 9.0
_WIDTH_INCHES = 11.8  # width of the page at 96 px per inch
_WIDEST_INCHES = 5.9  # widest panel


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One plot of one or several panels."""

    name: str
    """Name of its file and its place on the page."""

    title: str
    """Title, also read by screen readers."""

    svg: str
    """SVG document."""

    def __html__(self) -> str:
        """Return the `<svg>` element for a page: with the page's variables as colours and ids of its own."""
        text = self.svg[self.svg.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
        text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
        text = re.sub(r'\bid="', f'id="{self.name}-', text)
        text = re.sub(r'(url\(#|href="#)', rf"\g<1>{self.name}-", text)
        for colour, variable in CSS_VARIABLES.items():
            text = text.replace(colour, f"var({variable})")
        return text


def draw_figures(evaluation: Evaluation, frames: Scores, extras: Extras = NO_EXTRAS) -> list[Plot]:
    """Return the plots for which there are data.

    Args:
        evaluation: metrics of the model.
        frames: scores of frames that it was computed from.
        extras: models beside it, training curves and robustness, if any.
    """
    models = [evaluation, *(model.evaluation for model in extras.beside)]
    tables = (frames, *(model.scores for model in extras.beside))
    levels = [dict(zip(LEVELS, (rows, to_videos(rows)), strict=True)) for rows in tables]
    titles = [f", {model.model}" if len(models) > 1 else "" for model in models]
    plots = []
    if 0 < frames.label.sum() < len(frames):
        title = "Receiver operating characteristic"
        plots.append(_plot("roc", title, 1, 2, lambda axes: _rocs(axes, levels, titles)))
    if len(frames):
        num, num_confusions = len(models), max(len(model.confusions) for model in models)
        plots += [
            _plot("histograms", "Scores", num, 2, lambda axes: _histograms(axes, levels, titles), 2.9),
            _plot("confusion", "Confusion", num, num_confusions, lambda axes: _confusions(axes, models, titles), 2.4),
            _plot("calibration", "Calibration", 1, 2, lambda axes: _calibrations(axes, models)),
        ]
    if any(model.classes for model in models):
        plots.append(_plot("classes", "Classes", len(models), 2, lambda axes: _classes(axes, models, titles), 3.8))
    return [*plots, *_draw_curves(extras.curves), *_draw_robustness(extras.robustness)]


def _draw_curves(curves: Sequence[CurvePoint]) -> Iterator[Plot]:
    groups = list(dict.fromkeys(point["name"].rpartition("/")[2] for point in curves))
    if groups:
        columns = min(len(groups), 3)
        rows = -(-len(groups) // columns)
        yield _plot("training", "Training", rows, columns, lambda axes: _training(axes, groups, curves), 2.8)


def _draw_robustness(robustness: Sequence[RobustnessRow]) -> Iterator[Plot]:
    names = list(dict.fromkeys(row.perturbation for row in robustness if row.level))
    if names:
        columns = min(len(names), 4)
        rows = -(-len(names) // columns)
        yield _plot("robustness", "Robustness", rows, columns, lambda axes: _robustness(axes, names, robustness), 2.2)


def _plot(
    name: str, title: str, rows: int, columns: int, draw: Callable[[list[Axes]], None], height: float = 3.4
) -> Plot:
    """Draw a grid of panels, each `height` inches high; equal data give equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with matplotlib.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: small, searchable, in the colours of the page
            "svg.hashsalt": name,
            "font.size": _TEXT_PT,
            "axes.titlesize": _TITLE_PT,
            "font.family": "sans-serif",
            "path.simplify": True,
        }
    ):
        width = min(_WIDEST_INCHES, _WIDTH_INCHES / columns)
        canvas = Canvas(figsize=(width * columns, height * rows), layout="constrained")
        FigureCanvasSVG(canvas)
        axes = [canvas.add_subplot(rows, columns, number + 1) for number in range(rows * columns)]
        for one in axes:
            _style(one)
        draw(axes)
        for one in axes:
            if not one.has_data():
                canvas.delaxes(one)
        file = StringIO()
        canvas.savefig(file, format="svg", facecolor="none", metadata={"Date": None, "Creator": None})
    return Plot(name=name, title=title, svg=file.getvalue())


def _style(axes: Axes) -> None:
    axes.set_facecolor("none")
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)
    axes.tick_params(colors=SOFT, labelcolor=SOFT)
    axes.title.set_color(INK)
    axes.xaxis.label.set_color(SOFT)
    axes.yaxis.label.set_color(SOFT)
    axes.grid(color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)


def _legend(axes: Axes, place: Literal["best", "lower left", "lower right", "upper center"]) -> None:
    axes.legend(loc=place, frameon=False, labelcolor=INK, fontsize=_TEXT_PT - 0.5)


def _rocs(axes: list[Axes], models: Sequence[Mapping[Level, Scores]], titles: Sequence[str]) -> None:
    """Draw a ROC per model, dataset and level, over a linear and over a logarithmic false positive rate."""
    datasets = sorted(set(models[0]["frame"].dataset))
    num_reals = max(int((models[0]["frame"].label == 0).sum()), 1)
    left = min(LOWEST_FPR, 1.0 / num_reals)
    curves = list(product(zip(models, titles, strict=True), datasets))
    for number, ((levels, title), dataset) in enumerate(curves):
        for level, rows in levels.items():
            chosen = rows.where(rows.dataset == dataset)
            if not 0 < chosen.label.sum() < len(chosen):
                continue
            colour = SERIES[(number if len(curves) > 1 else LEVELS.index(level)) % len(SERIES)]
            style = "-" if level == "video" else (0, (4, 2))
            label = (f"{dataset}, {level}s" if len(datasets) > 1 else f"{level}s") + title
            fpr, tpr = _thinned(*roc(chosen.label, chosen.p_fake), left)
            for one in axes:
                one.plot(fpr, tpr, color=colour, linestyle=style, linewidth=1.6, label=label)
    diagonal = np.geomspace(left, 1.0, 60)
    for one, title in zip(axes, ("ROC", "ROC, low false positive rates"), strict=True):
        one.plot(diagonal, diagonal, color=SOFT, linewidth=0.8, linestyle=":")
        one.set(title=title, xlabel="false positive rate", ylabel="true positive rate", ylim=(-0.02, 1.02))
    axes[0].set_xlim(-0.02, 1.02)
    axes[1].set_xscale("log")
    axes[1].set_xlim(left, 1.0)
    axes[1].set_xlabel("false positive rate, logarithmic")
    _legend(axes[0], "lower right")


def _thinned(fpr: FloatArray, tpr: FloatArray, left: float) -> tuple[FloatArray, FloatArray]:
    """Interpolate a ROC at no more than MAX_POINTS false positive rates: half spaced linearly, half logarithmically."""
    if len(fpr) <= MAX_POINTS:
        return fpr, tpr
    half = MAX_POINTS // 2
    at = np.unique(np.concatenate([[0.0], np.geomspace(left, 1.0, half), np.linspace(0.0, 1.0, half)]))
    return at, np.interp(at, fpr, tpr)


def _histograms(axes: list[Axes], models: Sequence[Mapping[Level, Scores]], titles: Sequence[str]) -> None:
    """Draw the scores of frames and of videos, a row per model."""
    edges = np.linspace(0.0, 1.0, NUM_HISTOGRAM_BINS + 1)
    panels = [
        (level, rows, title) for levels, title in zip(models, titles, strict=True) for level, rows in levels.items()
    ]
    for one, (level, rows, title) in zip(axes, panels, strict=True):
        for label, name, colour in ((0, "real", REAL), (1, "fake", FAKE)):
            counts = np.histogram(rows.p_fake[rows.label == label], edges)[0]
            one.stairs(counts, edges, color=colour, linewidth=1.4, label=f"{name}, {counts.sum():,}")
            one.stairs(counts, edges, color=colour, fill=True, alpha=0.25)
        one.set(title=f"Scores of {level}s{title}", xlabel="p(fake)", ylabel=f"{level}s", xlim=(-0.01, 1.01))
        _legend(one, "upper center")


def _confusions(axes: list[Axes], models: Sequence[Evaluation], titles: Sequence[str]) -> None:
    """Draw the confusion matrices, a row per model."""
    width = len(axes) // len(models)
    for row, (model, title) in enumerate(zip(models, titles, strict=True)):
        for one, found in zip(axes[row * width :], model.confusions, strict=False):
            counts = ((found.real_as_real, found.real_as_fake), (found.fake_as_real, found.fake_as_fake))
            _matrix(one, counts, ("real", "fake"))
            one.set_title(f"{found.level}s, threshold {found.threshold:.3g}{title.replace(', ', chr(10), 1)}")


def _classes(axes: list[Axes], models: Sequence[Evaluation], titles: Sequence[str]) -> None:
    """Draw the confusion of classes of frames and of videos, a row per model that has several classes."""
    for row, (model, title) in enumerate(zip(models, titles, strict=True)):
        for one, found in zip(axes[2 * row :], model.classes, strict=False):
            _matrix(one, found.confusion, found.class_names)
            one.set_title(f"{found.level}s{title}")


def _matrix(axes: Axes, counts: Sequence[Sequence[int]], names: Sequence[str]) -> None:
    """Draw a confusion matrix: rows are true classes, and darker cells hold a larger share of their row."""
    from matplotlib.patches import Rectangle

    for row, values in enumerate(counts):
        total = sum(values)
        for column, count in enumerate(values):
            share = count / total if total else 0.0
            colour = SERIES[0] if row == column else SERIES[1]
            place = (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(place, 1, 1, facecolor=colour, alpha=0.05 + 0.5 * share, edgecolor="none"))
            text = f"{count:,}\n{share:.1%}" if total else "0"
            axes.text(column, row, text, ha="center", va="center", color=INK, fontsize=_TEXT_PT)
    axes.plot([], [])  # marks the panel as used
    size = len(names)
    axes.set(xlim=(-0.5, size - 0.5), ylim=(size - 0.5, -0.5), xlabel="predicted", ylabel="true")
    if size > 2:
        axes.set_xticks(range(size), labels=names, rotation=30, ha="right")
    else:
        axes.set_xticks(range(size), labels=names)
    axes.set_yticks(range(size), labels=names)
    axes.grid(visible=False)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _calibrations(axes: list[Axes], models: Sequence[Evaluation]) -> None:
    """Draw the reliability of frames and of videos, a line per model."""
    for one, level in zip(axes, LEVELS, strict=True):
        one.plot([0, 1], [0, 1], color=SOFT, linewidth=0.8, linestyle=":")
        for number, model in enumerate(models):
            filled = [found for found in model.calibrations[level] if found.count]
            predicted = [found.mean_p_fake or 0.0 for found in filled]
            true = [found.share_fake or 0.0 for found in filled]
            total = sum(found.count for found in filled)
            areas = [14.0 + 160.0 * found.count / total for found in filled]
            colour = SERIES[number % len(SERIES)]
            one.plot(predicted, true, color=colour, linewidth=1.2, label=model.model)
            one.scatter(predicted, true, s=areas, color=colour, alpha=0.75, linewidths=0)
        if len(models) > 1:
            _legend(one, "best")
        one.set(title=f"{level.capitalize()}s: predicted and true share of fakes", xlabel="mean p(fake) of the bin")
        one.set(ylabel="share of fakes in the bin", xlim=(-0.04, 1.04), ylim=(-0.04, 1.04))


def _training(axes: list[Axes], groups: Sequence[str], curves: Sequence[CurvePoint]) -> None:
    for one, group in zip(axes, groups, strict=False):
        names = list(dict.fromkeys(point["name"] for point in curves if point["name"].rpartition("/")[2] == group))
        for number, name in enumerate(names):
            points = sorted((point["step"], point["value"]) for point in curves if point["name"] == name)
            steps, values = zip(*points, strict=True)
            colour = SERIES[number % len(SERIES)]
            one.plot(steps, values, color=colour, linewidth=1.4, label=name, marker="." if len(steps) < 40 else None)
        one.set(title=group, xlabel="step")
        _legend(one, "best")


def _robustness(axes: list[Axes], names: Sequence[str], rows: Sequence[RobustnessRow]) -> None:
    """Draw a panel per perturbation: AUC of videos against the level, a line per model."""
    models = list(dict.fromkeys(row.model for row in rows))
    for one, name in zip(axes, names, strict=False):
        for number, model in enumerate(models):
            points = sorted(_points(rows, model, name))
            if points:
                levels, values = zip(*points, strict=True)
                one.plot(levels, values, color=SERIES[number % len(SERIES)], linewidth=1.4, marker=".", label=model)
        known = PERTURBATIONS.get(name)
        one.set(title=known.title if known else name, ylim=(0.0, 1.03), xlabel="level")
        one.axhline(0.5, color=SOFT, linewidth=0.8, linestyle=":")
        one.set_xticks(range(1 + max(row.level for row in rows if row.perturbation == name)))
    axes[0].set_ylabel("AUC of videos")
    _legend(axes[0], "lower left")


def _points(rows: Sequence[RobustnessRow], model: str, perturbation: str) -> Iterator[tuple[int, float]]:
    """Yield (level, AUC of videos); level 0 is unperturbed."""
    for row in rows:
        value = row.video["auc"].value
        if row.model == model and row.perturbation in (perturbation, UNPERTURBED) and value is not None:
            yield row.level, value
