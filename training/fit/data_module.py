"""Lightning data module: the training and validation splits of the stores of a run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import lightning

from manifests.errors import ConfigError
from storage.files.layout import RECORDS_NAME, VIDEOS_NAME
from storage.index import read_index
from storage.records_table import read_rows
from training.config import DataSettings, TrainConfig
from training.data.augment import PaperAugmentation, Resize, Transform
from training.data.batch import Batch
from training.data.crops import disagreements, resized
from training.data.dataset import StoreDataset
from training.data.items import NoItems, present_names
from training.data.loader import Loader, make_loader
from training.data.order import BlockShuffle, InOrder, SamplerState
from training.models.checkpoint import AboutModel


class Feed:
    """A plain iterable that hides a loader from Lightning, which would replace the loader's sampler and state."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that are left of the epoch."""
        return iter(self._loader)


class StoreData(lightning.LightningDataModule):
    """The data module of a training run."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._config = config
        self.train_set = self._dataset("train", transform_for(config.data, config.model.img_size))
        self._val_set, self.no_auc = self._val_dataset()
        self._train_loader: Loader | None = None
        self._val_loader: Loader | None = None
        self._resume: SamplerState | None = None

    @property
    def has_val(self) -> bool:
        """Whether there is a validation split with real and fake items."""
        return self._val_set is not None

    def remarks(self, *, enlarges_crops: bool) -> Iterator[str]:
        """Yield lines about the stores: their items, how they differ, and crops that the model gets in another size.

        Args:
            enlarges_crops: whether the model's own recipe enlarges smaller crops.

        Raises:
            ConfigError: crops would be enlarged without `allow_upsampling`.
        """
        sides = {str(store): side for store, side in self.train_set.sides().items()}
        img_size = self._config.model.img_size
        may_enlarge = enlarges_crops or self._config.data.allow_upsampling
        yield from (f"crops are {line}" for line in resized(sides, img_size, may_enlarge=may_enlarge))
        configs = {str(store): read_index(store).config for store in self._config.stores}
        yield from (f"stores differ in {line}" for line in disagreements(configs))
        counts = ", ".join(f"{count:,} {name}" for name, count in self.train_set.counts().items())
        val = self.no_auc if self._val_set is None else f"{len(self._val_set):,} of val"
        yield f"{'clips' if self.train_set.clip_length else 'crops'} of train: {counts}; {val}"

    def about_model(self) -> AboutModel:
        """Return the description of the model that is trained on this data."""
        model = self._config.model
        is_clip = self._config.data.frames == "clip"
        return AboutModel(
            name=model.name,
            img_size=model.img_size,
            class_names=self.train_set.class_names,
            num_stages=model.num_stages,
            backbone=model.backbone,
            dropout=model.dropout,
            head=model.head if is_clip else None,
            clip_length=self.train_set.clip_length,
            crops=dict(read_index(self._config.stores[0]).config),
            trained_on=datasets_of(self._config.stores, "train"),
        )

    def train_dataloader(self) -> Feed:
        """Return the shuffled and balanced loader of this process."""
        trainer, data = self._trainer_of(), self._config.data
        sampler = BlockShuffle(
            self.train_set.labels,
            self.train_set.methods,
            seed=self._config.trainer.seed,
            balance=data.balance,
            num_draws=data.epoch_items,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
        )
        loader = make_loader(
            self.train_set, sampler, data.batch_size, data.workers, drop_last=len(sampler) >= data.batch_size
        )
        if self._resume is not None:
            loader.load_state_dict(self._resume)
        self._train_loader = loader
        return Feed(loader)

    def state_dict(self) -> SamplerState:
        """Return the state of the training order; Lightning itself saves a loader's state only within an epoch."""
        return {} if self._train_loader is None else self._train_loader.state_dict()

    def load_state_dict(self, state_dict: SamplerState) -> None:
        """Keep the state until the loader is created."""
        self._resume = state_dict

    def val_dataloader(self) -> Feed | list[Feed]:
        """Return the ordered loader of the validation split; an empty list without such a split."""
        if self._val_set is None:
            return []
        trainer = self._trainer_of()
        if len(self._val_set) < trainer.world_size:
            raise ConfigError(
                f"trainer.devices: got {trainer.world_size} processes, expected at most {len(self._val_set)}, the "
                "items of val; choose fewer"
            )
        sampler = InOrder(len(self._val_set), rank=trainer.global_rank, world_size=trainer.world_size)
        loader = make_loader(self._val_set, sampler, self._config.data.batch_size, self._config.data.workers)
        self._val_loader = loader
        return Feed(loader)

    def close(self) -> None:
        """Stop the worker processes."""
        for loader in (self._train_loader, self._val_loader):
            if loader is not None:
                loader.close()

    def _trainer_of(self) -> lightning.Trainer:
        return cast(lightning.Trainer, self.trainer)

    def _dataset(self, split: str, transform: Transform) -> StoreDataset:
        config = self._config
        return StoreDataset(
            config.stores,
            split,
            transform=transform,
            classes=config.model.classes or "binary",
            frames=config.data.frames,
            manipulations=config.data.manipulations,
            compressions=config.data.compressions,
            with_masks=config.loss.weights[1] > 0,
            seed=config.trainer.seed,
        )

    def _val_dataset(self) -> tuple[StoreDataset | None, str | None]:
        """Return the validation items; without reals and fakes among them None, and why there is no AUC."""
        if not any(read_index(store).num_records["val"] for store in self._config.stores):
            tables = (store / VIDEOS_NAME for store in self._config.stores)
            splits = {split for path in tables if path.exists() for (split,) in read_rows(path, ["split"])}
            return None, "no AUC, since no video of val has crops" if "val" in splits else "no validation split"
        try:
            found = self._dataset("val", Resize(self._config.model.img_size))
        except NoItems:
            return None, "no AUC, since data.manipulations and data.compressions select nothing of val"
        kinds = {bool(label) for label in found.labels.tolist()}
        if len(kinds) == 2:
            return found, None
        return None, f"no AUC, since all {len(found):,} items of val are {'fake' if kinds.pop() else 'real'}"


def datasets_of(stores: Sequence[Path], split: str) -> tuple[str, ...]:
    """Return the names of the datasets in a split of stores, sorted."""
    found = set()
    for store in stores:
        names = present_names(store)
        rows = read_rows(store / RECORDS_NAME, ["dataset", "split"])
        found |= {names.get(dataset, dataset) for dataset, where in rows if where == split}
    return tuple(sorted(found))


def transform_for(data: DataSettings, img_size: int) -> Transform:
    """Return the transform of training crops."""
    if data.augment == "paper":
        return PaperAugmentation(img_size)
    if data.augment == "flip":
        flips = replace(
            PaperAugmentation(img_size), colour_probability=0.0, noise_probability=0.0, jpeg_probability=0.0
        )
        return replace(flips, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0))
    return Resize(img_size)
