"""What Lightning is told: the step, the optimiser, what is measured while training."""

from __future__ import annotations

import math
from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from manifests.entry import REAL_CLASS
from manifests.errors import ConfigError
from training.config import OptimSettings, TrainConfig
from training.data.batch import Batch
from training.fit.losses import ForgeryLoss
from training.models.clips import ClipDetector
from training.models.deepfake_detector import ModelOutput


class ForgeryModule(lightning.LightningModule):
    """A detector in training.

    Args:
        model: what is trained; a detector of frames or of clips.
        config: the run's.
    """

    def __init__(self, model: nn.Module, config: TrainConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config
        contrast = cast(int, model.num_features) if config.loss.weights[2] > 0 else None
        self.loss = ForgeryLoss(contrast, config.loss.classification, config.loss.weights)
        self.val_auc, self.val_accuracy = BinaryAUROC(), BinaryAccuracy()

    @property
    def has_unused_parameters(self) -> bool:
        """Whether a step may leave parameters without gradient, which several processes have to be told.

        A clip's head takes the frames' features, not their classifier or mask; no mask is learned without its loss.
        """
        has_decoder = getattr(self.model, "decoder", None) is not None
        return isinstance(self.model, ClipDetector) or (has_decoder and not self.config.loss.weights[1])

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """Return a batch's loss; its parts are logged."""
        output = cast(ModelOutput, self.model(batch.images))
        masks = batch.masks if output.mask is not None else None
        parts = self.loss(output, batch.labels, masks, batch.has_mask if masks is not None else None)
        options: dict[str, Any] = {"batch_size": len(batch), "sync_dist": True}  # the mean over all processes
        names = ("classification", "segmentation", "contrastive")
        self.log_dict({f"train_{name}": getattr(parts, name) for name in names}, **options)
        self.log("train_loss", parts.total.detach(), prog_bar=True, **options)
        return cast(Tensor, parts.total)

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        """Collect a batch's scores.

        Raises:
            ConfigError: a score is no number, of which an AUC could still be made.
        """
        p_fake = probability_of_fake(cast(ModelOutput, self.model(batch.images)).logits)
        if not p_fake.isfinite().all():
            raise ConfigError(
                f"scores on val: got {p_fake.tolist()[:4]}, expected numbers; train into another --run with a smaller "
                "optim.lr"
            )
        is_fake = (batch.labels != REAL_CLASS).long()
        self.val_auc.update(p_fake, is_fake)
        self.val_accuracy.update(p_fake, is_fake)

    def on_validation_epoch_end(self) -> None:
        """Log AUC and accuracy of frames (or clips)."""
        for name, metric in (("val_auc", self.val_auc), ("val_accuracy", self.val_accuracy)):
            self.log(name, metric.compute(), prog_bar=True)
            metric.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return the optimiser."""
        settings, parameters = self.config.optim, [p for p in self.model.parameters() if p.requires_grad]
        options: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
        if settings.kind == "sgd":
            return torch.optim.SGD(parameters, momentum=settings.momentum, **options)
        return (torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW)(parameters, **options)

    def on_train_batch_start(self, _batch: Batch, _batch_idx: int) -> None:
        """Set the epoch's learning rate.

        Not by a schedule of torch's, which Lightning moves on behind the last checkpoint of an epoch, nor at its start,
        which it leaves out for a run that goes on there.
        """
        optimizer = cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.config.optim, self.current_epoch, self.config.trainer.epochs)


def learning_rate(settings: OptimSettings, epoch: int, num_epochs: int) -> float:
    """Return the rate of an epoch, 0 first: that of torch's StepLR and CosineAnnealingLR."""
    if settings.schedule == "step":
        return settings.lr * settings.step_factor ** (epoch // settings.step_epochs)
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * epoch / num_epochs)) / 2
    return settings.lr


def probability_of_fake(logits: Tensor) -> Tensor:
    """Return (B,) float32 1 − the probability of the real class, of (B,C) raw logits."""
    return 1.0 - logits.float().softmax(dim=1)[:, REAL_CLASS]
