"""Loaders: batches of a dataset, decoded by worker processes.

    sampler = BlockShuffle(dataset.labels, dataset.methods, seed=7)
    loader = make_loader(dataset, sampler, batch_size=32, num_workers=4)
    for batch in loader:
        batch = batch.to("cuda")
        batch.images, batch.labels, batch.masks

Workers write into shared memory that is allocated once: the page faults of a new block for each batch would take a
third as long as decoding.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, cast

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from manifests.errors import ConfigError
from training.data.batch import Batch, Fact, Facts, Sample, batch_of, collate, facts_of
from training.data.dataset import StoreDataset
from training.data.order import BlockShuffle, Draw, SamplerState

PREFETCH = 2  # batches that each worker prepares ahead
# Slots of each worker, one more than PREFETCH: while a worker fills a batch, the previous one may still be copied.
NUM_SLOTS = PREFETCH + 1
# Shared memory of Linux; 64 MB in Docker by default.
SHARED_MEMORY_DIR = Path("/dev/shm")  # noqa: S108 - only its free space is read
# Torch warns of more workers than cores at each loader and epoch; the number is the user's choice.
warnings.filterwarnings("ignore", message="This DataLoader will create")

StartMethod = Literal["fork", "spawn", "forkserver"]
T = TypeVar("T")


class Loader:
    """The batches of an epoch in the order of the sampler, for any number of workers; see `make_loader`.

    Batches count as consumed when the loop receives them, so `state_dict` in the middle of an epoch tells exactly which
    items are left. The iteration after `load_state_dict` yields these; `len` remains that of the whole epoch.
    """

    def __init__(self, dataset: StoreDataset, loader: DataLoader[Sample], slots: _Slots | None) -> None:
        self._loader: DataLoader[Sample] | None = loader
        self._slots = slots
        self._pin_memory = torch.cuda.is_available()  # page-locked memory is copied to the GPU faster
        self.dataset = dataset
        self.sampler = cast(Sampler[Draw], loader.sampler)
        self.batch_size = int(loader.batch_size or 1)
        self._num_batches = len(loader)

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""
        return self._num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches that are left of the epoch, then set the sampler to the next epoch.

        A loop that stops after the last batch, without asking for another one, has consumed the epoch as well.

        Raises:
            ConfigError: the loader is closed.
        """
        if self._loader is None:
            raise ConfigError("loader: got a closed one, expected an open one; create another")
        sampler = self.sampler if isinstance(self.sampler, BlockShuffle) else None
        if sampler and sampler.num_left < (self.batch_size if self._loader.drop_last else 1):
            sampler.set_epoch(sampler.epoch + 1)
        epoch = sampler.epoch if sampler else 0
        for made in self._loader:
            batch = self._received(made)
            if sampler:
                sampler.advance(len(batch))
            yield batch
        if sampler:
            sampler.set_epoch(epoch + 1)

    def state_dict(self) -> SamplerState:
        """Return the state of the sampler; empty for a sampler without state."""
        return self.sampler.state_dict() if isinstance(self.sampler, BlockShuffle) else {}

    def load_state_dict(self, state: SamplerState) -> None:
        """Continue from a state of the sampler.

        Raises:
            ConfigError: the state belongs to another order.
        """
        if isinstance(self.sampler, BlockShuffle):
            self.sampler.load_state_dict(state)

    def close(self) -> None:
        """End the worker processes."""
        self._loader = None

    def _received(self, made: Batch | _Filled) -> Batch:
        """Return the batch in memory of this process, since its slot is going to be filled again."""
        if isinstance(made, Batch):
            return replace(made, pixels=self._kept(made.pixels), mask_pixels=self._kept(made.mask_pixels))
        if self._slots is None:
            raise ConfigError("loader: got a batch in shared memory, expected none without workers")
        batch = self._slots.batch(made)
        # Without masks there is a single zero, which is never overwritten.
        masks = self._copy(batch.mask_pixels) if self.dataset.with_masks else batch.mask_pixels
        return replace(batch, pixels=self._copy(batch.pixels), mask_pixels=masks)

    def _kept(self, tensor: Tensor) -> Tensor:
        return self._copy(tensor) if self._pin_memory else tensor

    def _copy(self, tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, pin_memory=self._pin_memory).copy_(tensor)


