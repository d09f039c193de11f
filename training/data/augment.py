"""Transforms of crops and masks before the network: the augmentation of M2TR's authors, and plain resizing.

The augmentation follows the code of PyDeepFakeDet, with albumentations 1.3's defaults where that code gives no ranges:

    one of: colour jitter, brightness/contrast, hue/saturation/value, CLAHE, gamma, sharpen
    Gaussian noise           probability 0.5   variance 10..50 grey levels²
    horizontal flip          probability 0.5
    JPEG                     probability 0.5   quality 65..80, 4:2:0
    random resized crop                        0.8..1 of the area, aspect ratio 0.75..1.33
    (normalisation with ImageNet's mean and deviation: `training.data.batch.normalise`, on the device)

All frames of a clip get the same change, except for the noise, which differs between frames. All random decisions come
from the given seed, so the result does not depend on the process that computes it.

Everything works on uint8 pixels in OpenCV: on one core and a 320-pixel crop, torchvision's v2 takes 3.9 ms for colour
jitter, 1.7 ms for sharpening and 0.9 ms for noise; this module takes 0.6, 0.2 and 0.7 ms. torchvision also draws from
one global generator. benchmarks/loader.py measures the whole augmentation. Tests compare the results of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from manifests.errors import ConfigError
from storage.format.images import decode_rgb

Pixels = npt.NDArray[np.uint8]

# Defaults of albumentations 1.3.
JITTER = 0.2  # ColorJitter: brightness, contrast and saturation ×0.8..1.2, hue ±0.2 of a turn
BRIGHTNESS, CONTRAST = 0.2, 0.2  # RandomBrightnessContrast: ±0.2 of white; ×0.8..1.2
HUE_SHIFT, SATURATION_SHIFT, VALUE_SHIFT = 20, 30, 20  # HueSaturationValue: ± OpenCV's units (hue 0..179)
CLAHE_CLIP, CLAHE_TILES = (1.0, 4.0), (8, 8)  # CLAHE
GAMMA = (0.8, 1.2)  # RandomGamma
SHARPEN_ALPHA, SHARPEN_LIGHTNESS = (0.2, 0.5), (0.5, 1.0)  # Sharpen
NOISE_VARIANCE = (10.0, 50.0)  # GaussNoise, grey levels²
JPEG_QUALITY = (65, 80)  # setting of M2TR's authors, both ends included

WHITE = 255
HUE_TURN = 180  # hue range of OpenCV's uint8 images: half degrees
CROP_TRIES = 10  # as RandomResizedCrop of torchvision and albumentations

_LEVELS = np.arange(WHITE + 1, dtype=np.float32)  # (256,) all values of a pixel


class Transform(Protocol):
    """A function of the decoded crops and masks of an item, with random decisions from a seed."""

    @property
    def img_size(self) -> int:
        """Side S of the result, pixels."""
        ...

    def __call__(self, crops: Pixels, masks: Pixels | None, seed: Sequence[int]) -> tuple[Pixels, Pixels | None]:
        """Return crops and masks of S×S pixels.

        Args:
            crops: (T,H,W,3) uint8 RGB, the frames of one item; not changed.
            masks: (T,H,W) uint8, 255 where manipulated, or None.
            seed: numbers of 0 or more that seed all random decisions.

        Returns:
            (T,S,S,3) uint8 RGB, and (T,S,S) uint8 or None.
        """
        ...


@dataclass(frozen=True, slots=True)
class Resize:
    """Plain resizing, the transform of validation and test.

    Crops are resized by area averages when they shrink (no aliasing) and linearly when they grow; masks take the
    nearest pixel. Crops of the right size are unchanged.
    """

    img_size: int
    """Side S of the result, pixels."""

    def __call__(
        self,
        crops: Pixels,
        masks: Pixels | None,
        seed: Sequence[int],  # noqa: ARG002 - part of the contract
    ) -> tuple[Pixels, Pixels | None]:
        """Return (T,S,S,3) crops and (T,S,S) masks; see `Transform`."""
        return resize_crops(crops, self.img_size), None if masks is None else resize_masks(masks, self.img_size)


@dataclass(frozen=True, slots=True)
class PaperAugmentation:
    """The augmentation of M2TR's authors, as described in the module.

    Raises:
        ConfigError: a probability is outside 0..1.
    """

    img_size: int
    """Side S of the result, pixels."""

    colour_probability: float = 1.0
    """0..1, probability of one of the six changes of colour."""

    noise_probability: float = 0.5
    """0..1, probability of Gaussian noise."""

    flip_probability: float = 0.5
    """0..1, probability of a horizontal flip."""

    jpeg_probability: float = 0.5
    """0..1, probability of JPEG compression."""

    crop_scale: tuple[float, float] = (0.8, 1.0)
    """Least and greatest part of the area that is kept, 0..1."""

    crop_ratio: tuple[float, float] = (0.75, 1.33)
    """Least and greatest width / height of the kept part."""

    def __post_init__(self) -> None:
        """Refuse what the type checker cannot see."""
        for name in ("colour_probability", "noise_probability", "flip_probability", "jpeg_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected 0..1")

    def __call__(self, crops: Pixels, masks: Pixels | None, seed: Sequence[int]) -> tuple[Pixels, Pixels | None]:
        """Return (T,S,S,3) crops and (T,S,S) masks; see `Transform`."""
        rng = np.random.default_rng(seed)
        if rng.random() < self.colour_probability:
            crops = COLOUR_CHANGES[rng.integers(len(COLOUR_CHANGES))](crops, rng)
        if rng.random() < self.noise_probability:
            crops = add_noise(crops, math.sqrt(rng.uniform(*NOISE_VARIANCE)), int(rng.integers(2**31)))
        if rng.random() < self.flip_probability:
            crops, masks = flip(crops), None if masks is None else flip(masks)
        if rng.random() < self.jpeg_probability:
            crops = compress(crops, int(rng.integers(JPEG_QUALITY[0], JPEG_QUALITY[1] + 1)))
        top, left, height, width = random_box(crops.shape[1:3], self.crop_scale, self.crop_ratio, rng)
        window = np.s_[:, top : top + height, left : left + width]
        return (
            resize_crops(crops[window], self.img_size),
            None if masks is None else resize_masks(masks[window], self.img_size),
        )


def resize_crops(crops: Pixels, size: int) -> Pixels:
    """Resize (T,H,W,3) crops to (T,size,size,3): by area when they shrink, linearly when they grow."""
    height, width = crops.shape[1:3]
    if (height, width) == (size, size):
        return crops
    shrinks = height >= size and width >= size
    return _each_resized(crops, size, cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_masks(masks: Pixels, size: int) -> Pixels:
    """Resize (T,H,W) masks to (T,size,size) by the nearest pixel."""
    return masks if masks.shape[1:] == (size, size) else _each_resized(masks, size, cv2.INTER_NEAREST_EXACT)


def random_box(
    shape: tuple[int, ...], scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a part of an image, (top, left, height, width) in pixels, as torchvision's `RandomResizedCrop` does.

    Args:
        shape: (H, W) of the image, pixels.
        scale: least and greatest part of the area, 0..1.
        ratio: least and greatest width / height, whose logarithm is uniform.
        rng: random generator.
    """
    image_height, image_width = shape
    for _ in range(CROP_TRIES):
        area = image_height * image_width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= image_width and 0 < height <= image_height:
            top = int(rng.integers(image_height - height + 1))
            return top, int(rng.integers(image_width - width + 1)), height, width
    # No random part fits: take the largest centred part with an allowed aspect ratio.
    width = min(image_width, round(image_height * ratio[1]))
    height = min(image_height, round(image_width / ratio[0]))
    return (image_height - height) // 2, (image_width - width) // 2, height, width


