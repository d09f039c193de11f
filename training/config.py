"""What can be set about a training run. `flows` reads it from YAML, presets and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values do not change once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ModelSettings(Section):
    """Which network."""

    name: str = "m2tr"
    """M2tr, m2tr-swin-tiny, xception, efficientnet_b4, ff_attribution, or timm's."""

    img_size: int = Field(320, ge=16)
    """Side of the crops that the network takes, pixels."""

    num_stages: int = Field(4, ge=1)
    """Of m2tr: transformer, frequency filter and fusion, so many times."""

    backbone: str = "tf_efficientnet_b4"
    """Of m2tr: the paper's, or another EfficientNet of timm's."""

    dropout: float = Field(0.5, ge=0, lt=1)
    """Of m2tr, before its classifier."""

    classes: tuple[str, ...] | None = Field(None, min_length=2)
    """A class for Real and each manipulation, by name; none: real and fake."""

    pretrained: bool = False
    """Fetch the backbone's ImageNet weights from timm's hub."""

    weights: Path | None = None
    """A file with the backbone's weights instead."""

    start_from: Path | None = None
    """A checkpoint of ours or of M2TR's authors to go on from."""

    head: Literal["mean", "vtf"] = "vtf"
    """Of clips: mean of frames' features, or temporal fusion."""


class DataSettings(Section):
    """What it is trained on, and how that is drawn."""

    frames: Literal["single", "clip"] = "single"
    """An item is one frame, or one clip of T frames."""

    batch_size: int = Field(32, ge=1)
    """Items in a batch, on each device."""

    workers: int = Field(4, ge=0)
    """Processes that decode."""

    augment: Literal["paper", "flip", "none"] = "paper"
    """The authors' pipeline, flips only, or none."""

    balance: Literal["none", "class", "method"] = "method"
    """None; class: as many reals as fakes; method: also equal numbers of each manipulation."""

    epoch_items: int | None = Field(None, ge=1)
    """Items of an epoch; none: as many as there are."""

    manipulations: tuple[str, ...] | None = Field(None, min_length=1)
    """Only these forgeries."""

    compressions: tuple[str, ...] | None = Field(None, min_length=1)
    """Only these compressions."""


class LossSettings(Section):
    """What is made small."""

    classification: Literal["cross_entropy", "focal"] = "cross_entropy"
    """focal: as the authors' code."""

    weights: tuple[float, float, float] = (1.0, 1.0, 0.001)
    """Of classification, segmentation and contrast, as in the paper."""


class OptimSettings(Section):
    """How it is made small."""

    kind: Literal["adam", "adamw", "sgd"] = "adam"
    """Optimiser."""

    lr: float = Field(1e-4, gt=0)
    """Learning rate at the start."""

    weight_decay: float = Field(0.0, ge=0)
    """Of the optimiser."""

    momentum: float = Field(0.9, ge=0, lt=1)
    """Of sgd."""

    schedule: Literal["none", "cosine", "step"] = "step"
    """Of the learning rate, over epochs."""

    step_epochs: int = Field(40, ge=1)
    """Of schedule step: epochs between two drops."""

    step_factor: float = Field(0.1, gt=0, lt=1)
    """Of schedule step: what is left of the rate."""


class RunSettings(Section):
    """How long, and on what."""

    epochs: int = Field(90, ge=1)
    """How often the epoch's items are drawn."""

    max_minutes: float | None = Field(None, gt=0)
    """Stop at the end of a step after so long."""

    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = "auto"
    """auto: bfloat16 where the GPU has it, float32 on a CPU."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where it runs."""

    devices: int = Field(0, ge=0)
    """GPUs, or processes on a CPU; 0: all GPUs, one process on a CPU."""

    accumulate: int = Field(1, ge=1)
    """Batches whose gradients make one step."""

    patience: int = Field(0, ge=0)
    """Stop after so many epochs without a better AUC on val; 0: never."""

    save_every_steps: int = Field(200, ge=1)
    """Steps between two checkpoints to resume from."""

    seed: int = Field(0, ge=0)
    """Of every random decision."""


class TrainConfig(Section):
    """Everything that a training run can be told."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of stores; several are mixed."""

    run: Path
    """The run's folder: checkpoints, curves, the trained model."""

    model: ModelSettings = ModelSettings()
    data: DataSettings = DataSettings()
    loss: LossSettings = LossSettings()
    optim: OptimSettings = OptimSettings()
    trainer: RunSettings = RunSettings()

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

    out: Path
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
