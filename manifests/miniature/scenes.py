"""Footage of a clip: a portrait that moves in front of an invented background, in changing light."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from manifests.miniature.fields import Floats, Image, as_bytes, cell_centres, sample, spread
from manifests.miniature.motion import Pose, portrait_positions
from manifests.miniature.portraits import Portrait


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One frame of footage, with the geometry and the light that its forgeries need."""

    rgb: Image
    """(H,W,3) uint8 RGB."""

    pose: Pose
    """Pose of the head."""

    positions: Floats
    """(H,W,2) float32 x, y in the portrait that each pixel shows."""

    light: Floats
    """(W,) float32 factor on the light in each column."""


class Scene:
    """One person in one place.

    Args:
        portrait: the person.
        poses: one for each frame.
        frame_size: width and height in pixels, multiples of 4.
        rng: source of the random numbers of the background.
    """

    def __init__(
        self, portrait: Portrait, poses: list[Pose], frame_size: tuple[int, int], rng: np.random.Generator
    ) -> None:
        self.portrait = portrait
        self.poses = poses
        self.width, self.height = frame_size
        self.cells_xy = cell_centres(*frame_size)
        self._background = draw_background(rng, frame_size)

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.poses)

    def render(self, index: int) -> Frame:
        """Draw one frame."""
        pose = self.poses[index]
        positions = spread(portrait_positions(self.cells_xy, pose, self.portrait.landmarks))
        figure = sample(self.portrait.rgba, positions, cv2.INTER_LINEAR)
        opacity = figure[..., 3].astype(np.float32) / 255
        rgb = cv2.blendLinear(np.ascontiguousarray(figure[..., :3]), self._background, opacity, 1 - opacity)
        columns = np.linspace(-0.5, 0.5, self.width, dtype=np.float32)
        light = np.float32(pose.brightness) * (1 + np.float32(pose.light_slope) * columns)
        return Frame(rgb=lit(np.asarray(rgb, np.uint8), light), pose=pose, positions=positions, light=light)


def lit(rgb: Image, light: Floats) -> Image:
    """Return (H,W,3) uint8 RGB with each column times its light."""
    height, width = rgb.shape[:2]
    # One row of numbers per line: broadcasting over a last axis of 3 is several times slower.
    brightened = np.multiply(rgb.reshape(height, width * 3), np.repeat(light, 3), dtype=np.float32)
    return as_bytes(brightened).reshape(height, width, 3)


def draw_background(rng: np.random.Generator, frame_size: tuple[int, int]) -> Image:
    """Return (H,W,3) uint8 RGB: a wall in one colour, some blurred furniture, some paper grain."""
    width, height = frame_size
    wall = rng.uniform(60, 190) + rng.uniform(-28, 28, 3)
    falloff = np.linspace(rng.uniform(0.75, 1.2), rng.uniform(0.75, 1.2), width)
    picture = (falloff[np.newaxis, :, np.newaxis] * wall * np.ones((height, 1, 1))).astype(np.float32)
    for _ in range(rng.integers(4, 9)):
        colour = tuple(float(value) for value in rng.uniform(25, 225) + rng.uniform(-40, 40, 3))
        corner = (int(rng.integers(-40, width)), int(rng.integers(-40, height)))
        if rng.integers(3):
            opposite = (corner[0] + int(rng.integers(20, 140)), corner[1] + int(rng.integers(20, 200)))
            cv2.rectangle(picture, corner, opposite, colour, cv2.FILLED)
        else:
            cv2.circle(picture, corner, int(rng.integers(8, 45)), colour, cv2.FILLED, cv2.LINE_AA)
    blurred = cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(2, 7)))
    grain = cv2.GaussianBlur(rng.normal(0, 4, picture.shape).astype(np.float32), (0, 0), 1.0)
    return as_bytes(np.asarray(blurred + grain, np.float32))
