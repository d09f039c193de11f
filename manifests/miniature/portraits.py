"""Identities: the photograph, reshaped and recoloured."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from manifests.miniature.fields import Floats, Image, bump, cell_centres, sample, spread, vector
from manifests.miniature.photograph import (
    CLOTHES,
    FACE_HULL,
    HAIRS,
    INNER_FACE,
    LANDMARKS,
    LOWER_FACE,
    MOUTH,
    OUTLINE,
    PORTRAIT_HEIGHT,
    PORTRAIT_WIDTH,
    SKINS,
    bearded,
    figure_opacity,
    filled,
    recoloured,
)

GAMMA_RANGE = (0.88, 1.15)  # exponent of the lightness
BEARD_EVERY, GLASSES_EVERY = 3, 5  # one identity in so many, on average
GLASSES_RGBA, GLASSES_RADII_PX, GLASSES_BELOW_EYE_PX = (35, 28, 30, 255), (15, 12), 2
SHARPENING = 0.5  # strength of the unsharp mask that compensates the blur of the warp
INVERSION_STEPS = 20  # each adds about one digit

# The regions that forgeries repaint, by name.
REGIONS = {"inner_face": INNER_FACE, "face_hull": FACE_HULL, "lower_face": LOWER_FACE, "mouth": MOUTH}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trait:
    """One difference between faces: points that move together; their surroundings follow smoothly."""

    points: tuple[tuple[float, float], ...]
    """X, y in portrait pixels."""

    directions: tuple[tuple[float, float], ...]
    """Displacement of each point for a trait of +1, pixels."""

    spread_px: float
    """Standard deviation of the Gaussian by which the surroundings follow."""


SHAPE_TRAITS = (
    _Trait(points=((190, 156), (262, 158)), directions=((-7, 0), (7, 0)), spread_px=20),  # jaw width
    _Trait(points=((226, 176),), directions=((0, 7),), spread_px=20),  # chin length
    _Trait(points=((184, 122), (269, 124)), directions=((-6, 0), (6, 0)), spread_px=20),  # cheekbones
    _Trait(points=((204, 101), (246, 103)), directions=((-2.5, 0), (2.5, 0)), spread_px=13),  # distance of the eyes
    _Trait(points=((204, 96), (246, 98), (204, 107), (246, 109)),
           directions=((0, -1.8), (0, -1.8), (0, 1.8), (0, 1.8)), spread_px=6),  # opening of the eyes
    _Trait(points=((198, 90), (252, 93)), directions=((0, -2.5), (0, -2.5)), spread_px=8),  # brows
    _Trait(points=((213, 128), (236, 129)), directions=((-2.5, 0), (2.5, 0)), spread_px=8),  # nose width
    _Trait(points=((224, 128),), directions=((0, 5),), spread_px=12),  # nose length
    _Trait(points=((203, 141), (245, 142)), directions=((-3.5, 0), (3.5, 0)), spread_px=11),  # mouth width
    _Trait(points=((203, 141), (245, 142)), directions=((0, 3), (0, 3)), spread_px=9),  # mouth corners
    _Trait(points=((224, 138), (224, 154)), directions=((0, -1.5), (0, 1.5)), spread_px=7),  # lips
    _Trait(points=((228, 20),), directions=((0, -14),), spread_px=38),  # height of the hair
    _Trait(points=((158, 80), (296, 80)), directions=((-15, 0), (15, 0)), spread_px=30),  # width of the hair
    _Trait(points=((168, 118), (282, 124)), directions=((4, 12), (-4, 12)), spread_px=16),  # length of the hair
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Portrait:
    """One identity as a picture with landmarks and regions."""

    rgba: Image
    """(348,448,4) uint8 RGB and opacity, portrait pixels; not premultiplied."""

    landmarks: Floats
    """(5,2) float32 x, y in portrait pixels: left eye, right eye, nose tip, mouth corners, as seen in the image."""

    outline: Floats
    """(4,2) float32 x, y in portrait pixels: bends of the jaw on the left and right, chin, hairline."""

    regions: dict[str, Floats]
    """By name, each (348,448) float32 0..1 with a hard edge: `inner_face`, `face_hull`, `lower_face`, `mouth`."""

    @property
    def rgb(self) -> Image:
        """(348,448,3) uint8 RGB."""
        return self.rgba[..., :3]


def draw_portrait(identity: int, seed: int) -> Portrait:
    """Return the portrait of an identity; equal numbers give equal portraits."""
    rng = np.random.default_rng([seed, identity])
    traits = rng.uniform(-1.0, 1.0, len(SHAPE_TRAITS))
    gamma = float(rng.uniform(*GAMMA_RANGE))
    has_beard = rng.integers(BEARD_EVERY) == 0
    has_glasses = rng.integers(GLASSES_EVERY) == 0
    is_mirrored = rng.integers(2) == 0

    # Neighbouring identities become pairs, so they get different entries of the palettes.
    turn = identity + seed
    hair = HAIRS[turn % len(HAIRS)]
    rgb = recoloured(SKINS[turn % len(SKINS)], hair, CLOTHES[turn % len(CLOTHES)], gamma)
    if has_beard:
        rgb = bearded(rgb, hair, rng)
    centres = cell_centres(PORTRAIT_WIDTH, PORTRAIT_HEIGHT)
    source_xy = spread(centres - _displacement(centres, traits))
    landmarks, outline = _moved(LANDMARKS, traits), _moved(OUTLINE, traits)
    rgb, opacity = (sample(image, source_xy, cv2.INTER_CUBIC) for image in (rgb, figure_opacity()))
    rgba = np.dstack([_sharpened(rgb), opacity])
    regions = {
        name: np.asarray(sample(filled(polygon), source_xy, cv2.INTER_LINEAR) / 255, np.float32)
        for name, polygon in REGIONS.items()
    }
    if has_glasses:
        _put_glasses(rgba, landmarks)
    if is_mirrored:
        rgba = rgba[:, ::-1]
        landmarks, outline = _mirrored(landmarks[[1, 0, 2, 4, 3]]), _mirrored(outline[[1, 0, 2, 3]])
        regions = {name: np.ascontiguousarray(region[:, ::-1]) for name, region in regions.items()}
    return Portrait(rgba=np.ascontiguousarray(rgba), landmarks=landmarks, outline=outline, regions=regions)


def feather(region: Floats, width_px: float) -> Floats:
    """Return (H,W) float32 0..1 that falls to 0 over `width_px` inside the region and is 0 outside of it."""
    distance_px = cv2.distanceTransform((region > 0.5).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    ramp = np.clip(distance_px / width_px, 0.0, 1.0)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), np.float32)  # smoothstep: no visible kink at either end


def _put_glasses(rgba: Image, landmarks: Floats) -> None:
    """Draw thin dark frames around both eyes, in place."""
    fraction_bits = 4  # cv2 draws at 1/16 pixel with this shift
    eyes = landmarks[:2] + vector(0, GLASSES_BELOW_EYE_PX)
    radii = [radius << fraction_bits for radius in GLASSES_RADII_PX]
    for eye in eyes:
        centre = np.rint(eye * 2**fraction_bits).astype(int).tolist()
        cv2.ellipse(rgba, centre, radii, 0, 0, 360, GLASSES_RGBA, 1, cv2.LINE_AA, fraction_bits)
    bridge = np.rint(eyes + np.outer((1, -1), (GLASSES_RADII_PX[0], 0))).astype(int).tolist()
    cv2.line(rgba, bridge[0], bridge[1], GLASSES_RGBA, 1, cv2.LINE_AA)


def _sharpened(rgb: Image) -> Image:
    """Sharpen a picture that was blurred by sampling."""
    blurred = cv2.GaussianBlur(rgb, (0, 0), 1.0)
    return np.asarray(cv2.addWeighted(rgb, 1 + SHARPENING, blurred, -SHARPENING, 0), np.uint8)


def _mirrored(points_xy: Floats) -> Floats:
    return vector(PORTRAIT_WIDTH - 1, 0) + points_xy * vector(-1, 1)


def _displacement(points_xy: Floats, traits: npt.NDArray[np.float64]) -> Floats:
    """Return the (…,2) displacement at (…,2) positions of the portrait, pixels."""
    moved = np.zeros_like(points_xy)
    for value, trait in zip(traits, SHAPE_TRAITS, strict=True):
        for point, direction in zip(trait.points, trait.directions, strict=True):
            moved += bump(points_xy, point, trait.spread_px) * (vector(*direction) * np.float32(value))
    return moved


def _moved(points_xy: Floats, traits: npt.NDArray[np.float64]) -> Floats:
    """Return where (N,2) points of the photograph are in the portrait: the inverse of the sampling, by iteration."""
    found = points_xy
    for _ in range(INVERSION_STEPS):
        found = points_xy + _displacement(found, traits)
    return found
