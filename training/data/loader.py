"""Batches of a dataset, decoded by worker processes, whoever they are.

    sampler = BlockShuffle(dataset.labels, dataset.methods, seed=7)
    loader = make_loader(dataset, sampler, batch_size=32, num_workers=4)
    for batch in loader:
        batch = batch.to("cuda")
        batch.images, batch.labels, batch.masks

Workers write into shared memory that is allocated once: a fresh block for each batch costs as much as a third of the
decoding, in page faults.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from manifests.errors import ConfigError
from training.data.batch import Batch, Fact, Sample, batch_of, collate, facts_of
from training.data.dataset import StoreDataset
from training.data.order import BlockShuffle, Draw

PREFETCH = 2  # batches that each worker holds ready
# One more than that: while a worker fills a batch, the one handed over last may still be copied.
NUM_SLOTS = PREFETCH + 1
SHARED_MEMORY_DIR = Path("/dev/shm")  # where Linux keeps shared memory; Docker gives it 64 MB unless told otherwise

StartMethod = Literal["fork", "spawn", "forkserver"]


class Loader:
    """The batches of an epoch, in the sampler's order, however many workers make them; see `make_loader`.

    What counts as consumed is what the loop over it was given, so `state_dict` in the middle of an epoch says exactly
    which items are left; the iteration that follows `load_state_dict` yields these, and `len` stays that of the epoch.
    """

    def __init__(self, dataset: StoreDataset, loader: DataLoader[Any], slots: _Slots | None, pin_memory: bool) -> None:
        self._loader: DataLoader[Any] | None = loader
        self._slots = slots
        self._pin_memory = pin_memory
        self.dataset = dataset
        self.sampler: Sampler[Draw] = loader.sampler  # type: ignore[assignment]  # as make_loader gave it
        self.batch_size = int(loader.batch_size or 1)
        self._num_batches = len(loader)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return self._num_batches

    def __iter__(self) -> Iterator[Batch]:
        """Yield what is left of the sampler's epoch; at its end the sampler goes on to the next one.

        Who stops at the last batch, as a loop that counts does, has consumed the epoch, too: nothing is left of it.

        Raises:
            ConfigError: the loader was closed.
        """
        if self._loader is None:
            raise ConfigError("loader: got a closed one, expected an open one; make another")
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

    def state_dict(self) -> dict[str, Any]:
        """Return where the sampler stands; empty for one without a state."""
        return self.sampler.state_dict() if isinstance(self.sampler, BlockShuffle) else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there.

        Raises:
            ConfigError: it is the state of another order.
        """
        if isinstance(self.sampler, BlockShuffle):
            self.sampler.load_state_dict(state)

    def close(self) -> None:
        """End the worker processes."""
        self._loader = None

    def _received(self, made: Batch | _Filled) -> Batch:
        """The batch in memory of this process: the slot that it came in will be filled again."""
        if isinstance(made, Batch):
            return replace(made, pixels=self._kept(made.pixels), mask_pixels=self._kept(made.mask_pixels))
        if self._slots is None:
            raise ConfigError("loader: got a batch in shared memory, expected none without workers")
        batch = self._slots.batch(made)
        # Without masks there is one zero, which nobody writes to.
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
    pin_memory: bool | None = None,
    start_method: StartMethod | None = None,
) -> Loader:
    """Return a loader of batches.

    Args:
        dataset: where the items come from.
        sampler: `BlockShuffle` for training, `InOrder` for evaluation.
        batch_size: B, items.
        num_workers: processes that decode, kept from epoch to epoch; 0 to decode in this one.
        drop_last: leave out an epoch's last batch if it is not full.
        pin_memory: hand out batches in page-locked memory; None where there is a CUDA device.
        start_method: how workers are started; None for the platform's way.

    Raises:
        ConfigError: a size that makes no sense, or too little shared memory.
    """
    if batch_size < 1 or num_workers < 0:
        raise ConfigError(
            f"batch_size and num_workers: got {batch_size} and {num_workers}, expected 1 and 0 or more each"
        )
    slots = _Slots(dataset, num_workers, batch_size) if num_workers else None
    loader: DataLoader[Any] = DataLoader(
        _Batches(dataset, slots),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=_as_it_is,
        drop_last=drop_last,
        worker_init_fn=_start_worker if num_workers else None,
        multiprocessing_context=start_method if num_workers else None,
        # Workers' seeds are not used; drawn from the global generator they would change what training draws from it.
        generator=torch.Generator(),
        prefetch_factor=PREFETCH if num_workers else None,
        persistent_workers=num_workers > 0,
    )
    return Loader(dataset, loader, slots, torch.cuda.is_available() if pin_memory is None else pin_memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    """What a worker sends of a batch: all but the pixels, and where in shared memory they are."""

    worker: int
    slot: int
    facts: dict[str, list[Any]]
    """`facts_of`."""


class _Slots:
    """Memory for batches: shared with workers, who use theirs in turn.

    A worker is told to make a batch when the loop takes the one `PREFETCH` before it, and fills the slot of the one
    before that, which the loop has copied by then.
    """

    def __init__(self, dataset: StoreDataset, num_workers: int, batch_size: int) -> None:
        size = dataset.transform.img_size
        frames = () if dataset.clip_length is None else (dataset.clip_length,)
        shape = (num_workers, NUM_SLOTS, batch_size, *frames)
        # Without masks one zero stands for all of them.
        masks_shape = (*shape, 1, size, size) if dataset.with_masks else (*shape, 1, 1, 1)
        _require_shared_memory(int(np.prod(shape)) * size * size * 3 + int(np.prod(masks_shape)))
        self._size = size
        self._pixels = torch.zeros((*shape, size, size, 3), dtype=torch.uint8)
        self._masks = torch.zeros(masks_shape, dtype=torch.uint8)
        for tensor in (self._pixels, self._masks):
            tensor.share_memory_()  # type: ignore[no-untyped-call]

    def rows(self, worker: int, slot: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return a slot's memory: (B,[T,]S,S,3) pixels and (B,[T,]1,S,S) masks."""
        return self._pixels[worker, slot].numpy(), self._masks[worker, slot].numpy()

    def batch(self, filled: _Filled) -> Batch:
        """Return a batch whose pixels lie in a slot."""
        num_items = len(filled.facts["keys"])
        masks = self._masks[filled.worker, filled.slot, :num_items]
        masks = masks.expand(*masks.shape[:-2], self._size, self._size)
        pixels = self._pixels[filled.worker, filled.slot, :num_items].movedim(-1, -3)
        return batch_of(pixels, masks, filled.facts)


class _Batches(Dataset[Any]):
    """What the data loader takes batches from, each at once.

    Each item's pixels go to their place in the batch before the next item is read, so that one block of memory, still
    in the processor's cache, serves to decode them all.
    """

    def __init__(self, dataset: StoreDataset, slots: _Slots | None) -> None:
        self._dataset = dataset
        self._slots = slots
        self._num_made = 0  # batches, by this process

    def __getitem__(self, draw: Draw) -> Sample:
        """Return one item; the loader asks for batches instead."""
        return self._dataset[draw]

    def __getitems__(self, draws: Sequence[Draw]) -> Batch | _Filled:
        """Return the items as a batch: in a slot for a worker, in memory of its own without workers."""
        if self._slots is None:
            return collate([self._dataset[draw] for draw in draws])
        info = get_worker_info()
        worker, slot = info.id if info else 0, self._num_made % NUM_SLOTS
        pixels, masks = self._slots.rows(worker, slot)
        facts = facts_of([self._into(pixels[row], masks[row], draw) for row, draw in enumerate(draws)])
        self._num_made += 1
        return _Filled(worker=worker, slot=slot, facts=facts)

    def _into(self, pixels: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8], draw: Draw) -> Fact:
        """Write an item's pixels to their place; return the rest of it."""
        item = self._dataset.read(draw)
        # The place of a single frame has no T.
        np.copyto(pixels, item.crops.reshape(pixels.shape))
        if item.masks is not None:
            np.copyto(masks, item.masks.reshape(masks.shape))
        elif self._dataset.with_masks:
            masks.fill(0)
        return item.label, item.has_mask, item.origin


def _as_it_is(batch: Any) -> Any:
    """What the data loader calls to make a batch of items: it is one."""
    return batch


def _start_worker(number: int) -> None:
    """One thread for each worker: more of them would only take turns on the same cores."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def _require_shared_memory(num_bytes: int) -> None:
    """Raise where it is known that the system has not enough of it: touching what is not there kills a process.

    Raises:
        ConfigError: there is less.
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
