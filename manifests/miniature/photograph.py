"""Photograph from which all identities are made, with the outlines of its parts and their colours.

It is NASA's portrait of astronaut Eileen Collins, in the public domain, and ships inside the scikit-image wheel. Every
coordinate here is in *portrait pixels*: the first 448 columns and 348 rows of that 512×512 picture, so that the face's
axis is the middle column and mirroring needs no shift. The outlines were measured on the picture: the figure's with
GrabCut, the face's by eye on a grid of 10 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from manifests.miniature.fields import Floats, Image, as_bytes, vector

PORTRAIT_WIDTH, PORTRAIT_HEIGHT = 448, 348  # pixels

Polygon = tuple[tuple[float, float], ...]  # x, y of each corner, portrait pixels

# (5,2) x, y: left eye, right eye, nose tip, left and right mouth corner as seen in the picture.
LANDMARKS = np.array([[204, 101.5], [246, 103.5], [224.5, 128], [203, 140.5], [245, 141.5]], np.float32)
# (4,2) x, y: where the jaw bends on the left and on the right, the chin, the middle of the hairline.
OUTLINE = np.array([[188, 151], [263, 152], [226, 178], [225, 82]], np.float32)
NECK_XY = (224.0, 188.0)  # the point about which the head turns

FIGURE: Polygon = (
    (276, 31), (248, 18), (227, 16), (214, 21), (201, 23), (185, 38), (174, 43), (163, 51), (156, 58), (153, 68),
    (155, 98), (157, 104), (167, 115), (170, 121), (174, 128), (182, 132), (183, 147), (153, 151), (140, 158),
    (131, 167), (127, 175), (124, 205), (114, 202), (101, 215), (90, 227), (76, 235), (65, 246), (44, 282), (40, 294),
    (39, 306), (30, 331), (26, 352), (360, 352), (360, 333), (356, 302), (352, 287), (345, 272), (340, 262),
    (319, 243), (303, 233), (293, 210), (283, 195), (272, 184), (262, 177), (256, 173), (259, 158), (264, 149),
    (266, 137), (275, 134), (290, 117), (296, 107), (300, 92), (299, 72), (296, 66), (296, 58), (286, 40),
)  # fmt: skip
FACE = (
    (184, 92), (187, 78), (190, 73), (200, 80), (215, 80), (228, 79), (240, 84), (252, 88), (262, 90), (268, 92),
    (269, 100), (270, 115), (268, 128), (266, 140), (262, 152), (256, 162), (248, 170), (238, 176), (226, 179),
    (214, 175), (204, 168), (195, 160), (187, 150), (183, 138), (181, 125), (181, 112), (183, 100),
)  # fmt: skip
NECK = ((182, 145), (186, 172), (190, 180), (200, 185), (220, 188), (238, 190), (252, 186), (255, 172), (262, 150))
EARS = (((171, 119), (182, 119), (182, 131), (176, 129)), ((268, 127), (281, 129), (275, 136), (267, 137)))
EYES = (((192, 101), (201, 96), (211, 100), (208, 105), (199, 105)), ((236, 105), (243, 99), (257, 102), (249, 108)))
TEETH = ((205, 141), (222, 143), (242, 142), (234, 148), (224, 150), (214, 149))
BEARD = (
    (183, 128), (194, 140), (200, 136), (212, 133), (224, 137), (236, 133), (248, 137), (255, 141), (268, 128),
    (264, 150), (256, 163), (240, 178), (226, 181), (212, 177), (197, 164), (187, 152),
)  # fmt: skip
LIPS = ((203, 140), (215, 139), (224, 141), (234, 140), (246, 141), (238, 151), (225, 156), (211, 151))
INNER_FACE = (
    (187, 96), (198, 87), (224, 86), (250, 89), (264, 98), (266, 120), (262, 140), (254, 157), (241, 169), (226, 173),
    (211, 168), (197, 156), (188, 139), (185, 120),
)  # fmt: skip
FACE_HULL = (
    (183, 98), (190, 88), (206, 84), (226, 84), (248, 87), (262, 91), (269, 101), (268, 128), (262, 152), (248, 170),
    (226, 179), (204, 168), (187, 150), (181, 125),
)  # fmt: skip
LOWER_FACE = (
    (188, 122), (206, 118), (224, 132), (242, 119), (263, 122), (262, 145), (254, 160), (241, 172), (226, 177),
    (211, 171), (197, 159), (188, 142),
)  # fmt: skip
MOUTH = ((196, 140), (206, 134), (224, 136), (242, 134), (252, 140), (246, 153), (234, 161), (215, 161), (202, 153))
FACE_ENDS_Y, CLOTHES_BEGIN_Y = 148, 195  # rows above the collar, and rows below the skin

BEARD_RGB, BEARD_GRAIN, BEARD_OPACITY = (78, 58, 44), 22, 0.40  # grain: standard deviation in grey levels
LIGHTEST_BEARD = 1.3  # factor on the beard's colour, which otherwise follows the hair's lightness


@dataclass(frozen=True, slots=True, kw_only=True)
class Tint:
    """New colours of a part of the picture, relative to its own, in CIE Lab."""

    lightness: float = 1.0
    """Factor on L."""

    chroma: float = 1.0
    """Factor on a and b."""

    shift_ab: tuple[float, float] = (0.0, 0.0)
    """Added to a (green to red) and b (blue to yellow) afterwards."""

    def applied(self, lab: Floats) -> Floats:
        """Return (H,W,3) float32 Lab in the new colours."""
        return lab * vector(self.lightness, self.chroma, self.chroma) + vector(0, *self.shift_ab)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloth:
    """The colour of the clothes, instead of the suit's orange."""

    hue_degrees: float
    """On the colour circle: 0 red, 120 green, 240 blue."""

    saturation: float
    """Factor on the suit's."""

    value: float
    """Factor on the suit's."""


