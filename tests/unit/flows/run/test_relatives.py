"""Which footage a fake was made from, and which of its fakes' masks an original borrows."""

from __future__ import annotations

import random

import pytest

from flows.run.relatives import masked_fakes_of, originals_of
from manifests.entry import VideoEntry


def entry(name: str, kind: str = "Deepfakes", compression: str | None = "c23", dataset: str = "ffpp") -> VideoEntry:
    """`000` is real, `000_001` a fake of it, `+` behind a fake's name gives it a mask."""
    name, has_mask = name.removesuffix("+"), name.endswith("+")
    target, _, source = name.partition("_")
    collection = kind if source else "youtube"
    return VideoEntry(
        video_id="/".join(filter(None, (dataset, collection, compression, name))),
        path=f"{collection}/{compression}/{name}.mp4",
        mask_path=f"{collection}/masks/{name}.mp4" if has_mask else None,
        dataset=dataset,
        label="fake" if source else "real",
        manipulation=kind if source else None,
        compression=compression,
        target_id=target,
        source_id=source or None,
        group_id=target,
    )


def pairs(*entries: VideoEntry) -> dict[str, str]:
    return {video_id: original.video_id for video_id, original in originals_of(entries).items()}


def test_a_fake_has_its_target_not_its_donor() -> None:
    assert pairs(entry("000"), entry("001"), entry("000_001")) == {"ffpp/Deepfakes/c23/000_001": "ffpp/youtube/c23/000"}


def test_all_fakes_of_one_original() -> None:
    kinds = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
    found = pairs(entry("000"), *(entry("000_001", kind) for kind in kinds))
    assert found == {f"ffpp/{kind}/c23/000_001": "ffpp/youtube/c23/000" for kind in kinds}


@pytest.mark.parametrize(
    "other",
    [
        entry("001"),
        entry("000", compression="c40"),
        entry("000", compression=None),
        entry("000", dataset="celeb_df"),
        entry("000_002"),
    ],
)
def test_what_is_not_its_original(other: VideoEntry) -> None:
    """Other footage, another compression, another dataset, another fake of the same footage."""
    assert "ffpp/Deepfakes/c23/000_001" not in pairs(entry("000_001"), other)


def test_each_compression_has_its_own() -> None:
    found = pairs(*(entry(name, compression=kind) for name in ("000", "000_001") for kind in ("raw", "c23", "c40")))
    assert found == {f"ffpp/Deepfakes/{kind}/000_001": f"ffpp/youtube/{kind}/000" for kind in ("raw", "c23", "c40")}


def test_datasets_without_compressions() -> None:
    found = pairs(entry("id0", compression=None), entry("id0_id1", compression=None))
    assert found == {"ffpp/Deepfakes/id0_id1": "ffpp/youtube/id0"}


def test_a_fake_that_is_named_after_itself_has_unknown_footage() -> None:
    """DFDC's fakes without metadata: their target is their own name, and a real video of that name is a coincidence."""
    fake = VideoEntry(
        video_id="dfdc/fake/abc",
        path="abc.mp4",
        dataset="dfdc",
        label="fake",
        manipulation="DFDC",
        target_id="abc",
        group_id="abc",
        mask_path="abc-mask.mp4",
    )
    real = VideoEntry(
        video_id="dfdc/real/abc", path="real/abc.mp4", dataset="dfdc", label="real", target_id="abc", group_id="abc"
    )
    assert originals_of([fake, real]) == {}
    assert masks_of_originals([fake, real]) == {}


def masks_of_originals(listed: list[VideoEntry]) -> dict[str, str | None]:
    return {name: fakes[0].mask_path for name, fakes in masked_fakes_of(listed).items()}


def test_an_original_borrows_the_mask_of_a_fake() -> None:
    listed = [entry("000"), entry("001"), entry("000_001+"), entry("002_001+")]
    assert masks_of_originals(listed) == {"ffpp/youtube/c23/000": "Deepfakes/masks/000_001.mp4"}


def test_fakes_without_a_mask_lend_none() -> None:
    assert masks_of_originals([entry("000"), entry("000_001")]) == {}


def test_masks_serve_every_compression() -> None:
    """Masks are lossless whatever the fake's compression: one of c23 serves the original in c40."""
    listed = [entry("000", compression="c40"), entry("000", compression="raw"), entry("000_001+", compression="c23")]
    assert masks_of_originals(listed) == {
        "ffpp/youtube/c40/000": "Deepfakes/masks/000_001.mp4",
        "ffpp/youtube/raw/000": "Deepfakes/masks/000_001.mp4",
    }


def test_other_datasets_masks_lie_under_other_folders() -> None:
    assert masks_of_originals([entry("000"), entry("000_001+", dataset="other")]) == {}


def test_of_several_masks_always_the_same() -> None:
    """The order in which a disk lists its files must not decide a record's bytes."""
    listed = [entry("000"), *(entry("000_001+", kind) for kind in ("FaceSwap", "Deepfakes", "Face2Face"))]
    for seed in range(5):
        random.Random(seed).shuffle(listed)
        assert masks_of_originals(listed) == {"ffpp/youtube/c23/000": "Deepfakes/masks/000_001.mp4"}


def test_nothing_on_disk() -> None:
    assert (originals_of([]), masks_of_originals([])) == ({}, {})
