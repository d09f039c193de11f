"""Augmentation: each change against torchvision's or against what can be computed, geometry shared with the mask."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from skimage.data import astronaut
from torchvision import tv_tensors  # type: ignore[import-untyped]
from torchvision.transforms import v2  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional  # type: ignore[import-untyped]

from manifests.errors import ConfigError
from training.data import augment
from training.data.augment import PaperAugmentation, Resize

SIZE_PX = 96
Pixels = npt.NDArray[np.uint8]
PLAIN = PaperAugmentation(SIZE_PX, 0, 0, 0, 0, crop_scale=(1, 1), crop_ratio=(1, 1))  # changes nothing


@pytest.fixture(scope="module")
def face() -> Pixels:
    """(1,96,96,3): a portrait that is in the public domain."""
    portrait: Pixels = astronaut()  # type: ignore[no-untyped-call]
    return np.ascontiguousarray(portrait[None, 40:136, 180:276])


def tensor(crops: Pixels) -> torch.Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2)


def difference(ours: Pixels, theirs: torch.Tensor) -> float:
    """Mean absolute difference in grey levels."""
    return float((tensor(ours).float() - theirs.float()).abs().mean())


@pytest.mark.parametrize(
    ("ours", "theirs", "factor"),
    [
        (augment.change_brightness, functional.adjust_brightness, 1.2),
        (augment.change_brightness, functional.adjust_brightness, 0.8),
        (augment.change_contrast, functional.adjust_contrast, 1.2),
        (augment.change_contrast, functional.adjust_contrast, 0.8),
        (augment.change_saturation, functional.adjust_saturation, 1.2),
        (augment.change_saturation, functional.adjust_saturation, 0.8),
        (augment.change_gamma, functional.adjust_gamma, 0.8),
        (augment.change_gamma, functional.adjust_gamma, 1.2),
    ],
)
def test_changes_of_colour_are_torchvisions(
    face: Pixels,
    ours: Callable[[Pixels, float], Pixels],
    theirs: Callable[[torch.Tensor, float], torch.Tensor],
    factor: float,
) -> None:
    assert difference(face, theirs(tensor(face), factor)) > 2, "there is something to see"
    assert difference(ours(face, factor), theirs(tensor(face), factor)) < 1


@pytest.mark.parametrize("turn", [-0.2, 0.1])
def test_hue_is_torchvisions(face: Pixels, turn: float) -> None:
    theirs = functional.adjust_hue(tensor(face), turn)
    assert difference(augment.change_hsv(face, turn * 180, 0, 0), theirs) < 1.5  # ours has 180 hues


def test_saturation_and_value_shift() -> None:
    pixel = np.array([[[[100, 50, 50]]]], np.uint8)  # V 100, S 255/2
    assert augment.change_hsv(pixel, 0, 0, 20).tolist() == [[[[120, 60, 60]]]]
    assert augment.change_hsv(pixel, 0, -255, 0).tolist() == [[[[100, 100, 100]]]]
    assert augment.change_hsv(pixel, 180, 0, 0).tolist() == pixel.tolist()


def test_clahe_spreads_lightness_and_leaves_colour(face: Pixels) -> None:
    flat = (face // 4 + 96).astype(np.uint8)
    assert augment.equalise(flat, 4.0).std() > 1.3 * flat.std()


def test_sharpening_leaves_a_flat_image_and_steepens_an_edge() -> None:
    grey = np.full((1, 8, 8, 3), 100, np.uint8)
    assert (augment.sharpen(grey, 0.3, 1.0) == 100).all()
    grey[:, :, 4:] = 140
    assert augment.sharpen(grey, 0.3, 1.0)[0, 4, 3:5, 0].tolist() == [100 - 36, 140 + 36]  # α × 3 neighbours × 40


def test_noise_has_its_deviation_and_its_seed() -> None:
    grey = np.full((2, 128, 128, 3), 128, np.uint8)
    noisy = augment.add_noise(grey, 6.0, seed=1)
    change = noisy.astype(float) - 128
    assert change.std() == pytest.approx(6.0, rel=0.02)
    assert abs(change.mean()) < 0.1
    assert np.corrcoef(change[0].ravel(), change[1].ravel())[0, 1] == pytest.approx(0, abs=0.02), "new in each frame"
    assert (augment.add_noise(grey, 6.0, seed=1) == noisy).all()
    assert (augment.add_noise(grey, 6.0, seed=2) != noisy).any()


# Deprecated since torchvision 0.29, and still the same JPEG.
@pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision:DeprecationWarning")
def test_jpeg_is_torchvisions(face: Pixels) -> None:
    theirs = functional.jpeg(tensor(face)[0], 70)[None]
    assert difference(face, theirs) > 0.5
    assert difference(augment.compress(face, 70), theirs) < 0.5


def test_cutting_and_resizing_is_torchvisions(face: Pixels) -> None:
    mask = np.zeros((1, SIZE_PX, SIZE_PX), np.uint8)
    mask[:, 30:70, 20:60] = 255
    box = (5, 9, 80, 84)
    window = np.s_[:, 5:85, 9:93]
    image, seen = v2.Lambda(lambda x: functional.resized_crop(x, *box, [SIZE_PX, SIZE_PX]))(
        tv_tensors.Image(tensor(face)), tv_tensors.Mask(torch.from_numpy(mask))
    )
    assert difference(augment.resize_crops(face[window], SIZE_PX), image) < 0.5
    resized = torch.from_numpy(augment.resize_masks(mask[window], SIZE_PX))
    assert ((resized > 0) ^ (seen > 0)).float().mean() < 0.01, "at most the border moves by a pixel"
    assert set(resized.flatten().tolist()) == {0, 255}


def test_boxes_keep_their_promises() -> None:
    rng = np.random.default_rng(0)
    boxes = [augment.random_box((100, 100), (0.8, 1.0), (0.75, 1.33), rng) for _ in range(500)]
    for top, left, height, width in boxes:
        assert min(top, left) >= 0
        assert max(top + height, left + width) <= 100
        assert 0.78 <= height * width / 100**2 <= 1
        assert 0.74 <= width / height <= 1.35
    assert len(set(boxes)) > 100
    # An area that fits no allowed shape: the largest in the middle.
    assert augment.random_box((100, 400), (1, 1), (1, 2), rng) == (0, 100, 100, 200)


def test_a_plain_augmentation_changes_nothing(face: Pixels) -> None:
    crops, masks = PLAIN(face, face[..., 0], (1, 2, 3))
    assert (crops == face).all()
    assert masks is not None
    assert (masks == face[..., 0]).all()


def test_crop_and_mask_move_together() -> None:
    mask = np.zeros((2, SIZE_PX, SIZE_PX), np.uint8)
    mask[:, 20:50, 10:40] = 255
    crops = np.repeat(mask[..., None], 3, axis=3)
    moving = replace(PLAIN, flip_probability=0.5, crop_scale=(0.5, 0.7), crop_ratio=(0.75, 1.33))
    flips = 0
    for position in range(20):
        moved, masks = moving(crops, mask, (0, 0, position))
        assert masks is not None
        assert ((moved[..., 0] > 127) == (masks > 127)).mean() > 0.98
        assert (moved[0] == moved[1]).all(), "the same for all frames of a clip"
        flips += bool(masks[0, :, SIZE_PX // 2 :].sum() > masks[0, :, : SIZE_PX // 2].sum())
    assert 0 < flips < 20


def test_results_follow_from_the_seed_and_leave_the_input_alone(face: Pixels) -> None:
    transform = pickle.loads(pickle.dumps(PaperAugmentation(64)))
    before = face.copy()
    results = [transform(face, None, (7, 1, position))[0] for position in range(30)]
    again = [transform(face, None, (7, 1, position))[0] for position in reversed(range(30))]
    assert all((one == other).all() for one, other in zip(results, reversed(again), strict=True))
    assert len({result.tobytes() for result in results}) == 30
    assert {result.shape for result in results} == {(1, 64, 64, 3)}
    assert (face == before).all()


@pytest.mark.parametrize("number", range(len(augment.COLOUR_CHANGES)))
def test_every_change_of_colour_is_small_and_takes_clips(face: Pixels, number: int) -> None:
    clip = np.concatenate([face, face])
    changed = augment.COLOUR_CHANGES[number](clip, np.random.default_rng(5))
    assert changed.shape == clip.shape
    assert changed.dtype == np.uint8
    assert (changed[0] == changed[1]).all()
    assert 0.2 < np.abs(changed.astype(int) - clip).mean() < 50


def test_resize_passes_what_fits_and_shrinks_without_aliasing() -> None:
    stripes = np.zeros((1, 64, 64, 3), np.uint8)
    stripes[:, :, ::2] = 255
    assert Resize(64)(stripes, None, ())[0] is stripes
    small, masks = Resize(32)(stripes, stripes[..., 0], ())
    assert np.abs(small.astype(int) - 127).max() <= 1
    assert masks is not None
    assert masks.shape == (1, 32, 32)
    assert Resize(80)(stripes, None, ())[0].shape == (1, 80, 80, 3)


def test_a_probability_is_one() -> None:
    with pytest.raises(ConfigError, match="flip_probability: got 2"):
        PaperAugmentation(64, flip_probability=2)
