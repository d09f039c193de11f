"""A dataset of stores: the frames or clips that a plan chose, decoded when they are asked for.

dataset = StoreDataset(["OUT"], "train", transform=PaperAugmentation(320), seed=7)
dataset[0].pixels, dataset.labels
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
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
from training.data.items import REAL_NAME, Frames, Wanted, labels_of, read_plan
from training.data.order import Draw

BINARY_CLASSES = (REAL_NAME, "Fake")


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
        allow_unknown: give manipulations that are none of the classes the class −1, instead of refusing them.

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
        allow_unknown: bool = False,
    ) -> None:
        paths = [stores] if isinstance(stores, str | os.PathLike) else list(stores)
        if len({Path(path).resolve() for path in paths}) != len(paths):
            raise ConfigError(f"stores: got {[str(path) for path in paths]}, expected each once")
        self._stores = [RecordStore(path, split, allow_incomplete) for path in paths]
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

    def _record(self, item: int) -> tuple[bytes, RecordHeader, range]:
        """The record that an item is taken from, its header, and the numbers of the item's frames in it.

        Its arrays are not looked at: that takes as long again as all the rest but the decoding.
        """
        store, number, frame = self._places[item].tolist()
        key, data = self._stores[store].encoded(number)
        header = check_record(data, key)
        if self.clip_length is None:
            return data, header, range(frame, frame + 1)
        return data, header, range(len(header["crops"]))


def _origin(header: RecordHeader, frame_index: int) -> Origin:
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
