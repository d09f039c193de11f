"""`faceshards evaluate`: a trained model on stores, as figures for a paper, and as a page to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from manifests.entry import REAL
from manifests.errors import ConfigError
from manifests.videos_table import read_table
from storage.files.layout import VIDEOS_NAME
from storage.format.images import encode_rgb
from training.data.batch import normalise
from training.data.dataset import StoreDataset
from training.evaluation.explanations.grad_cam import LAST, Layer, SheetItem, find_layer, grad_cam, sheet
from training.evaluation.perturbations.perturb import PERTURBATIONS
from training.evaluation.results import (
    UNPERTURBED,
    CurvePoint,
    Evaluation,
    Example,
    RobustnessRow,
    confusable,
    cross_dataset,
    robustness_row,
    summarise,
    write_evaluation,
)
from training.evaluation.scores import Scores, to_videos
from training.evaluation.scoring import Perturbed, Pixels, ScoringSettings, dataset_for, score
from training.evaluation.statistics.calibration import IntArray
from training.evaluation.statistics.metrics import choose_threshold
from training.models.checkpoint import load_model
from training.run_folder import MODEL_NAME, read_curve

NUM_EXAMPLES = 8  # of reals, and of fakes, that are shown
THUMBNAIL_PX, THUMBNAIL_QUALITY = 128, 80

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """What is looked at."""

    split: str = "test"
    """Which split of the stores."""

    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    """How items are scored."""

    perturbations: tuple[str, ...] = ()
    """Names in PERTURBATIONS under which everything is scored again; each at every level."""

    explain: bool = True
    """Whether sheets of Grad-CAM overlays are made."""

    explain_layers: tuple[str, ...] = ()
    """Of which layers: `last`, `fine`, or modules' names; none: the last, where the model's is known."""

    seed: int = 0
    """Of resampling and perturbations."""


def evaluate(
    checkpoints: Sequence[Path],
    stores: Sequence[Path],
    out_dir: Path,
    settings: JudgeSettings,
    say: Say = lambda _: None,
) -> tuple[Path, Evaluation]:
    """Evaluate one model, and others beside it, on stores; write the page and everything behind it.

    Args:
        checkpoints: `model.pt` of the model whose page it is, and of those that stand beside it in the tables of
            robustness and of datasets.
        stores: on which they are tested.
        out_dir: where the evaluation is written.
        settings: what is looked at.
        say: told what is being done.

    Returns:
        The page, and the evaluation of the first model.

    Raises:
        ConfigError: a checkpoint is none, a perturbation or a layer is unknown, or there is nothing to test on.
        StoreError: a store cannot be read.
    """
    unknown = [name for name in settings.perturbations if name not in PERTURBATIONS]
    if unknown:
        raise ConfigError(f"perturbations: got {', '.join(unknown)}, expected some of {', '.join(PERTURBATIONS)}")
    judged = [_Judged(path, title, stores, settings, say) for path, title in titles(checkpoints).items()]
    first = judged[0]
    layers = first.layers() if settings.explain else []
    for one in judged:
        one.judge()
    rows = [row for one in judged for row in one.robustness()]
    evaluations = {one.trained_on: one.evaluation for one in judged}
    say("writing the page")
    page = write_evaluation(
        out_dir,
        first.evaluation,
        first.scores,
        examples=first.examples(),
        curves=curve_points(checkpoints[0].parent),
        cam_sheets=first.cam_sheets(layers),
        robustness=rows,
        strips=first.strips,
        cross=cross_dataset(evaluations) if len(judged) > 1 or len(first.evaluation.datasets) > 1 else None,
    )
    return page, first.evaluation


def curve_points(run: Path) -> list[CurvePoint]:
    """Return the curves of the training run that a model lies in; none where it lies alone."""
    points = read_curve(run)
    wanted = ("train_loss", "val_auc", "val_accuracy")
    names = {"train_loss": "train/loss", "val_auc": "val/score", "val_accuracy": "val/score (accuracy)"}
    return [
        CurvePoint(step=point["step"], name=names[point["name"]], value=point["value"])
        for point in points
        if point["name"] in wanted and np.isfinite(point["value"])
    ]


def titles(checkpoints: Sequence[Path]) -> dict[Path, str]:
    """Return what to call each model: its folder, with as many of those above as it takes to tell them apart.

    Raises:
        ConfigError: a checkpoint is named twice.
    """
    places = [path.resolve().parent if path.name == MODEL_NAME else path.resolve() for path in checkpoints]
    if len(set(places)) < len(places):
        raise ConfigError(f"checkpoints: got {', '.join(map(str, checkpoints))}, expected each once")
    depth = 1
    while len({place.parts[-depth:] for place in places}) < len(places):
        depth += 1
    return {path: "/".join(place.parts[-depth:]) for path, place in zip(checkpoints, places, strict=True)}


class _Judged:
    """One model's scores and what is made of them."""

    scores: Scores
    evaluation: Evaluation

    def __init__(self, checkpoint: Path, title: str, stores: Sequence[Path], settings: JudgeSettings, say: Say) -> None:
        self._settings, self._stores, self._say = settings, stores, say
        self._model, self._about = load_model(checkpoint)
        self._checkpoint = checkpoint
        self.title = f"{self._about.name} ({title})"
        self.trained_on = f"{self.title}: {', '.join(self._about.trained_on) or 'unknown'}"
        self.threshold: float | None = None
        self._dataset = dataset_for(self._about, stores, settings.split)
        self._cam = "not asked for"  # of which layers, or why of none
        self.strips: dict[str, bytes] = {}  # perturbation → a crop at each of its levels, JPEG

    def judge(self) -> None:
        """Score everything as it is."""
        self.threshold = self._threshold()
        self._say(f"scoring {len(self._dataset):,} crops with {self.title}")
        self.scores = score(self._model, self._dataset, self._settings.scoring)
        self.evaluation = summarise(
            self.scores,
            threshold=self.threshold,
            seed=self._settings.seed,
            about=self._facts(),
            missing_videos=missing_videos(self._stores, self._settings.split),
        )

    def layers(self) -> list[Layer]:
        """Return the layers whose maps are to be shown, before hours are spent on scores.

        Raises:
            ConfigError: one that was asked for is not there, or makes no map.
        """
        wanted = self._settings.explain_layers
        try:
            if self._about.clip_length is not None:
                raise ConfigError("Grad-CAM: got a model of clips, expected one of single frames")
            layers = [find_layer(self._model, self._about.name, name) for name in wanted or (LAST,)]
        except ConfigError as error:
            if wanted:
                raise
            self._cam = f"none; {error}"
            return []
        blank = torch.zeros(1, 3, self._about.img_size, self._about.img_size)
        for layer in layers:
            grad_cam(self._model, layer, blank, 1)
        self._cam = ", ".join(layer.name for layer in layers)
        return layers

    def robustness(self) -> list[RobustnessRow]:
        """Score everything again under each perturbation."""
        if not self._settings.perturbations:
            return []
        rows = [robustness_row(self.title, UNPERTURBED, 0, None, self.scores, threshold=self.threshold)]
        for name in self._settings.perturbations:
            perturbation = PERTURBATIONS[name]
            shown = [_thumbnail(self._dataset, 0)]
            for level, parameter in enumerate(perturbation.levels, start=1):
                self._say(f"scoring with {self.title} under {name}, level {level}")
                transform = Perturbed(perturbation, level, self._about.img_size)
                seed, split = self._settings.seed, self._settings.split
                dataset = dataset_for(self._about, self._stores, split, transform=transform, seed=seed)
                shown.append(_thumbnail(dataset, 0))
                found = score(self._model, dataset, self._settings.scoring)
                rows.append(robustness_row(self.title, name, level, parameter, found, threshold=self.threshold))
            self.strips[name] = encode_rgb(np.hstack(shown), "jpeg", THUMBNAIL_QUALITY)
        return rows

    def examples(self) -> list[Example]:
        """Return the crops that the model is most wrong about."""
        reals, fakes = confusable(self.scores, NUM_EXAMPLES)
        found = []
        for row in (*reals.tolist(), *fakes.tolist()):
            found.append(
                Example(
                    key=str(self.scores.key[row]),
                    label=int(self.scores.label[row]),
                    p_fake=float(self.scores.p_fake[row]),
                    kind=self._kind(row),
                    jpeg=encode_rgb(_thumbnail(self._dataset, row), "jpeg", THUMBNAIL_QUALITY),
                )
            )
        return found

    def cam_sheets(self, layers: Sequence[Layer]) -> dict[str, bytes]:
        """Return sheets of Grad-CAM overlays by caption: the fakes scored highest and lowest, by each layer."""
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
        images = normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).to(self._settings.scoring.device))
        probabilities = self.scores.class_probabilities
        # What is explained is the likeliest forgery, of several.
        forgeries = np.ones(len(rows)) if probabilities is None else 1 + probabilities[rows, 1:].argmax(axis=1)
        cams = grad_cam(self._model, layer, images, torch.from_numpy(forgeries).long().to(images.device))
        items = [
            SheetItem(crop=crop, cam=cam, caption=f"{self.scores.p_fake[row]:.2f} {self._kind(row)}")
            for crop, cam, row in zip(crops, cams, rows.tolist(), strict=True)
        ]
        return encode_rgb(sheet(items), "jpeg", THUMBNAIL_QUALITY)

    def _kind(self, row: int) -> str:
        """Return the manipulation of an item's video, or `fake` where its dataset names none, or `real`."""
        return str(self.scores.manipulation[row] or ("fake" if self.scores.label[row] else REAL))

    def _threshold(self) -> float | None:
        """Return the video-level threshold that the validation split of the stores gives; None without one."""
        if self._about.threshold is not None:
            return self._about.threshold
        try:
            dataset = dataset_for(self._about, self._stores, "val")
        except ConfigError:  # nothing in it
            return None
        self._say(f"choosing the threshold on {len(dataset):,} crops of val")
        videos = to_videos(score(self._model, dataset, self._settings.scoring))
        return choose_threshold(videos.label, videos.p_fake)

    def _facts(self) -> dict[str, str]:
        facts = {
            "model": self.title,
            "checkpoint": self._checkpoint.name,
            "stores": ", ".join(store.name for store in self._stores),
            "split": self._settings.split,
            "crops": f"{self._about.img_size} px",
            "trained on": ", ".join(self._about.trained_on) or "unknown",
            "Grad-CAM": self._cam,
        }
        if self._about.clip_length is not None:
            facts["clips"] = f"{self._about.clip_length} frames, head {self._about.head}"
        return facts


def missing_videos(stores: Sequence[Path], split: str) -> tuple[int, int] | None:
    """Return how many real and fake videos of a split were rejected and have no crop; None if a store does not say."""
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
    """(S,S,3) uint8 RGB: an item's (first) frame, made small."""
    crop = _crop(dataset, item)
    side = min(THUMBNAIL_PX, len(crop))
    return cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)


def _crop(dataset: StoreDataset, item: int) -> Pixels:
    """(S,S,3) uint8 RGB: an item's (first) frame as the model gets it."""
    pixels = dataset[item].pixels
    frame = pixels[0] if pixels.ndim == 4 else pixels
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
