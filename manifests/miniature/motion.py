"""Motion of a head through a clip, and the position in the portrait of each pixel of a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from manifests.miniature.fields import Floats, bump, vector
from manifests.miniature.photograph import NECK_XY

FPS = 25  # of nearly all videos of FaceForensics++

# Amplitude of each movement to either side.
SWAY = 0.045  # of the frame's width
NOD = 0.025  # of the frame's height
ZOOM = 0.07  # of the scale
ROLL_DEGREES = 3.0  # of the whole figure, about the neck
TILT_DEGREES = 5.0  # of the head against the shoulders
YAW_PX, PITCH_PX = 7.0, 4.0  # of the nose against the outline of the head, portrait pixels
BRIGHTNESS = 0.10  # of the light
LIGHT_SLOPE = 0.22  # of the light, from one side of the frame to the other

# Amplitudes of expressions, portrait pixels.
JAW_DROP_PX = 5.0
SMILE_PX = 3.0
BLINK_SQUEEZE = 2.2  # factor by which a closed eye is flatter, minus one
BLINK_SECONDS = 0.24
SECONDS_BETWEEN_BLINKS = 1.6  # on average

HEAD_ENDS_Y, SHOULDERS_BEGIN_Y = 172.0, 204.0  # portrait pixels; between them, the neck bends
# Standard deviation of the Gaussian by which the middle of a turning head moves more than its outline.
HEAD_DEPTH_PX = 36.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pose:
    """Position and expression of the head in one frame."""

    neck_xy: tuple[float, float]
    """Position of the neck, pixels of the frame."""

    scale: float
    """Frame pixels per portrait pixel."""

    roll_degrees: float
    """Rotation of the whole figure, clockwise as seen."""

    tilt_degrees: float
    """Rotation of the head against the shoulders, clockwise as seen."""

    turn_xy: tuple[float, float]
    """Displacement of the nose to the right and downwards as the head turns, portrait pixels."""

    jaw: float
    """−1 closed .. 1 open; 0 as in the photograph."""

    smile: float
    """−1 .. 1; 0 as in the photograph."""

    blink: float
    """0 eyes open .. 1 closed."""

    brightness: float
    """Factor on the light."""

    light_slope: float
    """Difference of the light between the right and the left border of the frame, as a share of it."""


def plan_motion(
    rng: np.random.Generator, num_frames: int, frame_size: tuple[int, int], scale: float, top_margin: float
) -> list[Pose]:
    """Return `num_frames` poses of a head that sways, turns, talks and blinks.

    Args:
        rng: source of all random numbers.
        num_frames: number of poses.
        frame_size: width and height in pixels.
        scale: mean of the frame pixels per portrait pixel.
        top_margin: space above the hair as a share of the frame's height.
    """
    width, height = frame_size
    hair_to_neck_px = 178.0  # of the tallest hair, portrait pixels
    seconds = np.arange(num_frames) / FPS
    sway, nod, zoom, roll, tilt, yaw, pitch, smile = (_wave(rng, seconds, 0.08, 0.55) for _ in range(8))
    brightness, slope = (_wave(rng, seconds, 0.05, 0.4) for _ in range(2))
    # Talking: syllables, louder and softer.
    jaw = _wave(rng, seconds, 1.8, 3.4) * (0.6 + 0.4 * _wave(rng, seconds, 0.2, 0.6))
    blink = _blinks(rng, seconds)
    return [
        Pose(
            neck_xy=(
                float(width * (0.5 + SWAY * sway[index])),
                float(height * (top_margin + NOD * nod[index]) + hair_to_neck_px * scale),
            ),
            scale=float(scale * (1 + ZOOM * zoom[index])),
            roll_degrees=float(ROLL_DEGREES * roll[index]),
            tilt_degrees=float(TILT_DEGREES * tilt[index]),
            turn_xy=(float(YAW_PX * yaw[index]), float(PITCH_PX * pitch[index])),
            jaw=float(jaw[index]),
            smile=float(smile[index]),
            blink=float(blink[index]),
            brightness=float(1 + BRIGHTNESS * brightness[index]),
            light_slope=float(LIGHT_SLOPE * slope[index]),
        )
        for index in range(num_frames)
    ]


def portrait_positions(frame_xy: Floats, pose: Pose, landmarks: Floats) -> Floats:
    """Return the (…,2) float32 positions in the portrait that (…,2) pixels of the frame show.

    Args:
        frame_xy: x, y in pixels of the frame.
        pose: pose of the head in the frame.
        landmarks: (5,2) of the portrait: left eye, right eye, nose, mouth corners.
    """
    neck = vector(*NECK_XY)
    seen = _turned(frame_xy - vector(*pose.neck_xy), -pose.roll_degrees) / np.float32(pose.scale) + neck
    # The head turns against the shoulders; between them, the neck bends.
    headness = ((SHOULDERS_BEGIN_Y - seen[..., 1:]) / (SHOULDERS_BEGIN_Y - HEAD_ENDS_Y)).clip(0, 1)
    seen = seen + headness * (_turned(seen - neck, -pose.tilt_degrees) - (seen - neck))
    seen = seen - bump(seen, landmarks[2], HEAD_DEPTH_PX) * vector(*pose.turn_xy)
    return _without_expression(seen, pose, landmarks)


def _without_expression(seen: Floats, pose: Pose, landmarks: Floats) -> Floats:
    """Return positions in the portrait, which has a neutral expression."""
    left_eye, right_eye, _, left_corner, right_corner = landmarks
    mouth = (left_corner + right_corner) / 2
    lower_lip = mouth + vector(0, 16)
    moved = bump(seen, lower_lip, (22, 12)) * vector(0, JAW_DROP_PX * pose.jaw)
    for corner, outwards in ((left_corner, -1), (right_corner, 1)):
        moved = moved + bump(seen, corner, 9) * vector(0.6 * outwards, -1) * np.float32(SMILE_PX * pose.smile)
    for eye in (left_eye, right_eye):
        flattened = bump(seen, eye, (11, 5)) * np.float32(BLINK_SQUEEZE * pose.blink)
        moved = moved - flattened * (seen - eye) * vector(0, 1)
    return (seen - moved).astype(np.float32)


def _turned(offsets_xy: Floats, degrees: float) -> Floats:
    """Rotate (…,2) offsets, clockwise as seen because y points down."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.asarray(offsets_xy @ np.array([[cosine, sine], [-sine, cosine]], np.float32), np.float32)


def _wave(
    rng: np.random.Generator, seconds: npt.NDArray[np.float64], slowest_hz: float, fastest_hz: float
) -> npt.NDArray[np.float64]:
    """Return (T,) float64 within −1..1: three sine waves on top of one another."""
    shares = rng.dirichlet((2, 2, 2))
    frequencies_hz, phases = rng.uniform(slowest_hz, fastest_hz, 3), rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * frequencies_hz * seconds[:, np.newaxis] + phases)
    return np.asarray(waves @ shares, np.float64)


def _blinks(rng: np.random.Generator, seconds: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (T,) float64: 0 eyes open .. 1 closed."""
    closed = np.zeros_like(seconds)
    moment = rng.uniform(0, SECONDS_BETWEEN_BLINKS)
    while moment < len(seconds) / FPS:
        closed = np.maximum(closed, 1 - np.abs(seconds - moment) / (BLINK_SECONDS / 2))
        moment += rng.uniform(0.5, 1.5) * SECONDS_BETWEEN_BLINKS
    return closed
