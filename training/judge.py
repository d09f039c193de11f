"""`faceshards evaluate`: a trained model on stores, as figures for a paper, and as a page to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from manifests.errors import ConfigError
from manifests.table import read_table
from storage.images import encode_rgb
from storage.layout import VIDEOS_NAME
from training.checkpoint import load_model
from training.data import StoreDataset, normalise
from training.evaluation import (
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
from training.explain import SheetItem, default_layer, grad_cam, sheet
from training.metrics import choose_threshold
from training.perturb import PERTURBATIONS
from training.scores import to_videos
from training.scoring import Perturbed, ScoringSettings, dataset_for, score
from training.train import CURVE_NAME, read_curve

NUM_EXAMPLES = 8  # of reals, and of fakes, that are shown
THUMBNAIL_PX, THUMBNAIL_QUALITY = 128, 80
NO_PERTURBATION = "none"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSettings:
    """What is looked at."""

    split: str = "test"
    # which split of the stores

    scoring: ScoringSettings = field(default_factory=ScoringSettings)
    # how items are scored

    perturbations: tuple[str, ...] = ()
    # names in PERTURBATIONS under which everything is scored again; each at every level

    explain: bool = True
    # whether a sheet of Grad-CAM overlays is made

    seed: int = 0
    # of resampling and perturbations


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
        ConfigError: a checkpoint is none, a perturbation is unknown, or there is nothing to test on.
        StoreError: a store cannot be read.
    """
    unknown = [name for name in settings.perturbations if name not in PERTURBATIONS]
    if unknown:
        raise ConfigError(f"perturbations: got {', '.join(unknown)}, expected some of {', '.join(PERTURBATIONS)}")
    judged = [_Judged(path, stores, settings, say) for path in checkpoints]
    first = judged[0]
    rows = [row for one in judged for row in one.robustness()]
    evaluations = {one.title: one.evaluation for one in judged}
    say("writing the page")
    page = write_evaluation(
        out_dir,
        first.evaluation,
        first.scores,
        examples=first.examples(),
        curves=curve_points(checkpoints[0].parent),
        cam_sheets=first.cam_sheets() if settings.explain else {},
        robustness=rows,
        cross=cross_dataset(evaluations) if len(judged) > 1 or len(first.evaluation.datasets) > 1 else None,
    )
    return page, first.evaluation


def curve_points(run: Path) -> list[CurvePoint]:
    """Return the curves of the training run that a model lies in; none where it lies alone."""
    if not (run / CURVE_NAME).exists():
        return []
    points = read_curve(run)
    wanted = ("train_loss", "val_auc", "val_accuracy")
    names = {"train_loss": "train/loss", "val_auc": "val/score", "val_accuracy": "val/score (accuracy)"}
    return [
        CurvePoint(step=point["step"], name=names[point["name"]], value=point["value"])
        for point in points
        if point["name"] in wanted and np.isfinite(point["value"])
    ]


