"""What may happen to a video between its forger and its judge, as perturbations of crops in levels.

Three sets, all on (T,S,S,3) uint8 RGB crops of one record:

- `study`: Gaussian noise, Gaussian blur, rotation by quarter turns, centre crops: the kinds of the earlier robustness
  study. Its strengths are not known: the levels are ours.
- `deeperforensics`: the seven five-level distortions of DeeperForensics-1.0 (arXiv 2001.03024) under their names. Two
  of them are not what they are called: `JPEG` is a pixelation and `CC` a darkening.
- `honest`: JPEG, contrast and resizing that are what they are called.

The original of the seven is unseeded and overflows uint8; ours rounds, clips, and draws from (seed, name, key) alone.
The original changes whole frames, ours the crops: a blur, a block or an encoder meets a face of another size, so
figures compare between models here, and with published ones only in their order.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import cv2
import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]
FloatImages = npt.NDArray[np.float64]
PerturbationSet = Literal["study", "deeperforensics", "honest"]

GREY = 128.0  # the middle of uint8: what contrast shrinks towards, and the colour of blocks
LUMA_RGB = (0.299, 0.587, 0.114)  # Rec. ITU-R BT.601-7, 2.5.1
# YCbCr in studio range → RGB, columns Y, Cb, Cr (BT.601-7): a step of 1 in each, all in units of 1/255.
YCBCR_TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]]) @ np.diag(
    [255 / 219, 255 / 224, 255 / 224]
)
BLOCK_PX = 8  # side of a grey block
BLOCKS_PER_PX = 256  # the number of blocks is per so many pixels of the shorter side
VIDEO_FPS = 25  # of the re-encoding; x264's rate control at constant CRF hardly looks at it


@dataclass(frozen=True, slots=True, kw_only=True)
class Perturbation:
    """One kind of perturbation and its strengths."""

    name: str
    """Its key in PERTURBATIONS."""

    title: str
    """For people."""

    belongs_to: PerturbationSet
    """Which set."""

    parameter: str
    """What a level's number means, with its unit."""

    levels: tuple[float, ...]
    """The parameter at level 1, 2, …; level 0 leaves images as they are."""

    change: Callable[[Images, float, np.random.Generator], npt.NDArray[np.uint8] | FloatImages]
    """(T,S,S,3) images, parameter, draws → (T,S,S,3); floats are rounded and clipped."""

    def apply(self, images: Images, level: int, seed: int, key: str = "") -> Images:
        """Return the crops of one record at a level, always the same for the same (seed, key).

        Args:
            images: (T,S,S,3) uint8 RGB.
            level: 0 (as they are) to the number of levels.
            seed: of the evaluation.
            key: of the record, so that records differ.

        Raises:
            ValueError: another level, shape or dtype.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
            raise ValueError(
                f"images: got {images.dtype} of shape {images.shape}, expected uint8 of shape (T, S, S, 3)"
            )
        if not 0 <= level <= len(self.levels):
            raise ValueError(f"level of {self.name}: got {level}, expected 0..{len(self.levels)}")
        if level == 0:
            return images.copy()
        changed = self.change(images, self.levels[level - 1], _generator(seed, self.name, key))
        if changed.dtype != np.uint8:
            changed = np.clip(np.rint(changed), 0, 255)
        return np.ascontiguousarray(changed, dtype=np.uint8)


def perturbation(name: str) -> Perturbation:
    """Return a perturbation by its name.

    Raises:
        ValueError: there is none of that name.
    """
    if name not in PERTURBATIONS:
        raise ValueError(f"perturbation: got {name!r}, expected one of {', '.join(PERTURBATIONS)}")
    return PERTURBATIONS[name]


def _generator(seed: int, name: str, key: str) -> np.random.Generator:
    digest = hashlib.sha256(f"{seed}\n{name}\n{key}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def _each(images: Images, change: Callable[[Images], npt.NDArray[Any]]) -> Images:
    """Return every image changed by a function of OpenCV."""
    return np.stack([change(image) for image in images]).astype(np.uint8, copy=False)


def _noise(images: Images, sigma: float, rng: np.random.Generator) -> FloatImages:
    return images + rng.normal(0.0, sigma, images.shape)


def _blur(images: Images, sigma: float, rng: np.random.Generator) -> Images:
    return _each(images, lambda image: cv2.GaussianBlur(image, (0, 0), sigma))


def _rotate(images: Images, degrees: float, rng: np.random.Generator) -> Images:
    return np.rot90(images, k=round(degrees / 90), axes=(1, 2))


def _centre_crop(images: Images, share: float, rng: np.random.Generator) -> Images:
    """Cut the middle out and enlarge it to the old size."""
    height, width = images.shape[1:3]
    kept_height, kept_width = max(1, round(height * share)), max(1, round(width * share))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    kept = images[:, top : top + kept_height, left : left + kept_width]
    return _each(kept, lambda image: cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def _saturation(images: Images, share: float, rng: np.random.Generator) -> FloatImages:
    """Shrink chroma towards grey: every colour moves towards its luma."""
    luma = (images @ np.array(LUMA_RGB))[..., None]
    return np.asarray(luma + (images - luma) * share)


def _darken(images: Images, share: float, rng: np.random.Generator) -> FloatImages:
    return np.asarray(images * share)


def _blocks(images: Images, per_unit: float, rng: np.random.Generator) -> Images:
    """Set blocks to grey, elsewhere in every frame.

    The original's number is (shorter side // 256) × p: none on a smaller image, so there the side is taken as it is.
    """
    height, width = images.shape[1:3]
    side = min(height, width)
    units = side // BLOCKS_PER_PX or side / BLOCKS_PER_PX
    blocked = images.copy()
    for image in blocked:
        for _ in range(max(1, round(units * per_unit))):
            top = int(rng.integers(0, max(1, height - BLOCK_PX + 1)))
            left = int(rng.integers(0, max(1, width - BLOCK_PX + 1)))
            image[top : top + BLOCK_PX, left : left + BLOCK_PX] = GREY
    return blocked


def _colour_noise(images: Images, variance: float, rng: np.random.Generator) -> FloatImages:
    """Add noise to Y, Cb and Cr (0..1, studio range), seen in RGB."""
    noise = rng.normal(0.0, 255.0 * np.sqrt(variance), images.shape)
    return np.asarray(images + noise @ YCBCR_TO_RGB.T)


def _kernel_blur(images: Images, kernel: float, rng: np.random.Generator) -> Images:
    side = round(kernel)
    return _each(images, lambda image: cv2.GaussianBlur(image, (side, side), side / 6.0))


def _pixelate(images: Images, factor: float, rng: np.random.Generator) -> Images:
    """Shrink and enlarge bilinearly, without a low pass before: what the original calls JPEG."""
    height, width = images.shape[1:3]
    small = max(1, width // round(factor)), max(1, height // round(factor))
    return _each(images, lambda image: cv2.resize(cv2.resize(image, small), (width, height)))


def _resize(images: Images, factor: float, rng: np.random.Generator) -> Images:
    """Shrink by areas and enlarge bicubically, as a platform's smaller copy of a video would be shown."""
    height, width = images.shape[1:3]
    small = max(1, round(width / factor)), max(1, round(height / factor))
    return _each(
        images,
        lambda image: cv2.resize(
            cv2.resize(image, small, interpolation=cv2.INTER_AREA), (width, height), interpolation=cv2.INTER_CUBIC
        ),
    )


