"""Stores → batches: what a network is trained on, decoded by worker processes, whoever they are.

    dataset = StoreDataset(["OUT"], "train", transform=PaperAugmentation(320), seed=7)
    sampler = BlockShuffle(dataset.labels, dataset.methods, seed=7)
    loader = make_loader(dataset, sampler, batch_size=32, num_workers=4)
    for batch in loader:
        batch = batch.to("cuda")
        batch.images, batch.labels, batch.masks

Between decoding and the device pixels stay uint8: a quarter of the memory and of the transfer. `Batch.images` makes
them float32 and normalises them where the batch is by then. Workers write into shared memory that is allocated once: a
fresh block for each batch costs as much as a third of the decoding, in page faults.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from manifests.errors import ConfigError, StoreCorrupt
from storage.encoding import check_record, frame_indices_of, image_of, read_header
from storage.images import decode_gray, decode_rgb, size_of
from storage.layout import RECORDS_NAME
from storage.store import RecordStore
from storage.tables import read_rows
from training.augment import Resize, Transform
from training.sampling import BlockShuffle, Draw

IMAGENET_MEAN = (0.485, 0.456, 0.406)  # of RGB in 0..1; torchvision's and timm's
IMAGENET_STD = (0.229, 0.224, 0.225)
WHITE = 255.0

REAL = "Real"  # the name of class 0 and of method 0
BINARY_CLASSES = (REAL, "Fake")

PREFETCH = 2  # batches that each worker holds ready
# One more than that: while a worker fills a batch, the one handed over last may still be copied.
NUM_SLOTS = PREFETCH + 1
SHARED_MEMORY_DIR = Path("/dev/shm")  # where Linux keeps shared memory; Docker gives it 64 MB unless told otherwise

Frames = Literal["single", "clip"]
StartMethod = Literal["fork", "spawn", "forkserver"]


def normalise(pixels: Tensor) -> Tensor:
    """Return (…,3,S,S) float32 images with ImageNet's mean and deviation taken out, in the memory layout of the pixels.

    Args:
        pixels: (…,3,S,S) uint8 RGB, on any device.
    """
    scale = torch.tensor([1 / (WHITE * std) for std in IMAGENET_STD], device=pixels.device)
    offset = torch.tensor([-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True)])
    return torch.addcmul(offset.to(pixels.device)[:, None, None], pixels, scale[:, None, None])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Origin:
    """Whose face a sample shows."""

    key: str
    # of the record

    video_id: str

    track_id: int
    # which person of the video

    dataset: str

    manipulation: str | None
    # None for real

    compression: str | None
    # `raw`, `c23`, `c40` or None

    frame_index: int
    # position in the whole video; of a clip's first frame


_Fact = tuple[int, bool, Origin]  # label, has_mask, origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One item as arrays; T = 1 for a single frame."""

    crops: npt.NDArray[np.uint8]
    # (T,S,S,3) uint8 RGB

    masks: npt.NDArray[np.uint8] | None
    # (T,S,S) uint8, 255 where altered; None where that is nowhere, or not known

    has_mask: bool
    # whether it is known where the crop is altered: of a real one always (nowhere)

    label: int
    # class, 0 real

    origin: Origin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One item of a dataset."""

    pixels: Tensor
    # (3,S,S) uint8 RGB, or (T,3,S,S) for a clip; channels last in memory

    mask_pixels: Tensor | None
    # (1,S,S) or (T,1,S,S) uint8, 255 where altered; None where that is nowhere, or not known

    has_mask: bool
    # whether it is known where the crop is altered: of a real one always (nowhere)

    label: int
    # class, 0 real

    origin: Origin

    @property
    def images(self) -> Tensor:
        """(3,S,S) or (T,3,S,S) float32, normalised."""
        return normalise(self.pixels)

    @property
    def masks(self) -> Tensor:
        """(1,S,S) or (T,1,S,S) float32 0..1, zeros where no mask is known."""
        if self.mask_pixels is None:
            return torch.zeros_like(self.pixels[..., :1, :, :], dtype=torch.float32)
        return self.mask_pixels / WHITE


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Items that go through the network together."""

    pixels: Tensor
    # (B,3,S,S) uint8 RGB, or (B,T,3,S,S) for clips; channels last in memory. Or float32: normalised already

    labels: Tensor
    # (B,) int64, class, 0 real

    mask_pixels: Tensor
    # (B,1,S,S) or (B,T,1,S,S) uint8, 255 where altered; 0 where no mask is known

    has_mask: Tensor
    # (B,) bool, whether it is known where the crop is altered: of real ones always (nowhere)

    keys: list[str]
    # of the records

    video_ids: list[str]

    track_ids: list[int]
    # which person of the video

    datasets: list[str]

    manipulations: list[str | None]
    # None for real

    compressions: list[str | None]
    # `raw`, `c23`, `c40` or None

    frame_indices: list[int]
    # position in the whole video; of a clip's first frame

    def __len__(self) -> int:
        """B."""
        return len(self.keys)

    @cached_property
    def images(self) -> Tensor:
        """(B,3,S,S) or (B,T,3,S,S) float32, normalised; made where the batch is, at the first access."""
        return self.pixels if self.pixels.is_floating_point() else normalise(self.pixels)

    @cached_property
    def masks(self) -> Tensor:
        """(B,1,S,S) or (B,T,1,S,S) float32 0..1."""
        return self.mask_pixels / WHITE

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device; from page-locked memory to a GPU without waiting for it."""
        target = torch.device(device)
        is_asynchronous = target.type != "cpu"  # towards the CPU, the tensors would be read before they are there
        moved: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Tensor):
                moved[item.name] = value.to(target, non_blocking=is_asynchronous)
        return replace(self, **moved)


class StoreDataset(Dataset[Sample]):
    """The frames or clips of one or several stores.

    What is needed to plan an epoch (label, manipulation) is read once, from `records.parquet` or else from the records'
    headers, into arrays of some 20 bytes an item; images are decoded when an item is asked for. A dataset may be
    pickled, and used on both sides of a fork: each process opens the shards itself.

    Args:
        stores: the stores' folders; items are numbered through in this order.
        split: `train`, `val` or `test`.
        transform: what is done to crops and masks; `Resize` to the size that the first record has, if None.
        classes: `binary` (0 real, 1 fake), or a name for each class: that of the real ones first, then manipulations.
        frames: `single`, each frame of each record is an item; `clip`, each record is one item of T frames.
        manipulations: leave out the fakes of all others; None for all.
        compressions: leave out videos of all others; None for all.
        with_masks: decode masks; without, `has_mask` is False everywhere.
        keep_bystanders: also take people who are neither the manipulated nor the main person of their video.
        seed: of the transform's random decisions.
        allow_incomplete: also read a store whose last run was interrupted.

    Attributes:
        class_names: what the classes are called.
        labels: (N,) int64, class of each item.
        methods: (N,) int32, manipulation of each item: a number of `method_names`, 0 real.
        method_names: `Real`, then manipulations, sorted; a fake without one is called after its dataset.
        clip_length: T; None for single frames.

    Raises:
        StoreError: a store is missing, incomplete or broken.
        ConfigError: nothing is left, a manipulation without a class, or clips of different lengths.
    """

    def __init__(
        self,
        stores: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        split: str,
        *,
        transform: Transform | None = None,
        classes: Literal["binary"] | tuple[str, ...] = "binary",
        frames: Frames = "single",
        manipulations: Iterable[str] | None = None,
        compressions: Iterable[str] | None = None,
        with_masks: bool = True,
        keep_bystanders: bool = False,
        seed: int = 0,
        allow_incomplete: bool = False,
    ) -> None:
        paths = [stores] if isinstance(stores, str | os.PathLike) else list(stores)
        if len({Path(path).resolve() for path in paths}) != len(paths):
            raise ConfigError(f"stores: got {[str(path) for path in paths]}, expected each once")
        self._stores = [RecordStore(path, split, allow_incomplete) for path in paths]
        wanted = _Wanted(
            manipulations=None if manipulations is None else frozenset(manipulations),
            compressions=None if compressions is None else frozenset(compressions),
            keep_bystanders=keep_bystanders,
            frames=frames,
        )
        plan = _read_plan(self._stores, wanted)
        self._places = plan.places
        self.clip_length = plan.clip_length
        self.method_names, self.methods = plan.method_names, plan.methods
        self.class_names = BINARY_CLASSES if classes == "binary" else tuple(classes)
        self.labels = _labels(plan, self.class_names, is_binary=classes == "binary")
        self.with_masks = with_masks
        self._seed = seed
        first = self._stores[self._places[0, 0]][self._places[0, 1]]
        self.transform: Transform = transform or Resize(size_of(first.crops_encoded[0])[0])

    def __len__(self) -> int:
        """N, items."""
        return len(self.labels)

    def __getitem__(self, which: Draw | int) -> Sample:
        """Return an item; a number alone stands for its place in the first epoch.

        Raises:
            IndexError: the number is not below `len`.
            StoreCorrupt: the record's bytes are not what was written.
        """
        draw = Draw(which, 0, which) if isinstance(which, int) else which
        if not 0 <= draw.item < len(self):
            raise IndexError(f"item: got {draw.item}, expected 0..{len(self) - 1}")
        item = self.read(draw)
        is_frame = self.clip_length is None
        pixels = torch.from_numpy(np.ascontiguousarray(item.crops)).permute(0, 3, 1, 2)
        mask_pixels = None if item.masks is None else torch.from_numpy(np.ascontiguousarray(item.masks))[:, None]
        return Sample(
            pixels=pixels[0] if is_frame else pixels,
            mask_pixels=mask_pixels[0] if is_frame and mask_pixels is not None else mask_pixels,
            has_mask=item.has_mask,
            label=item.label,
            origin=item.origin,
        )

    def read(self, draw: Draw) -> Item:
        """Return an item as arrays: what batches are made of, without the cost of tensors for each.

        Raises:
            StoreCorrupt: the record's bytes are not what was written.
        """
        data, header, rows = self._record(draw.item)
        label = header["label"]
        crops = _stacked([decode_rgb(image_of(data, header["crops"][row])) for row in rows])
        masks = None
        if self.with_masks and label and header["masks"] is not None:
            masks = _stacked([decode_gray(image_of(data, header["masks"][row])) for row in rows])
        crops, masks = self.transform(crops, masks, (self._seed, draw.epoch, draw.position))
        return Item(
            crops=crops,
            masks=masks,
            has_mask=self.with_masks and (not label or masks is not None),
            label=int(self.labels[draw.item]),
            origin=_origin(header, int(frame_indices_of(data, header)[rows[0]])),
        )

    def counts(self) -> dict[str, int]:
        """Return the number of items of each method."""
        found = np.bincount(self.methods, minlength=len(self.method_names))
        return dict(zip(self.method_names, found.tolist(), strict=True))

    def _record(self, item: int) -> tuple[bytes, dict[str, Any], range]:
        """The record that an item is taken from, its header, and the numbers of the item's frames in it.

        Its arrays are not looked at: that takes as long again as all the rest but the decoding.
        """
        store, number, frame = self._places[item].tolist()
        key, data = self._stores[store].encoded(number)
        header = check_record(data, key)
        if self.clip_length is None:
            return data, header, range(frame, frame + 1)
        return data, header, range(len(header["crops"]))


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


def collate(samples: Sequence[Sample]) -> Batch:
    """Return samples of one shape as a batch."""
    pixels = torch.stack([sample.pixels.movedim(-3, -1) for sample in samples]).movedim(-1, -3)
    none = torch.zeros_like(samples[0].pixels[..., :1, :, :])
    masks = torch.stack([none if sample.mask_pixels is None else sample.mask_pixels for sample in samples])
    return _batch(pixels, masks, _facts([(sample.label, sample.has_mask, sample.origin) for sample in samples]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filled:
    """What a worker sends of a batch: all but the pixels, and where in shared memory they are."""

    worker: int
    slot: int
    facts: dict[str, list[Any]]
    # `_facts`


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
        return _batch(pixels, masks, filled.facts)


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
        facts = _facts([self._into(pixels[row], masks[row], draw) for row, draw in enumerate(draws)])
        self._num_made += 1
        return _Filled(worker=worker, slot=slot, facts=facts)

    def _into(self, pixels: npt.NDArray[np.uint8], masks: npt.NDArray[np.uint8], draw: Draw) -> _Fact:
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


def _batch(pixels: Tensor, mask_pixels: Tensor, facts: dict[str, list[Any]]) -> Batch:
    """A batch of pixels, masks and `_facts`."""
    values: dict[str, Any] = {"pixels": pixels, "mask_pixels": mask_pixels, **facts}
    for name in ("labels", "has_mask"):
        values[name] = torch.tensor(facts[name])
    return Batch(**values)


def _facts(items: Sequence[_Fact]) -> dict[str, list[Any]]:
    """Every field of a batch but the pixels."""
    labels, has_mask, origins = zip(*items, strict=True)
    return {
        "labels": list(labels),
        "has_mask": list(has_mask),
        "keys": [origin.key for origin in origins],
        "video_ids": [origin.video_id for origin in origins],
        "track_ids": [origin.track_id for origin in origins],
        "datasets": [origin.dataset for origin in origins],
        "manipulations": [origin.manipulation for origin in origins],
        "compressions": [origin.compression for origin in origins],
        "frame_indices": [origin.frame_index for origin in origins],
    }


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """Which records become items."""

    manipulations: frozenset[str] | None
    compressions: frozenset[str] | None
    keep_bystanders: bool
    frames: Frames

    def takes(self, label: int, manipulation: str | None, compression: str | None, track_choice: str | None) -> bool:
        """Whether a record is wanted."""
        return (
            (self.keep_bystanders or track_choice != "bystander")
            and (self.compressions is None or compression in self.compressions)
            and (self.manipulations is None or not label or manipulation in self.manipulations)
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Plan:
    """The items of a dataset."""

    places: npt.NDArray[np.int32]
    # (N,3) int32: number of the store, number of the record in it, number of the frame in that (0 for a clip)

    methods: npt.NDArray[np.int32]
    # (N,) int32, position in method_names

    method_names: tuple[str, ...]
    # the real ones first

    clip_length: int | None
    # T; None for single frames


_PLANNED = ("split", "label", "dataset", "manipulation", "compression", "track_choice", "num_frames")


def _read_plan(stores: Sequence[RecordStore], wanted: _Wanted) -> _Plan:
    """Choose the items from what the stores' tables or headers say.

    Raises:
        StoreCorrupt: a table that does not fit its store.
        ConfigError: no records are left, or clips of different lengths.
    """
    if wanted.frames not in ("single", "clip"):
        raise ConfigError(f"frames: got {wanted.frames!r}, expected 'single' or 'clip'")
    places, methods, lengths = array("i"), array("i"), set[int]()
    numbers: dict[str | None, int] = {None: 0}  # by name of the method; None is real
    for store_number, store in enumerate(stores):
        for record_number, row in enumerate(_rows(store)):
            label, dataset, manipulation, compression, track_choice, num_frames = row
            if not wanted.takes(label, manipulation, compression, track_choice):
                continue
            method = numbers.setdefault((manipulation or dataset) if label else None, len(numbers))
            lengths.add(num_frames)
            for frame in range(num_frames if wanted.frames == "single" else 1):
                places.extend((store_number, record_number, frame))
                methods.append(method)
    if not methods:
        shown = {"manipulations": wanted.manipulations, "compressions": wanted.compressions}
        raise ConfigError(
            f"records of {stores}: got none with {shown}, expected at least one; "
            "list what is there with `python -m storage.inspect OUT`"
        )
    if wanted.frames == "clip" and len(lengths) > 1:
        raise ConfigError(
            f"clips: got lengths of {sorted(lengths)} frames, expected one; process with clips of one length, "
            "or take frames='single'"
        )
    # Numbers by name, so that they do not depend on which manipulation comes first.
    names = [REAL, *sorted(name for name in numbers if name is not None)]
    renumbered = np.zeros(len(numbers), dtype=np.int32)
    for name, number in numbers.items():
        renumbered[number] = 0 if name is None else names.index(name, 1)
    return _Plan(
        places=np.frombuffer(places, dtype=np.int32).reshape(-1, 3),
        methods=renumbered[np.frombuffer(methods, dtype=np.int32)],
        method_names=tuple(names),
        clip_length=lengths.pop() if wanted.frames == "clip" else None,
    )


def _rows(store: RecordStore) -> Iterator[tuple[Any, ...]]:
    """`_PLANNED` but the split, of each record in the store's order.

    Raises:
        StoreCorrupt: the table has more or fewer rows than the store has records.
    """
    path = store.path / RECORDS_NAME
    # An interrupted run leaves the table of the run before.
    if not path.exists() or not store.index.complete:
        for _, key, view in store.views():
            header = read_header(view, key)
            yield *(header[name] for name in _PLANNED[1:-1]), len(header["crops"])
        return
    num_rows = 0
    for split, *others in read_rows(path, _PLANNED):
        if split == store.split:
            num_rows += 1
            yield tuple(others)
    if num_rows != len(store):
        raise StoreCorrupt(
            f"{path}: got {num_rows} rows of split {store.split!r}, expected {len(store)} as the index says; "
            "see `python -m storage.inspect OUT --verify`"
        )


def _labels(plan: _Plan, class_names: tuple[str, ...], *, is_binary: bool) -> npt.NDArray[np.int64]:
    """(N,) class of each item.

    Raises:
        ConfigError: a manipulation that is none of the classes.
    """
    if is_binary:
        return (plan.methods > 0).astype(np.int64)
    if len(class_names) < 2 or len(set(class_names)) != len(class_names):
        raise ConfigError(
            f"classes: got {class_names}, expected 'binary', or the real ones' name and then manipulations"
        )
    unknown = set(plan.method_names[1:]) - set(class_names[1:])
    if unknown:
        raise ConfigError(
            f"classes: got {class_names}, expected one for each manipulation of the stores, also {sorted(unknown)}; "
            "name them, or leave their videos out with manipulations="
        )
    table = [0, *(class_names.index(name, 1) for name in plan.method_names[1:])]
    return np.array(table, dtype=np.int64)[plan.methods]


def _origin(header: dict[str, Any], frame_index: int) -> Origin:
    return Origin(
        key=header["key"],
        video_id=header["video_id"],
        track_id=header["track_id"],
        dataset=header["dataset"],
        manipulation=header["manipulation"],
        compression=header["compression"],
        frame_index=frame_index,
    )


def _stacked(images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """One array of all; a single image is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)