class _Judged:
    """One model's scores and what is made of them."""

    def __init__(self, checkpoint: Path, stores: Sequence[Path], settings: JudgeSettings, say: Say) -> None:
        self._settings, self._stores, self._say = settings, stores, say
        self._model, self._about = load_model(checkpoint)
        self.title = f"{self._about.name} ({checkpoint.parent.name or checkpoint.stem})"
        self.threshold = self._threshold()
        self._dataset = dataset_for(self._about, stores, settings.split)
        say(f"scoring {len(self._dataset):,} crops with {self.title}")
        self.scores = score(self._model, self._dataset, settings.scoring)
        self.evaluation = summarise(
            self.scores,
            threshold=self.threshold,
            seed=settings.seed,
            about=self._facts(checkpoint),
            missing_videos=missing_videos(stores, settings.split),
        )

    def robustness(self) -> list[RobustnessRow]:
        """Score everything again under each perturbation."""
        if not self._settings.perturbations:
            return []
        rows = [robustness_row(self.title, NO_PERTURBATION, 0, None, self.scores, threshold=self.threshold)]
        for name in self._settings.perturbations:
            perturbation = PERTURBATIONS[name]
            for level, parameter in enumerate(perturbation.levels, start=1):
                self._say(f"scoring with {self.title} under {name}, level {level}")
                transform = Perturbed(perturbation, level, self._about.img_size)
                seed, split = self._settings.seed, self._settings.split
                dataset = dataset_for(self._about, self._stores, split, transform=transform, seed=seed)
                found = score(self._model, dataset, self._settings.scoring)
                rows.append(robustness_row(self.title, name, level, parameter, found, threshold=self.threshold))
        return rows

    def examples(self) -> list[Example]:
        """Return the crops that the model is most wrong about."""
        reals, fakes = confusable(self.scores, NUM_EXAMPLES)
        found = []
        for row in (*reals.tolist(), *fakes.tolist()):
            crop = _crop(self._dataset, row)
            side = min(THUMBNAIL_PX, len(crop))
            small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8)
            found.append(
                Example(
                    key=str(self.scores.key[row]),
                    label=int(self.scores.label[row]),
                    p_fake=float(self.scores.p_fake[row]),
                    manipulation=self.scores.manipulation[row],
                    jpeg=encode_rgb(small, "jpeg", THUMBNAIL_QUALITY),
                )
            )
        return found

    def cam_sheets(self) -> dict[str, bytes]:
        """Return sheets of Grad-CAM overlays: the surest fakes, and the fakes that were missed."""
        if self._about.clip_length is not None:
            return {}
        try:
            layer, layout = default_layer(self._model, self._about.name)
        except ConfigError as error:
            self._say(str(error))
            return {}
        fakes = np.flatnonzero(self.scores.label == 1)
        by_score = fakes[np.argsort(-self.scores.p_fake[fakes], kind="stable")]
        groups = {"fakes scored highest": by_score[:NUM_EXAMPLES], "fakes scored lowest": by_score[::-1][:NUM_EXAMPLES]}
        return {caption: self._sheet(rows.tolist(), layer, layout) for caption, rows in groups.items() if len(rows)}

    def _sheet(self, rows: Sequence[int], layer: nn.Module, layout: str) -> bytes:
        crops = np.stack([_crop(self._dataset, row) for row in rows])
        device = next(self._model.parameters()).device
        images = normalise(torch.from_numpy(crops).permute(0, 3, 1, 2).to(device))
        cams = grad_cam(self._model, layer, images, 1, layout=layout)  # type: ignore[arg-type]  # one of its words
        items = [
            SheetItem(crop=crop, cam=cam, caption=f"{self.scores.p_fake[row]:.2f} {self.scores.manipulation[row]}")
            for crop, cam, row in zip(crops, cams, rows, strict=True)
        ]
        return encode_rgb(sheet(items), "jpeg", THUMBNAIL_QUALITY)

    def _threshold(self) -> float | None:
        """Return the video-level threshold that the validation split of the stores gives; None without one."""
        if self._about.threshold is not None:
            return self._about.threshold
        try:
            dataset = dataset_for(self._about, self._stores, "val")
        except ConfigError:
            return None
        self._say(f"choosing the threshold on {len(dataset):,} crops of val")
        videos = to_videos(score(self._model, dataset, self._settings.scoring))
        return choose_threshold(videos.label, videos.p_fake)

    def _facts(self, checkpoint: Path) -> dict[str, str]:
        facts = {
            "model": self.title,
            "checkpoint": checkpoint.name,
            "stores": ", ".join(store.name for store in self._stores),
            "split": self._settings.split,
            "crops": f"{self._about.img_size} px",
            "trained on": ", ".join(self._about.trained_on) or "unknown",
        }
        if self._about.clip_length is not None:
            facts["clips"] = f"{self._about.clip_length} frames, head {self._about.head}"
        return facts


def missing_videos(stores: Sequence[Path], split: str) -> tuple[int, int]:
    """Return how many real and fake videos of a split have no crop: they were rejected."""
    entries = [
        row.entry
        for store in stores
        for row in read_table(store / VIDEOS_NAME)
        if row.status == "rejected" and row.entry is not None and row.entry.split == split
    ]
    num_fakes = sum(entry.label == "fake" for entry in entries)
    return len(entries) - num_fakes, num_fakes


def _crop(dataset: StoreDataset, item: int) -> np.ndarray:
    """(S,S,3) uint8 RGB: an item's (first) frame as the model gets it."""
    pixels = dataset[item].pixels
    frame = pixels[0] if pixels.ndim == 4 else pixels
    return np.ascontiguousarray(frame.permute(1, 2, 0).numpy())
