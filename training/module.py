"""What Lightning is told: the step, the optimiser, what is measured while training."""

from __future__ import annotations

from typing import Any, cast

import lightning
import torch
from torch import Tensor, nn
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from training.config import TrainConfig
from training.data import Batch
from training.losses import ForgeryLoss
from training.model import ModelOutput

REAL = 0  # class of the untouched


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

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """Return a batch's loss; its parts are logged."""
        output = cast(ModelOutput, self.model(batch.images))
        masks = batch.masks if output.mask is not None else None
        parts = self.loss(output, batch.labels, masks, batch.has_mask if masks is not None else None)
        names = ("classification", "segmentation", "contrastive")
        self.log_dict({f"train_{name}": getattr(parts, name) for name in names}, batch_size=len(batch))
        self.log("train_loss", parts.total.detach(), prog_bar=True, batch_size=len(batch))
        return cast(Tensor, parts.total)

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        """Collect a batch's scores."""
        p_fake = probability_of_fake(cast(ModelOutput, self.model(batch.images)).logits)
        is_fake = (batch.labels != REAL).long()
        self.val_auc.update(p_fake, is_fake)
        self.val_accuracy.update(p_fake, is_fake)

    def on_validation_epoch_end(self) -> None:
        """Log AUC and accuracy of frames (or clips)."""
        for name, metric in (("val_auc", self.val_auc), ("val_accuracy", self.val_accuracy)):
            self.log(name, metric.compute(), prog_bar=True)
            metric.reset()

    def configure_optimizers(self) -> Any:
        """Return optimiser and schedule, which counts epochs."""
        settings, parameters = self.config.optim, [p for p in self.model.parameters() if p.requires_grad]
        options: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay}
        if settings.kind == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, momentum=settings.momentum, **options)
        else:
            optimizer = (torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW)(parameters, **options)
        if settings.schedule == "none":
            return optimizer
        if settings.schedule == "cosine":
            epochs = self.config.trainer.epochs
            schedule: Any = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        else:
            schedule = torch.optim.lr_scheduler.StepLR(optimizer, settings.step_epochs, settings.step_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def probability_of_fake(logits: Tensor) -> Tensor:
    """Return (B,) float32 1 − the probability of the real class, of (B,C) raw logits."""
    return 1.0 - logits.float().softmax(dim=1)[:, REAL]
