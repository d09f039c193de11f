"""Scoring: a trained model on the items of stores, also under perturbations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from manifests.entry import REAL_CLASS
from training.data.augment import Resize, Transform
from training.data.batch import Batch
from training.data.dataset import BINARY_CLASSES, StoreDataset
from training.data.loader import make_loader
from training.data.order import InOrder
from training.evaluation.perturbations.perturbation import Perturbation
from training.evaluation.scores import Scores, join_scores, scores_from_columns
from training.models.checkpoint import AboutModel
from training.models.deepfake_detector import ModelOutput

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Perturbed:
    """A transform that perturbs crops and resizes them; random numbers differ between items."""

    perturbation: Perturbation
    """Kind of the perturbation."""

    level: int
    """Level of the perturbation, 1 the weakest."""

    img_size: int
    """Side S of the result, pixels."""

    def __call__(self, crops: Pixels, masks: Pixels | None, seed: Sequence[int]) -> tuple[Pixels, Pixels | None]:
        """Return (T,S,S,3) crops and (T,S,S) masks; the masks are only resized."""
        first, *place = seed
        perturbed = self.perturbation.apply(crops, self.level, first, key="/".join(map(str, place)))
        return Resize(self.img_size)(perturbed, masks, seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringSettings:
    """Settings of scoring that do not change scores."""

    batch_size: int = 32
    """Items in a batch."""

    workers: int = 0
    """Processes that decode."""

    device: str = "cpu"
    """torch device of the network."""


def dataset_for(
    about: AboutModel,
    stores: Sequence[Path],
    split: str,
    *,
    transform: Transform | None = None,
    seed: int = 0,
    manipulations: Iterable[str] | None = None,
    compressions: Iterable[str] | None = None,
) -> StoreDataset:
    """Return the dataset of a split for a model; manipulations that are not among its classes get the class −1.

    Args:
        about: description of the model.
        stores: folders of the stores.
        split: `train`, `val` or `test`.
        transform: transform of the crops; None: plain resizing.
        seed: seed of the transform.
        manipulations: use only fakes of these; None: all.
        compressions: use only videos of these; None: all.

    Raises:
        StoreError: a store cannot be read.
        ConfigError: the split is empty.
    """
    classes: Literal["binary"] | tuple[str, ...] = (
        "binary" if about.class_names == BINARY_CLASSES else about.class_names
    )
    return StoreDataset(
        stores,
        split,
        transform=transform or Resize(about.img_size),
        classes=classes,
        frames="single" if about.clip_length is None else "clip",
        manipulations=manipulations,
        compressions=compressions,
        with_masks=False,
        seed=seed,
        allow_unknown=True,
    )


def score(model: nn.Module, dataset: StoreDataset, settings: ScoringSettings) -> Scores:
    """Score every item of a dataset once, in order.

    Args:
        model: the network; it is moved to the device and set to evaluation mode.
        dataset: the items.
        settings: batch size, workers and device.
    """
    device = torch.device(settings.device)
    model.to(device).eval()
    loader = make_loader(dataset, InOrder(len(dataset)), settings.batch_size, settings.workers)
    try:
        return join_scores([_scored(model, batch.to(device), dataset) for batch in loader])
    finally:
        loader.close()


def probabilities(model: nn.Module, images: torch.Tensor) -> npt.NDArray[np.float64]:
    """Compute class probabilities: (B,3,S,S) or (B,T,3,S,S) normalised images → (B,C) float64 0..1."""
    with torch.inference_mode():
        found: npt.NDArray[np.float64] = softmax_of(model, images).cpu().numpy()
    return found


def softmax_of(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Compute class probabilities in float32 on any device, also within autocast: (B,3,S,S) → (B,C) float64 0..1.

    Logits of bfloat16 have three digits: scores would be tied, and would differ between a GPU and a CPU. TF32, which
    cuDNN uses for convolutions by default, has as few.
    """
    with torch.autocast(images.device.type, enabled=False), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        output = cast(ModelOutput, model(images))
    return output.logits.double().softmax(dim=1)


def _scored(model: nn.Module, batch: Batch, dataset: StoreDataset) -> Scores:
    found = probabilities(model, batch.images)
    # Labels follow the class, since some datasets do not name the manipulation of fakes.
    labels: npt.NDArray[np.int64] = batch.labels.cpu().numpy()
    columns: dict[str, object] = {
        "key": batch.keys,
        "dataset": batch.datasets,
        "video_id": batch.video_ids,
        "track_id": batch.track_ids,
        "frame_index": batch.frame_indices,
        "num_frames": [dataset.clip_length or 1] * len(batch),
        "manipulation": batch.manipulations,
        "compression": batch.compressions,
        "label": (labels != REAL_CLASS).astype(np.int64),
        "p_fake": (1.0 - found[:, REAL_CLASS]).clip(0.0, 1.0),
    }
    if found.shape[1] > 2:
        columns |= {
            "class_names": dataset.class_names,
            "class_label": labels,
            "class_probabilities": found,
        }
    return scores_from_columns(columns)
