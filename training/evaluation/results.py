"""Results of an evaluation: its dataclasses, computed from tables of scores. `report.write` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from training.evaluation.scores import Scores, group_rows, to_videos
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
from training.run_folder import CurvePoint

UNPERTURBED = "none"  # name of unperturbed images in a robustness table


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingVideos:
    """Videos of the evaluated split without a crop, which have no score."""

    num_reals: int
    """Real videos."""

    num_fakes: int
    """Fake videos."""

    accuracy_if_wrong: float | None
    """0..1, accuracy of videos at 0.5 if each of these counts as an error; None if there is no video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Every number of the page of one detector on one or several stores."""

    about: dict[str, str]
    """Facts for the head of the page, in order: `model`, `checkpoint`, `trained on`, …"""

    datasets: tuple[str, ...]
    """Names of the datasets, sorted."""

    num_frames: int
    """Scored rows: frames, or clips for a model of clips."""

    num_videos: int
    """Scored persons of videos, each with one score."""

    threshold: float | None
    """0..1, chosen on the validation split; None without one."""

    seed: int
    """Seed of the resampling."""

    num_resamples: int
    """Resamples per interval."""

    confidence: float
    """0..1, share of the resamples inside an interval."""

    missing: MissingVideos | None
    """Videos without a crop; None if their number is not known."""

    groups: tuple[GroupMetrics, ...]
    """Metrics at both levels of all data, each dataset, each compression, each manipulation."""

    confusions: tuple[Confusion, ...]
    """Confusion at both levels, at 0.5 and at the validation threshold."""

    calibrations: dict[Level, tuple[CalibrationBin, ...]]
    """Reliability bins by level."""

    classes: tuple[MultiClass, ...]
    """Metrics over several classes at both levels; empty for a model with two classes."""

    @property
    def model(self) -> str:
        """Return the name of the model."""
        return self.about.get("model", "model")

    @property
    def has_intervals(self) -> bool:
        """Whether any figure has an interval."""
        return any(figure.low is not None for group in self.groups for figure in group.figures.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A crop shown on the page, with its score."""

    key: str
    """Key of its record."""

    label: int
    """0 real, 1 fake."""

    p_fake: float
    """0..1, score."""

    kind: str
    """Manipulation, `fake` where its dataset names none, or `real`."""

    jpeg: bytes
    """Thumbnail as JPEG."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessRow:
    """Metrics of one model under one perturbation at one level, without intervals."""

    model: str
    """Name of the model."""

    perturbation: str
    """A name in PERTURBATIONS, or `none`."""

    level: int
    """0 for `none`, else 1, 2, …."""

    parameter: float | None
    """Strength of the level, in the unit of the perturbation's `parameter`."""

    num_videos: int
    """Scored persons of videos."""

    frame: dict[str, Figure]
    """Metrics of frames by name, as in METRICS."""

    video: dict[str, Figure]
    """Metrics of videos by name, as in METRICS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossDataset:
    """One metric of several models (rows) on several datasets (columns)."""

    metric: str
    """A name in METRICS."""

    level: Level
    """Level of the metric: frame or video."""

    rows: tuple[str, ...]
    """Training datasets of each model."""

    columns: tuple[str, ...]
    """Test datasets."""

    figures: tuple[tuple[Figure, ...], ...]
    """Values by row and column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A model that is compared with the evaluated one."""

    evaluation: Evaluation
    """Its metrics."""

    scores: Scores
    """Its scores of frames."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Parts of the page beside the metrics of one model; each may be missing."""

    beside: Sequence[Scored] = ()
    """The models that the evaluated one is compared with, in every table and plot."""

    examples: Sequence[Example] = ()
    """Crops with the largest errors, the largest first; see `confusable`."""

    curves: Sequence[CurvePoint] = ()
    """Training curves."""

    cam_sheets: Mapping[str, bytes] = field(default_factory=dict)
    """Caption → JPEG of a Grad-CAM sheet."""

    robustness: Sequence[RobustnessRow] = ()
    """Rows of all models and perturbations."""

    strips: Mapping[str, bytes] = field(default_factory=dict)
    """Perturbation → JPEG of one crop at each of its levels."""

    cross: CrossDataset | None = None
    """One metric of all models on all datasets."""


NO_EXTRAS = Extras()


def summarise(
    scores: Scores,
    *,
    threshold: float | None,
    seed: int,
    about: Mapping[str, str] | None = None,
    missing_videos: tuple[int, int] | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Evaluation:
    """Compute every metric of a table of frame scores.

    Args:
        scores: scores of frames (or clips).
        threshold: 0..1, chosen on the validation split; None without one.
        seed: seed of the resampling.
        about: facts for the head of the page; `model` is the name of the model.
        missing_videos: numbers of (real, fake) videos without a crop; None if unknown.
        num_resamples: resamples per interval; 0 for no intervals.
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
    """Return the rows of the reals scored highest and of the fakes scored lowest, worst first, one per video."""
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
    """Compute the metrics of one model under one perturbation from its frame scores."""
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
    """Collect one metric of several models on all their test datasets.

    Args:
        evaluations: evaluation of each model by its training datasets.
        metric: a name in METRICS.
        level: level of the metric.

    Raises:
        ValueError: the metric is unknown.
    """
    if metric not in METRICS:
        raise ValueError(f"metric: got {metric!r}, expected one of {', '.join(METRICS)}")
    columns = tuple(sorted({dataset for found in evaluations.values() for dataset in found.datasets}))
    absent = Figure(value=None, reason="not tested on it")
    figures = []
    for found in evaluations.values():
        # The first group of a dataset covers all its compressions and manipulations.
        whole: dict[str | None, Figure] = {}
        for group in found.groups:
            if group.level == level and group.manipulation is None:
                whole.setdefault(group.dataset, group.figures[metric])
        figures.append(tuple(whole.get(dataset, absent) for dataset in columns))
    return CrossDataset(metric=metric, level=level, rows=tuple(evaluations), columns=columns, figures=tuple(figures))


def _missing(videos: Scores, num_reals: int, num_fakes: int) -> MissingVideos:
    total = len(videos) + num_reals + num_fakes
    right = int(((videos.p_fake >= DEFAULT_THRESHOLD) == (videos.label == 1)).sum())
    return MissingVideos(num_reals=num_reals, num_fakes=num_fakes, accuracy_if_wrong=right / total if total else None)
