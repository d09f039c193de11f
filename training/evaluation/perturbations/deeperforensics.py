"""Perturbations `deeperforensics`: the seven distortions of DeeperForensics-1.0 (arXiv 2001.03024), five levels each.

They keep their published names, although `JPEG` is a pixelation and `CC` a darkening. The published code has no seed
and overflows uint8; this code rounds, clips, and depends on (seed, name, key) alone.
"""

from __future__ import annotations

import io
from fractions import Fraction

import av
import cv2
import numpy as np

from training.evaluation.perturbations.perturbation import GREY, FloatImages, Images, Perturbation, each

LUMA_RGB = (0.299, 0.587, 0.114)  # Rec. ITU-R BT.601-7, 2.5.1
# (3,3) YCbCr in studio range → RGB, columns Y, Cb, Cr (BT.601-7): effect of a step of 1 in each, in units of 1/255.
YCBCR_TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]]) @ np.diag(
    [255 / 219, 255 / 224, 255 / 224]
)
BLOCK_PX = 8  # side of a grey block
BLOCKS_PER_PX = 256  # pixels of the shorter side that the number of blocks refers to
VIDEO_FPS = 25  # of the re-encoding; at a constant rate factor it has almost no effect on x264


def _saturation(images: Images, share: float, _rng: np.random.Generator) -> FloatImages:
    """Move every colour towards its luma."""
    luma = (images @ np.array(LUMA_RGB))[..., None]
    return np.asarray(luma + (images - luma) * share)


def _darken(images: Images, share: float, _rng: np.random.Generator) -> FloatImages:
    return np.asarray(images * share)


def _blocks(images: Images, per_unit: float, rng: np.random.Generator) -> Images:
    """Set blocks at random positions to grey, other positions in each frame.

    The original sets (shorter side // 256) × p blocks, none on a smaller image; here smaller images get the fraction.
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
    """Add noise to Y, Cb and Cr (0..1, studio range) of RGB images."""
    noise = rng.normal(0.0, 255.0 * np.sqrt(variance), images.shape)
    return np.asarray(images + noise @ YCBCR_TO_RGB.T)


def _kernel_blur(images: Images, kernel: float, _rng: np.random.Generator) -> Images:
    side = round(kernel)
    return each(images, lambda image: cv2.GaussianBlur(image, (side, side), side / 6.0))


def _pixelate(images: Images, factor: float, _rng: np.random.Generator) -> Images:
    """Shrink and enlarge bilinearly without a low-pass filter: `JPEG` in the original."""
    height, width = images.shape[1:3]
    small = max(1, width // round(factor)), max(1, height // round(factor))
    return each(images, lambda image: cv2.resize(cv2.resize(image, small), (width, height)))


def _reencode(images: Images, crf: float, _rng: np.random.Generator) -> Images:
    """Encode the frames as one H.264 video at a constant rate factor, and decode it.

    A record of one frame becomes one intra frame. Odd sides are padded by their last row or column, since 4:2:0 needs
    even ones.
    """
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    # One thread: the result must not depend on the number of cores, and crops are too small to gain from more.
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


DEEPERFORENSICS: tuple[Perturbation, ...] = (
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
)
