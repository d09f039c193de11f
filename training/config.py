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
    """The settings of the network."""

    name: str = "m2tr"
    """m2tr, m2tr-swin-tiny, xception, efficientnet_b4, ff_attribution, an entry point, or timm's name of a network."""

    img_size: int = Field(320, ge=16)
    """Side of the crops that the network takes, pixels."""

    num_stages: int = Field(4, ge=1)
    """m2tr: number of stages (transformer, frequency filter and fusion)."""

    backbone: str = BACKBONE
    """m2tr: timm's name of an EfficientNet; the default is that of the paper."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """m2tr: probability of dropping a feature before the classifier."""

    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """Names of several classes, Real first, then manipulations; none: real and fake."""

    pretrained: bool = False
    """Download the ImageNet weights of the backbone from timm's hub."""

    weights: Path | None = None
    """File of the backbone's weights instead."""

    start_from: Path | None = None
    """Model file, or checkpoint of M2TR's authors, whose weights training starts from."""

    head: Literal["mean", "vtf"] = "vtf"
    """Clips: head over time, mean of the frame features or video temporal fusion."""

    @field_validator("name")
    @classmethod
    def _require_known(cls, name: str) -> str:
        require_model(name)
        return name


class DataSettings(Section):
    """The settings of the data: items, batches, augmentation, balance."""

    frames: Literal["single", "clip"] = "single"
    """Items are single frames, or clips of T frames."""

    batch_size: int = Field(32, ge=1)
    """Items in a batch, per device."""

    workers: int = Field(4, ge=0)
    """Processes that decode."""

    augment: Literal["paper", "flip", "none"] = "paper"
    """Augmentation: pipeline of M2TR's authors, flips only, or none."""

    balance: Literal["none", "class", "method"] = "method"
    """Balance of an epoch: none; class: as many reals as fakes; method: also equal numbers of each manipulation."""

    epoch_items: int | None = Field(None, ge=1)
    """Items per epoch; none: all items once."""

    manipulations: tuple[str, ...] | None = Field(None, min_length=1)
    """Use fakes of these manipulations only."""

    compressions: tuple[str, ...] | None = Field(None, min_length=1)
    """Use videos of these compressions only."""


class LossSettings(Section):
    """The settings of the loss."""

    classification: Literal["cross_entropy", "focal"] = "cross_entropy"
    """Classification loss; the code of M2TR's authors uses focal."""

    weights: tuple[float, float, float] = (1.0, 1.0, 0.001)
    """Weights of classification, segmentation and contrast; the defaults are those of the paper."""


class OptimSettings(Section):
    """The settings of the optimiser and its learning rate."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser."""

    lr: float = Field(1e-4, gt=0)
    """Learning rate at the start."""

    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of the optimiser."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """sgd: momentum."""

    schedule: Literal["none", "cosine", "step"] = "step"
    """Schedule of the learning rate over epochs."""

    step_epochs: int = Field(40, ge=1)
    """Schedule step: epochs between two drops of the rate."""

    step_factor: float = Field(0.1, gt=0, lt=1)
    """Schedule step: factor of the rate at each drop."""


class RunSettings(Section):
    """The settings of the run: length, devices, checkpoints."""

    epochs: int = Field(90, ge=1)
    """Number of epochs."""

    max_minutes: float | None = Field(None, gt=0)
    """Stop at the end of a step after so many minutes; the next start resumes."""

    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """Precision; auto: bfloat16 where the GPU supports it, float16 on other GPUs, float32 on a CPU."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Kind of device."""

    devices: int = Field(0, ge=0)
    """Number of GPUs, or of processes on a CPU; 0: all GPUs, or one process on a CPU."""

    accumulate: int = Field(1, ge=1)
    """Batches whose gradients are accumulated into one step."""

    patience: int = Field(0, ge=0)
    """Stop after so many epochs without a better validation AUC; 0: never."""

    save_every_steps: int = Field(200, ge=1)
    """Steps between two checkpoints."""

    seed: int = Field(0, ge=0)
    """Seed of all random decisions."""


class TrainConfig(Section):
    """The settings of a training run."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of the training stores; several are mixed."""

    run: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder of the run: checkpoints, curves, the trained model."""

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
    """The settings of an evaluation."""

    checkpoints: tuple[Path, ...] = Field(min_length=1)
    """Model files (`model.pt`): the first is the model of the page, the others are compared with it."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of the stores to test on."""

    out: Annotated[Path, AfterValidator(folder_to_be)]
    """Folder of the page, its tables and its figures."""

    split: str = Field("test", pattern="^(train|val|test)$")
    """Split of the stores: train, val or test."""

    perturbations: tuple[str, ...] = ()
    """Names of perturbations under which everything is scored again, at every level."""

    explain: bool = True
    """Whether sheets of Grad-CAM overlays are made."""

    explain_layers: tuple[str, ...] = ()
    """Layers for Grad-CAM: last, fine (the last stage of M2TR) or module names; none: last, where it is known."""

    batch_size: int = Field(32, ge=1)
    """Items in a batch."""

    workers: int = Field(2, ge=0)
    """Processes that decode."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """Device of the network: auto, cpu, cuda or cuda:N."""

    seed: int = Field(0, ge=0)
    """Seed of bootstrap resampling and perturbations."""
