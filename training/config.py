"""What can be set about a training run. `flows` reads it from YAML, presets and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values do not change once validated."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSettings(Section):
    """Which network."""

    name: str = Field("m2tr", description="m2tr, m2tr-swin-tiny, xception, efficientnet_b4, ff_attribution, or timm's")
    img_size: int = Field(320, ge=16, description="side of the crops that the network takes, pixels")
    num_stages: int = Field(4, ge=1, description="of m2tr: transformer, frequency filter and fusion, so many times")
    backbone: str = Field("tf_efficientnet_b4", description="of m2tr: the paper's, or another EfficientNet of timm's")
    dropout: float = Field(0.5, ge=0, lt=1, description="of m2tr, before its classifier")
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="a class for Real and each manipulation, by name; none: real and fake"
    )
    pretrained: bool = Field(False, description="fetch the backbone's ImageNet weights from timm's hub")
    weights: Path | None = Field(None, description="a file with the backbone's weights instead")
    start_from: Path | None = Field(None, description="a checkpoint of ours or of M2TR's authors to go on from")
    head: Literal["mean", "vtf"] = Field("vtf", description="of clips: mean of frames' features, or temporal fusion")


class DataSettings(Section):
    """What it is trained on, and how that is drawn."""

    frames: Literal["single", "clip"] = Field("single", description="an item is one frame, or one clip of T frames")
    batch_size: int = Field(32, ge=1, description="items in a batch, on each device")
    workers: int = Field(4, ge=0, description="processes that decode")
    augment: Literal["paper", "flip", "none"] = Field("paper", description="the authors' pipeline, flips only, or none")
    balance: Literal["none", "class", "method"] = Field(
        "method", description="none; class: as many reals as fakes; method: also equal numbers of each manipulation"
    )
    epoch_items: int | None = Field(None, ge=1, description="items of an epoch; none: as many as there are")
    manipulations: tuple[str, ...] | None = Field(None, min_length=1, description="only these forgeries")
    compressions: tuple[str, ...] | None = Field(None, min_length=1, description="only these compressions")


class LossSettings(Section):
    """What is made small."""

    classification: Literal["cross_entropy", "focal"] = Field(
        "cross_entropy", description="focal: as the authors' code"
    )
    weights: tuple[float, float, float] = Field(
        (1.0, 1.0, 0.001), description="of classification, segmentation and contrast, as in the paper"
    )


class OptimSettings(Section):
    """How it is made small."""

    kind: Literal["adam", "adamw", "sgd"] = Field("adam", description="optimiser")
    lr: float = Field(1e-4, gt=0, description="learning rate at the start")
    weight_decay: float = Field(0.0, ge=0, description="of the optimiser")
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd")
    schedule: Literal["none", "cosine", "step"] = Field("step", description="of the learning rate, over epochs")
    step_epochs: int = Field(40, ge=1, description="of schedule step: epochs between two drops")
    step_factor: float = Field(0.1, gt=0, lt=1, description="of schedule step: what is left of the rate")


class RunSettings(Section):
    """How long, and on what."""

    epochs: int = Field(90, ge=1, description="how often the epoch's items are drawn")
    max_minutes: float | None = Field(None, gt=0, description="stop at the end of a step after so long")
    precision: Literal["auto", "32-true", "16-mixed", "bf16-mixed"] = Field(
        "auto", description="auto: bfloat16 where the GPU has it, float32 on a CPU"
    )
    accelerator: Literal["auto", "cpu", "gpu"] = Field("auto", description="where it runs")
    devices: int = Field(0, ge=0, description="GPUs, or processes on a CPU; 0: all GPUs, one process on a CPU")
    accumulate: int = Field(1, ge=1, description="batches whose gradients make one step")
    patience: int = Field(0, ge=0, description="stop after so many epochs without a better AUC on val; 0: never")
    save_every_steps: int = Field(200, ge=1, description="steps between two checkpoints to resume from")
    seed: int = Field(0, ge=0, description="of every random decision")


class TrainConfig(Section):
    """Everything that a training run can be told."""

    stores: tuple[Path, ...] = Field(min_length=1, description="folders of stores; several are mixed")
    run: Path = Field(description="the run's folder: checkpoints, curves, the trained model")
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
