"""Lightning module: training step, optimiser, validation metrics."""

from __future__ import annotations

import math
from typing import cast

import lightning
import torch
from torch import Tensor, nn
from torchmetrics.classification import BinaryAccuracy, BinaryAUROC

from manifests.entry import REAL_CLASS
from manifests.errors import ConfigError
from training.config import OptimSettings, TrainConfig
from training.data.batch import Batch
from training.evaluation.scoring import softmax_of
from training.fit.losses import ForgeryLoss
from training.models.clips import ClipDetector
from training.models.deepfake_detector import ModelOutput


class ForgeryModule(lightning.LightningModule):
    """A detector in training, with its loss.

    Args:
        model: a detector of frames or of clips.
        config: settings of the run.
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
        """Whether some parameters may get no gradient, which DDP has to know.

        The head of a clip model uses neither the classifier nor the mask of the frame model. The mask decoder gets no
        gradient if the weight of the segmentation loss is 0.
        """
        has_decoder = getattr(self.model, "decoder", None) is not None
        return isinstance(self.model, ClipDetector) or (has_decoder and not self.config.loss.weights[1])

    def training_step(self, batch: Batch, _batch_idx: int) -> Tensor:
        """Return the loss of a batch; log its parts."""
        output = cast(ModelOutput, self.model(batch.images))
        masks = batch.masks if output.mask is not None else None
        parts = self.loss(output, batch.labels, masks, batch.has_mask if masks is not None else None)
        names = ("classification", "segmentation", "contrastive")
        # Logged values are means over all processes.
        logged = {f"train_{name}": getattr(parts, name) for name in names}
        self.log_dict(logged, batch_size=len(batch), sync_dist=True)
        self.log("train_loss", parts.total.detach(), prog_bar=True, batch_size=len(batch), sync_dist=True)
        return cast(Tensor, parts.total)

    def validation_step(self, batch: Batch, _batch_idx: int) -> None:
        """Collect the scores of a batch.

        Raises:
            ConfigError: a score is not finite, which torchmetrics would not notice.
        """
        p_fake = 1.0 - softmax_of(self.model, batch.images)[:, REAL_CLASS].float()
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
        lr, decay = settings.lr, settings.weight_decay
        if settings.kind == "sgd":
            return torch.optim.SGD(parameters, lr=lr, momentum=settings.momentum, weight_decay=decay)
        kind = torch.optim.Adam if settings.kind == "adam" else torch.optim.AdamW
        return kind(parameters, lr=lr, weight_decay=decay)

    def on_train_batch_start(self, _batch: Batch, _batch_idx: int) -> None:
        """Set the learning rate of the epoch.

        A scheduler of torch would be stepped after the last checkpoint of an epoch, and the hook at the start of an
        epoch is not called when a run resumes there.
        """
        optimizer = cast(torch.optim.Optimizer, self.optimizers(use_pl_optimizer=False))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(self.config.optim, self.current_epoch, self.config.trainer.epochs)


def learning_rate(settings: OptimSettings, epoch: int, num_epochs: int) -> float:
    """Return the learning rate of an epoch (0-based), as torch's StepLR and CosineAnnealingLR do."""
    if settings.schedule == "step":
        return settings.lr * settings.step_factor ** (epoch // settings.step_epochs)
    if settings.schedule == "cosine":
        return settings.lr * (1 + math.cos(math.pi * epoch / num_epochs)) / 2
    return settings.lr
