"""Forgeries: simple operations on images in place of the four manipulations of FaceForensics++.

Each one repaints a region of the target's portrait, and sets the pose of the repainted face in each frame. The region
is then drawn over the footage; pixels outside of it are not changed.

    Deepfakes        the donor's inner face, coarse, close to the target's colours, with a soft edge; flickers a little
    Face2Face        the target's own lower face, moved by the donor's expression
    FaceSwap         the donor's whole face, halfway to the target's colours, with a hard edge; ends before the footage
    NeuralTextures   the target's own mouth, smoothed and moved halfway to the donor's expression
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from manifests.miniature.fields import CELL_PX, Floats, Image, as_bytes, sample, spread, vector
from manifests.miniature.motion import Pose, portrait_positions
from manifests.miniature.portraits import Portrait, feather
from manifests.miniature.scenes import Frame, Scene, lit

DEEPFAKES_COARSENESS = 2.6  # portrait pixels per pixel: a face of 110 pixels is drawn with 42
DEEPFAKES_COLOUR_MATCH = 0.8  # share of the way from the donor's colours to the target's
DEEPFAKES_JITTER_PX, DEEPFAKES_FLICKER = 0.5, 0.03  # standard deviations, of position and of brightness
FACE_SWAP_MISFIT = (1.03, 1.5)  # factor on the donor's size, and pixels to the side
FACE_SWAP_COLOUR_MATCH = 0.5
FACE_SWAP_SHARE_OF_FRAMES = (0.8, 0.95)  # real ones are up to a fifth shorter than their footage
FACE2FACE_EXAGGERATION = 1.3  # factor on the donor's expression
FACE2FACE_BLUR_PX = 0.9  # of the re-rendered skin, portrait pixels
NEURAL_TEXTURES_SMOOTHING = (9, 60.0, 5.0)  # bilateral filter: diameter px, standard deviations in grey levels and px
LEAST_OPACITY = 8  # of 255: encoding removes a fainter repaint

# Width of the region's soft edge, portrait pixels.
EDGE_PX = {"Deepfakes": 14.0, "Face2Face": 7.0, "FaceSwap": 2.0, "NeuralTextures": 5.0}
# Margin around the repaint's box for its motion, portrait pixels.
REACH_PX = 14.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Repaint:
    """The picture that a manipulation draws over the target's face, and its motion."""

    rgba: Image
    """(348,448,4) uint8 RGB and opacity in the target's portrait pixels; opacity 0 or at least `LEAST_OPACITY`."""

    poses: list[Pose]
    """Poses of the repainted face, one for each frame of the forgery, which may be shorter than the footage."""


Manipulation = Callable[[Scene, Portrait, list[Pose], np.random.Generator], Repaint]


