"""Stores → batches: every pixel where it belongs, the same under any number of workers, resumed in mid-epoch."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from manifests.errors import ConfigError, StoreCorrupt, StoreIncomplete
from storage.files.layout import RECORDS_NAME, SHARDS_DIR
from storage.format.encoding import encode_record
from storage.format.images import encode_gray, encode_rgb
from storage.format.record import Record
from storage.index import StoreIndex, write_index
from storage.records_table import write_records_table
from storage.shard import ShardWriter
from training.data import loader as loader_module
from training.data.augment import PaperAugmentation, Resize
from training.data.batch import IMAGENET_MEAN, IMAGENET_STD, Batch, collate, normalise
from training.data.dataset import StoreDataset
from training.data.loader import Loader, make_loader
from training.data.order import BlockShuffle, InOrder

SIZE_PX = 16
DIGEST = "d1" * 32
FRAMES = 4  # records of each video


def make_record(video_id: str, manipulation: str | None, number: int, **changes: Any) -> Record:
    """Crops of one colour: (number of the record, frame in the clip, 200 if fake); masks white on the left."""
    num_frames = changes.pop("num_frames", 1)
    size = changes.pop("size", SIZE_PX)
    mask = np.zeros((size, size), np.uint8)
    mask[:, : size // 2] = 255
    crops = [np.full((size, size, 3), (number, row, 200 * bool(manipulation)), np.uint8) for row in range(num_frames)]
    values: dict[str, Any] = {
        **{"key": f"{video_id}/00/{number:06d}", "video_id": video_id, "dataset": "ffpp", "compression": "c23"},
        **{"manipulation": manipulation, "label": int(manipulation is not None), "split": "train"},
        **{"target_id": "0", "source_id": None, "group_id": "0", "track_id": 0, "track_choice": "longest"},
        "crops_encoded": tuple(encode_rgb(crop, "png", 95) for crop in crops),
        "masks_encoded": (encode_gray(mask),) * num_frames if manipulation else None,
        "boxes_xyxy": np.zeros((num_frames, 4), np.float32),
        "landmarks": np.zeros((num_frames, 5, 2), np.float32),
        "matrices": np.zeros((num_frames, 2, 3), np.float64),
        "frame_indices": 10 * number + np.arange(num_frames),
        "pts_seconds": np.zeros(num_frames),
        "scores": np.ones(num_frames, np.float32),
        "interpolated": np.zeros(num_frames, np.bool_),
        **{"content_digest": "c0" * 32, "config_digest": DIGEST},
    }
    return Record(**values | changes)


def write_store(path: Path, records: list[Record], *, complete: bool = True, table: bool = True) -> Path:
    shards = []
    for split in ("train", "val"):
        with ShardWriter(path / SHARDS_DIR, split, 0, DIGEST) as writer:
            for record in sorted((one for one in records if one.split == split), key=lambda one: one.key):
                writer.put(record.key, encode_record(record))
            shards.append(writer.finish([], {}))
    values: dict[str, Any] = {"faceshards_version": "0", "config_digest": DIGEST, "config": {}}
    write_index(path, StoreIndex(complete=complete, shards=tuple(shards), **values))
    if table:
        write_records_table(path)
    return path


def ffpp_records(**changes: Any) -> list[Record]:
    """Three real videos and as many of each manipulation, four records each, numbered in the order of the store."""
    kinds: dict[str, str | None] = {"Deepfakes": "Deepfakes", "FaceSwap": "FaceSwap", "youtube": None}
    videos = [f"{folder}/{number}" for folder in kinds for number in range(3) for _ in range(FRAMES)]
    return [
        make_record(f"ffpp/{name}", kinds[name.partition("/")[0]], number, **changes)
        for number, name in enumerate(videos)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 records of single frames, numbers 0–11 Deepfakes, 12–23 FaceSwap, 24–35 real; one more in `val`."""
    other = make_record("ffpp/youtube/9", None, 99, split="val")
    return write_store(tmp_path_factory.mktemp("store"), [*ffpp_records(), other])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """36 records of three frames."""
    return write_store(tmp_path_factory.mktemp("clips"), ffpp_records(num_frames=3))


@pytest.fixture
def opened() -> Iterator[list[Loader]]:
    """Loaders whose workers end with the test."""
    loaders: list[Loader] = []
    yield loaders
    for loader in loaders:
        loader.close()


def numbers(batch: Batch) -> list[int]:
    """Of the records, as their pixels say."""
    return batch.pixels[..., 0, 0, 0].reshape(len(batch), -1)[:, 0].tolist()


