"""An evaluation: every metric of a table of scores, as JSON, Parquet, Markdown and one HTML page.

    OUT/
    ├── evaluation.json     everything that was computed: `read_evaluation`
    ├── scores.parquet      the frames' scores: `training.scores`
    ├── videos.parquet      a score per person of a video
    ├── evaluation.md       the main tables, ours beside the published figures
    ├── evaluation.html     the page: `training.evaluation_page`
    └── figures/            the page's plots as SVG without a background, for a paper

No clock and no path goes in: the same scores and seed give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from manifests.errors import UserError
from storage.layout import write_atomically
from training.metrics import (
    CONFIDENCE,
    DEFAULT_THRESHOLD,
    LEVELS,
    METRICS,
    NUM_RESAMPLES,
    CalibrationBin,
    Confusion,
    Figure,
    GroupMetrics,
    IntArray,
    Level,
    MultiClass,
    calibration,
    confusion_at,
    measure,
    measure_classes,
    measure_groups,
)
from training.published import beside_published, percent, published_markdown
from training.scores import Scores, group_rows, to_videos, write_scores

EVALUATION_NAME = "evaluation.json"
SCORES_NAME = "scores.parquet"
VIDEOS_NAME = "videos.parquet"
MARKDOWN_NAME = "evaluation.md"
PAGE_NAME = "evaluation.html"
FIGURES_DIR = "figures"

UNPERTURBED = "none"  # name of the images as they are, in a robustness table
MARKDOWN_METRICS = ("auc", "accuracy", "accuracy_at_threshold", "eer", "ap", "tpr_at_1_fpr", "ece")


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingVideos:
    """Videos of the evaluated splits that have no crop, so that nothing could be said of them."""

    num_reals: int
    # videos

    num_fakes: int
    # videos

    accuracy_if_wrong: float | None
    # of videos at 0.5, if every one of these counts as an error; None without any video


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a detector is worth on some data; every number of its page."""

    about: dict[str, str]
    # what was evaluated, for people: `model`, `checkpoint`, `trained on`, … in the order of the page

    datasets: tuple[str, ...]
    # by name

    num_frames: int
    # scored rows: frames, or clips of a model that judges those

    num_videos: int
    # persons of videos, each with one score

    threshold: float | None
    # chosen on the validation split

    seed: int
    # of the resampling

    num_resamples: int
    # behind each interval

    confidence: float
    # share of resamples in an interval

    missing: MissingVideos | None
    # None: the evaluation was not told

    groups: tuple[GroupMetrics, ...]
    # both levels: all, datasets, compressions, manipulations

    confusions: tuple[Confusion, ...]
    # both levels, at 0.5 and at the validation threshold

    calibrations: dict[Level, tuple[CalibrationBin, ...]]
    # reliability by level

    classes: tuple[MultiClass, ...]
    # both levels; empty for a model with two classes

    @property
    def model(self) -> str:
        """Return the model's name."""
        return self.about.get("model", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A crop that the page shows."""

    key: str
    # of its record

    label: int
    # 0 real, 1 fake

    p_fake: float
    # 0..1

    manipulation: str | None
    # None for real

    jpeg: bytes
    # the thumbnail, encoded


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One value of a curve of the training."""

    step: int
    # optimiser steps or epochs, the same for all curves

    name: str
    # such as `train/loss`; curves with the same part behind the slash share a plot

    value: float
    # as it was logged


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessRow:
    """Metrics of one model under one perturbation at one level, without intervals."""

    model: str
    # its name

    perturbation: str
    # a name in PERTURBATIONS, or `none`

    level: int
    # 0 for `none`, else 1, 2, …

    parameter: float | None
    # the strength that the level stands for

    num_videos: int
    # persons of videos

    frame: dict[str, Figure]
    # metrics of frames by name

    video: dict[str, Figure]
    # metrics of videos by name


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossDataset:
    """One metric of models (rows) on datasets (columns)."""

    metric: str
    # a name in METRICS

    level: Level
    # what was counted

    rows: tuple[str, ...]
    # what each model was trained on

    columns: tuple[str, ...]
    # tested on

    figures: tuple[tuple[Figure, ...], ...]
    # by row and column


def summarise(
    scores: Scores,
    *,
    threshold: float | None,
    seed: int,
    about: Mapping[str, str] | None = None,
    missing_videos: tuple[int, int] | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Evaluation:
    """Return every metric of a table of frames' scores.

    Args:
        scores: of frames (or clips).
        threshold: chosen on the validation split; None if there was none.
        seed: of the resampling behind the intervals.
        about: what was evaluated; `model` is its name.
        missing_videos: (real, fake) videos of these splits without a crop; None if that is not known.
        num_resamples: behind each interval; 0 for none.
    """
    levels: dict[Level, Scores] = dict(zip(LEVELS, (scores, to_videos(scores)), strict=True))
    thresholds = [DEFAULT_THRESHOLD, *([] if threshold is None else [threshold])]
    classes = (measure_classes(rows, level, seed=seed, num_resamples=num_resamples) for level, rows in levels.items())
    return Evaluation(
        about=dict(about or {}),
        datasets=tuple(sorted(set(scores.dataset))),
        num_frames=len(scores),
        num_videos=len(levels["video"]),
        threshold=threshold,
        seed=seed,
        num_resamples=num_resamples,
        confidence=CONFIDENCE,
        missing=None if missing_videos is None else _missing(levels["video"], *missing_videos),
        groups=measure_groups(scores, threshold=threshold, seed=seed, num_resamples=num_resamples),
        confusions=tuple(confusion_at(rows, level, at) for level, rows in levels.items() for at in thresholds),
        calibrations={level: calibration(rows.label, rows.p_fake) for level, rows in levels.items()},
        classes=tuple(found for found in classes if found is not None),
    )


def confusable(scores: Scores, count: int) -> tuple[IntArray, IntArray]:
    """Return the rows of the highest-scored reals and of the lowest-scored fakes, worst first, one per video."""
    found = []
    for label, order in ((0, np.argsort(-scores.p_fake, kind="stable")), (1, np.argsort(scores.p_fake, kind="stable"))):
        rows = order[scores.label[order] == label]
        first = group_rows(scores.dataset[rows], scores.video_id[rows])[1]
        found.append(rows[first][:count])
    return found[0], found[1]


def robustness_row(
    model: str,
    perturbation: str,
    level: int,
    parameter: float | None,
    scores: Scores,
    *,
    threshold: float | None = None,
) -> RobustnessRow:
    """Return the metrics of one model under one perturbation from its frames' scores."""
    videos = to_videos(scores)
    return RobustnessRow(
        model=model,
        perturbation=perturbation,
        level=level,
        parameter=parameter,
        num_videos=len(videos),
        frame=measure(scores.label, scores.p_fake, threshold=threshold),
        video=measure(videos.label, videos.p_fake, threshold=threshold),
    )


def cross_dataset(
    evaluations: Mapping[str, Evaluation], *, metric: str = "auc", level: Level = "video"
) -> CrossDataset:
    """Return a metric of several models on every dataset that one of them was tested on.

    Args:
        evaluations: what each model was trained on → its evaluation.
        metric: a name in METRICS.
        level: of the metric.

    Raises:
        ValueError: no such metric.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: got {metric!r}, expected one of {', '.join(METRICS)}")
    columns = tuple(sorted({dataset for found in evaluations.values() for dataset in found.datasets}))
    absent = Figure(value=None, reason="not tested on it")
    figures = []
    for found in evaluations.values():
        # The first group of a dataset is that of all its compressions and manipulations.
        whole: dict[str | None, Figure] = {}
        for group in found.groups:
            if group.level == level and group.manipulation is None:
                whole.setdefault(group.dataset, group.figures[metric])
        figures.append(tuple(whole.get(dataset, absent) for dataset in columns))
    return CrossDataset(metric=metric, level=level, rows=tuple(evaluations), columns=columns, figures=tuple(figures))


def write_evaluation(
    out_dir: Path,
    evaluation: Evaluation,
    scores: Scores,
    *,
    examples: Sequence[Example] = (),
    curves: Sequence[CurvePoint] = (),
    cam_sheets: Mapping[str, bytes] | None = None,
    robustness: Sequence[RobustnessRow] = (),
    cross: CrossDataset | None = None,
) -> Path:
    """Write an evaluation into a folder, each file complete or not at all, and return the page's path.

    Args:
        out_dir: made if it is not there; files of an older evaluation are replaced.
        evaluation: what `summarise` returned.
        scores: the frames' scores that it was made of.
        examples: the most confusable crops; see `confusable`.
        curves: of the training, if known.
        cam_sheets: caption → JPEG of a Grad-CAM sheet.
        robustness: rows of all models and perturbations.
        cross: the matrix of datasets.
    """
    from training.evaluation_figures import draw_figures
    from training.evaluation_page import render_page

    videos = to_videos(scores)
    out_dir.mkdir(parents=True, exist_ok=True)
    extras = {"robustness": [asdict(row) for row in robustness], "cross_dataset": cross and asdict(cross)}
    text = json.dumps(asdict(evaluation) | extras, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    figures = draw_figures(evaluation, scores, videos, curves, robustness)
    page = render_page(
        evaluation, figures, examples=examples, cam_sheets=cam_sheets or {}, robustness=robustness, cross=cross
    )
    write_scores(out_dir / SCORES_NAME, scores)
    write_scores(out_dir / VIDEOS_NAME, videos)
    write_atomically(out_dir / EVALUATION_NAME, text.encode())
    write_atomically(out_dir / MARKDOWN_NAME, evaluation_markdown(evaluation, robustness, cross).encode())
    (out_dir / FIGURES_DIR).mkdir(exist_ok=True)
    for figure in figures:
        write_atomically(out_dir / FIGURES_DIR / f"{figure.name}.svg", figure.svg.encode())
    write_atomically(out_dir / PAGE_NAME, page.encode())
    return out_dir / PAGE_NAME


def read_evaluation(path: Path) -> Evaluation:
    """Return the evaluation that `write_evaluation` wrote as JSON.

    Raises:
        UserError: it is not such a file.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        plain = json.loads(path.read_bytes())
        known = {name: plain[name] for name in Evaluation.__dataclass_fields__}
        return TypeAdapter(Evaluation).validate_python(known)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise UserError(f"{path}: got {error}, expected an evaluation; evaluate again, or name another file") from error


def evaluation_markdown(
    evaluation: Evaluation, robustness: Sequence[RobustnessRow] = (), cross: CrossDataset | None = None
) -> str:
    """Return the main tables as Markdown; percent with intervals in brackets."""
    lines = [f"# Evaluation of {_escaped(evaluation.model)}", ""]
    lines += [f"- {_escaped(name)}: {_escaped(value)}" for name, value in evaluation.about.items()]
    lines += [f"- {sentence}" for sentence in remarks(evaluation)]
    for level in LEVELS:
        lines += ["", f"## By {level}", "", *_group_table(evaluation, level)]
    lines += ["", "## Beside published figures", ""]
    lines += [published_markdown(beside_published(_escaped(evaluation.model), evaluation.groups))]
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


def _missing(videos: Scores, num_reals: int, num_fakes: int) -> MissingVideos:
    total = len(videos) + num_reals + num_fakes
    right = int(((videos.p_fake >= DEFAULT_THRESHOLD) == (videos.label == 1)).sum())
    return MissingVideos(num_reals=num_reals, num_fakes=num_fakes, accuracy_if_wrong=right / total if total else None)


def _group_table(evaluation: Evaluation, level: Level) -> Iterator[str]:
    """Yield the lines of a level's table."""
    heads = ["Dataset", "Compression", "Manipulation", "Reals", "Fakes", *MARKDOWN_METRICS]
    yield "| " + " | ".join(heads) + " |"
    yield "| :-- | :-- | :-- |" + " --: |" * (len(heads) - 3)
    for group in evaluation.groups:
        if group.level == level:
            names = [_escaped(name or "all") for name in (group.dataset, group.compression, group.manipulation)]
            counts = [f"{group.num_reals:,}", f"{group.num_fakes:,}"]
            yield "| " + " | ".join([*names, *counts, *(percent(group.figures[m]) for m in MARKDOWN_METRICS)]) + " |"


def _cross_table(cross: CrossDataset) -> Iterator[str]:
    yield "| | " + " | ".join(_escaped(name) for name in cross.columns) + " |"
    yield "| :-- |" + " --: |" * len(cross.columns)
    for name, figures in zip(cross.rows, cross.figures, strict=True):
        yield f"| {_escaped(name)} | " + " | ".join(percent(figure) for figure in figures) + " |"


def _robustness_table(rows: Sequence[RobustnessRow]) -> Iterator[str]:
    """Yield a line per perturbation and level, with AUC and accuracy of each model's videos."""
    models = list(dict.fromkeys(row.model for row in rows))
    found = {(row.model, row.perturbation, row.level): row for row in rows}
    heads = [f"{_escaped(model)} {metric}" for model in models for metric in ("AUC", "accuracy")]
    yield "| Perturbation | Level | Parameter | " + " | ".join(heads) + " |"
    yield "| :-- | --: | --: |" + " --: |" * len(heads)
    for name, level in dict.fromkeys((row.perturbation, row.level) for row in rows):
        of_models = [found.get((model, name, level)) for model in models]
        parameter = next((row.parameter for row in of_models if row is not None), None)
        cells = [
            "–" if row is None else percent(row.video[metric]) for row in of_models for metric in ("auc", "accuracy")
        ]
        yield f"| {name} | {level} | {'–' if parameter is None else f'{parameter:g}'} | " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    """Return the text as it is to stand in a cell of a Markdown table."""
    return "".join(f"\\{letter}" if letter in r"\`*_{}[]<>|" else letter for letter in text).replace("\n", " ")