def flip(images: Pixels) -> Pixels:
    """Flip (T,H,W[,3]) images horizontally."""
    return np.stack([_uint8(cv2.flip(image, 1)) for image in images])


def change_brightness(crops: Pixels, factor: float) -> Pixels:
    """Multiply all values of (T,H,W,3) crops by a factor."""
    return _by_table(crops, _LEVELS * factor)


def change_contrast(crops: Pixels, factor: float) -> Pixels:
    """Multiply the distance of (T,H,W,3) crops from their mean grey by a factor."""
    mean = float(cv2.mean(cv2.cvtColor(_as_one(crops), cv2.COLOR_RGB2GRAY))[0])
    return _by_table(crops, mean + (_LEVELS - mean) * factor)


def change_saturation(crops: Pixels, factor: float) -> Pixels:
    """Multiply the distance of each pixel of (T,H,W,3) crops from its grey by a factor."""
    image = _as_one(crops)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return _uint8(cv2.addWeighted(image, factor, grey, 1 - factor, 0)).reshape(crops.shape)


def change_hsv(crops: Pixels, hue: float, saturation: float, value: float) -> Pixels:
    """Shift hue, saturation and value of (T,H,W,3) crops, in OpenCV's units (hue: half degrees)."""
    image = cv2.cvtColor(_as_one(crops), cv2.COLOR_RGB2HSV)
    table = np.stack(((_LEVELS + hue) % HUE_TURN, _LEVELS + saturation, _LEVELS + value), axis=1)
    # A hue that rounds up to the full turn is 0.
    table[:, 0] = np.rint(table[:, 0]) % HUE_TURN
    shifted = cv2.LUT(image, _rounded(table)[None])
    return _uint8(cv2.cvtColor(shifted, cv2.COLOR_HSV2RGB)).reshape(crops.shape)


def change_gamma(crops: Pixels, gamma: float) -> Pixels:
    """Raise the values (0..1) of (T,H,W,3) crops to the power gamma."""
    return _by_table(crops, np.power(_LEVELS / WHITE, gamma) * WHITE)


def equalise(crops: Pixels, clip: float) -> Pixels:
    """Equalise the lightness of (T,H,W,3) crops by CLAHE in 8×8 tiles with a clip limit."""
    clahe = cv2.createCLAHE(clip, CLAHE_TILES)
    result = np.empty(crops.shape, np.uint8)
    for number, crop in enumerate(crops):
        lab = cv2.cvtColor(crop, cv2.COLOR_RGB2LAB)
        lab[..., 0] = clahe.apply(lab[..., 0])
        cv2.cvtColor(lab, cv2.COLOR_LAB2RGB, dst=result[number])
    return result