def test_items_are_the_records_of_the_split(store: Path) -> None:
    dataset = StoreDataset(store, "train")
    assert len(dataset) == 36
    assert dataset.labels.tolist() == [1] * 24 + [0] * 12
    assert dataset.method_names == ("Real", "Deepfakes", "FaceSwap")
    assert dataset.methods.tolist() == [1] * 12 + [2] * 12 + [0] * 12
    assert dataset.counts() == {"Real": 12, "Deepfakes": 12, "FaceSwap": 12}
    assert dataset.class_names == ("Real", "Fake")
    assert len(StoreDataset(store, "val")) == 1


def test_a_sample_is_its_record(store: Path) -> None:
    sample = StoreDataset(store, "train")[13]
    assert sample.pixels.shape == (3, SIZE_PX, SIZE_PX)
    assert sample.pixels[:, 5, 7].tolist() == [13, 0, 200]
    assert sample.has_mask
    assert sample.masks[0, 3].tolist() == [1.0] * 8 + [0.0] * 8
    assert (sample.label, sample.origin.key) == (1, "ffpp/FaceSwap/0/00/000013")
    assert (sample.origin.manipulation, sample.origin.frame_index) == ("FaceSwap", 130)


def test_images_are_normalised(store: Path) -> None:
    batch = collate([StoreDataset(store, "train")[number] for number in (13, 30)])
    expected = (np.array([13, 0, 200]) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    assert batch.images.dtype == torch.float32
    assert batch.images.shape == (2, 3, SIZE_PX, SIZE_PX)
    assert batch.images[0, :, 4, 4].numpy() == pytest.approx(expected, abs=1e-5)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.masks.dtype == torch.float32
    assert batch.masks.shape == (2, 1, SIZE_PX, SIZE_PX)
    assert batch.labels.tolist() == [1, 0]
    assert batch.labels.dtype == torch.int64
    assert batch.datasets == ["ffpp", "ffpp"]
    given = Batch(**{item.name: getattr(batch, item.name) for item in fields(batch)} | {"pixels": batch.images})
    assert given.images is batch.images, "float32 pixels are images already"


def test_real_crops_have_an_empty_mask_and_fakes_without_one_have_none(tmp_path: Path) -> None:
    records = [
        make_record("a/fake", "X", 1, masks_encoded=None),
        make_record("a/masked", "X", 2),
        make_record("a/real", None, 3),
    ]
    path = write_store(tmp_path, records)
    batch = collate([*map(StoreDataset(path, "train").__getitem__, range(3))])
    assert batch.has_mask.tolist() == [False, True, True]
    assert batch.masks.mean(dim=(1, 2, 3)).tolist() == [0.0, 0.5, 0.0]
    without = collate([*map(StoreDataset(path, "train", with_masks=False).__getitem__, range(3))])
    assert without.has_mask.tolist() == [False, False, False]
    assert without.masks.shape == batch.masks.shape


def test_bystanders_stay_out_unless_they_are_wanted(tmp_path: Path) -> None:
    records = [make_record("a/b", None, 1), make_record("a/c", None, 2, track_choice="bystander")]
    path = write_store(tmp_path, records)
    assert len(StoreDataset(path, "train")) == 1
    assert len(StoreDataset(path, "train", keep_bystanders=True)) == 2


def test_classes_by_manipulation(store: Path) -> None:
    dataset = StoreDataset(store, "train", classes=("Real", "NeuralTextures", "FaceSwap", "Deepfakes"))
    assert dataset.labels.tolist() == [3] * 12 + [2] * 12 + [0] * 12
    assert dataset[0].label == 3
    with pytest.raises(ConfigError, match="add \\['FaceSwap'\\]"):
        StoreDataset(store, "train", classes=("Real", "Deepfakes"))
    chosen = StoreDataset(store, "train", classes=("Real", "Deepfakes"), manipulations=["Deepfakes"])
    assert chosen.labels.tolist() == [1] * 12 + [0] * 12
    with pytest.raises(ConfigError, match="classes: got"):
        StoreDataset(store, "train", classes=("Real",))


def test_a_fake_without_a_manipulation_is_called_after_its_dataset(tmp_path: Path) -> None:
    records = [make_record("a/b", None, 1, dataset="dfdc"), make_record("a/c", None, 2, dataset="dfdc", label=1)]
    assert StoreDataset(write_store(tmp_path, records), "train").method_names == ("Real", "dfdc")


def test_stores_are_mixed_and_their_crops_resized(store: Path, tmp_path: Path) -> None:
    celeb = [make_record("celeb/a", "Celeb-synthesis", 1, dataset="celeb", size=24), make_record("celeb/b", None, 2)]
    dataset = StoreDataset([store, write_store(tmp_path, celeb)], "train", transform=Resize(SIZE_PX))
    assert len(dataset) == 38
    assert dataset.method_names == ("Real", "Celeb-synthesis", "Deepfakes", "FaceSwap")
    assert dataset.methods[-2:].tolist() == [1, 0]
    batch = collate([dataset[0], dataset[36]])
    assert numbers(batch) == [0, 1]
    assert batch.datasets == ["ffpp", "celeb"]
    assert batch.masks.mean(dim=(1, 2, 3)).tolist() == [0.5, 0.5]
    with pytest.raises(ConfigError, match="each once"):
        StoreDataset([store, str(store)], "train")


def test_clips_and_their_frames(clips: Path) -> None:
    whole, single = StoreDataset(clips, "train", frames="clip"), StoreDataset(clips, "train")
    assert (len(whole), whole.clip_length) == (36, 3)
    assert (len(single), single.clip_length) == (108, None)
    batch = collate([whole[5], whole[30]])
    assert batch.images.shape == (2, 3, 3, SIZE_PX, SIZE_PX)
    assert batch.masks.shape == (2, 3, 1, SIZE_PX, SIZE_PX)
    assert batch.pixels[0, :, 1, 0, 0].tolist() == [0, 1, 2], "frames in order"
    assert single[5 * 3 + 2].pixels[:2, 0, 0].tolist() == [5, 2]
    assert single[5 * 3 + 2].origin.frame_index == 52


def test_clips_of_two_lengths_do_not_mix(store: Path, clips: Path) -> None:
    with pytest.raises(ConfigError, match=r"clips: got lengths of \[1, 3\]"):
        StoreDataset([store, clips], "train", frames="clip")
    assert len(StoreDataset([store, clips], "train", frames="single")) == 36 + 108


def test_headers_do_where_there_is_no_table(tmp_path: Path, store: Path) -> None:
    bare = write_store(tmp_path / "bare", ffpp_records(), table=False)
    from_table, from_headers = StoreDataset(store, "train"), StoreDataset(bare, "train")
    assert (from_table.labels == from_headers.labels).all()
    assert (from_table.methods == from_headers.methods).all()
    unfinished = write_store(tmp_path / "unfinished", ffpp_records(), complete=False, table=False)
    with pytest.raises(StoreIncomplete):
        StoreDataset(unfinished, "train")
    assert len(StoreDataset(unfinished, "train", allow_incomplete=True)) == 36


def test_a_table_of_another_store_is_noticed(tmp_path: Path, clips: Path) -> None:
    path = write_store(tmp_path, ffpp_records()[:7])
    (path / RECORDS_NAME).write_bytes((clips / RECORDS_NAME).read_bytes())
    with pytest.raises(StoreCorrupt, match="got 36 rows of split 'train', expected 7"):
        StoreDataset(path, "train")


def test_nothing_to_learn_from_is_an_error(store: Path) -> None:
    with pytest.raises(ConfigError, match="expected at least one"):
        StoreDataset(store, "test")
    with pytest.raises(ConfigError, match="c40"):
        StoreDataset(store, "train", compressions=["c40"])
    with pytest.raises(IndexError, match="got 36"):
        StoreDataset(store, "train")[36]


def run(loader: Loader) -> list[tuple[list[str], bytes, bytes]]:
    return [(batch.keys, batch.pixels.numpy().tobytes(), batch.masks.numpy().tobytes()) for batch in loader]


@pytest.mark.parametrize(("num_workers", "start_method"), [(1, "fork"), (2, "fork"), (1, "spawn")])
def test_batches_do_not_depend_on_workers(
    store: Path, opened: list[Loader], num_workers: int, start_method: Any
) -> None:
    def epochs(num_workers: int) -> list[Any]:
        dataset = StoreDataset(store, "train", transform=PaperAugmentation(SIZE_PX), seed=5)
        sampler = BlockShuffle(dataset.labels, dataset.methods, seed=5, num_draws=40)
        loader = make_loader(dataset, sampler, 8, num_workers, start_method=start_method)
        opened.append(loader)
        return [run(loader), run(loader)]

    here, there = epochs(0), epochs(num_workers)
    assert here == there
    assert [len(keys) for keys, _, _ in here[0]] == [8, 8, 8, 8, 8]
    assert here[0] != here[1], "each epoch is another"


def test_workers_open_what_the_parent_has_open_already(clips: Path, opened: list[Loader]) -> None:
    dataset = StoreDataset(clips, "train", frames="clip")
    before = dataset[7].pixels
    loader = make_loader(dataset, InOrder(len(dataset)), 5, 2, start_method="fork")
    opened.append(loader)
    batches = list(loader)
    assert [number for batch in batches for number in numbers(batch)] == list(range(36))
    assert len(loader) == len(batches) == 8
    assert (batches[1].pixels[2] == before).all(), "and what was handed out stays as it was"
    assert (dataset[7].pixels == before).all()
    assert [len(batch) for batch in batches][-1] == 1


def test_without_masks_workers_send_none(store: Path, opened: list[Loader]) -> None:
    dataset = StoreDataset(store, "train", with_masks=False)
    opened.append(make_loader(dataset, InOrder(len(dataset)), 8, 1))
    for batch in opened[0]:
        assert batch.masks.shape == (len(batch), 1, SIZE_PX, SIZE_PX)
        assert not batch.masks.any()
        assert not batch.has_mask.any()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_training_resumes_in_mid_epoch(store: Path, opened: list[Loader], num_workers: int) -> None:
    def make() -> Loader:
        dataset = StoreDataset(store, "train", transform=PaperAugmentation(SIZE_PX), seed=1)
        opened.append(make_loader(dataset, BlockShuffle(dataset.labels, dataset.methods, seed=1), 5, num_workers))
        return opened[-1]

    undisturbed = make()
    expected = [*run(undisturbed), *run(undisturbed)]
    killed = make()
    seen, state = [], {}
    for number, batch in enumerate(killed):
        seen.append((batch.keys, batch.pixels.numpy().tobytes(), batch.masks.numpy().tobytes()))
        state = killed.state_dict()
        if number == 2:
            break  # by now workers have more batches ready
    resumed = make()
    resumed.load_state_dict(state)
    seen += run(resumed)
    assert len(resumed) == 8
    assert seen == expected[:8]
    assert run(resumed) == expected[8:]


def test_a_broken_loop_begins_again_where_it_stood(store: Path, opened: list[Loader]) -> None:
    dataset = StoreDataset(store, "train")
    sampler = BlockShuffle(dataset.labels, balance="none")
    opened.append(make_loader(dataset, sampler, 4, 2))
    order = sampler.order(0).tolist()
    for batch in opened[0]:
        assert numbers(batch) == order[:4]
        break
    assert [number for batch in opened[0] for number in numbers(batch)] == order[4:]
    assert (sampler.epoch, sampler.position) == (1, 0)


def test_the_global_random_generator_is_left_alone(store: Path, opened: list[Loader]) -> None:
    dataset = StoreDataset(store, "train")
    opened.append(make_loader(dataset, InOrder(len(dataset)), 12, 1))
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    assert len(list(opened[0])) == 3
    assert (torch.rand(3) == expected).all()


def test_a_dataset_may_be_pickled(store: Path) -> None:
    dataset = StoreDataset(store, "train")
    assert (pickle.loads(pickle.dumps(dataset))[20].pixels == dataset[20].pixels).all()


def test_a_batch_goes_to_a_device(store: Path) -> None:
    dataset = StoreDataset(store, "train")
    batch = collate([dataset[0], dataset[30]]).to("meta")
    assert {getattr(batch, name).device.type for name in ("pixels", "labels", "has_mask", "images", "masks")} == {
        "meta"
    }
    assert batch.keys == [dataset[0].origin.key, dataset[30].origin.key]


def test_too_little_shared_memory_is_told_beforehand(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = StoreDataset(store, "train", transform=Resize(4096))
    full = os.statvfs_result((4096, 4096, 16, 16, 16, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    monkeypatch.setattr(loader_module, "SHARED_MEMORY_DIR", Path("/"))
    with pytest.raises(ConfigError, match="--shm-size"):
        make_loader(dataset, InOrder(len(dataset)), 1, 1)


def test_a_loader_is_closed_and_its_sizes_make_sense(store: Path) -> None:
    dataset = StoreDataset(store, "train")
    loader = make_loader(dataset, InOrder(36), 36)
    loader.close()
    with pytest.raises(ConfigError, match="closed"):
        next(iter(loader))
    with pytest.raises(ConfigError, match="got 0 and 0"):
        make_loader(dataset, InOrder(36), 0)


def test_normalising_keeps_the_layout() -> None:
    pixels = torch.randint(0, 256, (2, 4, 8, 8, 3), dtype=torch.uint8).movedim(-1, -3)
    assert normalise(pixels).stride() == pixels.stride()
