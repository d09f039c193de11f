"""A PyTorch dataset of stores: selected frames or clips, decoded on access.

dataset = StoreDataset(["OUT"], "train", transform=PaperAugmentation(320), seed=7)
dataset[0].pixels, dataset.labels
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from manifests.errors import ConfigError
from storage.format.encoding import RecordHeader, check_record, frame_indices_of, image_of
from storage.format.images import decode_gray, decode_rgb, size_of
from storage.store import RecordStore
from training.data.augment import Resize, Transform
from training.data.batch import Item, Origin, Sample
from training.data.items import REAL_NAME, Frames, Wanted, labels_of, present_names, read_plan
from training.data.order import Draw

BINARY_CLASSES = (REAL_NAME, "Fake")


class StoreDataset(Dataset[Sample]):
    """The frames or clips of one or several stores.

    Labels and manipulations are read once, from `records.parquet` or otherwise from the headers of the records, into
    arrays of about 20 bytes per item; images are decoded on access. A dataset can be pickled and used on both sides of
    a fork: each process opens the shards itself.

    Args:
        stores: folders of the stores; items are numbered in this order.
        split: `train`, `val` or `test`.
        transform: transform of crops and masks; None: `Resize` to the size of the first record.
        classes: `binary` (0 real, 1 fake), or the names of several classes: reals first, then manipulations.
        frames: `single`: each frame of each record is an item; `clip`: each record is an item of T frames.
        manipulations: use only fakes of these; None: all.
        compressions: use only videos of these; None: all.
        with_masks: whether masks are decoded; otherwise `has_mask` is always False.
        keep_bystanders: whether people who are neither manipulated nor the main person are included.
        seed: seed of the transform.
        allow_incomplete: whether a store whose last run was interrupted may be read.
        allow_unknown: whether manipulations without a class get the class −1 instead of being refused.

    Attributes:
        class_names: names of the classes.
        labels: (N,) int64 class of each item.
        methods: (N,) int32 manipulation of each item: position in `method_names`, 0 real.
        method_names: `Real`, then manipulations, sorted; a fake without one has the name of its dataset.
        clip_length: T, frames of a clip; None for single frames.

    Raises:
        StoreError: a store is missing, incomplete or corrupt.
        ConfigError: no item is left, a manipulation has no class, or clips have different lengths.
    """

    def __init__(  # noqa: PLR0913 - a public constructor: every argument is an option with a default
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
        allow_unknown: bool = False,
    ) -> None:
        paths = [stores] if isinstance(stores, str | os.PathLike) else list(stores)
        if len({Path(path).resolve() for path in paths}) != len(paths):
            raise ConfigError(f"stores: got {[str(path) for path in paths]}, expected each once")
        self._stores = [RecordStore(path, split, allow_incomplete) for path in paths]
        self._names = [present_names(store.path) for store in self._stores]
        wanted = Wanted(
            manipulations=None if manipulations is None else frozenset(manipulations),
            compressions=None if compressions is None else frozenset(compressions),
            keep_bystanders=keep_bystanders,
            frames=frames,
        )
        plan = read_plan(self._stores, wanted)
        self._places = plan.places
        self.clip_length = plan.clip_length
        self.method_names, self.methods = plan.method_names, plan.methods
        self.class_names = BINARY_CLASSES if classes == "binary" else tuple(classes)
        self.labels = labels_of(plan, self.class_names, is_binary=classes == "binary", allow_unknown=allow_unknown)
        self.with_masks = with_masks
        self._seed = seed
        first = self._stores[self._places[0, 0]][self._places[0, 1]]
        self.transform: Transform = transform or Resize(size_of(first.crops_encoded[0])[0])

    def __len__(self) -> int:
        """Return N, the number of items."""
        return len(self.labels)

    def __getitem__(self, which: Draw | int) -> Sample:
        """Return an item; an integer stands for a draw in the first epoch.

        Raises:
            IndexError: the number is not below `len`.
            StoreCorrupt: the bytes of the record differ from what was written.
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
        """Return an item as arrays, which saves the cost of tensors per item.

        Raises:
            StoreCorrupt: the bytes of the record differ from what was written.
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
            origin=_origin(
                header, int(frame_indices_of(data, header)[rows[0]]), self._names[self._places[draw.item, 0]]
            ),
        )

    def counts(self) -> dict[str, int]:
        """Return the number of items of each method."""
        found = np.bincount(self.methods, minlength=len(self.method_names))
        return dict(zip(self.method_names, found.tolist(), strict=True))

    def sides(self) -> dict[Path, int]:
        """Return the side of the stored crops of each store that has items, pixels."""
        stores, firsts = np.unique(self._places[:, 0], return_index=True)
        return {
            self._stores[store].path: size_of(image_of(data, header["crops"][0]))[0]
            for store, item in zip(stores.tolist(), firsts.tolist(), strict=True)
            for data, header, _ in [self._record(item)]
        }

    def _record(self, item: int) -> tuple[bytes, RecordHeader, range]:
        """Return the record of an item, its header, and the positions of the item's frames in it.

        Arrays are not decoded: decoding them would double the time of all work besides decoding images.
        """
        store, number, frame = self._places[item].tolist()
        key, data = self._stores[store].encoded(number)
        header = check_record(data, key)
        if self.clip_length is None:
            return data, header, range(frame, frame + 1)
        return data, header, range(len(header["crops"]))


def _origin(header: RecordHeader, frame_index: int, names: Mapping[str, str]) -> Origin:
    return Origin(
        key=header["key"],
        video_id=header["video_id"],
        track_id=header["track_id"],
        dataset=names.get(header["dataset"], header["dataset"]),
        manipulation=header["manipulation"],
        compression=header["compression"],
        frame_index=frame_index,
    )


def _stacked(images: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Stack images; a single one is not copied."""
    return images[0][None] if len(images) == 1 else np.stack(images)
