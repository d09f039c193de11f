"""Settings of training and evaluation; `flows` reads them from YAML files, presets and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from manifests.files import folder_to_be
from training.models import require_model
from training.models.deepfake_detector import BACKBONE


class Section(BaseModel):
    """A section of the configuration: unknown settings are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelSettings(Section):
    """Settings of the network."""

    name: str = "m2tr"
    """Network: m2tr, m2tr-swin-tiny, xception, efficientnet_b4, ff_attribution, or the name of an entry point or of a
    network of timm.
    """

    img_size: int = Field(320, ge=16)
    """Side of the crops that the network takes, pixels."""

    num_stages: int = Field(4, ge=1)
    """Number of stages of m2tr (each has a transformer, a frequency filter and their fusion)."""

    backbone: str = BACKBONE
    """Backbone of m2tr: timm's name of an EfficientNet; the default is that of the paper."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """Probability with which m2tr drops a feature before the classifier."""

    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """Names of the classes: Real first, then manipulations; default: the two classes real and fake."""

    pretrained: bool = False
    """Start from pretrained weights: those that the model's paper starts from (see `faceshards weights list`), or else
    those of timm's hub. A missing file is downloaded.
    """

    weights: Path | None = None
    """File with weights of the backbone, in place of these."""

    start_from: Path | None = None
    """Model file, or checkpoint of M2TR's authors, with whose weights training starts."""

    head: Literal["mean", "vtf"] = "vtf"
    """Head over time for clips: mean (of the frame features) or vtf (video temporal fusion)."""

    @field_validator("name")
    @classmethod
    def _require_known(cls, name: str) -> str:
        require_model(name)
        return name


class DataSettings(Section):
    """Settings of the data: items, batches, augmentation, balance."""

    frames: Literal["single", "clip"] = "single"
    """Kind of items: single frames, or clips of T frames."""

    batch_size: int = Field(32, ge=1)
    """Number of items in a batch, per device."""

    workers: int = Field(4, ge=0)
    """Number of processes that decode crops."""

    augment: Literal["paper", "flip", "none"] = "paper"
    """Augmentation: paper (pipeline of M2TR's authors), flip (flips only) or none."""

    balance: Literal["none", "class", "method"] = "method"
    """Balance of an epoch: none, class (as many real as fake items) or method (also equal numbers of each
    manipulation).
    """

    epoch_items: int | None = Field(None, ge=1)
    """Number of items per epoch; default: all items once."""

    manipulations: tuple[str, ...] | None = Field(None, min_length=1)
    """Use fakes of these manipulations only."""

    compressions: tuple[str, ...] | None = Field(None, min_length=1)
    """Use videos of these compressions only."""

    allow_upsampling: bool = False
    """Accept stored crops that are smaller than the input of the model, and enlarge them."""


class LossSettings(Section):
    """Settings of the loss."""

    classification: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Classification loss: cross_entropy, or focal as in the code of M2TR's authors."""

    weights: tuple[float, float, float] = (1.0, 1.0, 0.001)
    """Weights of classification, segmentation and contrast; the defaults are those of the paper."""


class OptimSettings(Section):
    """Settings of the optimiser and its learning rate."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser: adam, adamw or sgd."""

    lr: float = Field(1e-4, gt=0)
    """Learning rate at the start."""

    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimiser."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of sgd."""

    schedule: Literal["none", "cosine", "step"] = "step"
    """Schedule of the learning rate over epochs: none, cosine or step."""

    step_epochs: int = Field(40, ge=1)
    """Number of epochs between two drops of the rate in the schedule step."""

    step_factor: float = Field(0.1, gt=0, lt=1)
    """Factor on the rate at each drop in the schedule step."""


class RunSettings(Section):
    """Settings of the run: length, devices, checkpoints."""

    epochs: int = Field(90, ge=1)
    """Number of epochs."""

    max_minutes: float | None = Field(None, gt=0)
    """Time limit in minutes: the run stops at the end of a step, and the next start resumes it."""

    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """Precision; auto: bfloat16 if the GPU supports it, float16 on other GPUs, float32 on a CPU."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device: auto, cpu or gpu."""

    devices: int = Field(0, ge=0)
    """Number of GPUs, or of processes on a CPU; 0: all GPUs, or one process on a CPU."""

    accumulate: int = Field(1, ge=1)
    """Number of batches whose gradients are accumulated into one step."""

    patience: int = Field(0, ge=0)
    """Number of epochs without a better validation AUC after which training stops; 0: never."""

    save_every_steps: int = Field(200, ge=1)
    """Number of steps between two checkpoints."""

    seed: int = Field(0, ge=0)
    """Seed of all random decisions."""


class TrainConfig(Section):
    """Settings of a training run."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of the training stores; the items of several stores are mixed."""

    run: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder of the run, with checkpoints, curves and the trained model."""

    model: ModelSettings = ModelSettings()
    """Network."""

    data: DataSettings = DataSettings()
    """Items, batches, augmentation, balance."""

    loss: LossSettings = LossSettings()
    """Loss."""

    optim: OptimSettings = OptimSettings()
    """Optimiser and learning rate."""

    trainer: RunSettings = RunSettings()
    """Length, devices, checkpoints."""

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> TrainConfig:
        if self.model.classes is not None and self.loss.classification == "focal" and len(self.model.classes) > 2:
            raise ValueError("expected loss.classification cross_entropy with more than two classes")
        return self


class EvaluateConfig(Section):
    """Settings of an evaluation."""

    checkpoints: tuple[Path, ...] = Field(min_length=1)
    """Model files (`model.pt`): the first is the evaluated model, the others are compared with it."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of the stores to test on."""

    out: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder for the page, its tables and its figures."""

    split: str = Field("test", pattern="^(train|val|test)$")
    """Split of the stores that is scored: train, val or test."""

    allow_upsampling: bool = False
    """Accept stored crops that are smaller than the input of a model, and enlarge them."""

    perturbations: tuple[str, ...] = ()
    """Names of perturbations; all crops are scored again under each of them, at every level."""

    explain: bool = True
    """Whether sheets of Grad-CAM overlays are made."""

    explain_layers: tuple[str, ...] = ()
    """Layers for Grad-CAM: last, fine (the last stage of M2TR) or module names; default: last, if it is known."""

    batch_size: int = Field(32, ge=1)
    """Number of items in a batch."""

    workers: int = Field(2, ge=0)
    """Number of processes that decode crops."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Device of the network: auto, cpu, cuda or cuda:N."""

    seed: int = Field(0, ge=0)
    """Seed of bootstrap resampling and perturbations."""
