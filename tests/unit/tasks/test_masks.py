"""Masks from differences: of ellipses pasted into a synthetic picture, of noise, and of nothing."""

from __future__ import annotations

import io

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tasks.masks import difference_masks

Image = npt.NDArray[np.uint8]


def texture(side: int, seed: int) -> Image:
    """Clouds of several sizes, like skin and hair and background, (S,S,3)."""
    generator = np.random.default_rng(seed)
    picture = np.full((side, side, 3), 128.0)
    for cells, strength in ((4, 45), (12, 25), (40, 16)):
        coarse = generator.normal(0, strength, (cells, cells, 3))
        picture += cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    return picture.clip(0, 255).astype(np.uint8)


def ellipse(side: int, centre: tuple[float, float] = (0.5, 0.5), axes: tuple[float, float] = (0.22, 0.3)) -> Image:
    """A filled ellipse, shares of the side, (S,S) 0 or 255."""
    mask = np.zeros((side, side), dtype=np.uint8)
    place, radii = (tuple(round(side * share) for share in pair) for pair in (centre, axes))
    return np.asarray(cv2.ellipse(mask, place, radii, 0, 0, 360, 255, -1), dtype=np.uint8)


def paste(original: Image, mask: Image, seed: int = 1) -> Image:
    return np.where(mask[..., None] > 0, texture(len(original), seed), original)


def noisy(image: Image, deviation: float, seed: int) -> Image:
    noise = np.random.default_rng(seed).normal(0, deviation, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def encoded(image: Image, crf: int) -> Image:
    """A picture after H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = image.shape[1], image.shape[0], "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as shown:
        return np.asarray(next(shown.decode(video=0)).to_ndarray(format="rgb24"), dtype=np.uint8)


def iou(mask: Image, truth: Image) -> float:
    return float(((mask > 0) & (truth > 0)).sum() / ((mask > 0) | (truth > 0)).sum())


@pytest.mark.parametrize("side", [112, 224, 320])
def test_a_pasted_ellipse_is_found(side: int) -> None:
    original, truth = texture(side, 0), ellipse(side)
    (mask,) = difference_masks(paste(original, truth)[None], original[None])
    assert mask.shape == (side, side)
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) == {0, 255}
    assert iou(mask, truth) >= 0.8


@pytest.mark.parametrize(("crf", "least"), [(18, 0.75), (28, 0.7)])
def test_compression_of_both_hides_nothing(crf: int, least: float) -> None:
    original, truth = texture(224, 0), ellipse(224)
    (mask,) = difference_masks(encoded(paste(original, truth), crf)[None], encoded(original, crf)[None])
    assert iou(mask, truth) >= least


def test_an_ellipse_over_most_of_a_tight_crop_is_found() -> None:
    """More than half is altered, so that the median difference is not noise."""
    original, truth = texture(224, 0), ellipse(224, axes=(0.45, 0.48))
    (mask,) = difference_masks(paste(original, truth)[None], original[None])
    assert (truth > 0).mean() > 0.6
    assert iou(mask, truth) >= 0.8


def test_an_ellipse_at_the_border_is_found() -> None:
    original, truth = texture(224, 0), ellipse(224, centre=(0.0, 0.6))
    (mask,) = difference_masks(paste(original, truth)[None], original[None])
    assert iou(mask, truth) >= 0.8


def test_two_places_are_both_found() -> None:
    truth = ellipse(224, (0.25, 0.3), (0.13, 0.13)) | ellipse(224, (0.75, 0.7), (0.13, 0.13))
    original = texture(224, 0)
    (mask,) = difference_masks(paste(original, truth)[None], original[None])
    assert cv2.connectedComponents(mask)[0] == 3  # with the background
    assert iou(mask, truth) >= 0.7


def test_an_unaltered_middle_is_filled() -> None:
    """A mask is where a face was put in, not only where it happens to differ."""
    original, truth = texture(224, 0), ellipse(224)
    middle = ellipse(224, axes=(0.1, 0.1))
    (mask,) = difference_masks(paste(original, truth & ~middle)[None], original[None])
    assert mask[112, 112] == 255


def test_equal_pictures_have_no_mask() -> None:
    pictures = np.stack([texture(96, 0), texture(96, 1), np.zeros((96, 96, 3), dtype=np.uint8)])
    assert not difference_masks(pictures, pictures.copy()).any()


@pytest.mark.parametrize("deviation", [1.0, 3.0, 6.0])
def test_noise_alone_has_no_mask(deviation: float) -> None:
    picture = texture(224, 0)
    masks = difference_masks(noisy(picture, deviation, 1)[None], noisy(picture, deviation, 2)[None])
    assert not masks.any()


@pytest.mark.parametrize("crf", [18, 23, 28, 33])
@pytest.mark.parametrize("seed", [0, 3])
def test_another_encoding_has_no_mask(crf: int, seed: int) -> None:
    picture = texture(224, seed)
    assert not difference_masks(encoded(picture, crf)[None], picture[None]).any()


def test_black_outside_of_the_frame_does_not_count_as_free_of_noise() -> None:
    picture, again = texture(224, 0), encoded(texture(224, 0), 33)
    picture[:, :150] = again[:, :150] = 0
    assert not difference_masks(again[None], picture[None]).any()


def test_a_speck_has_no_mask() -> None:
    original = texture(224, 0)
    assert not difference_masks(paste(original, ellipse(224, axes=(0.01, 0.01)))[None], original[None]).any()


def test_frames_do_not_influence_each_other() -> None:
    originals = np.stack([texture(96, seed) for seed in range(3)])
    fakes = originals.copy()
    fakes[1] = paste(originals[1], ellipse(96), seed=7)
    masks = difference_masks(fakes, originals)
    assert [bool(mask.any()) for mask in masks] == [False, True, False]
    assert np.array_equal(masks[1], difference_masks(fakes[1:2], originals[1:2])[0])


def test_no_frames_no_masks() -> None:
    none = np.zeros((0, 96, 96, 3), dtype=np.uint8)
    assert difference_masks(none, none).shape == (0, 96, 96)


@pytest.mark.parametrize("shape", [(1, 96, 96, 3), (2, 96, 90, 3), (2, 96, 96)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    fake, original = np.zeros((2, 96, 96, 3), dtype=np.uint8), np.zeros(shape, dtype=np.uint8)
    with pytest.raises(ValueError, match=r"difference_masks.original: got shape .*, expected \(2, 96, 96, 3\)"):
        difference_masks(fake, original)


def test_crops_too_small_for_the_window_are_refused() -> None:
    tiny = np.zeros((1, 12, 12, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"got crops of \(12, 12\) pixels, expected 16 or more"):
        difference_masks(tiny, tiny)


def test_colours_as_shares_are_refused() -> None:
    with pytest.raises(TypeError, match="expected uint8"):
        difference_masks(np.zeros((1, 96, 96, 3)), np.zeros((1, 96, 96, 3), dtype=np.uint8))  # type: ignore[arg-type]
