"""Configuration of the pipeline: a section for each stage; what follows from an earlier stage may be left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, model_validator

from flows.config.download import DownloadConfig
from flows.config.preprocess import PreprocessConfig, merged, put_together, validate
from flows.config.presets import PRESETS_DIR, TRAINING_PRESETS_DIR, load_preset
from manifests.files import folder_to_be
from storage.index import read_index
from tasks.implementation import Settings
from training.config import EvaluateConfig, TrainConfig

Model = TypeVar("Model", bound=BaseModel)
FolderToBe = Annotated[Path, AfterValidator(folder_to_be)]


class FromPreset(BaseModel):
    """A section whose settings may start from a preset."""

    PRESETS: ClassVar[Path]
    """Folder of the presets."""

    @model_validator(mode="before")
    @classmethod
    def _with_preset(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("preset"):
            return merged(load_preset(str(values["preset"]), cls.PRESETS).settings, values)
        return values


class DownloadStage(DownloadConfig):
    """Settings of the download of FaceForensics++."""

    out: FolderToBe = Path()
    """Folder for the dataset; default: preprocess.dataset.root."""


class PreprocessStage(FromPreset, PreprocessConfig):
    """Settings of the preprocessing."""

    PRESETS: ClassVar[Path] = PRESETS_DIR

    preset: str | None = None
    """Name of a preset of preprocessing, which the other settings override."""


class TrainStage(FromPreset, TrainConfig):
    """Settings of the training."""

    PRESETS: ClassVar[Path] = TRAINING_PRESETS_DIR

    preset: str | None = None
    """Name of a preset of training, which the other settings override."""

    stores: tuple[Path, ...] = ()
    """Folders of the training stores; default: the store of this pipeline."""

    run: FolderToBe
    """Folder for the runs: the contents of the stores decide which folder in it a run has."""


class EvaluateStage(EvaluateConfig):
    """Settings of the evaluation."""

    checkpoints: tuple[Path, ...] = ()
    """Model files: the first is the evaluated model; default: the model of this pipeline."""

    stores: tuple[Path, ...] = ()
    """Folders of the stores to test on; default: the store of this pipeline."""

    out: FolderToBe = Path()
    """Folder for the page, its tables and its figures; default: `evaluation` beside the model."""


class PipelineConfig(Settings):
    """Configuration of a run of the pipeline."""

    download: DownloadStage | None = None
    """Fetch FaceForensics++ first; default: the dataset is on disk."""

    preprocess: PreprocessStage
    """Turn the dataset into a store."""

    verify: bool = True
    """Read every byte of a store that has changed."""

    train: TrainStage | None = None
    """Train a model on the store; default: no training."""

    evaluate: EvaluateStage | None = EvaluateStage()
    """Evaluate the model on the store."""

    @property
    def for_download(self) -> DownloadConfig | None:
        """Settings of the download; None: there is none."""
        return self.download and _completed(DownloadConfig, self.download, out=self.preprocess.dataset.root)

    @property
    def for_preprocess(self) -> PreprocessConfig:
        """Settings of the preprocessing."""
        return _completed(PreprocessConfig, self.preprocess)

    def for_train(self) -> TrainConfig | None:
        """Return the settings of the training, once its stores exist; None: there is none.

        Raises:
            StoreError: the index of a store cannot be read.
        """
        if self.train is None:
            return None
        config = _completed(TrainConfig, self.train, stores=[self.preprocess.out])
        return config.model_copy(update={"run": config.run / f"store-{contents_of(config.stores)[:8]}"})

    def for_evaluate(self, model: Path | None) -> EvaluateConfig | None:
        """Return the settings of the evaluation; None: there is none, or no model."""
        models = self.evaluate and (self.evaluate.checkpoints or (model and (model,)))
        if not self.evaluate or not models:
            return None
        others = {"checkpoints": models, "stores": [self.preprocess.out], "out": models[0].parent / "evaluation"}
        return _completed(EvaluateConfig, self.evaluate, **others)


def contents_of(stores: Iterable[Path]) -> str:
    """Return the hex SHA-256 over the records of stores.

    Raises:
        StoreError: the index of a store cannot be read.
    """
    return hashlib.sha256(" ".join(read_index(store).store_sha256 for store in stores).encode("ascii")).hexdigest()


def _completed(model: type[Model], stage: BaseModel, **others: object) -> Model:
    """Return the settings of a stage, as its flow takes them; `others` are for settings that are not named."""
    return model.model_validate(others | stage.model_dump(exclude_unset=True, exclude={"preset"}))


def load_pipeline_config(path: Path | None, assignments: Sequence[str], base: Mapping[str, object]) -> PipelineConfig:
    """Combine YAML, options and dotted settings into a configuration; later ones win.

    Raises:
        ConfigError: a preset, the file or a setting is wrong; one line for each fault, with the allowed values.
    """
    return validate(PipelineConfig, put_together(path, assignments, base))