def make_loader(
    dataset: StoreDataset,
    sampler: Sampler[Draw],
    batch_size: int,
    num_workers: int = 0,
    *,
    drop_last: bool = False,
    start_method: StartMethod | None = None,
) -> Loader:
    """Create a loader.

    Args:
        dataset: source of the items.
        sampler: `BlockShuffle` for training, `InOrder` for evaluation.
        batch_size: B, items.
        num_workers: processes that decode, kept between epochs; 0 to decode in this process.
        drop_last: drop the last batch of an epoch if it is not full.
        start_method: start method of workers; None: default of the platform.

    Raises:
        ConfigError: a size is out of range, or shared memory is too small.
    """
    if batch_size < 1 or num_workers < 0:
        raise ConfigError(
            f"batch_size and num_workers: got {batch_size} and {num_workers}, expected at least 1 and at least 0"
        )
    slots = _Slots(dataset, num_workers, batch_size) if num_workers else None
    loader: DataLoader[Sample] = DataLoader(
        _Batches(dataset, slots),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=_unchanged,
        drop_last=drop_last,
        worker_init_fn=_start_worker if num_workers else None,
        multiprocessing_context=start_method if num_workers else None,
        # The loader draws seeds of workers, which are unused, and must not advance the global generator of training.
        generator=torch.Generator(),
        prefetch_factor=PREFETCH if num_workers else None,
        persistent_workers=num_workers > 0,
    )
    return Loader(dataset, loader, slots)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    """The message of a worker for a batch: all data except the pixels, and the place of the pixels in shared memory."""

    worker: int
    """Number of the worker, 0-based."""

    slot: int
    """Slot of the worker, 0..NUM_SLOTS-1."""

    facts: Facts
    """Labels and origins of the items."""


class _Slots:
    """Shared memory for batches: a ring of slots per worker.

    Among the batches of one worker, it starts number n when the loop takes number n - `PREFETCH`, and fills the slot of
    number n - `NUM_SLOTS`, which the loop has copied by then.
    """

    def __init__(self, dataset: StoreDataset, num_workers: int, batch_size: int) -> None:
        size = dataset.transform.img_size
        frames = () if dataset.clip_length is None else (dataset.clip_length,)
        shape = (num_workers, NUM_SLOTS, batch_size, *frames)
        # Without masks, a single zero is expanded to all of them.
        masks_shape = (*shape, 1, size, size) if dataset.with_masks else (*shape, 1, 1, 1)
        _require_shared_memory(int(np.prod(shape)) * size * size * 3 + int(np.prod(masks_shape)))
        self._size = size
        self._pixels = torch.zeros((*shape, size, size, 3), dtype=torch.uint8)
        self._masks = torch.zeros(masks_shape, dtype=torch.uint8)
        for tensor in (self._pixels, self._masks):
            tensor.share_memory_()  # type: ignore[no-untyped-call]  # untyped in torch

    def rows(self, worker: int, slot: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return the memory of a slot: (B,[T,]S,S,3) uint8 pixels and (B,[T,]1,S,S) uint8 masks."""
        return self._pixels[worker, slot].numpy(), self._masks[worker, slot].numpy()

    def batch(self, filled: _Filled) -> Batch:
        """Return a batch whose pixels are in a slot."""
        num_items = len(filled.facts.labels)
        masks = self._masks[filled.worker, filled.slot, :num_items]
        masks = masks.expand(*masks.shape[:-2], self._size, self._size)
        pixels = self._pixels[filled.worker, filled.slot, :num_items].movedim(-1, -3)
        return batch_of(pixels, masks, filled.facts)


class _Batches(Dataset[Sample]):
    """The dataset that torch's data loader reads, a batch at a time.

    The pixels of an item are written to the batch before the next item is read, so that all items are decoded into the
    same block of memory, which stays in the processor's cache.
    """

    def __init__(self, dataset: StoreDataset, slots: _Slots | None) -> None:
        self._dataset = dataset
        self._slots = slots
        self._num_made = 0  # batches of this process

    def __getitems__(self, draws: Sequence[Draw]) -> Batch | _Filled:
        """Return the items as a batch: in a slot if this is a worker, otherwise in memory of its own."""
        if self._slots is None:
            return collate([self._dataset[draw] for draw in draws])
        info = get_worker_info()
        worker, slot = info.id if info else 0, self._num_made % NUM_SLOTS
        pixels, masks = self._slots.rows(worker, slot)
        facts = facts_of([self._into(pixels[row], masks[row], draw) for row, draw in enumerate(draws)])
        self._num_made += 1
        return _Filled(worker=worker, slot=slot, facts=facts)

    def _into(self, pixels: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8], draw: Draw) -> Fact:
        """Write the pixels of an item to their place in the batch; return label and origin."""
        item = self._dataset.read(draw)
        # A single frame has no T in the batch.
        np.copyto(pixels, item.crops.reshape(pixels.shape))
        if item.masks is not None:
            np.copyto(masks, item.masks.reshape(masks.shape))
        elif self._dataset.with_masks:
            masks.fill(0)
        return item.label, item.has_mask, item.origin


def _unchanged(batch: T) -> T:
    """Return the batch, which needs no collation."""
    return batch


def _start_worker(_number: int) -> None:
    """Limit a worker to one thread, since workers share the cores."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _require_shared_memory(num_bytes: int) -> None:
    """Require free shared memory, since writing beyond it kills a process.

    Raises:
        ConfigError: less is free than needed.
    """
    if not SHARED_MEMORY_DIR.is_dir():
        return
    status = os.statvfs(SHARED_MEMORY_DIR)
    free = status.f_bavail * status.f_frsize
    if free < num_bytes:
        raise ConfigError(
            f"shared memory: got {free >> 20} MiB free in {SHARED_MEMORY_DIR}, expected {num_bytes >> 20} MiB for the "
            "workers' batches; take fewer workers or smaller batches, or give the container more (--shm-size)"
        )