def deepfakes(target: Scene, donor: Portrait, _: list[Pose], rng: np.random.Generator) -> Repaint:
    """Repaint with the donor's inner face."""
    rgb, region = _fitted(donor, target.portrait, "inner_face", 1.0, 0.0)
    matched = _in_colours_of(rgb, target.portrait.rgb, region, DEEPFAKES_COLOUR_MATCH)
    height, width = region.shape
    small_size = (round(width / DEEPFAKES_COARSENESS), round(height / DEEPFAKES_COARSENESS))
    small = cv2.resize(matched, small_size, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    return Repaint(
        rgba=_with_opacity(coarse, feather(region, EDGE_PX["Deepfakes"])),
        poses=[_jittered(pose, rng) for pose in target.poses],
    )


def face2face(target: Scene, _: Portrait, donor_poses: list[Pose], _rng: np.random.Generator) -> Repaint:
    """Repaint with the target's own lower face, which follows the donor's expression."""
    soft = cv2.GaussianBlur(target.portrait.rgb, (0, 0), FACE2FACE_BLUR_PX)
    poses = [
        replace(pose, jaw=FACE2FACE_EXAGGERATION * driver.jaw, smile=FACE2FACE_EXAGGERATION * driver.smile)
        for pose, driver in zip(target.poses, _driving(donor_poses, len(target)), strict=True)
    ]
    opacity = feather(target.portrait.regions["lower_face"], EDGE_PX["Face2Face"])
    return Repaint(rgba=_with_opacity(soft, opacity), poses=poses)


def face_swap(target: Scene, donor: Portrait, _: list[Pose], rng: np.random.Generator) -> Repaint:
    """Repaint with the donor's whole face, cut out."""
    size, sideways_px = FACE_SWAP_MISFIT
    rgb, region = _fitted(donor, target.portrait, "face_hull", size, sideways_px * (-1, 1)[rng.integers(2)])
    matched = _in_colours_of(rgb, target.portrait.rgb, region, FACE_SWAP_COLOUR_MATCH)
    num_frames = max(1, round(len(target) * rng.uniform(*FACE_SWAP_SHARE_OF_FRAMES)))
    opacity = feather(region, EDGE_PX["FaceSwap"])
    return Repaint(rgba=_with_opacity(matched, opacity), poses=target.poses[:num_frames])


def neural_textures(target: Scene, _: Portrait, donor_poses: list[Pose], _rng: np.random.Generator) -> Repaint:
    """Repaint with the target's own mouth, smoothed."""
    smooth = cv2.bilateralFilter(np.ascontiguousarray(target.portrait.rgb), *NEURAL_TEXTURES_SMOOTHING)
    smooth = cv2.GaussianBlur(smooth, (0, 0), 1.0)
    poses = [
        replace(pose, jaw=(pose.jaw + driver.jaw) / 2, smile=(pose.smile + driver.smile) / 2)
        for pose, driver in zip(target.poses, _driving(donor_poses, len(target)), strict=True)
    ]
    opacity = feather(target.portrait.regions["mouth"], EDGE_PX["NeuralTextures"])
    return Repaint(rgba=_with_opacity(smooth, opacity), poses=poses)


MANIPULATIONS: dict[str, Manipulation] = {
    "Deepfakes": deepfakes,
    "Face2Face": face2face,
    "FaceSwap": face_swap,
    "NeuralTextures": neural_textures,
}


def forge(frame: Frame, index: int, scene: Scene, repaint: Repaint) -> tuple[Image, Image]:
    """Draw a repaint over one frame of footage.

    Args:
        frame: the footage, as `scene.render(index)` gave it.
        index: number of the frame.
        scene: scene of the target.
        repaint: result of a manipulation of that scene.

    Returns:
        (H,W,3) uint8 RGB, and (H,W) uint8: 255 where it may differ from the footage, 0 where it does not.
    """
    forged, mask = frame.rgb.copy(), np.zeros(frame.rgb.shape[:2], np.uint8)
    cells = _cells_that_show(frame, repaint.rgba[..., 3])
    if cells is None:
        return forged, mask
    rows, columns = cells
    pose = repaint.poses[index]
    # One cell more on each side, which `spread` removes; the border of the scene is one cell wide, too.
    cells_xy = scene.cells_xy[rows.start : rows.stop + 2, columns.start : columns.stop + 2]
    positions = spread(portrait_positions(cells_xy, pose, scene.portrait.landmarks))
    area = tuple(slice(side.start * CELL_PX, side.stop * CELL_PX) for side in cells)
    painted = sample(repaint.rgba, positions, cv2.INTER_LINEAR)
    light = frame.light[area[1]] * np.float32(pose.brightness / frame.pose.brightness)
    opacity = painted[..., 3:].astype(np.float32) / 255

    footage = frame.rgb[area].astype(np.float32)
    painting = lit(np.ascontiguousarray(painted[..., :3]), light)
    forged[area] = np.rint(footage + (painting - footage) * opacity).astype(np.uint8)
    mask[area] = np.where(painted[..., 3] > 0, 255, 0)
    return forged, mask


def _cells_that_show(frame: Frame, opacity: Image) -> tuple[slice, slice] | None:
    """Return rows and columns of the frame's cells that may show the repaint; None without any."""
    left, top, width, height = cv2.boundingRect(opacity)
    lowest = vector(left, top) - REACH_PX
    highest = vector(left + width, top + height) + REACH_PX
    seen = frame.positions[::CELL_PX, ::CELL_PX]
    shows = np.all((seen > lowest) & (seen < highest), axis=-1)
    rows, columns = np.flatnonzero(shows.any(axis=1)), np.flatnonzero(shows.any(axis=0))
    if not len(rows):
        return None
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _fitted(donor: Portrait, target: Portrait, region: str, size: float, sideways_px: float) -> tuple[Image, Floats]:
    """Return the donor's face in the target's pixels as RGB, and the region that both portraits have."""
    donor_points, target_points = (np.vstack([person.landmarks, person.outline]) for person in (donor, target))
    middle = target_points.mean(axis=0)
    wanted = middle + (target_points - middle) * size + vector(sideways_px, 0)
    solution, *_ = np.linalg.lstsq(np.column_stack([donor_points, np.ones(len(wanted))]), wanted, rcond=None)
    matrix = solution.T.astype(np.float64)
    height, width = target.rgba.shape[:2]
    rgb, donor_region = (
        cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=border)
        for image, border in ((donor.rgb, cv2.BORDER_REPLICATE), (donor.regions[region], cv2.BORDER_CONSTANT))
    )
    return np.asarray(rgb, np.uint8), np.minimum(donor_region, target.regions[region]).astype(np.float32)


def _in_colours_of(rgb: Image, model: Image, region: Floats, share: float) -> Image:
    """Shift colours by a share towards a model's mean and contrast in the region (Reinhard et al., 2001, in Lab)."""
    inside = region > 0.5
    lab, model_lab = (cv2.cvtColor(picture, cv2.COLOR_RGB2Lab).astype(np.float32) for picture in (rgb, model))
    mean, model_mean = lab[inside].mean(axis=0), model_lab[inside].mean(axis=0)
    spread_ratio = model_lab[inside].std(axis=0) / np.maximum(lab[inside].std(axis=0), 1.0)
    matched = lab + ((lab - mean) * spread_ratio + model_mean - lab) * np.float32(share)
    return np.asarray(cv2.cvtColor(as_bytes(matched), cv2.COLOR_Lab2RGB), np.uint8)


def _with_opacity(rgb: cv2.typing.MatLike, opacity: Floats) -> Image:
    levels = as_bytes(opacity * 255)
    return np.dstack([rgb, np.where(levels < LEAST_OPACITY, np.uint8(0), levels)])


def _jittered(pose: Pose, rng: np.random.Generator) -> Pose:
    """Return the pose with a small error, like that of a network that processes single frames."""
    beside_x, beside_y = rng.normal(0, DEEPFAKES_JITTER_PX * pose.scale, 2)
    return replace(
        pose,
        neck_xy=(pose.neck_xy[0] + float(beside_x), pose.neck_xy[1] + float(beside_y)),
        brightness=pose.brightness * (1 + float(rng.normal(0, DEEPFAKES_FLICKER))),
    )


def _driving(donor_poses: list[Pose], num_frames: int) -> list[Pose]:
    """Return the donor's poses, repeated when its clip is shorter than the target's."""
    return [donor_poses[index % len(donor_poses)] for index in range(num_frames)]
