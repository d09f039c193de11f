"""Evaluation of trained models on stores: metrics with intervals, robustness, Grad-CAM, tables and a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from manifests.entry import REAL
from manifests.errors import ConfigError
from manifests.videos_table import read_table
from storage.files.layout import VIDEOS_NAME
from storage.format.images import encode_rgb
from storage.index import read_index
from training.config import EvaluateConfig
from training.data.batch import normalise
from training.data.crops import disagreements, resized
from training.data.dataset import StoreDataset
from training.data.items import NoItems
from training.evaluation.explanations.grad_cam import LAST, Layer, SheetItem, find_layer, grad_cam, sheet
from training.evaluation.perturbations import PERTURBATIONS, require_perturbations
from training.evaluation.report.write import write_evaluation
from training.evaluation.results import (
    UNPERTURBED,
    Evaluation,
    Example,
    Extras,
    RobustnessRow,
    Scored,
    confusable,
    cross_dataset,
    robustness_row,
    summarise,
)
from training.evaluation.scores import Scores, to_videos
from training.evaluation.scoring import Perturbed, Pixels, ScoringSettings, dataset_for, score
from training.evaluation.statistics.calibration import IntArray
from training.evaluation.statistics.metrics import choose_threshold
from training.models.checkpoint import load_model
from training.run_folder import MODEL_NAME, CurvePoint, read_curve

NUM_EXAMPLES = 8  # crops shown, of reals and of fakes
THUMBNAIL_PX, THUMBNAIL_QUALITY = 128, 80
# Curves of a training run that the page shows: name in `curve.jsonl` → plot/line.
CURVES = {"train_loss": "train/loss", "val_auc": "val/score", "val_accuracy": "val/score (accuracy)"}

Say = Callable[[str], None]


def evaluate(config: EvaluateConfig, device: str = "cpu", say: Say = lambda _: None) -> tuple[Path, Evaluation]:
    """Evaluate a model, and others to compare it with, on stores; write the page and its tables.

    Args:
        config: the settings of the evaluation.
        device: torch device of the networks, in place of `config.device`.
        say: called with a line of progress.

    Returns:
        The path of the page, and the evaluation of the first model.

    Raises:
        ConfigError: a checkpoint cannot be read, a perturbation or a layer is unknown, or there is nothing to test on.
        StoreError: a store cannot be read.
    """
    require_perturbations(config.perturbations)
    torch.set_flush_denormal(True)
    models = [_ModelEvaluation(path, title, config, device, say) for path, title in titles(config.checkpoints).items()]
    first = models[0]
    layers = first.layers() if config.explain else []
    for model in models[1:]:
        model.cam = "only of the first model"
    for model in models:
        model.score()
    rows = [row for model in models for row in model.robustness()]
    names = [model.title if len(models) > 1 else "" for model in models]
    evaluations = {model.trained_on: model.evaluation for model in models}
    say("writing the page")
    extras = Extras(
        beside=[Scored(evaluation=model.evaluation, scores=model.scores) for model in models[1:]],
        examples=first.examples(),
        curves=[point for model, name in zip(models, names, strict=True) for point in curve_points(model.path, name)],
        cam_sheets=first.cam_sheets(layers),
        robustness=rows,
        strips=first.strips,
        cross=cross_dataset(evaluations) if len(models) > 1 or len(first.evaluation.datasets) > 1 else None,
    )
    return write_evaluation(config.out, first.evaluation, first.scores, extras), first.evaluation


def curve_points(checkpoint: Path, model: str = "") -> list[CurvePoint]:
    """Return the curves of the training run that made a model; none for a file that no run of ours made.

    Args:
        checkpoint: file of the model.
        model: its title before the name of each curve, where several models are compared.
    """
    run = checkpoint.resolve()
    return [
        CurvePoint(step=point["step"], name=f"{model} {CURVES[point['name']]}".lstrip(), value=point["value"])
        for point in (read_curve(run.parent) if run.name == MODEL_NAME else ())
        if point["name"] in CURVES and np.isfinite(point["value"])
    ]


def titles(checkpoints: Sequence[Path]) -> dict[Path, str]:
    """Return a distinct title for each model: its folder, with as many parent folders as needed.

    A model that is given twice, as by `--beside runs/*/model.pt`, counts once.
    """
    found: dict[Path, Path] = {}
    for path in checkpoints:
        place = path.resolve()
        found.setdefault(place.parent if place.name == MODEL_NAME else place, path)
    return dict(zip(found.values(), short_names(list(found)), strict=True))


def short_names(places: Sequence[Path]) -> list[str]:
    """Return the last parts of different paths, as many as are needed to tell them apart."""
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return ["/".join(place.parts[-depth:]) for place in places]


class _ModelEvaluation:
    """The evaluation of one model: its scores, metrics and pictures."""

    scores: Scores
    """Scores of the unperturbed crops, after `score`."""

    evaluation: Evaluation
    """Metrics of these scores, after `score`."""

    def __init__(self, checkpoint: Path, title: str, config: EvaluateConfig, device: str, say: Say) -> None:
        self._config, self._say = config, say
        self._scoring = ScoringSettings(batch_size=config.batch_size, workers=config.workers, device=device)
        self._model, self._about = load_model(checkpoint)
        self.path = checkpoint
        self.title = f"{self._about.name} ({title})"
        self.trained_on = f"{self.title}: {', '.join(self._about.trained_on) or 'unknown'}"
        self.threshold: float | None = None
        self._dataset = dataset_for(self._about, config.stores, config.split)
        self._stores = dict(zip(config.stores, short_names([store.resolve() for store in config.stores]), strict=True))
        sides = {self._stores[store]: side for store, side in self._dataset.sides().items()}
        may_enlarge = config.allow_upsampling or getattr(self._model, "enlarges_crops", False)
        self._resized = list(resized(sides, self._about.img_size, may_enlarge=may_enlarge))
        self.cam = "not asked for"  # layers of the Grad-CAM sheets, or why there are none
        self.strips: dict[str, bytes] = {}  # perturbation → a crop at each of its levels, JPEG

    def score(self) -> None:
        """Score the unperturbed crops, and compute all metrics."""
        self.threshold = self._threshold()
        self._say(f"scoring {len(self._dataset):,} crops with {self.title}")
        self.scores = score(self._model, self._dataset, self._scoring)
        self.evaluation = summarise(
            self.scores,
            threshold=self.threshold,
            seed=self._config.seed,
            about=self._facts(),
            missing_videos=missing_videos(self._config.stores, self._config.split),
        )

    def layers(self) -> list[Layer]:
        """Return the layers to explain; checked with a blank image before hours are spent on scores.

        Raises:
            ConfigError: a layer that was asked for does not exist, or its output is not a map.
        """
        wanted = self._config.explain_layers
        try:
            if self._about.clip_length is not None:
                raise ConfigError("Grad-CAM: got a model of clips, expected one of single frames")
            layers = [find_layer(self._model, self._about.name, name) for name in wanted or (LAST,)]
        except ConfigError as error:
            if wanted:
                raise
            self.cam = f"none; {error}"
            return []
        blank = torch.zeros(1, 3, self._about.img_size, self._about.img_size)
        for layer in layers:
            grad_cam(self._model, layer, blank, 1)
        self.cam = ", ".join(layer.name for layer in layers)
        return layers

    def robustness(self) -> list[RobustnessRow]:
        """Score everything again under each perturbation, at each of its levels."""
        if not self._config.perturbations:
            return []
        rows = [robustness_row(self.title, UNPERTURBED, 0, None, self.scores, threshold=self.threshold)]
        for name in self._config.perturbations:
            perturbation = PERTURBATIONS[name]
            shown = [_thumbnail(self._dataset, 0)]
            for level, parameter in enumerate(perturbation.levels, start=1):
                self._say(f"scoring with {self.title} under {name}, level {level}")
                transform = Perturbed(perturbation, level, self._about.img_size)
                seed, split = self._config.seed, self._config.split
                dataset = dataset_for(self._about, self._config.stores, split, transform=transform, seed=seed)
                shown.append(_thumbnail(dataset, 0))
                found = score(self._model, dataset, self._scoring)
                rows.append(robustness_row(self.title, name, level, parameter, found, threshold=self.threshold))
            self.strips[name] = encode_rgb(np.hstack(shown), "jpeg", THUMBNAIL_QUALITY)
        return rows

    def examples(self) -> list[Example]:
        """Return the crops with the largest errors."""
        reals, fakes = confusable(self.scores, NUM_EXAMPLES)
        return [
            Example(
                key=str(self.scores.key[row]),
                label=int(self.scores.label[row]),
                p_fake=float(self.scores.p_fake[row]),
                kind=self._kind(row),
                jpeg=encode_rgb(_thumbnail(self._dataset, row), "jpeg", THUMBNAIL_QUALITY),
            )
            for row in (*reals.tolist(), *fakes.tolist())
        ]

    def cam_sheets(self, layers: Sequence[Layer]) -> dict[str, bytes]:
        """Return JPEG sheets of Grad-CAM overlays by caption: for each layer, the fakes scored highest and lowest."""
        fakes = np.flatnonzero(self.scores.label == 1)
        by_score = fakes[np.argsort(-self.scores.p_fake[fakes], kind="stable")]
        groups = {"fakes scored highest": by_score[:NUM_EXAMPLES], "fakes scored lowest": by_score[::-1][:NUM_EXAMPLES]}
        return {
            f"{caption}, layer {layer.name}": self._sheet(rows, layer)
            for layer in layers
            for caption, rows in groups.items()
            if len(rows)
        }

    def _sheet(self, rows: IntArray, layer: Layer) -> bytes:
        crops = np.stack([_crop(self._dataset, row) for row in rows.tolist()])
        images = normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).to(self._scoring.device))
        probabilities = self.scores.class_probabilities
        # With several classes of fakes, the most probable one is explained.
        forgeries = np.ones(len(rows)) if probabilities is None else 1 + probabilities[rows, 1:].argmax(axis=1)
        cams = grad_cam(self._model, layer, images, torch.from_numpy(forgeries).long().to(images.device))
        items = [
            SheetItem(crop=crop, cam=cam, caption=f"{self.scores.p_fake[row]:.2f} {self._kind(row)}")
            for crop, cam, row in zip(crops, cams, rows.tolist(), strict=True)
        ]
        return encode_rgb(sheet(items), "jpeg", THUMBNAIL_QUALITY)

    def _kind(self, row: int) -> str:
        """Return the manipulation of an item, `fake` where its dataset names none, or `real`."""
        return str(self.scores.manipulation[row] or ("fake" if self.scores.label[row] else REAL))

    def _threshold(self) -> float | None:
        """Return the video-level threshold: that of the model, or one chosen on the validation split; None without."""
        if self._about.threshold is not None:
            return self._about.threshold
        try:
            dataset = dataset_for(self._about, self._config.stores, "val")
        except NoItems:
            return None
        self._say(f"choosing the threshold on {len(dataset):,} crops of val")
        videos = to_videos(score(self._model, dataset, self._scoring))
        return choose_threshold(videos.label, videos.p_fake)

    def _facts(self) -> dict[str, str]:
        facts = {
            "model": self.title,
            "checkpoint": self.path.name,
            "stores": ", ".join(self._stores.values()),
            "split": self._config.split,
            "crops": ", ".join((f"{self._about.img_size} px", *self._resized)),
            "trained on": ", ".join(self._about.trained_on) or "unknown",
            "started from": self._about.started_from or "not recorded",
            "Grad-CAM": self.cam,
        }
        crops = {name: read_index(store).config for store, name in self._stores.items()}
        trained = {"the training data": self._about.crops} if self._about.crops else {}
        differences = disagreements(crops | trained)
        if differences:
            facts["crops differ in"] = "; ".join(differences)
        if self._about.clip_length is not None:
            facts["clips"] = f"{self._about.clip_length} frames, head {self._about.head}"
        return facts


def missing_videos(stores: Sequence[Path], split: str) -> tuple[int, int] | None:
    """Return how many (real, fake) videos of a split were rejected; None if a store has no table of videos."""
    if not all((store / VIDEOS_NAME).exists() for store in stores):
        return None
    entries = [
        row.entry
        for store in stores
        for row in read_table(store / VIDEOS_NAME)
        if row.status == "rejected" and row.entry is not None and row.entry.split == split
    ]
    num_fakes = sum(entry.label == "fake" for entry in entries)
    return len(entries) - num_fakes, num_fakes


def _thumbnail(dataset: StoreDataset, item: int) -> Pixels:
    """Return the (first) frame of an item as a (S,S,3) uint8 RGB thumbnail."""
    crop = _crop(dataset, item)
    side = min(THUMBNAIL_PX, len(crop))
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _crop(dataset: StoreDataset, item: int) -> Pixels:
    """Return the (first) frame of an item as (S,S,3) uint8 RGB, after the transform of its dataset."""
    pixels = dataset[item].pixels
    frame = pixels[0] if pixels.ndim == 4 else pixels
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