# Colours of skin stay near those of the photograph, so that they suit its light.
SKINS = (
    Tint(lightness=1.04),
    Tint(lightness=0.84, shift_ab=(4, 6)),
    Tint(lightness=0.93, shift_ab=(4, 5)),
    Tint(lightness=0.80, shift_ab=(5, 4)),
    Tint(lightness=0.90, shift_ab=(0, 8)),
    Tint(shift_ab=(7, -3)),
    Tint(lightness=0.86, shift_ab=(6, 1)),
)
HAIRS = (
    Tint(),
    Tint(lightness=0.32, chroma=0.3),
    Tint(lightness=1.35, chroma=0.9, shift_ab=(0, 12)),
    Tint(lightness=0.55, chroma=0.8, shift_ab=(6, 4)),
    Tint(lightness=1.25, chroma=0.15),
    Tint(lightness=0.80, shift_ab=(22, 14)),
)
CLOTHES = (
    Cloth(hue_degrees=16, saturation=1.0, value=1.0),
    Cloth(hue_degrees=215, saturation=0.75, value=0.6),
    Cloth(hue_degrees=130, saturation=0.5, value=0.55),
    Cloth(hue_degrees=0, saturation=0.05, value=0.9),
    Cloth(hue_degrees=350, saturation=0.9, value=0.6),
    Cloth(hue_degrees=48, saturation=0.6, value=1.0),
    Cloth(hue_degrees=265, saturation=0.5, value=0.7),
    Cloth(hue_degrees=0, saturation=0.0, value=0.4),
)


