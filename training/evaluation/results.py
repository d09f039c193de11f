"""An evaluation: every metric of a table of scores, as JSON, Parquet, Markdown and one HTML page.

    OUT/
    ├── evaluation.json     everything that was computed: `read_evaluation`
    ├── scores.parquet      the frames' scores: `training.evaluation.scores`
    ├── videos.parquet      a score per person of a video
    ├── evaluation.md       the main tables, ours beside the published figures
    ├── evaluation.html     the page: `training.evaluation.report.page`
    └── figures/            the page's plots as SVG without a background, for a paper

No clock and no path goes in: the same scores and seed give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from manifests.errors import UserError
from storage.files.layout import write_atomically
from training.evaluation.scores import Scores, group_rows, to_videos, write_scores
from training.evaluation.statistics.bootstrap import DEFAULT_THRESHOLD
from training.evaluation.statistics.calibration import CalibrationBin, IntArray, calibration
from training.evaluation.statistics.metrics import (
    CONFIDENCE,
    LEVELS,
    METRICS,
    NUM_RESAMPLES,
    Confusion,
    Figure,
    GroupMetrics,
    Level,
    MultiClass,
    confusion_at,
    measure,
    measure_classes,
    measure_groups,
)

EVALUATION_NAME = "evaluation.json"
SCORES_NAME = "scores.parquet"
VIDEOS_NAME = "videos.parquet"
MARKDOWN_NAME = "evaluation.md"
PAGE_NAME = "evaluation.html"
FIGURES_DIR = "figures"

UNPERTURBED = "none"  # name of the images as they are, in a robustness table


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingVideos:
    """Videos of the evaluated splits that have no crop, so that nothing could be said of them."""

    num_reals: int
    """Videos."""

    num_fakes: int
    """Videos."""

    accuracy_if_wrong: float | None
    """Of videos at 0.5, if every one of these counts as an error; None without any video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a detector is worth on some data; every number of its page."""

    about: dict[str, str]
    """What was evaluated, for people: `model`, `checkpoint`, `trained on`, … in the order of the page."""

    datasets: tuple[str, ...]
    """By name."""

    num_frames: int
    """Scored rows: frames, or clips of a model that judges those."""

    num_videos: int
    """Persons of videos, each with one score."""

    threshold: float | None
    """Chosen on the validation split."""

    seed: int
    """Of the resampling."""

    num_resamples: int
    """Behind each interval."""

    confidence: float
    """Share of resamples in an interval."""

    missing: MissingVideos | None
    """None: the evaluation was not told."""

    groups: tuple[GroupMetrics, ...]
    """Both levels: all, datasets, compressions, manipulations."""

    confusions: tuple[Confusion, ...]
    """Both levels, at 0.5 and at the validation threshold."""

    calibrations: dict[Level, tuple[CalibrationBin, ...]]
    """Reliability by level."""

    classes: tuple[MultiClass, ...]
    """Both levels; empty for a model with two classes."""

    @property
    def model(self) -> str:
        """Return the model's name."""
        return self.about.get("model", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A crop that the page shows."""

    key: str
    """Of its record."""

    label: int
    """0 real, 1 fake."""

    p_fake: float
    """0..1."""

    kind: str
    """Manipulation, or `fake` where none is named, or `real`."""

    jpeg: bytes
    """The thumbnail, encoded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One value of a curve of the training."""

    step: int
    """Optimiser steps or epochs, the same for all curves."""

    name: str
    """Such as `train/loss`; curves with the same part behind the slash share a plot."""

    value: float
    """As it was logged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessRow:
    """Metrics of one model under one perturbation at one level, without intervals."""

    model: str
    """Its name."""

    perturbation: str
    """A name in PERTURBATIONS, or `none`."""

    level: int
    """0 for `none`, else 1, 2, …."""

    parameter: float | None
    """The strength that the level stands for."""

    num_videos: int
    """Persons of videos."""

    frame: dict[str, Figure]
    """Metrics of frames by name."""

    video: dict[str, Figure]
    """Metrics of videos by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossDataset:
    """One metric of models (rows) on datasets (columns)."""

    metric: str
    """A name in METRICS."""

    level: Level
    """What was counted."""

    rows: tuple[str, ...]
    """What each model was trained on."""

    columns: tuple[str, ...]
    """Tested on."""

    figures: tuple[tuple[Figure, ...], ...]
    """By row and column."""


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
    strips: Mapping[str, bytes] | None = None,
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
        strips: perturbation → JPEG of a crop at each of its levels.
        cross: the matrix of datasets.
    """
    from training.evaluation.report.figures import draw_figures
    from training.evaluation.report.markdown import evaluation_markdown
    from training.evaluation.report.page import render_page

    videos = to_videos(scores)
    out_dir.mkdir(parents=True, exist_ok=True)
    extras = {"robustness": [asdict(row) for row in robustness], "cross_dataset": cross and asdict(cross)}
    text = json.dumps(asdict(evaluation) | extras, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    figures = draw_figures(evaluation, scores, videos, curves, robustness)
    page = render_page(
        evaluation,
        figures,
        examples=examples,
        cam_sheets=cam_sheets,
        robustness=robustness,
        strips=strips,
        cross=cross,
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


def _missing(videos: Scores, num_reals: int, num_fakes: int) -> MissingVideos:
    total = len(videos) + num_reals + num_fakes
    right = int(((videos.p_fake >= DEFAULT_THRESHOLD) == (videos.label == 1)).sum())
    return MissingVideos(num_reals=num_reals, num_fakes=num_fakes, accuracy_if_wrong=right / total if total else None)