def _jpeg(images: Images, quality: float, rng: np.random.Generator) -> Images:
    """Encode as JPEG with shared chroma (4:2:0), as cameras and web sites do, and decode."""
    parameters = [cv2.IMWRITE_JPEG_QUALITY, round(quality)]
    parameters += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420]

    def there_and_back(image: Images) -> npt.NDArray[Any]:
        data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)[1]
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))

    return _each(images, there_and_back)


def _contrast(images: Images, share: float, rng: np.random.Generator) -> FloatImages:
    return np.asarray(GREY + (images - GREY) * share)


def _reencode(images: Images, crf: float, rng: np.random.Generator) -> Images:
    """Encode the frames as one H.264 video at a constant rate factor and decode it.

    A record of one frame becomes one intra frame. Odd sides are padded by their last row and column: 4:2:0 needs pairs.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    # One thread: pictures this small gain nothing from more, and their result cannot depend on a machine's cores.
    options = {"crf": f"{crf:g}", "preset": "medium", "threads": "1"}
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=Fraction(VIDEO_FPS), options=options)
        stream.height, stream.width, stream.pix_fmt = padded.shape[1], padded.shape[2], "yuv420p"
        for image in padded:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file, "r") as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.asarray(np.stack(decoded)[:, :height, :width], dtype=np.uint8)


_ALL = (
    Perturbation(
        name="noise",
        title="Gaussian noise",
        belongs_to="study",
        parameter="standard deviation, grey values",
        levels=(5, 10, 20, 30, 50),
        change=_noise,
    ),
    Perturbation(
        name="blur",
        title="Gaussian blur",
        belongs_to="study",
        parameter="standard deviation, pixels",
        levels=(1, 2, 3, 4, 5),
        change=_blur,
    ),
    Perturbation(
        name="rotation",
        title="rotation",
        belongs_to="study",
        parameter="degrees, anticlockwise",
        levels=(90, 180, 270),
        change=_rotate,
    ),
    Perturbation(
        name="crop",
        title="centre crop",
        belongs_to="study",
        parameter="kept share of each side",
        levels=(0.9, 0.8, 0.7, 0.6, 0.5),
        change=_centre_crop,
    ),
    Perturbation(
        name="CS",
        title="colour saturation (CS)",
        belongs_to="deeperforensics",
        parameter="share of the chroma that is left",
        levels=(0.4, 0.3, 0.2, 0.1, 0.0),
        change=_saturation,
    ),
    Perturbation(
        name="CC",
        title="darkening (CC)",
        belongs_to="deeperforensics",
        parameter="factor of all values",
        levels=(0.85, 0.725, 0.6, 0.475, 0.35),
        change=_darken,
    ),
    Perturbation(
        name="BW",
        title="grey blocks (BW)",
        belongs_to="deeperforensics",
        parameter="blocks of 8×8 pixels per 256 pixels of the shorter side",
        levels=(16, 32, 48, 64, 80),
        change=_blocks,
    ),
    Perturbation(
        name="GNC",
        title="coloured noise (GNC)",
        belongs_to="deeperforensics",
        parameter="variance in YCbCr of 0..1",
        levels=(0.001, 0.002, 0.005, 0.01, 0.05),
        change=_colour_noise,
    ),
    Perturbation(
        name="GB",
        title="Gaussian blur (GB)",
        belongs_to="deeperforensics",
        parameter="side of the kernel, pixels; standard deviation a sixth of it",
        levels=(7, 9, 13, 17, 21),
        change=_kernel_blur,
    ),
    Perturbation(
        name="JPEG",
        title="pixelation (“JPEG”)",
        belongs_to="deeperforensics",
        parameter="factor of shrinking",
        levels=(2, 3, 4, 5, 6),
        change=_pixelate,
    ),
    Perturbation(
        name="VC",
        title="video compression (VC)",
        belongs_to="deeperforensics",
        parameter="constant rate factor of x264",
        levels=(30, 32, 35, 38, 40),
        change=_reencode,
    ),
    Perturbation(
        name="jpeg_quality",
        title="JPEG compression",
        belongs_to="honest",
        parameter="quality, 4:2:0",
        levels=(90, 70, 50, 30, 10),
        change=_jpeg,
    ),
    Perturbation(
        name="contrast",
        title="contrast",
        belongs_to="honest",
        parameter="factor of the distance from grey",
        levels=(0.85, 0.725, 0.6, 0.475, 0.35),  # those of CC, which is called contrast but is not
        change=_contrast,
    ),
    Perturbation(
        name="resize",
        title="smaller copy",
        belongs_to="honest",
        parameter="factor of shrinking, by areas",
        levels=(1.5, 2, 3, 4, 6),
        change=_resize,
    ),
)
PERTURBATIONS: dict[str, Perturbation] = {found.name: found for found in _ALL}
