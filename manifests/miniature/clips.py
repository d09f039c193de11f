"""Files of one clip: its footage, rendered once, and the forgeries made from it."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from manifests.files import publish
from manifests.miniature.encoder import VideoWriter
from manifests.miniature.forgeries import MANIPULATIONS, Repaint, forge
from manifests.miniature.motion import FPS, Pose, plan_motion
from manifests.miniature.portraits import Portrait, draw_portrait
from manifests.miniature.scenes import Scene
from manifests.miniature.tree import ClipId, ClipPlan, FakePlan, Parameters

# Width and height of a clip, and the range of its scale, frame pixels per portrait pixel. The face is about 110
# portrait pixels high, so it is 75 to 105 or 115 to 135 pixels high in the frame.
SHOTS = (((320, 240), (0.70, 0.95)), ((480, 360), (1.04, 1.24)))
TOP_MARGIN = (0.03, 0.10)  # space above the hair, share of the frame's height
PARTIAL_FOLDER = ".partial"  # for files that are being written; they are renamed when complete

# Purposes of a clip's random numbers; each has a stream of its own.
SHOT_STREAM, BACKGROUND_STREAM, FORGERY_STREAM = 1, 2, 3


def write_clip(root: Path, plan: ClipPlan, parameters: Parameters) -> list[str]:
    """Write the missing files of a plan.

    Args:
        root: the dataset's folder.
        plan: files of the clip.
        parameters: parameters of the miniature.

    Returns:
        POSIX paths relative to the root of the files that were written.
    """
    cv2.setNumThreads(1)  # the clips are spread over processes already
    missing = [path for path in plan.video_paths + plan.mask_paths if not (root / path).exists()]
    if not missing:
        return []
    scene = make_scene(plan.clip, parameters)
    repaints = [(fake, repaint_for(fake, plan.clip, scene, parameters)) for fake in plan.fakes]
    growing = {path: _growing_file(root, path) for path in missing}
    with ExitStack() as stack:
        frame_size = (scene.width, scene.height)
        writers = {path: stack.enter_context(VideoWriter(growing[path], frame_size)) for path in missing}
        _encode(scene, plan, repaints, writers)
    for path in missing:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        publish(growing[path], root / path)
    return missing


def make_scene(clip: ClipId, parameters: Parameters) -> Scene:
    """Return the footage of a clip, ready to be rendered."""
    portrait, poses, frame_size = _cast(clip, parameters)
    return Scene(portrait, poses, frame_size, _random(parameters, BACKGROUND_STREAM, clip))


def repaint_for(fake: FakePlan, target: ClipId, scene: Scene, parameters: Parameters) -> Repaint:
    """Return the picture that a forgery draws over the target's face."""
    donor, donor_poses, _ = _cast(fake.donor, parameters)
    rng = _random(parameters, FORGERY_STREAM, target, list(MANIPULATIONS).index(fake.manipulation))
    return MANIPULATIONS[fake.manipulation](scene, donor, donor_poses, rng)


def _cast(clip: ClipId, parameters: Parameters) -> tuple[Portrait, list[Pose], tuple[int, int]]:
    """Return the person in a clip, the poses, and width and height of the frames."""
    rng = _random(parameters, SHOT_STREAM, clip)
    frame_size, scales = SHOTS[rng.integers(len(SHOTS))]
    num_frames = round(float(rng.uniform(*parameters.seconds)) * FPS)
    scale, top_margin = float(rng.uniform(*scales)), float(rng.uniform(*TOP_MARGIN))
    poses = plan_motion(rng, num_frames, frame_size, scale, top_margin)
    return draw_portrait(clip.identity, parameters.seed), poses, frame_size


def _random(parameters: Parameters, stream: int, clip: ClipId, *more: int) -> np.random.Generator:
    """Return a generator whose numbers depend on their purpose alone, not on the order in which clips are made."""
    return np.random.default_rng([parameters.seed, stream, clip.identity, clip.take, *more])


def _encode(
    scene: Scene, plan: ClipPlan, repaints: list[tuple[FakePlan, Repaint]], writers: dict[str, VideoWriter]
) -> None:
    """Render every frame once, and write it and the forgeries made from it to the files that are missing."""
    for index in range(len(scene)):
        frame = scene.render(index)
        if plan.path in writers:
            writers[plan.path].write_rgb(frame.rgb)
        for fake, repaint in repaints:
            if index >= len(repaint.poses):
                continue
            forged, mask = forge(frame, index, scene, repaint)
            if fake.path in writers:
                writers[fake.path].write_rgb(forged)
            if fake.mask_path in writers:
                writers[fake.mask_path].write_grey(mask)


def _growing_file(root: Path, path: str) -> Path:
    """Return the path under which this process writes a file until it is complete, in the same file system."""
    folder = root / PARTIAL_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{os.getpid()}-{'-'.join(PurePosixPath(path).parts)}"