def sharpen(crops: Pixels, alpha: float, lightness: float) -> Pixels:
    """Mix (T,H,W,3) crops with a sharpened version, whose share is alpha; the kernel's centre is 8 + lightness."""
    kernel = np.full((3, 3), -alpha, dtype=np.float32)
    kernel[1, 1] = (1 - alpha) + alpha * (8 + lightness)
    return np.stack([_uint8(cv2.filter2D(crop, -1, kernel)) for crop in crops])


def add_noise(crops: Pixels, deviation: float, seed: int) -> Pixels:
    """Add Gaussian noise to each value of (T,H,W,3) crops; standard deviation in grey levels."""
    cv2.setRNGSeed(seed)  # of this thread; three times as fast as the generators of NumPy
    image = _as_one(crops)
    image = image.reshape(len(image), -1)  # one channel, since OpenCV fills only the first of three
    noise = np.empty(image.shape, np.int16)
    cv2.randn(noise, np.zeros(1), np.array([deviation]))
    return _uint8(cv2.add(image, noise, dtype=cv2.CV_8U)).reshape(crops.shape)


def compress(crops: Pixels, quality: int) -> Pixels:
    """Compress (T,H,W,3) crops as JPEG of a quality, with chroma at half the resolution (4:2:0)."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    options.append(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    result = np.empty(crops.shape, np.uint8)
    for number, crop in enumerate(crops):
        encoded = cv2.imencode(".jpg", cv2.cvtColor(np.ascontiguousarray(crop), cv2.COLOR_RGB2BGR), options)[1]
        result[number] = decode_rgb(encoded.tobytes())
    return result


def _jitter(crops: Pixels, rng: np.random.Generator) -> Pixels:
    """albumentations' ColorJitter: four changes in random order."""
    factors = rng.uniform(1 - JITTER, 1 + JITTER, 3)
    turn = rng.uniform(-JITTER, JITTER) * HUE_TURN
    for change in rng.permutation(4):
        if change == 3:
            crops = change_hsv(crops, turn, 0, 0)
        else:
            crops = (change_brightness, change_contrast, change_saturation)[change](crops, factors[change])
    return crops


def _brightness_contrast(crops: Pixels, rng: np.random.Generator) -> Pixels:
    """albumentations' RandomBrightnessContrast."""
    factor, shift = rng.uniform(1 - CONTRAST, 1 + CONTRAST), rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    return _by_table(crops, _LEVELS * factor + shift * WHITE)


def _hue_saturation_value(crops: Pixels, rng: np.random.Generator) -> Pixels:
    """albumentations' HueSaturationValue."""
    limits = np.array((HUE_SHIFT, SATURATION_SHIFT, VALUE_SHIFT))
    hue, saturation, value = rng.uniform(-limits, limits)
    return change_hsv(crops, hue, saturation, value)


def _equalised(crops: Pixels, rng: np.random.Generator) -> Pixels:
    """albumentations' CLAHE."""
    return equalise(crops, rng.uniform(*CLAHE_CLIP))


def _gamma(crops: Pixels, rng: np.random.Generator) -> Pixels:
    """albumentations' RandomGamma."""
    return change_gamma(crops, rng.uniform(*GAMMA))


def _sharpened(crops: Pixels, rng: np.random.Generator) -> Pixels:
    """albumentations' Sharpen."""
    return sharpen(crops, rng.uniform(*SHARPEN_ALPHA), rng.uniform(*SHARPEN_LIGHTNESS))


COLOUR_CHANGES: tuple[Callable[[Pixels, np.random.Generator], Pixels], ...] = (
    _jitter,
    _brightness_contrast,
    _hue_saturation_value,
    _equalised,
    _gamma,
    _sharpened,
)


def _as_one(crops: Pixels) -> Pixels:
    """Return all frames as one (T·H,W,3) image, a view or a copy, for functions of single pixels."""
    return np.ascontiguousarray(crops).reshape(-1, crops.shape[2], 3)


def _by_table(crops: Pixels, table: npt.NDArray[np.floating]) -> Pixels:
    """Replace each value by its entry in a (256,) table."""
    return _uint8(cv2.LUT(_as_one(crops), _rounded(table))).reshape(crops.shape)


def _rounded(values: npt.NDArray[np.floating]) -> Pixels:
    return _uint8(np.rint(np.clip(values, 0, WHITE)))


def _uint8(image: object) -> Pixels:
    """Return an array of OpenCV with its type."""
    return np.asarray(image, dtype=np.uint8)


def _each_resized(images: Pixels, size: int, interpolation: int) -> Pixels:
    result = np.empty((len(images), size, size, *images.shape[3:]), np.uint8)
    for number, image in enumerate(images):
        cv2.resize(np.ascontiguousarray(image), (size, size), dst=result[number], interpolation=interpolation)
    return result