def recoloured(skin: Tint, hair: Tint, cloth: Cloth, gamma: float) -> Image:
    """Return (348,448,3) uint8 RGB of the photograph in other colours; `gamma` bends the lightness of all of it."""
    rgb = np.asarray(photograph() / 255, np.float32)
    hsv = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV), np.float32)
    # The suit is the only saturated orange below the collar.
    is_suit = ((hsv[..., 1] > 0.5) & (hsv[..., 0] < 32) & (hsv[..., 2] > 0.12)).astype(np.float32)
    is_suit[:CLOTHES_BEGIN_Y] = 0
    dressed = hsv * vector(0, cloth.saturation, cloth.value) + vector(cloth.hue_degrees, 0, 0)
    rgb = _mix(rgb, np.asarray(cv2.cvtColor(dressed, cv2.COLOR_HSV2RGB), np.float32), _blurred(is_suit, 0.8))

    lab = np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab), np.float32)
    skin_weight, hair_weight = _skin_and_hair()
    lab = _mix(lab, skin.applied(lab), skin_weight)
    lab = _mix(lab, hair.applied(lab), hair_weight)
    lab[..., 0] = 100 * (lab[..., 0].clip(0, 100) / 100) ** gamma
    return as_bytes(np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), np.float32) * 255)


def bearded(rgb: Image, hair: Tint, rng: np.random.Generator) -> Image:
    """Return (348,448,3) uint8 RGB with a dark jaw that has the grain of short hair; the lips stay unchanged."""
    weight = _soft(BEARD, blur_px=3.5) * (1 - _soft(LIPS, blur_px=1.5))
    grain = _blurred(rng.normal(0, 1, rgb.shape[:2]).astype(np.float32), 0.7)
    colour = vector(*BEARD_RGB) * np.float32(min(hair.lightness, LIGHTEST_BEARD))
    return as_bytes(_mix(rgb.astype(np.float32), colour + BEARD_GRAIN * grain, weight * np.float32(BEARD_OPACITY)))


@lru_cache(maxsize=1)
def photograph() -> Image:
    """Return the photograph, (348,448,3) uint8 RGB; scikit-image is imported only here, because that is slow."""
    from skimage.data import astronaut

    whole = np.asarray(astronaut(), np.uint8)  # type: ignore[no-untyped-call]  # skimage has no annotations
    return np.ascontiguousarray(whole[:PORTRAIT_HEIGHT, :PORTRAIT_WIDTH])


@lru_cache(maxsize=1)
def figure_opacity() -> Image:
    """Return (348,448) uint8: 255 inside the figure, a pixel within its outline, so that no background shows."""
    inside = cv2.erode(filled(FIGURE), np.ones((3, 3), np.uint8), borderValue=255)
    return np.asarray(cv2.GaussianBlur(inside, (0, 0), 1.0), np.uint8)


def filled(*polygons: Polygon) -> Image:
    """Return (348,448) uint8, 255 inside any of the polygons."""
    picture = np.zeros((PORTRAIT_HEIGHT, PORTRAIT_WIDTH), np.uint8)
    for polygon in polygons:
        cv2.fillPoly(picture, [np.array(polygon, np.int32)], (255,), cv2.LINE_AA)
    return picture


@lru_cache(maxsize=1)
def _skin_and_hair() -> tuple[Floats, Floats]:
    """Return two (348,448,1) float32 weights 0..1 whose sum is at most 1."""
    bare = _soft(FACE, NECK, *EARS, blur_px=1.5)
    skin = bare * (1 - _soft(*EYES, TEETH, blur_px=1.2))
    head = (figure_opacity() > 0).astype(np.float32)
    head[FACE_ENDS_Y:] = 0
    return skin, _blurred(head, 1.0) * (1 - bare)


def _soft(*polygons: Polygon, blur_px: float) -> Floats:
    """Return (348,448,1) float32 0..1 with blurred edges."""
    return _blurred(np.asarray(filled(*polygons) / 255, np.float32), blur_px)


def _blurred(plane: Floats, blur_px: float) -> Floats:
    """Return an (H,W) plane blurred by a Gaussian, as (H,W,1) float32."""
    return np.asarray(cv2.GaussianBlur(plane, (0, 0), blur_px), np.float32)[..., np.newaxis]


def _mix(below: Floats, above: Floats, weight: Floats) -> Floats:
    """Return (H,W,3) float32: `above` where the (H,W,1) weight is 1."""
    return below + (above - below) * weight
